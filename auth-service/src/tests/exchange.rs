//! `POST /auth/exchange`, with a provider that answers over HTTP.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_config::{CommonFlags, EnvVars, LoadedConfig, ProviderSettings};
use signalbox_protocol::clock;
use signalbox_tests::{
    net::eventually,
    provider::{ProviderFault, ProviderKey, TestProvider},
    provider_shape::ProviderShape,
};
use signalbox_token::TokenVerifier;

use super::{TestService, random_secret, token_request};
use crate::auth::providers::{ExchangeRefusal, TokenExchange};

/// A service that accepts tokens of this provider.
fn service_with_provider(idp: &TestProvider, more: Value) -> TestService {
    let mut rules = json!({ "issuer": idp.issuer, "audience": "signalbox" });
    rules.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let provider: ProviderSettings = serde_json::from_value(rules).unwrap();
    TestService::with(|settings| settings.auth.providers.push(provider), |_| {})
}

pub(super) async fn exchange_token(service: &TestService, token: &str) -> (u16, Value) {
    service
        .call(token_request(&json!({ "token": token, "refresh": true }).to_string()).uri("/auth/exchange"))
        .await
}

async fn expect_refusal(service: &TestService, token: &str, why: ExchangeRefusal) {
    let (status, answer) = exchange_token(service, token).await;
    assert_eq!((status, &answer["code"]), (401, &"exchange_refused".into()), "{why}: {answer}");
    assert!(answer["detail"].as_str().unwrap().contains(&why.to_string()), "{why}: {answer}");
}

#[actix_web::test]
async fn provider_token_of_every_algorithm_is_exchanged_for_a_user_token() {
    let idp = TestProvider::start().await;
    let keys = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA]
        .map(|algorithm| ProviderKey::new(&format!("{algorithm:?}"), algorithm));
    idp.publish(&keys.iter().collect::<Vec<_>>());
    let roles = json!({ "role_claim": "groups", "role_map": { "staff": "host" }, "user_prefix": "idp:" });
    let service = service_with_provider(&idp, roles);
    for key in &keys {
        let mut claims = idp.claims("alice");
        claims["groups"] = json!(["staff"]);
        let (status, answer) = exchange_token(&service, &key.sign(&claims)).await;
        assert_eq!(status, 200, "{:?} {answer}", key.algorithm);
        assert_eq!((&answer["user"], &answer["role"]), (&"idp:alice".into(), &"host".into()));
        assert!(answer.get("room").is_none());
        let verifier = TokenVerifier::from_secrets([&service.token_secret]);
        let claims = verifier.verify_user_token(answer["token"].as_str().unwrap(), clock::now_s()).unwrap();
        assert_eq!((claims.sub.as_str(), claims.name.as_deref()), ("idp:alice", Some("Sam")));
        let body = json!({ "refreshToken": answer["refreshToken"] }).to_string();
        let (status, next) = service.call(token_request(&body).uri("/auth/refresh")).await;
        assert_eq!((status, &next["user"], &next["role"]), (200, &"idp:alice".into(), &"host".into()));
        assert!(verifier.verify_user_token(next["token"].as_str().unwrap(), clock::now_s()).is_ok());
    }
    assert_eq!(idp.key_requests(), 1, "the keys are cached");
    assert_eq!(service.counter_value("signalbox_auth_tokens_issued_total", "user"), 4.0);
}

