//! What a client is told about ICE: servers, with credentials for the TURN servers among them, and which candidates it may use.
//!
//! Owns: the minting of TURN credentials, which server is whose, which policy is which role's. Must not: know a room or a socket. Both
//! services have one: signaling nodes tell their peers, the auth service answers `GET /auth/ice`.
//!
//! The credentials are those of the TURN REST API (draft-uberti-behave-turn-rest-00), as coturn's `use-auth-secret` takes them: the name is
//! the moment of their end and an opaque name, the password its HMAC-SHA1 under a secret that the TURN server has too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};

use signalbox_config::{Ice, Settings, TurnServer};
use signalbox_protocol::{
    IcePolicy, IceServer,
    id::{Region, Role},
};
use signalbox_token::SharedSecret;

/// HMAC-SHA1 takes keys of this many bytes; longer ones are hashed first (RFC 2104, section 2).
const BLOCK: usize = 64;

/// Opaque names have so many characters.
const NAME: usize = 32;

/// Mints TURN credentials.
#[derive(Clone)]
pub struct TurnMinter {
    key: Hmac<Sha1>,
    life: Duration,
}

/// A name and a password for TURN servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnCredential {
    /// `END:NAME`: until when it is good, seconds since 1970, and the opaque name.
    pub username: String,
    /// The password: base64.
    pub credential: String,
}

impl TurnMinter {
    /// Credentials under this secret that are good for so long.
    pub fn new(secret: &SharedSecret, life: Duration) -> Self {
        let mut block = [0; BLOCK];
        match secret.expose() {
            short if short.len() <= BLOCK => block[..short.len()].copy_from_slice(short),
            long => block[..20].copy_from_slice(&Sha1::digest(long)),
        }
        Self { key: Hmac::new(&block.into()), life }
    }

    /// A credential for whoever has this grant. Its name says nothing of the grant, and is the same each time, so that a TURN server can
    /// count what one client has allocated.
    pub fn mint(&self, grant: &str, now_s: u64) -> TurnCredential {
        let tag = self.key.clone().chain_update("signalbox turn name v1\0").chain_update(grant).finalize();
        let name: String = tag.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.credential(&name[..NAME.min(name.len())], now_s)
    }

    fn credential(&self, name: &str, now_s: u64) -> TurnCredential {
        let username = format!("{}:{name}", now_s.saturating_add(self.life.as_secs()));
        let tag = self.key.clone().chain_update(&username).finalize().into_bytes();
        TurnCredential { username, credential: STANDARD.encode(tag) }
    }
}

/// What one client is told.
#[derive(Debug, Clone)]
pub struct IceOffer {
    /// For `RTCConfiguration.iceServers`.
    pub servers: Arc<[IceServer]>,
    /// For `RTCConfiguration.iceTransportPolicy`.
    pub policy: IcePolicy,
    /// How long the credentials are good; none where there are none that end.
    pub life: Option<Duration>,
}

/// What every client is told.
#[derive(Clone)]
pub struct IceBook {
    fixed: Arc<[IceServer]>,
    turn: Arc<[TurnServer]>,
    minter: Option<TurnMinter>,
    life: Duration,
    policy: IcePolicy,
    roles: BTreeMap<Role, IcePolicy>,
}

impl IceBook {
    /// From the settings. The first secret mints; the others may still stand in TURN servers, or already.
    pub fn new(settings: &Settings, secrets: &[SharedSecret]) -> Self {
        let Ice { servers, turn, turn_ttl, policy } = &settings.ice;
        let roles = settings.roles.0.iter();
        Self {
            fixed: servers.clone().into(),
            turn: turn.clone().into(),
            minter: secrets.first().map(|secret| TurnMinter::new(secret, turn_ttl.0)),
            life: turn_ttl.0,
            policy: *policy,
            roles: roles.filter_map(|(role, template)| Some((role.clone(), template.ice?))).collect(),
        }
    }

    /// What a client with this role, region and grant is told at this time (seconds since 1970).
    pub fn offer(&self, role: &Role, region: Option<&Region>, grant: &str, now_s: u64) -> IceOffer {
        let policy = self.policy(role);
        let Some(minter) = self.minter.as_ref().filter(|_| !self.turn.is_empty()) else {
            return IceOffer { servers: self.fixed.clone(), policy, life: None };
        };
        let TurnCredential { username, credential } = minter.mint(grant, now_s);
        let minted = self.near(region).map(|server| IceServer {
            urls: server.urls.clone(),
            username: Some(username.clone()),
            credential: Some(credential.clone()),
        });
        let servers = self.fixed.iter().cloned().chain(minted).collect();
        IceOffer { servers, policy, life: Some(self.life) }
    }

