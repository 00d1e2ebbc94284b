//! Every credential that is derived from a root dies with the right of the root. The table is kinds
//! of derived credentials × ways to remove the right; a missing cell does not compile.

use actix_web::{http::header, test::TestRequest};
use serde_json::{Value, json};
use signalbox_config::{ApiKeySettings, ApiKeys, ProviderSettings, ServiceSettings};
use signalbox_protocol::{
    clock,
    id::{CallerId, Role, random_hex},
};
use signalbox_token::{SharedSecret, scope::Scope};

use super::{
    TestService, call_as_backend, member_text, random_secret, refresh::refresh_token, token_request,
};

macro_rules! all_of {
    ($(#[$doc:meta])* $name:ident { $($value:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $name { $($value),* }
        impl $name {
            const ALL: &[Self] = &[$(Self::$value),*];
        }
    };
}

all_of!(
    /// A credential that is derived from a root. The root of the first ones is an API key, then a
    /// provider, then the policy for guests.
    DerivedKind {
        KeyToken, KeyTicket, KeyFamily, Invite, InvitedToken, InvitedFamily, ManagementToken,
        UserToken, UserFamily, JoinedToken, JoinedFamily,
        GuestToken,
    }
);

all_of!(
    /// How the root loses its right.
    Removal { Removed, Revoked, RevokedWithIssued, ScopeRemoved, RoomRemoved, RoleRemoved }
);

/// The code of the refusal. `Valid`: the credential is still accepted. `NoSuchRight`: the root has
/// no such right that could be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Refused(&'static str),
    Valid,
    NoSuchRight,
}

use Expected::{NoSuchRight, Refused, Valid};

fn expected(kind: DerivedKind, removal: Removal) -> Expected {
    use DerivedKind as Kind;
    match kind {
        // A room token that was issued stays valid if the revocation does not name it.
        Kind::KeyToken | Kind::KeyTicket | Kind::InvitedToken => match removal {
            Removal::Revoked => Valid,
            Removal::Removed | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::ScopeRemoved => Refused("scope_missing"),
            Removal::RoomRemoved => Refused("room_not_allowed"),
            Removal::RoleRemoved => Refused("role_not_allowed"),
        },
        Kind::KeyFamily | Kind::InvitedFamily => match removal {
            Removal::Removed => Refused("refresh_invalid"),
            Removal::Revoked | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::ScopeRemoved => Refused("scope_missing"),
            Removal::RoomRemoved => Refused("room_not_allowed"),
            Removal::RoleRemoved => Refused("role_not_allowed"),
        },
        Kind::Invite => Refused("invite_invalid"),
        Kind::ManagementToken => match removal {
            Removal::Removed | Removal::Revoked | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::ScopeRemoved => Refused("scope_missing"),
            Removal::RoomRemoved => Refused("room_not_allowed"),
            // It has no role.
            Removal::RoleRemoved => NoSuchRight,
        },
        Kind::UserToken => match removal {
            Removal::Removed | Removal::Revoked | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::RoleRemoved => Refused("role_not_allowed"),
            Removal::ScopeRemoved | Removal::RoomRemoved => NoSuchRight,
        },
        Kind::UserFamily | Kind::JoinedFamily => match removal {
            Removal::Removed => Refused("refresh_invalid"),
            Removal::Revoked | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::RoleRemoved => Refused("role_not_allowed"),
            Removal::ScopeRemoved | Removal::RoomRemoved => NoSuchRight,
        },
        Kind::JoinedToken => match removal {
            Removal::Revoked => Valid,
            Removal::Removed | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::RoleRemoved => Refused("role_not_allowed"),
            Removal::ScopeRemoved | Removal::RoomRemoved => NoSuchRight,
        },
        Kind::GuestToken => match removal {
            Removal::Revoked => Valid,
            Removal::Removed | Removal::RevokedWithIssued => Refused("token_revoked"),
            Removal::RoomRemoved => Refused("room_not_allowed"),
            Removal::RoleRemoved => Refused("role_not_allowed"),
            Removal::ScopeRemoved => NoSuchRight,
        },
    }
}

