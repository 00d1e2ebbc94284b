//! TLS and ACL: refused connections and their error texts.

use redis::{Cmd, RedisResult, Value, aio::MultiplexedConnection, cmd};
use signalbox_config as config;
use signalbox_redis::{
    CommandSubject, RedisCommand, RedisStartError,
    redis_keys::{KeyKind, RedisUser, TopicKind, ValueType},
};
use signalbox_tests::{net::free_address, redis_security::RedisSecurity, redis_server::RedisServer};

use crate::test_client::{TestClient, TestListener};

async fn start_guarded(guard: &RedisSecurity) -> (RedisServer, String) {
    let node = RedisServer::start(free_address(), guard, &[]).await;
    let url = format!("{}://{}{}", guard.scheme(), guard.login("signal"), node.address);
    (node, url)
}

async fn connect_error(url: &str, settings: &config::RedisSettings) -> String {
    match TestClient::try_connect(url, settings).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{url} was taken"),
    }
}

#[tokio::test]
async fn tls_and_the_shipped_acl_are_enough_for_calls_and_topics() {
    let guard = RedisSecurity::tls_and_acl();
    let (_node, url) = start_guarded(&guard).await;
    let client = TestClient::connect(&url, &guard.settings()).await;
    assert_eq!(client.count(3, "a").await, Ok(1));
    TestListener::open(&client).await.publish_until_received(&client, 3, "hello").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_at_once() {
    let (ours, other) = (RedisSecurity::tls(), RedisSecurity::tls());
    let (node, url) = start_guarded(&ours).await;
    let start = std::time::Instant::now();
    for settings in [other.settings(), config::RedisSettings::default()] {
        let problem = connect_error(&url, &settings).await;
        assert!(
            problem.contains("no authority trusted here") && problem.contains("redis.ca_file"),
            "{problem}"
        );
    }
    assert!(start.elapsed().as_secs() < 5, "the client does not wait");
    let by_name = format!("rediss://localhost:{}", node.address.port());
    TestClient::connect(&by_name, &ours.settings()).await;
}

#[tokio::test]
async fn a_server_that_requires_client_certificates_is_used_with_one_and_asks_for_it_without() {
    let (ours, other) = (RedisSecurity::mutual_tls(), RedisSecurity::mutual_tls());
    let (_node, url) = start_guarded(&ours).await;
    let client = TestClient::connect(&url, &ours.settings()).await;
    assert_eq!(client.count(3, "a").await, Ok(1));
    TestListener::open(&client).await.publish_until_received(&client, 3, "hello").await;

    let with = |cert_file, key_file| config::RedisSettings { cert_file, key_file, ..ours.settings() };
    let theirs = other.settings();
    for (settings, expected) in [
        (with(None, None), "set redis.cert_file and redis.key_file"),
        (with(theirs.cert_file.clone(), theirs.key_file.clone()), "redis.cert_file"),
        (with(ours.settings().cert_file, theirs.key_file.clone()), "redis.key_file: is not the key"),
        (with(ours.settings().cert_file, ours.settings().cert_file), "redis.key_file: "),
        (with(ours.settings().key_file, ours.settings().key_file), "redis.key_file: "),
        (with(Some("/nowhere".into()), theirs.key_file.clone()), "redis.cert_file: cannot be read"),
    ] {
        let problem = connect_error(&url, &settings).await;
        assert!(problem.contains(expected), "{expected}: {problem}");
    }
}

#[tokio::test]
async fn tls_to_a_server_without_tls_is_reported() {
    let (node, _) = start_guarded(&RedisSecurity::none()).await;
    let problem =
        connect_error(&format!("rediss://{}", node.address), &RedisSecurity::tls().settings()).await;
    assert!(problem.contains("does it speak TLS there?"), "{problem}");
}

#[tokio::test]
async fn a_wrong_password_is_reported_at_once_and_never_printed() {
    let (node, _) = start_guarded(&RedisSecurity::acl()).await;
    let start = std::time::Instant::now();
    for login in ["signal:hunter2@", ":hunter2@", ""] {
        let url = format!("redis://{login}{}", node.address);
        let problem = connect_error(&url, &config::RedisSettings::default()).await;
        assert!(problem.contains("refused the user or the password"), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    assert!(start.elapsed().as_secs() < 5);
}

/// The rows are the table of commands. The script of the client calls `HINCRBY` and `PEXPIRE`, and
/// every process sends the others that are used outside scripts.
#[tokio::test]
async fn the_start_names_each_command_that_the_user_may_not_run() {
    let guard = RedisSecurity::acl();
    let (node, url) = start_guarded(&guard).await;
    let mut named = 0;
    for command in RedisCommand::ALL {
        let name = command.name().to_ascii_lowercase();
        node.run_text::<()>(&format!("ACL SETUSER signal -{name}")).await;
        match TestClient::try_connect(&url, &guard.settings()).await {
            Err(error @ RedisStartError::MissingPermission { .. }) => {
                assert!(error.to_string().contains(&format!("+{name}")), "{name}: {error}");
                named += 1;
            }
            Err(error) => panic!("{name}: {error}"),
            Ok(client) => assert!(!client.needs(*command), "{name} is in use"),
        }
        node.run_text::<()>(&format!("ACL SETUSER signal +{name}")).await;
    }
    assert!(named >= 15, "{named}");
}

/// The rows are the table of commands: the shipped ACL permits each service what both send, and the
/// auth service what only its scripts call.
#[tokio::test]
async fn the_shipped_acl_permits_every_command_of_the_table() {
    let guard = RedisSecurity::acl();
    let (node, _) = start_guarded(&guard).await;
    for user in RedisUser::ALL {
        for command in RedisCommand::ALL {
            // Only the refresh tokens of the auth service need it.
            if *command == RedisCommand::Exists && user == RedisUser::Signal {
                continue;
            }
            let name = match command.subject() {
                CommandSubject::Key(ValueType::Text) => Some("sb:partitions"),
                CommandSubject::Key(_) => Some("sb:room:x"),
                CommandSubject::Topic => Some("sb:node:x"),
                CommandSubject::None => None,
            };
            let mut run = cmd("ACL");
            run.arg(&["DRYRUN", user.name(), command.name()]).arg(name).arg(command.least_args());
            assert_eq!(node.run::<String>(&run).await, "OK", "{} {}", user.name(), command.name());
        }
    }
}

#[tokio::test]
async fn the_users_of_a_prefix_may_use_its_names_and_no_others() {
    let guard = RedisSecurity::acl_with_prefix("blue");
    let (node, url) = start_guarded(&guard).await;
    let client = TestClient::connect(&url, &guard.settings()).await;
    assert_eq!(client.count(3, "a").await, Ok(1));
    assert_eq!(client.counts(3).await, [("a".to_owned(), 1)]);
    TestListener::open(&client).await.publish_until_received(&client, 3, "hello").await;
    let names: Vec<String> = node.run_text("KEYS *").await;
    let topics: Vec<String> = node.run_text("PUBSUB SHARDCHANNELS").await;
    assert!(!names.is_empty() && !topics.is_empty());
    for name in names.iter().chain(&topics) {
        assert!(name.starts_with("blue:sb:"), "{name}");
    }
    for prefix in ["", "green"] {
        let other = config::RedisSettings { prefix: prefix.to_owned(), ..guard.settings() };
        let problem = connect_error(&url, &other).await;
        assert!(problem.contains("lacks a permission") && problem.contains("sb:room:*"), "{problem}");
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let guard = RedisSecurity::acl();
    let (node, url) = start_guarded(&guard).await;
    for lacking in ["info", "script|load", "evalsha", "evalsha_ro", "time"] {
        node.run_text::<()>(&format!("ACL SETUSER signal -{lacking}")).await;
        let problem = connect_error(&url, &guard.settings()).await;
        assert!(problem.contains(&format!("lacks a permission: +{lacking}")), "{problem}");
        node.run_text::<()>(&format!("ACL SETUSER signal +{lacking}")).await;
    }
    let client = TestClient::connect(&url, &guard.settings()).await;
    for (rule, undone, expected) in [
        ("-ssubscribe", "+ssubscribe", "+ssubscribe"),
        // Another rule still permits the command on the feed.
        ("-spublish", "+spublish", "a channel; compare"),
        ("resetchannels", "&sb:node:*", "a channel; compare"),
    ] {
        node.run_text::<()>(&format!("ACL SETUSER signal {rule}")).await;
        match TestListener::try_open(&client).await {
            Err(error @ RedisStartError::MissingPermission { .. }) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            Err(error) => panic!("{rule}: {error}"),
            Ok(_) => panic!("{rule}: subscribed"),
        }
        node.run_text::<()>(&format!("ACL SETUSER signal {undone}")).await;
    }
    TestListener::open(&client).await;
}

#[tokio::test]
async fn a_server_that_does_not_match_the_url_is_refused() {
    let (node, url) = start_guarded(&RedisSecurity::none()).await;
    let defaults = config::RedisSettings::default();
    let two = format!("redis://{},{}", node.address, free_address());
    let problem = connect_error(&two, &defaults).await;
    assert!(problem.contains("not part of a Cluster"), "{problem}");
    let problem = connect_error(&format!("redis+sentinel://{}/m", node.address), &defaults).await;
    assert!(problem.contains("is no Sentinel"), "{problem}");
    node.run_text::<()>("CONFIG SET maxmemory-policy allkeys-lru").await;
    assert!(connect_error(&url, &defaults).await.contains("allkeys-lru"));
}

fn read_command(kind: KeyKind, key: &str) -> Cmd {
    let mut read = match kind.value_type() {
        ValueType::Hash => cmd("HGETALL"),
        ValueType::Set => cmd("SMEMBERS"),
        ValueType::SortedSet => cmd("ZRANGE"),
        ValueType::Stream => cmd("XRANGE"),
        ValueType::Text => cmd("GET"),
    };
    read.arg(key);
    match kind.value_type() {
        ValueType::SortedSet => read.arg(0).arg(-1),
        ValueType::Stream => read.arg("-").arg("+"),
        ValueType::Hash | ValueType::Set | ValueType::Text => &mut read,
    };
    read
}

fn write_command(kind: KeyKind, key: &str) -> Cmd {
    let mut write = match kind.value_type() {
        ValueType::Hash => cmd("HSET"),
        ValueType::Set => cmd("SADD"),
        ValueType::SortedSet => cmd("ZADD"),
        ValueType::Stream => cmd("XADD"),
        ValueType::Text => cmd("SET"),
    };
    write.arg(key);
    match kind.value_type() {
        ValueType::Hash => write.arg("f").arg("v"),
        ValueType::SortedSet => write.arg(1).arg("m"),
        ValueType::Stream => write.arg("*").arg("f").arg("v"),
        ValueType::Set | ValueType::Text => write.arg("m"),
    };
    write
}

/// The same command inside a script, which declares no key.
fn in_script(command: &Cmd) -> Cmd {
    let mut eval = cmd("EVAL");
    eval.arg("return redis.call(unpack(ARGV))").arg(0);
    for arg in command.args_iter() {
        if let redis::Arg::Simple(bytes) = arg {
            eval.arg(bytes);
        }
    }
    eval
}

/// Whether the ACL permits a command. Any other error fails the test.
async fn is_permitted(connection: &mut MultiplexedConnection, command: &Cmd) -> bool {
    let reply: RedisResult<Value> = command.query_async(connection).await;
    match reply.and_then(Value::extract_error) {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            let refused =
                ["NOPERM", "NoPerm", "ACL failure", "can't access", "can't publish", "No permissions"];
            assert!(refused.iter().any(|part| text.contains(part)), "{text}");
            false
        }
    }
}

/// The rows are the kinds of `redis_keys`, so a new kind cannot be forgotten. The shipped ACL must
/// permit exactly what the table of kinds says.
#[tokio::test]
async fn the_shipped_acl_gives_each_service_its_own_and_the_shared_keys_only() {
    let guard = RedisSecurity::acl();
    let (node, _) = start_guarded(&guard).await;
    let mut wrong = Vec::new();
    for user in RedisUser::ALL {
        let url = format!("redis://{}{}", guard.login(user.name()), node.address);
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for kind in KeyKind::ALL {
            node.run_text::<()>("FLUSHALL").await;
            let prefix = kind.prefix();
            let key = if prefix.ends_with(':') { format!("{prefix}x") } else { prefix.to_owned() };
            let expected = kind.access(user);
            for (what, command, allowed) in [
                ("write", write_command(*kind, &key), expected.write),
                ("read", read_command(*kind, &key), expected.read),
            ] {
                for (how, command) in [("command", command.clone()), ("script", in_script(&command))] {
                    if is_permitted(&mut connection, &command).await != allowed {
                        wrong.push(format!(
                            "{} may{} {what} {key} ({how})",
                            user.name(),
                            if allowed { " not" } else { "" }
                        ));
                    }
                }
            }
            // A name that only resembles a key of this kind.
            let strange = format!("other:{key}");
            assert!(!is_permitted(&mut connection, &read_command(*kind, &strange)).await, "{strange}");
        }
        for kind in TopicKind::ALL {
            let topic = format!("{}x", kind.prefix());
            let allowed = kind.access(user);
            if is_permitted(&mut connection, cmd("SPUBLISH").arg(&topic).arg("m")).await != allowed.publish {
                wrong.push(format!("{}: publish on {topic}", user.name()));
            }
            let answer: String =
                node.run(cmd("ACL").arg(&["DRYRUN", user.name(), "SSUBSCRIBE", &topic])).await;
            if (answer == "OK") != allowed.subscribe {
                wrong.push(format!("{}: subscribe to {topic}", user.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