#[actix_web::test]
async fn provider_token_with_one_defect_is_refused() {
    let idp = TestProvider::start().await;
    let (rsa, ec) = (ProviderKey::new("rsa", Algorithm::RS256), ProviderKey::new("ec", Algorithm::ES256));
    let (other, small) =
        (ProviderKey::new("rsa", Algorithm::RS256), ProviderKey::with_bits("small", Algorithm::RS256, 1024));
    idp.publish(&[&rsa, &ec, &small]);
    let service = service_with_provider(&idp, json!({}));
    let claims = idp.claims("alice");
    assert_eq!(exchange_token(&service, &rsa.sign(&claims)).await.0, 200);

    let changed = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        rsa.sign(&changed)
    };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let headed = |header: Value| format!("{}.{}.AAAA", part(&header), part(&claims));
    // The public key as an HMAC secret: a known attack on verifiers.
    let hmac = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("rsa".to_owned());
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let public = URL_SAFE_NO_PAD.decode(rsa.jwk["n"].as_str().unwrap()).unwrap();
    let tampered = {
        let token = rsa.sign(&claims);
        let (head, rest) = token.split_once('.').unwrap();
        let mut forged = claims.clone();
        forged["sub"] = "mallory".into();
        format!("{head}.{}.{}", part(&forged), rest.split_once('.').unwrap().1)
    };
    let now = clock::now_s();
    for (token, why) in [
        (String::new(), ExchangeRefusal::Malformed),
        ("a.b.c".to_owned(), ExchangeRefusal::Malformed),
        ("x".repeat(13_000), ExchangeRefusal::Malformed),
        (headed(json!({ "alg": "none" })), ExchangeRefusal::WrongAlgorithm),
        (headed(json!({ "alg": "RS256", "jwk": {} })), ExchangeRefusal::ForbiddenHeader),
        (headed(json!({ "alg": "RS256", "jku": "http://127.0.0.1/" })), ExchangeRefusal::ForbiddenHeader),
        (headed(json!({ "alg": "RS256", "crit": ["exp"] })), ExchangeRefusal::ForbiddenHeader),
        (headed(json!({ "alg": "RS256", "typ": "signalbox-user+jwt" })), ExchangeRefusal::UnknownType),
        (headed(json!({ "alg": "RS256", "typ": "logout+jwt" })), ExchangeRefusal::UnknownType),
        (hmac(&public), ExchangeRefusal::WrongAlgorithm),
        (hmac(rsa.jwk["n"].as_str().unwrap().as_bytes()), ExchangeRefusal::WrongAlgorithm),
        (rsa.sign_as(Algorithm::RS384, Some("rsa"), &claims), ExchangeRefusal::WrongAlgorithm),
        (rsa.sign_as(Algorithm::PS256, Some("rsa"), &claims), ExchangeRefusal::UnknownKey),
        (rsa.sign_as(Algorithm::RS256, Some("ec"), &claims), ExchangeRefusal::UnknownKey),
        (rsa.sign_as(Algorithm::RS256, Some("gone"), &claims), ExchangeRefusal::UnknownKey),
        (small.sign(&claims), ExchangeRefusal::UnknownKey),
        (other.sign(&claims), ExchangeRefusal::BadSignature),
        (tampered, ExchangeRefusal::BadSignature),
        (changed("iss", "http://evil.example".into()), ExchangeRefusal::UnknownIssuer),
        (changed("iss", format!("{}/", idp.issuer).into()), ExchangeRefusal::UnknownIssuer),
        (changed("iss", Value::Null), ExchangeRefusal::UnknownIssuer),
        (changed("aud", "other".into()), ExchangeRefusal::WrongAudience),
        (changed("aud", json!(["signalbox", "other"])), ExchangeRefusal::WrongParty),
        (changed("exp", now.into()), ExchangeRefusal::Expired),
        (changed("exp", Value::Null), ExchangeRefusal::Expired),
        (changed("nbf", (now + 120).into()), ExchangeRefusal::NotYetValid),
        (changed("iat", (now + 120).into()), ExchangeRefusal::NotYetValid),
        (changed("iat", (now - 25 * 60 * 60).into()), ExchangeRefusal::TooOld),
        (changed("sub", Value::Null), ExchangeRefusal::NoUser),
    ] {
        expect_refusal(&service, &token, why).await;
    }
    // A token without a kid is verified with the only key of its algorithm.
    assert_eq!(exchange_token(&service, &rsa.sign_as(Algorithm::RS256, None, &claims)).await.0, 200);
    // A token of this server is no token of a provider.
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u"}"#).await;
    expect_refusal(&service, issued["token"].as_str().unwrap(), ExchangeRefusal::UnknownType).await;
}