    /// How long credentials are good; none where none are minted.
    pub fn life(&self) -> Option<Duration> {
        (self.minter.is_some() && !self.turn.is_empty()).then_some(self.life)
    }

    /// The policy of a role.
    pub fn policy(&self, role: &Role) -> IcePolicy {
        self.roles.get(role).copied().unwrap_or(self.policy)
    }

    /// The servers of a region if it has any, else all.
    fn near<'a>(&'a self, region: Option<&'a Region>) -> impl Iterator<Item = &'a TurnServer> {
        let is_there = move |server: &TurnServer| region.is_some() && server.region.as_ref() == region;
        let some = self.turn.iter().any(is_there);
        self.turn.iter().filter(move |server| !some || is_there(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_config::units::Span;
    use signalbox_token::Secret;

    fn secret(text: &str) -> SharedSecret {
        SharedSecret::new(Secret::new(text)).unwrap()
    }

    const SECRET: &str = "north0123456789abcdefghijklmnopqrstuvwxyz";

    /// Computed with: printf %s 1700003600:0f1e | openssl dgst -sha1 -hmac SECRET -binary | base64
    #[test]
    fn a_credential_is_what_coturn_computes() {
        let minter = TurnMinter::new(&secret(SECRET), Duration::from_secs(3_600));
        let minted = minter.credential("0f1e", 1_700_000_000);
        assert_eq!(minted.username, "1700003600:0f1e");
        assert_eq!(minted.credential, "mZEf91k2mZxwJ2HgCN4gyhaQwJ8=");
        let long =
            TurnMinter::new(&secret(&SECRET.repeat(2).replacen('n', "x", 1)), Duration::from_secs(3_600));
        assert_eq!(
            long.credential("0f1e", 1_700_000_000).credential,
            "zAV8HzMd55xgzkLIPFzv/Qsupgc=",
            "hashed: over a block"
        );
    }

    #[test]
    fn a_name_is_its_grants_and_says_nothing_of_it() {
        let minter = TurnMinter::new(&secret(SECRET), Duration::from_secs(60));
        let name = |grant: &str, now| minter.mint(grant, now).username.split_once(':').unwrap().1.to_owned();
        assert_eq!(name("grant", 1), name("grant", 2));
        assert_ne!(name("grant", 1), name("other", 1));
        assert!(!name("grant", 1).contains("grant") && name("grant", 1).len() == NAME);
        assert_ne!(minter.mint("grant", 1).credential, minter.mint("grant", 2).credential);
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        let server = |url: &str, region: Option<&str>| TurnServer {
            urls: vec![url.to_owned()],
            region: region.map(|region| Region::parse(region).unwrap()),
        };
        let stun = IceServer { urls: vec!["stun:s".to_owned()], username: None, credential: None };
        settings.ice.servers = vec![stun];
        settings.ice.turn =
            vec![server("turn:a", Some("eu")), server("turn:b", Some("us")), server("turn:c", None)];
        settings.ice.turn_ttl = Span::secs(60);
        settings
    }

    fn urls(book: &IceBook, region: Option<&str>) -> Vec<String> {
        let region = region.map(|region| Region::parse(region).unwrap());
        let offer = book.offer(&Role::parse("guest").unwrap(), region.as_ref(), "g", 0);
        offer.servers.iter().flat_map(|server| server.urls.clone()).collect()
    }

    #[test]
    fn a_region_gets_its_own_servers_and_everybody_else_all() {
        let book = IceBook::new(&settings(), &[secret(SECRET)]);
        assert_eq!(urls(&book, Some("eu")), ["stun:s", "turn:a"]);
        assert_eq!(urls(&book, Some("asia")), ["stun:s", "turn:a", "turn:b", "turn:c"]);
        assert_eq!(urls(&book, None), ["stun:s", "turn:a", "turn:b", "turn:c"]);
    }

    #[test]
    fn the_policy_is_the_roles_own_or_that_of_all() {
        let mut settings = settings();
        let guest = Role::parse("guest").unwrap();
        settings.roles.0.get_mut(&guest).unwrap().ice = Some(IcePolicy::Relay);
        let book = IceBook::new(&settings, &[secret(SECRET)]);
        let policy = |role: &str| book.offer(&Role::parse(role).unwrap(), None, "g", 0).policy;
        assert_eq!(
            (policy("guest"), policy("host"), policy("unknown")),
            (IcePolicy::Relay, IcePolicy::All, IcePolicy::All)
        );
    }

    #[test]
    fn without_turn_servers_nothing_ends() {
        let book = IceBook::new(
            &Settings { ice: Ice { turn: vec![], ..settings().ice }, ..Settings::default() },
            &[],
        );
        let offer = book.offer(&Role::parse("guest").unwrap(), None, "g", 0);
        assert_eq!((offer.servers.len(), offer.life), (1, None));
    }
}
