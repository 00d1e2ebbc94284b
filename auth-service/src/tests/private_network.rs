//! Providers and receivers of webhooks in a private network: with certificates of a private authority,
//! or without TLS on a host that the operator has listed.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_config::{
    EndpointSecrets, HttpClientSettings, ProviderSettings, ServiceSettings, WebhookEndpoint, WebhookSecrets,
};
use signalbox_rooms::feed::FeedSender;
use signalbox_tests::{
    net::eventually_within,
    provider::{ProviderKey, TestProvider},
    test_pki::TestPki,
    tls_front::TlsFront,
    webhook_receiver::{WebhookConfig, WebhookReceiver},
};

use super::{TestService, exchange::exchange_token};
use crate::management::webhooks::{WebhookEventSource, WebhookLauncher};

const DEADLINE: Duration = Duration::from_secs(20);

fn provider_rules(rules: Value) -> ProviderSettings {
    serde_json::from_value(rules).unwrap()
}

/// The trust of a process: the public authorities, those of a file, or those of another file.
fn trust_table(pki: &TestPki, other: &TestPki) -> [(HttpClientSettings, bool); 3] {
    let with = |ca_file| HttpClientSettings { ca_file, ..HttpClientSettings::default() };
    [(with(None), false), (with(Some(other.file("ca.crt"))), false), (with(Some(pki.file("ca.crt"))), true)]
}

#[actix_web::test]
async fn provider_with_a_private_authority_is_reached_only_with_its_ca_file() {
    let (pki, other) = (TestPki::generate(), TestPki::generate());
    let key = ProviderKey::new("one", Algorithm::EdDSA);
    let mut idp = TestProvider::start().await;
    idp.publish(&[&key]);
    let front = TlsFront::start(&pki, idp.issuer.strip_prefix("http://").unwrap().parse().unwrap()).await;
    idp.set_public_url(&front.url);
    for (trust, is_reached) in trust_table(&pki, &other) {
        for rules in [
            json!({ "issuer": idp.issuer, "audience": "signalbox" }),
            json!({ "issuer": idp.issuer, "audience": "signalbox", "jwks_url": format!("{}/jwks", idp.issuer) }),
        ] {
            let service = TestService::with(
                |settings| {
                    settings.http_client = trust.clone();
                    settings.auth.providers.push(provider_rules(rules.clone()));
                },
                |_| {},
            );
            let (status, answer) = exchange_token(&service, &key.sign(&idp.claims("a"))).await;
            let expected = if is_reached { 200 } else { 503 };
            assert_eq!(status, expected, "{trust:?} {rules}: {answer}");
        }
    }
}

#[actix_web::test]
async fn keys_without_tls_are_fetched_only_from_a_listed_host() {
    let key = ProviderKey::new("one", Algorithm::EdDSA);
    // This address leads to the provider and is no loopback address, as that of an inner host.
    let public = TestProvider::start().await;
    public.publish(&[&key]);
    public.set_jwks_uri(&format!("{}/jwks", public.issuer.replace("127.0.0.1", "0.0.0.0")));
    for (listed, expected) in [(vec![], 503), (vec!["0.0.0.1"], 503), (vec!["0.0.0.0"], 200)] {
        let unencrypted_hosts: Vec<String> = listed.into_iter().map(str::to_owned).collect();
        let service = TestService::with(
            |settings| {
                settings.http_client.unencrypted_hosts = unencrypted_hosts.clone();
                let rules = json!({ "issuer": public.issuer, "audience": "signalbox" });
                settings.auth.providers.push(provider_rules(rules));
            },
            |_| {},
        );
        let (status, answer) = exchange_token(&service, &key.sign(&public.claims("a"))).await;
        assert_eq!(status, expected, "{unencrypted_hosts:?}: {answer}");
    }
}

#[actix_web::test]
async fn webhook_receiver_with_a_private_authority_is_reached_only_with_its_ca_file() {
    let (pki, other) = (TestPki::generate(), TestPki::generate());
    let receiver = WebhookReceiver::accepting().await;
    let front = TlsFront::start(&pki, receiver.address).await;
    for (trust, is_reached) in trust_table(&pki, &other) {
        let mut settings = ServiceSettings { http_client: trust.clone(), ..ServiceSettings::default() };
        settings.webhooks.endpoints = vec![WebhookEndpoint {
            url: format!("{}/hooks", front.url),
            events: vec![],
            rooms: None,
            insecure: false,
            secrets_env: None,
        }];
        settings.webhooks.attempts = 1;
        let shared_secrets = WebhookSecrets::parse(&WebhookConfig::new(&[], "", "").secret).unwrap();
        let secrets = EndpointSecrets { shared_secrets, ..EndpointSecrets::default() };
        let feed = FeedSender::new(8);
        let webhooks = WebhookLauncher::start(&settings, &secrets, WebhookEventSource::Feed, &feed);
        let running = webhooks.unwrap().running().load();
        let webhooks = running.as_ref();
        let line = r#"{"id":"evt_1","event":"room-opened","at":1,"room":"r","node":"x"}"#;
        feed.send(line.into()).unwrap();
        if is_reached {
            receiver.wait_for_events(DEADLINE, 1).await;
        } else {
            eventually_within(DEADLINE, "the event becomes a dead letter", async || {
                let (letters, _) = webhooks.list_dead_letters((0, None), 5, |_| true).await.ok()?;
                (letters.len() == 1).then(|| assert_eq!(letters[0].letter.last_failure, "untrusted"))
            })
            .await;
        }
        webhooks.stop().await;
    }
}