#[actix_web::test]
async fn application_token_is_accepted_only_with_the_user_secret() {
    let secret = random_secret();
    let user_secret = secret.clone();
    let service = TestService::with(
        |settings| settings.auth.providers.push(ProviderSettings::application()),
        |parts| parts.user_secret = Some(user_secret),
    );
    let now = clock::now_s();
    let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "bob", "exp": now + 60 });
    let sign = |algorithm: Algorithm, secret: &[u8]| {
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let (status, answer) = exchange_token(&service, &sign(Algorithm::HS256, secret.expose())).await;
    assert_eq!((status, &answer["user"], &answer["role"]), (200, &"bob".into(), &"guest".into()), "{answer}");
    expect_refusal(
        &service,
        &sign(Algorithm::HS256, service.token_secret.expose()),
        ExchangeRefusal::BadSignature,
    )
    .await;
    expect_refusal(&service, &sign(Algorithm::HS512, secret.expose()), ExchangeRefusal::WrongAlgorithm).await;
    let (status, answer) = service.validate(&sign(Algorithm::HS256, secret.expose())).await;
    assert_eq!(
        (status, &answer["code"]),
        (401, &"token_wrong_type".into()),
        "the token of the application is no room token"
    );
    let mut settings = signalbox_config::ServiceSettings::default();
    settings.auth.providers.push(ProviderSettings::application());
    assert!(TokenExchange::new(&settings, None).is_err());
}

#[actix_web::test]
async fn new_provider_key_is_fetched_and_cached_keys_survive_an_outage() {
    let idp = TestProvider::start().await;
    let (one, two) = (ProviderKey::new("one", Algorithm::EdDSA), ProviderKey::new("two", Algorithm::EdDSA));
    idp.publish(&[&one]);
    let service = service_with_provider(&idp, json!({}));
    let exchange = service.state.tokens.exchange.load();
    let (mut now, claims) = (clock::now_ms(), idp.claims("alice"));
    let mut long = claims.clone();
    long["exp"] = (clock::now_s() + 80_000).into();
    assert!(exchange.verify(&one.sign(&long), now).await.is_ok());
    idp.publish(&[&one, &two]);
    // The keys were fetched a moment ago: a token with an unknown key waits for the next fetch.
    assert!(exchange.verify(&two.sign(&long), now).await.is_ok());
    assert_eq!(idp.key_requests(), 2);

    idp.set_down(true);
    now += 6 * 60 * 1_000;
    assert!(exchange.verify(&one.sign(&long), now).await.is_ok(), "cached keys stay in use");
    assert_eq!(idp.key_requests(), 2, "discovery failed already");
    // A removed key is refused as soon as the provider answers again.
    idp.set_down(false);
    idp.publish(&[&two]);
    now += 1_000;
    assert!(exchange.verify(&two.sign(&long), now).await.is_ok());
    assert_eq!(exchange.verify(&one.sign(&long), now).await, Err(ExchangeRefusal::UnknownKey));
}

/// Whether a refusal is about the token, or about an answer that is missing. The rows are all faults
/// of a provider, and none, each with and without keys that were fetched before.
#[actix_web::test]
async fn unknown_key_is_refused_only_if_the_provider_has_answered_without_it() {
    let (known, unknown) =
        (ProviderKey::new("known", Algorithm::EdDSA), ProviderKey::new("new", Algorithm::EdDSA));
    let rows = ProviderFault::ALL.map(Some).into_iter().chain([None]);
    for (fault, has_keys) in rows.flat_map(|fault| [(fault, true), (fault, false)]) {
        let row = format!("{fault:?}, {has_keys}");
        let idp = TestProvider::start().await;
        idp.publish(&[&known]);
        let service = service_with_provider(&idp, json!({}));
        if has_keys {
            assert_eq!(exchange_token(&service, &known.sign(&idp.claims("a"))).await.0, 200, "{row}");
        }
        idp.set_fault(fault);
        // The first token may meet the pause between two fetches; the second one does.
        for user in ["a", "b"] {
            let (status, answer) = exchange_token(&service, &unknown.sign(&idp.claims(user))).await;
            let expected = if fault.is_some() { (503, "unavailable") } else { (401, "exchange_refused") };
            assert_eq!((status, &answer["code"]), (expected.0, &expected.1.into()), "{row}: {answer}");
        }
        let body = json!({ "token": unknown.sign(&idp.claims("a")) }).to_string();
        let retry_after = service.retry_after(token_request(&body).uri("/auth/exchange")).await;
        assert_eq!(retry_after.is_some(), fault.is_some(), "{row}");
        if has_keys {
            let status = exchange_token(&service, &known.sign(&idp.claims("a"))).await.0;
            assert_eq!(status, 200, "{row}: a known key needs no answer");
        }
        // The same token is accepted as soon as the provider publishes its key.
        idp.set_fault(None);
        idp.publish(&[&known, &unknown]);
        let token = unknown.sign(&idp.claims("a"));
        eventually("the new key is accepted", async || {
            (exchange_token(&service, &token).await.0 == 200).then_some(())
        })
        .await;
    }
}

