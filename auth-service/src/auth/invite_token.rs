//! `POST /auth/token` with an invite: a guest gets a token for the room of the invite.

use signalbox_access::AccessSubject;
use signalbox_protocol::{
    id::{RoomId, random_hex},
    problem::Problem,
};
use signalbox_token::scope::Scope;

use super::{
    credential_store::contract::{CredentialStoreError, InviteUse},
    issuer::{InviteCode, InviteTerms, RoomTokenTerms, TokenRequest},
    token_issuer::{TokenResponse, find_creation, issue_room_token, store_problem},
};
use crate::{auth::token_service::TokenService, context::principal::DerivedRight};

/// Issues a token for an invite. The use is counted last, so a refused request costs no use.
pub(crate) async fn issue_for_invite(
    service: &TokenService,
    request: Result<TokenRequest, Problem>,
) -> Result<TokenResponse, Problem> {
    let request = request?;
    let refresh = request.wants_refresh();
    let code = request.invite_code().and_then(InviteCode::parse).ok_or_else(invite_invalid)?;
    let id = code.id();
    let invites = service.store.list_invites(&code.room).await.map_err(store_problem)?;
    let terms = invites.iter().find(|invite| invite.id == id).map(|invite| &*invite.terms_json);
    let terms = match terms {
        Some(terms_json) => {
            let invite = valid_invite_terms(service, &code.room, terms_json)?;
            let creation = find_creation(service, &code.room).await;
            let creation = creation.map_err(|_| store_problem(CredentialStoreError::Unavailable))?;
            if invite.creation.is_some() && invite.creation != creation {
                return Err(invite_invalid());
            }
            let room = code.room.clone();
            let terms =
                service.grant_policy.load().terms_for_invite(room, &invite, request, &random_hex())?;
            Some(RoomTokenTerms { creation, ..terms })
        }
        None => None,
    };
    if let Some(RoomTokenTerms { user, room, root, .. }) = &terms {
        service.context.check_access(&AccessSubject {
            user,
            room: Some(room),
            grant: "",
            issued_s: None,
            root: Some(root),
            address: None,
        })?;
    }
    // The family itself is started after the use.
    if refresh && terms.is_some() {
        service.context.check_store_memory(Some("refresh"))?;
    }
    match (service.store.use_invite(&code.room, &id).await.map_err(store_problem)?, terms) {
        (InviteUse::Accepted(_), Some(terms)) => {
            let issued = issue_room_token(service, terms, refresh).await?;
            tracing::info!(target: "signalbox_auth::audit", invite = id, room = %code.room, "invite_used");
            issued.log_issued("token_issued", "invite", "invite");
            Ok(issued)
        }
        (InviteUse::Expired, _) => Err(Problem::new(401, "invite_expired", "the invite has expired")),
        (InviteUse::UsedUp, _) => Err(Problem::new(401, "invite_used_up", "the invite has no uses left")),
        (InviteUse::Accepted(_) | InviteUse::Unknown, _) => Err(invite_invalid()),
    }
}

/// The terms of an invite, if the API key that created it may still create this invite.
fn valid_invite_terms(
    service: &TokenService,
    room: &RoomId,
    terms_json: &str,
) -> Result<InviteTerms, Problem> {
    let terms: InviteTerms = serde_json::from_str(terms_json).map_err(|_| invite_invalid())?;
    let (root, role) = (terms.root(), Some(&terms.role));
    let right =
        DerivedRight { root: &root, scope: Some(Scope::Tokens), room: Some(room), role, issues: true };
    service.context.still_allowed(&right).map_err(|_| invite_invalid())?;
    Ok(terms)
}

fn invite_invalid() -> Problem {
    Problem::new(401, "invite_invalid", "there is no such invite, or it was revoked")
}