impl DerivedKind {
    fn root(self) -> &'static str {
        match self {
            Self::KeyToken
            | Self::KeyTicket
            | Self::KeyFamily
            | Self::Invite
            | Self::InvitedToken
            | Self::InvitedFamily
            | Self::ManagementToken => "key:backend",
            Self::UserToken | Self::UserFamily | Self::JoinedToken | Self::JoinedFamily => "provider:app",
            Self::GuestToken => "guest",
        }
    }

    /// Creates the credential, in the room `acme-1`, with the role `speaker` except for guests.
    async fn create(self, deployment: &Deployment) -> String {
        let service = &deployment.service;
        let issue = async |member: &str| {
            let body = json!({ "room": "acme-1", "user": "u", "role": "speaker", "refresh": true });
            member_text(&service.request_token(&body.to_string()).await.1, member).to_owned()
        };
        let invite = async || {
            let request = token_request(&json!({ "role": "speaker", "maxUses": 9 }).to_string());
            let (status, made) = call_as_backend(service, request.uri("/api/rooms/acme-1/invites")).await;
            assert_eq!(status, 201, "{made}");
            member_text(&made, "code").to_owned()
        };
        let invited = async |member: &str| {
            let body = json!({ "invite": invite().await, "refresh": true }).to_string();
            member_text(&service.request_token_as_guest(&body).await.1, member).to_owned()
        };
        let joined = async |member: &str| {
            let user = format!("Bearer {}", deployment.exchange("token").await);
            let request = token_request(r#"{"refresh":true}"#).uri("/api/rooms/acme-1/join");
            let (status, joined) = service.call(request.insert_header((header::AUTHORIZATION, user))).await;
            assert_eq!(status, 200, "{joined}");
            member_text(&joined, member).to_owned()
        };
        match self {
            Self::KeyToken | Self::KeyTicket => issue("token").await,
            Self::KeyFamily => issue("refreshToken").await,
            Self::Invite => invite().await,
            Self::InvitedToken => invited("token").await,
            Self::InvitedFamily => invited("refreshToken").await,
            Self::ManagementToken => {
                let made = call_as_backend(service, token_request("{}").uri("/auth/management")).await;
                member_text(&made.1, "token").to_owned()
            }
            Self::UserToken => deployment.exchange("token").await,
            Self::UserFamily => deployment.exchange("refreshToken").await,
            Self::JoinedToken => joined("token").await,
            Self::JoinedFamily => joined("refreshToken").await,
            Self::GuestToken => {
                let answer = service.request_token_as_guest(r#"{"room":"acme-1"}"#).await;
                member_text(&answer.1, "token").to_owned()
            }
        }
    }

    /// Uses the credential once.
    async fn present(self, service: &TestService, credential: &str) -> (u16, Value) {
        let with_bearer = |request: TestRequest| {
            request.insert_header((header::AUTHORIZATION, format!("Bearer {credential}")))
        };
        match self {
            Self::KeyToken | Self::InvitedToken | Self::JoinedToken | Self::GuestToken => {
                service.validate(credential).await
            }
            Self::KeyTicket => service.call(with_bearer(token_request("{}").uri("/auth/ticket"))).await,
            Self::KeyFamily | Self::InvitedFamily | Self::UserFamily | Self::JoinedFamily => {
                refresh_token(service, credential).await
            }
            Self::Invite => {
                service.request_token_as_guest(&json!({ "invite": credential }).to_string()).await
            }
            Self::ManagementToken => {
                service.call(with_bearer(TestRequest::get().uri("/api/rooms/acme-1/invites"))).await
            }
            // To read a room issues nothing, so there the user token alone is asked.
            Self::UserToken => {
                let read = service.call(with_bearer(TestRequest::get().uri("/api/rooms/acme-1"))).await;
                if read.0 >= 300 && read.0 != 404 {
                    return read;
                }
                let joined =
                    service.call(with_bearer(token_request("{}").uri("/api/rooms/acme-1/join"))).await;
                assert!(joined.0 < 300, "a user who may read the room may join: {}", joined.1);
                joined
            }
        }
    }
}

/// A service with an API key, a provider and guests, and what is needed to start it again.
struct Deployment {
    service: TestService,
    user_secret: SharedSecret,
}

fn configure(settings: &mut ServiceSettings) {
    let key = ApiKeySettings { scopes: Some(Scope::ALL.to_vec()), ..ApiKeySettings::default() };
    settings.api_keys.insert(CallerId::parse("backend").unwrap(), key);
    let mut provider = ProviderSettings::application();
    provider.role_claim = Some("group".to_owned());
    provider.role_map.insert("staff".to_owned(), Role::parse("speaker").unwrap());
    settings.auth.providers = vec![provider];
}

impl Deployment {
    fn start() -> Self {
        let user_secret = random_secret();
        let secret = user_secret.clone();
        let service = TestService::with(configure, |parts| {
            parts.user_secret = Some(secret);
            parts.guests_allowed = true;
        });
        Self { service, user_secret }
    }

    async fn exchange(&self, member: &str) -> String {
        let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "alice", "group": "staff",
            "exp": clock::now_s() + 60 });
        let key = jsonwebtoken::EncodingKey::from_secret(self.user_secret.expose());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        let body = json!({ "token": token, "refresh": true }).to_string();
        let (status, answer) = self.service.call(token_request(&body).uri("/auth/exchange")).await;
        assert_eq!(status, 200, "{answer}");
        member_text(&answer, member).to_owned()
    }

    /// Removes the right of a root: by an access rule, or by a restart with another configuration.
    async fn remove_right(&self, root: &str, removal: Removal) -> TestService {
        let issued = removal == Removal::RevokedWithIssued;
        if issued || removal == Removal::Revoked {
            let body = json!({ "root": root, "issued": issued }).to_string();
            let (status, answer) =
                call_as_backend(&self.service, token_request(&body).uri("/api/revocations")).await;
            assert_eq!(status, 200, "{answer}");
        }
        let is_removed = removal == Removal::Removed;
        let change = |settings: &mut ServiceSettings| {
            configure(settings);
            let key = settings.api_keys.get_mut("backend").unwrap();
            let auth = &mut settings.auth;
            match (root, removal) {
                ("key:backend", Removal::ScopeRemoved) => key.scopes = Some(vec![Scope::Usage]),
                ("key:backend", Removal::RoomRemoved) => {
                    key.rooms = Some("acme-archive".to_owned().try_into().unwrap());
                }
                ("key:backend", Removal::RoleRemoved) => {
                    settings.roles.0.retain(|role, _| role.as_str() != "speaker");
                    auth.providers.clear();
                }
                ("provider:app", Removal::Removed) => auth.providers.clear(),
                ("provider:app", Removal::RoleRemoved) => auth.providers[0].role_map.clear(),
                ("guest", Removal::RoomRemoved) => {
                    auth.guest_rooms = vec!["lobby".to_owned().try_into().unwrap()];
                }
                ("guest", Removal::RoleRemoved) => auth.guest_role = Role::parse("viewer").unwrap(),
                _ => {}
            }
        };
        let user_secret = self.user_secret.clone();
        self.service.restarted(change, |parts| {
            parts.user_secret = Some(user_secret);
            parts.guests_allowed = !(root == "guest" && is_removed);
            if root == "key:backend" && is_removed {
                parts.api_keys = ApiKeys::parse(&format!("other:{}", random_hex())).unwrap();
            }
        })
    }
}