#[actix_web::test]
async fn provider_without_keys_or_with_a_foreign_discovery_document_gives_503() {
    let idp = TestProvider::start().await;
    let key = ProviderKey::new("one", Algorithm::EdDSA);
    idp.publish(&[&key]);
    idp.set_down(true);
    let (status, answer) =
        exchange_token(&service_with_provider(&idp, json!({})), &key.sign(&idp.claims("a"))).await;
    assert_eq!((status, &answer["code"]), (503, &"unavailable".into()));
    idp.set_down(false);
    idp.set_discovery_issuer("https://evil.example");
    let (status, _) =
        exchange_token(&service_with_provider(&idp, json!({})), &key.sign(&idp.claims("a"))).await;
    assert_eq!(status, 503, "the discovery document names another issuer");
    let by_url = json!({ "jwks_url": format!("{}/jwks", idp.issuer) });
    assert_eq!(
        exchange_token(&service_with_provider(&idp, by_url), &key.sign(&idp.claims("a"))).await.0,
        200
    );
}

/// The settings of a recipe in docs/PROVIDERS.md, with this issuer in place of its own.
fn recipe_settings(heading: &str, issuer: &str) -> ProviderSettings {
    let document = include_str!("../../../docs/PROVIDERS.md");
    let recipe = document.split("\n## ").find(|part| part.lines().next() == Some(heading));
    let toml = recipe.unwrap().split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let own_issuer = toml.split("issuer = \"").nth(1).unwrap().split('"').next().unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, toml.replace(own_issuer, issuer).as_bytes()).unwrap();
    let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
    let mut loaded = LoadedConfig::load(&flags, &EnvVars::default()).unwrap();
    assert_eq!(own_issuer.ends_with('/'), issuer.ends_with('/'), "{heading}: the slash at the end");
    loaded.settings.auth.providers.remove(0)
}

#[actix_web::test]
async fn token_of_every_known_provider_is_accepted_with_the_settings_of_its_recipe() {
    let key = ProviderKey::new("key-1", Algorithm::RS256);
    for shape in ProviderShape::ALL {
        let idp = TestProvider::start_below(shape.issuer_path()).await;
        idp.publish_raw(shape.key_set(&key, &idp.issuer));
        let rules = recipe_settings(shape.recipe_heading(), &idp.issuer);
        let service_with = |rules: ProviderSettings| {
            TestService::with(|settings| settings.auth.providers.push(rules), |_| {})
        };
        let service = service_with(rules.clone());
        let claims = shape.claims(&idp.issuer);
        let token = key.sign_with_header(&shape.header(&key), &claims);
        let (status, answer) = exchange_token(&service, &token).await;
        assert_eq!(status, 200, "{shape:?} {answer}");
        let verifier = TokenVerifier::from_secrets([&service.token_secret]);
        let issued = verifier.verify_user_token(answer["token"].as_str().unwrap(), clock::now_s()).unwrap();
        let found = (issued.sub.as_str(), issued.name.as_deref().unwrap(), issued.role.as_str());
        assert_eq!(found, shape.expected_user(), "{shape:?}");

        // A token for another application of the same provider is refused.
        let mut foreign = claims.clone();
        foreign["aud"] = "another-application".into();
        let token = key.sign_with_header(&shape.header(&key), &foreign);
        expect_refusal(&service, &token, ExchangeRefusal::WrongAudience).await;
        let (mut foreign, party) = (claims.clone(), claims.get("client_id").map_or("azp", |_| "client_id"));
        if !rules.authorized_parties.is_empty() {
            foreign[party] = "another-application".into();
            let token = key.sign_with_header(&shape.header(&key), &foreign);
            expect_refusal(&service, &token, ExchangeRefusal::WrongParty).await;
        }
        if shape == ProviderShape::Keycloak {
            let role_claim = Some("resource_access.web-app.roles".to_owned());
            let service = service_with(ProviderSettings { role_claim, ..rules });
            let (_, answer) = exchange_token(&service, &key.sign(&claims)).await;
            assert_eq!(answer["role"], "host", "{answer}");
        }
    }
}
