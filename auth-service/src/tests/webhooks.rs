//! Webhooks and usage over every kind of Redis, as the user that the shipped ACL gives this service.

use std::time::Duration;

use signalbox_config::{Settings, WebhookEndpoint, WebhookKeys, WebhookSecrets};
use signalbox_protocol::id::RoomId;
use signalbox_redis::keys;
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::usage::Day;
use signalbox_tests::{
    hook::{Answer, Hooks, Receiver},
    net::eventually_within,
    redis_kinds::{KINDS, Lease},
};

use crate::{
    link::SharedLink,
    usage::UsageReader,
    webhooks::{Source, Webhooks, WebhooksError},
};

const SOON: Duration = Duration::from_secs(20);

fn settings(receiver: &Receiver) -> Settings {
    let mut settings = Settings::default();
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

fn room(n: usize) -> RoomId {
    RoomId::parse(&format!("room-{n}")).unwrap()
}

/// A node records an event.
async fn record(redis: &Lease, n: usize) {
    let partition = keys::partition(&room(n));
    let line = format!(r#"{{"id":"evt_{n}","event":"room-opened","at":1,"room":"{}","node":"x"}}"#, room(n));
    let mut add = redis::cmd("XADD");
    add.arg(keys::hooks(partition)).arg("*").arg("d").arg(line);
    redis.at::<String>(partition, &add).await;
    let mut expire = redis::cmd("PEXPIRE");
    expire.arg(keys::hooks(partition)).arg(60_000);
    redis.at::<i64>(partition, &expire).await;
}

#[actix_web::test]
async fn webhooks_are_told_and_told_again_over_every_kind_of_redis() {
    for kind in KINDS {
        let redis: Lease = kind.lease().await;
        let receiver = Receiver::start(|_, _| Answer::Status(500)).await;
        let link = SharedLink::open(&redis.url_for("auth"), &redis.settings());
        let common = WebhookSecrets::parse(&Hooks::new(&[], "", "").secret).unwrap();
        let secrets = WebhookKeys { common, ..WebhookKeys::default() };
        let webhooks =
            Webhooks::start(&settings(&receiver), &secrets, Source::Redis(link), &FeedSender::new(8));
        let webhooks = webhooks.unwrap().unwrap();
        for n in 0..9 {
            record(&redis, n).await;
        }
        let letters = eventually_within(SOON, &format!("{kind:?}: all are given up"), async || {
            let (letters, next) = webhooks.dead((0, None), 5).await.ok()?;
            let (more, _) =
                webhooks.dead(next.map(|(partition, entry)| (partition, Some(entry)))?, 5).await.ok()?;
            Some([letters, more].concat()).filter(|letters| letters.len() == 9)
        })
        .await;
        assert!(letters.iter().all(|letter| letter.dead.last == "status 500"), "{letters:?}");
        receiver.change_mind(|_, _| Answer::Status(200));
        assert_eq!(webhooks.replay(Some(keys::partition(&room(3))), |_| true).await, Ok(1));
        assert_eq!(webhooks.replay(None, |_| true).await, Ok(8));
        receiver.wait_for(SOON, 9).await;
        webhooks.stop().await;
        let left = redis.keys().await;
        assert!(!left.iter().any(|key| key.ends_with(":lease")), "{left:?}");
    }
}

#[actix_web::test]
async fn a_day_is_read_over_every_kind_of_redis() {
    for kind in KINDS {
        let redis: Lease = kind.lease().await;
        let reader = UsageReader::Redis(SharedLink::open(&redis.url_for("auth"), &redis.settings()));
        let day = Day::parse("2026-11-21").unwrap();
        let what = format!("{kind:?}: a day is read");
        let found = eventually_within(SOON, &what, async || reader.day(day).await.ok()).await;
        assert!(found.is_empty());
    }
}

#[actix_web::test]
async fn an_endpoint_without_a_secret_stops_the_start() {
    let receiver = Receiver::willing().await;
    let none = WebhookKeys::default();
    let started = Webhooks::start(&settings(&receiver), &none, Source::Feed, &FeedSender::new(8));
    assert!(matches!(started, Err(WebhooksError::NoSecret(name)) if name == "SIGNALBOX_WEBHOOK_SECRETS"));
    // The common ones do not stand in for its own: whoever has those could speak in its name.
    let common = WebhookSecrets::parse(&Hooks::new(&[], "", "").secret).unwrap();
    let mut own = settings(&receiver);
    own.webhooks.endpoints[0].secrets_env = Some("SHOP_SECRETS".to_owned());
    let keys = WebhookKeys { common, ..WebhookKeys::default() };
    let started = Webhooks::start(&own, &keys, Source::Feed, &FeedSender::new(8));
    assert!(matches!(started, Err(WebhooksError::NoSecret(name)) if name == "SHOP_SECRETS"));
    let nobody = Webhooks::start(&Settings::default(), &none, Source::Feed, &FeedSender::new(8));
    assert!(matches!(nobody, Ok(None)));
}