#[actix_web::test]
async fn derived_credential_ends_with_the_right_of_its_root() {
    let mut wrong = Vec::new();
    for kind in DerivedKind::ALL {
        for removal in Removal::ALL {
            let expectation = expected(*kind, *removal);
            if expectation == NoSuchRight {
                continue;
            }
            let deployment = Deployment::start();
            let credential = kind.create(&deployment).await;
            let (status, answer) = kind.present(&deployment.service, &credential).await;
            assert!(status < 300, "{kind:?} is valid before: {answer}");
            let credential = kind.create(&deployment).await;
            let service = deployment.remove_right(kind.root(), *removal).await;
            let (status, answer) = kind.present(&service, &credential).await;
            let got = if status < 300 { Valid } else { Refused("") };
            let is_right = match expectation {
                Refused(code) => answer["code"] == code,
                expectation => got == expectation,
            };
            if !is_right {
                wrong.push(format!(
                    "{kind:?} × {removal:?}: {expectation:?}, got {status} {}",
                    answer["code"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[actix_web::test]
async fn every_token_names_its_root() {
    for kind in DerivedKind::ALL {
        let deployment = Deployment::start();
        let credential = kind.create(&deployment).await;
        let (status, answer) = kind.present(&deployment.service, &credential).await;
        assert!(status < 300, "{kind:?}: {answer}");
        let claims = match answer.get("claims") {
            Some(claims) => claims.clone(),
            None => match answer["token"].as_str() {
                Some(token) => claims_of(token),
                None => continue,
            },
        };
        assert_eq!(claims["root"], kind.root(), "{kind:?}: {claims}");
    }
}

fn claims_of(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// A key is revoked with all that it has issued, its line is removed, and the service is restarted.
#[actix_web::test]
async fn revoked_and_removed_key_leaves_no_refresh_token_of_an_invited_guest() {
    let deployment = Deployment::start();
    let family = DerivedKind::InvitedFamily.create(&deployment).await;
    let body = r#"{"key":"backend","issued":true}"#;
    let revoked = call_as_backend(&deployment.service, token_request(body).uri("/api/revocations")).await;
    assert_eq!(revoked.0, 200);
    let service = deployment.service.restarted(configure, |parts| {
        parts.user_secret = Some(deployment.user_secret.clone());
        parts.api_keys = ApiKeys::parse(&format!("other:{}", random_hex())).unwrap();
    });
    let (status, answer) = refresh_token(&service, &family).await;
    assert_eq!(status, 401, "the refresh token of the invited guest: {answer}");
}

/// A key is narrowed to another scope and another room.
#[actix_web::test]
async fn narrowed_key_issues_nothing_more_through_older_credentials() {
    let deployment = Deployment::start();
    let kinds = [DerivedKind::Invite, DerivedKind::KeyFamily, DerivedKind::InvitedFamily];
    let mut older = Vec::new();
    for kind in kinds {
        older.push((kind, kind.create(&deployment).await));
    }
    let narrow = |settings: &mut ServiceSettings| {
        configure(settings);
        let key = ApiKeySettings {
            scopes: Some(vec![Scope::Usage]),
            rooms: Some("acme-archive".to_owned().try_into().unwrap()),
            reserved: false,
        };
        settings.api_keys.insert(CallerId::parse("backend").unwrap(), key);
    };
    let service = deployment.service.restarted(narrow, |parts| {
        parts.user_secret = Some(deployment.user_secret.clone());
    });
    for (kind, credential) in older {
        let (status, answer) = kind.present(&service, &credential).await;
        assert!(status == 401 || status == 403, "{kind:?}: {status} {answer}");
    }
}
