//! Tickets over HTTP.

use actix_web::{http::header, test::TestRequest};
use signalbox_config::LimitSettings;
use signalbox_protocol::clock;
use signalbox_token::{MemoryTicketStore, TicketRedemption, parse_ticket_digest};

use super::{TestService, member_text};
use crate::auth::credential_store::{CredentialStore, contract::CredentialLimits};

#[actix_web::test]
async fn ticket_redeems_to_its_signed_token() {
    let tickets = MemoryTicketStore::default();
    let shared_tickets = tickets.clone();
    let limits = CredentialLimits::new(&LimitSettings::default());
    let service =
        TestService::with(|_| {}, |parts| parts.store = CredentialStore::in_memory(shared_tickets, limits));
    let (_, issued) = service.request_token(r#"{"room":"r","user":"u","metadata":{"a": 1}}"#).await;
    let ticket_for = async |proof: &str| {
        let request = TestRequest::post().uri("/auth/ticket");
        service.call(request.insert_header((header::AUTHORIZATION, proof.to_owned()))).await
    };
    let (status, answer) = ticket_for(&format!("Bearer {}", member_text(&issued, "token"))).await;
    assert_eq!((status, &answer["expiresIn"]), (200, &30.into()));
    let digest = parse_ticket_digest(member_text(&answer, "ticket")).unwrap();
    let stored = tickets.redeem_ticket(&digest, clock::now_ms());
    assert!(
        stored == TicketRedemption::Token(member_text(&issued, "token").into()),
        "the node verifies the signature of the token again"
    );
    assert!(matches!(tickets.redeem_ticket(&digest, clock::now_ms()), TicketRedemption::Used));

    for (proof, code) in [
        (service.basic_header(), "token_malformed"),
        ("Bearer x".to_owned(), "token_malformed"),
        (format!("Bearer {}", member_text(&answer, "ticket")), "token_malformed"),
    ] {
        let (status, answer) = ticket_for(&proof).await;
        assert_eq!((status, &answer["code"]), (401, &code.into()), "{proof}");
    }
    let (status, answer) = service.call(TestRequest::post().uri("/auth/ticket")).await;
    assert_eq!((status, &answer["code"]), (401, &"token_missing".into()));
}
