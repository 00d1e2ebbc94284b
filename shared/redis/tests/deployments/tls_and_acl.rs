//! TLS and ACL: refused connections and their error texts.

use signalbox_config as config;
use signalbox_redis::RedisStartError;
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

#[tokio::test]
async fn a_missing_permission_is_named() {
    let guard = RedisSecurity::acl();
    let (node, url) = start_guarded(&guard).await;
    for lacking in ["info", "script|load", "evalsha", "time"] {
        node.run_text::<()>(&format!("ACL SETUSER signal -{lacking}")).await;
        let problem = connect_error(&url, &guard.settings()).await;
        assert!(problem.contains(&format!("lacks a permission: +{lacking}")), "{problem}");
        node.run_text::<()>(&format!("ACL SETUSER signal +{lacking}")).await;
    }
    let client = TestClient::connect(&url, &guard.settings()).await;
    for (rule, undone, expected) in [
        ("-ssubscribe", "+ssubscribe", "+ssubscribe"),
        ("-spublish", "+spublish", "+spublish"),
        ("resetchannels", "&sb:*", "a channel, &sb:*"),
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
