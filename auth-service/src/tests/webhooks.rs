//! Webhooks and usage over every kind of Redis, with the Redis user that the shipped ACL gives
//! this service.

use std::time::Duration;

use signalbox_config::{EndpointSecrets, ServiceSettings, WebhookEndpoint, WebhookSecrets};
use signalbox_protocol::id::RoomId;
use signalbox_redis::RedisClient;
use signalbox_redis::redis_keys;
use signalbox_rooms::{feed::FeedSender, usage::UtcDay};
use signalbox_tests::{
    net::eventually_within,
    redis_kind::{ExclusiveRedis, REDIS_KINDS},
    webhook_receiver::{WebhookConfig, WebhookReceiver, WebhookReply},
};

use crate::management::{
    usage_reader::UsageReader,
    webhooks::{WebhookEventSource, WebhookLauncher, WebhookStartError},
};

const DEADLINE: Duration = Duration::from_secs(20);

fn settings(receiver: &WebhookReceiver) -> ServiceSettings {
    let mut settings = ServiceSettings::default();
    let endpoint = WebhookEndpoint {
        url: receiver.url(),
        events: vec![],
        rooms: None,
        insecure: false,
        secrets_env: None,
    };
    settings.webhooks.endpoints = vec![endpoint];
    settings.webhooks.attempts = 1;
    settings
}

fn numbered_room(n: usize) -> RoomId {
    RoomId::parse(&format!("room-{n}")).unwrap()
}

/// Records an event as a node does.
async fn record_event(redis: &ExclusiveRedis, n: usize) {
    let partition = redis_keys::partition_of_room(&numbered_room(n));
    let line = format!(
        r#"{{"id":"evt_{n}","event":"room-opened","at":1,"room":"{}","node":"x"}}"#,
        numbered_room(n)
    );
    let mut add = redis::cmd("XADD");
    add.arg(redis_keys::webhook_queue_key(partition)).arg("*").arg("d").arg(line);
    redis.run_on_partition::<String>(partition, &add).await;
    let mut expire = redis::cmd("PEXPIRE");
    expire.arg(redis_keys::webhook_queue_key(partition)).arg(60_000);
    redis.run_on_partition::<i64>(partition, &expire).await;
}

#[actix_web::test]
async fn webhooks_are_delivered_and_replayed_over_every_kind_of_redis() {
    for kind in REDIS_KINDS {
        let redis: ExclusiveRedis = kind.acquire().await;
        let receiver = WebhookReceiver::start(|_, _| WebhookReply::Status(500)).await;
        let client = RedisClient::start(&redis.url_for("auth"), &redis.settings()).unwrap();
        let common = WebhookSecrets::parse(&WebhookConfig::new(&[], "", "").secret).unwrap();
        let secrets = EndpointSecrets { shared_secrets: common, ..EndpointSecrets::default() };
        let webhooks = WebhookLauncher::start(
            &settings(&receiver),
            &secrets,
            WebhookEventSource::Redis(client),
            &FeedSender::new(8),
        );
        let running = webhooks.unwrap().running().load();
        let webhooks = running.as_ref();
        for n in 0..9 {
            record_event(&redis, n).await;
        }
        let letters =
            eventually_within(DEADLINE, &format!("{kind:?}: all events become dead letters"), async || {
                let (letters, next) = webhooks.list_dead_letters((0, None), 5, |_| true).await.ok()?;
                let (more, _) = webhooks
                    .list_dead_letters(next.map(|(partition, entry)| (partition, Some(entry)))?, 5, |_| true)
                    .await
                    .ok()?;
                Some([letters, more].concat()).filter(|letters| letters.len() == 9)
            })
            .await;
        assert!(letters.iter().all(|letter| letter.letter.last_failure == "status 500"), "{letters:?}");
        receiver.set_reply(|_, _| WebhookReply::Status(200));
        assert_eq!(
            webhooks
                .replay_dead_letters(Some(redis_keys::partition_of_room(&numbered_room(3))), |_| true)
                .await,
            Ok(1)
        );
        assert_eq!(webhooks.replay_dead_letters(None, |_| true).await, Ok(8));
        receiver.wait_for_events(DEADLINE, 9).await;
        webhooks.stop().await;
        let left = redis.keys().await;
        assert!(!left.iter().any(|key| key.ends_with(":lease")), "{left:?}");
    }
}

#[actix_web::test]
async fn usage_day_is_read_over_every_kind_of_redis() {
    for kind in REDIS_KINDS {
        let redis: ExclusiveRedis = kind.acquire().await;
        let reader =
            UsageReader::Redis(RedisClient::start(&redis.url_for("auth"), &redis.settings()).unwrap());
        let day = UtcDay::parse("2026-11-21").unwrap();
        let condition = format!("{kind:?}: a day is read");
        let found = eventually_within(DEADLINE, &condition, async || reader.read_day(day).await.ok()).await;
        assert!(found.is_empty());
    }
}

#[actix_web::test]
async fn endpoint_without_a_secret_prevents_the_start() {
    let receiver = WebhookReceiver::accepting().await;
    let none = EndpointSecrets::default();
    let started =
        WebhookLauncher::start(&settings(&receiver), &none, WebhookEventSource::Feed, &FeedSender::new(8));
    assert!(
        matches!(started, Err(WebhookStartError::NoSigningSecret(name)) if name == "SIGNALBOX_WEBHOOK_SECRETS")
    );
    // The shared secrets do not replace its own: another endpoint has them and could forge events.
    let common = WebhookSecrets::parse(&WebhookConfig::new(&[], "", "").secret).unwrap();
    let mut own = settings(&receiver);
    own.webhooks.endpoints[0].secrets_env = Some("SHOP_SECRETS".to_owned());
    let keys = EndpointSecrets { shared_secrets: common, ..EndpointSecrets::default() };
    let started = WebhookLauncher::start(&own, &keys, WebhookEventSource::Feed, &FeedSender::new(8));
    assert!(matches!(started, Err(WebhookStartError::NoSigningSecret(name)) if name == "SHOP_SECRETS"));
    let without_endpoints = WebhookLauncher::start(
        &ServiceSettings::default(),
        &none,
        WebhookEventSource::Feed,
        &FeedSender::new(8),
    );
    assert!(without_endpoints.is_ok());
}
