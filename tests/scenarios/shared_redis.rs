//! Two deployments on one Redis: neither sees the rooms, the access rules or the events of the other.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use signalbox_redis::{RedisNamespace, redis_keys::TopicKind};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    net::{eventually, within},
    test_redis::TestRedis,
};
use tokio_tungstenite::tungstenite::Message;

use crate::event_feed;

all_of! {
    /// What keeps the two deployments apart.
    Separation { Database, Prefix, Prefixes, DatabaseAndPrefix }
}

/// The prefix and the number of the database of a deployment.
type Names = (&'static str, u32);

impl Separation {
    fn names(self) -> [Names; 2] {
        match self {
            Self::Prefix => [("", 0), ("blue", 0)],
            Self::Prefixes => [("green", 0), ("blue", 0)],
            Self::Database => [("", 0), ("", 1)],
            Self::DatabaseAndPrefix => [("blue", 1), ("green", 2)],
        }
    }
}

async fn start(redis: &TestRedis, (prefix, database): Names) -> TestCluster {
    let url = format!("redis://{}/{database}", redis.address);
    let env = [("REDIS_URL".to_owned(), url)];
    let settings = [("REDIS__PREFIX", prefix)];
    let settings = if prefix.is_empty() { &[][..] } else { &settings };
    TestCluster::start_with(StoreKind::Redis(2), settings, &env).await
}

async fn wait_for_feed(cluster: &TestCluster) {
    eventually("the auth service has subscribed to the events", async || {
        cluster.auth.as_ref()?.log().contains("the event feed is subscribed").then_some(())
    })
    .await;
}

/// A life of a room: a message between nodes, a mute, an event, a ban.
async fn use_deployment(cluster: &TestCluster, user: &str) {
    let room = cluster.room("r");
    let other = format!("{user}-2");
    let (one, two) =
        (room.join_on(&cluster.nodes[0], user).await, room.join_on(&cluster.nodes[1], &other).await);
    assert_eq!(two.joined["peers"].as_array().unwrap().len(), 1, "{}", two.joined);
    one.next_of_type("peer-joined").await;
    one.message(&two, json!(user)).await;
    assert_eq!(two.next_message().await.data, Some(json!(user)));
    cluster.add_rule("/api/bans", json!({"user": format!("{user}-3"), "for": 600})).await;
    one.leave().await;
    two.leave().await;
}

/// The users that the events of a feed name, up to the end of the room of `last`.
async fn users_in_feed(feed: &mut event_feed::Feed, last: &str) -> Vec<String> {
    let mut users = Vec::new();
    loop {
        let Message::Text(text) = within("an event", feed.next()).await.unwrap().unwrap() else { continue };
        let event: Value = serde_json::from_str(&text).unwrap();
        if let Some(user) = event["userId"].as_str() {
            users.push(user.to_owned());
        }
        if event["event"] == "room-closed" && users.iter().any(|user| user.starts_with(last)) {
            return users;
        }
    }
}

#[tokio::test]
async fn two_deployments_on_one_redis_do_not_hear_each_other() {
    for separation in Separation::ALL {
        let redis = TestRedis::start().await;
        let names = separation.names();
        let (one, two) = (start(&redis, names[0]).await, start(&redis, names[1]).await);
        wait_for_feed(&one).await;
        wait_for_feed(&two).await;
        let (mut feed_one, mut feed_two) = (event_feed::open(&one).await, event_feed::open(&two).await);
        use_deployment(&one, "alice").await;
        use_deployment(&two, "bob").await;
        for (feed, own, other) in [(&mut feed_one, "alice", "bob"), (&mut feed_two, "bob", "alice")] {
            let users = users_in_feed(feed, own).await;
            assert!(
                users.iter().all(|user| !user.starts_with(other)),
                "{separation:?}: {own} sees {users:?}"
            );
        }
        for (cluster, other) in [(&one, "bob-3"), (&two, "alice-3")] {
            let rules = cluster.api("GET", "/api/rules", &Value::Null).await;
            assert!(!rules.text.contains(other), "{separation:?}: {}", rules.text);
            cluster.room("r").join(other).await.leave().await;
        }
        assert_names(&redis, &names).await;
        for cluster in [&one, &two] {
            cluster.assert_clean_logs();
        }
    }
}

/// Each topic, and each key of a prefix, has the names of one deployment.
async fn assert_names(redis: &TestRedis, names: &[Names; 2]) {
    let mut connection = redis.connect().await;
    let mut list = redis::cmd("PUBSUB");
    let topics: Vec<String> = list.arg("SHARDCHANNELS").query_async(&mut connection).await.unwrap();
    assert!(!topics.is_empty());
    let begins = names.map(|(prefix, database)| {
        let namespace = RedisNamespace::new(prefix, database);
        TopicKind::ALL.map(|kind| namespace.topic(&format!("{}{{", kind.prefix())))
    });
    for topic in &topics {
        let of = begins.each_ref().map(|begins| begins.iter().any(|begin| topic.starts_with(begin)));
        assert!(of[0] != of[1], "{topic} is not of one deployment: {of:?}");
    }
    for (prefix, database) in names {
        redis::cmd("SELECT").arg(*database).query_async::<()>(&mut connection).await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let own = RedisNamespace::new(prefix, *database).key("sb:");
        assert!(keys.iter().any(|key| key.starts_with(&own)), "{own}: {keys:?}");
        let other_prefixes = names.iter().filter(|(_, other)| other == database);
        let allowed: Vec<_> = other_prefixes.map(|(p, d)| RedisNamespace::new(p, *d).key("sb:")).collect();
        assert!(keys.iter().all(|key| allowed.iter().any(|own| key.starts_with(own))), "{keys:?}");
    }
}
