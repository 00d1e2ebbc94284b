//! The ICE configuration of a client: STUN and TURN servers, TURN credentials, and the transport
//! policy of its role.
//!
//! Owns: making TURN credentials, and the choice of servers and policy for a client. Must not: know
//! a room or a socket. Next: signaling nodes send the configuration to their peers, the auth
//! service returns it at `GET /auth/ice`.
//!
//! The credentials are those of the TURN REST API (draft-uberti-behave-turn-rest-00), which coturn
//! accepts with `use-auth-secret`. The username is the time at which the credential expires and an
//! opaque name. The password is the HMAC-SHA1 of the username, with a secret that the TURN server
//! also has.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};

use signalbox_config::{IceSettings, LiveValue, ServiceSettings, TurnServer};
use signalbox_protocol::{
    IcePolicy, IceServer,
    id::{RegionId, Role},
};
use signalbox_token::SharedSecret;

/// The block size of HMAC-SHA1. A longer key is hashed first (RFC 2104, section 2).
const HMAC_BLOCK_BYTES: usize = 64;

/// The length of the opaque name in a username.
const NAME_CHARS: usize = 32;

/// Makes TURN credentials with one secret.
#[derive(Clone)]
pub struct TurnCredentialMinter {
    key: Hmac<Sha1>,
    lifetime: Duration,
}

/// A username and a password for TURN servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnCredential {
    /// `EXPIRY:NAME`: the time at which the credential expires, in seconds since 1970, and an
    /// opaque name.
    pub username: String,
    /// The password, in base64.
    pub credential: String,
}

impl TurnCredentialMinter {
    /// `lifetime` is the time for which each credential is valid, in whole seconds.
    pub fn new(secret: &SharedSecret, lifetime: Duration) -> Self {
        let mut block = [0; HMAC_BLOCK_BYTES];
        match secret.expose() {
            short if short.len() <= HMAC_BLOCK_BYTES => block[..short.len()].copy_from_slice(short),
            long => block[..20].copy_from_slice(&Sha1::digest(long)),
        }
        Self { key: Hmac::new(&block.into()), lifetime }
    }

    /// Makes the credential of a grant; `now_s` is in seconds since 1970. The opaque name does not
    /// reveal the grant. It is the same each time, so that a TURN server can limit the allocations
    /// of one client.
    pub fn mint_for_grant(&self, grant: &str, now_s: u64) -> TurnCredential {
        let tag = self.key.clone().chain_update("signalbox turn name v1\0").chain_update(grant).finalize();
        let name: String = tag.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.mint_for_name(&name[..NAME_CHARS.min(name.len())], now_s)
    }

    fn mint_for_name(&self, name: &str, now_s: u64) -> TurnCredential {
        let username = format!("{}:{name}", now_s.saturating_add(self.lifetime.as_secs()));
        let tag = self.key.clone().chain_update(&username).finalize().into_bytes();
        TurnCredential { username, credential: STANDARD.encode(tag) }
    }
}

/// The ICE configuration of one client.
#[derive(Debug, Clone)]
pub struct ClientIceConfig {
    /// `RTCConfiguration.iceServers`.
    pub servers: Arc<[IceServer]>,
    /// `RTCConfiguration.iceTransportPolicy`.
    pub policy: IcePolicy,
    /// How long the TURN credentials are valid; `None` if no credential expires.
    pub lifetime: Option<Duration>,
}

/// Gives each client its ICE configuration. All clones have the same servers.
#[derive(Clone)]
pub struct IceDirectory(LiveValue<IceRules>);

struct IceRules {
    static_servers: Arc<[IceServer]>,
    turn_servers: Arc<[TurnServer]>,
    minter: Option<TurnCredentialMinter>,
    lifetime: Duration,
    default_policy: IcePolicy,
    role_policies: BTreeMap<Role, IcePolicy>,
}

impl IceDirectory {
    /// The first secret makes the credentials. TURN servers may have the other secrets during a
    /// rotation.
    pub fn new(settings: &ServiceSettings, secrets: &[SharedSecret]) -> Self {
        Self(LiveValue::new(IceRules::new(settings, secrets)))
    }

    /// Puts the servers and secrets of a new configuration in force. A connected client gets them
    /// with its next credential.
    pub fn reload(&self, settings: &ServiceSettings, secrets: &[SharedSecret]) {
        self.0.replace(IceRules::new(settings, secrets));
    }

    /// The configuration of a client with this role, region and grant; `now_s` is in seconds since
    /// 1970.
    pub fn client_config(
        &self,
        role: &Role,
        region: Option<&RegionId>,
        grant: &str,
        now_s: u64,
    ) -> ClientIceConfig {
        self.0.load().client_config(role, region, grant, now_s)
    }

    /// How long TURN credentials are valid; `None` if none are made.
    pub fn credential_lifetime(&self) -> Option<Duration> {
        self.0.read(|rules| {
            (rules.minter.is_some() && !rules.turn_servers.is_empty()).then_some(rules.lifetime)
        })
    }

    /// The transport policy of a role; unknown roles have the default.
    pub fn policy_for_role(&self, role: &Role) -> IcePolicy {
        self.0.read(|rules| rules.policy_for_role(role))
    }
}

impl IceRules {
    fn new(settings: &ServiceSettings, secrets: &[SharedSecret]) -> Self {
        let IceSettings { servers, turn, turn_ttl, policy } = &settings.ice;
        let roles = settings.roles.0.iter();
        Self {
            static_servers: servers.clone().into(),
            turn_servers: turn.clone().into(),
            minter: secrets.first().map(|secret| TurnCredentialMinter::new(secret, turn_ttl.0)),
            lifetime: turn_ttl.0,
            default_policy: *policy,
            role_policies: roles.filter_map(|(role, template)| Some((role.clone(), template.ice?))).collect(),
        }
    }

    fn client_config(
        &self,
        role: &Role,
        region: Option<&RegionId>,
        grant: &str,
        now_s: u64,
    ) -> ClientIceConfig {
        let policy = self.policy_for_role(role);
        let Some(minter) = self.minter.as_ref().filter(|_| !self.turn_servers.is_empty()) else {
            return ClientIceConfig { servers: self.static_servers.clone(), policy, lifetime: None };
        };
        let TurnCredential { username, credential } = minter.mint_for_grant(grant, now_s);
        let turn_servers = self.servers_in_region(region).map(|server| IceServer {
            urls: server.urls.clone(),
            username: Some(username.clone()),
            credential: Some(credential.clone()),
        });
        let servers = self.static_servers.iter().cloned().chain(turn_servers).collect();
        ClientIceConfig { servers, policy, lifetime: Some(self.lifetime) }
    }

    fn policy_for_role(&self, role: &Role) -> IcePolicy {
        self.role_policies.get(role).copied().unwrap_or(self.default_policy)
    }

    /// The TURN servers of the region if it has any, else all.
    fn servers_in_region<'a>(&'a self, region: Option<&'a RegionId>) -> impl Iterator<Item = &'a TurnServer> {
        let is_in_region = move |server: &TurnServer| region.is_some() && server.region.as_ref() == region;
        let has_servers = self.turn_servers.iter().any(is_in_region);
        self.turn_servers.iter().filter(move |server| !has_servers || is_in_region(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_config::units::TimeSpan;
    use signalbox_token::SecretBytes;

    fn secret(text: &str) -> SharedSecret {
        SharedSecret::new(SecretBytes::new(text)).unwrap()
    }

    /// 64 or 80 hexadecimal digits, which are always the same.
    fn test_secret(length: usize) -> SharedSecret {
        let digest =
            |text: &str| Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        secret(&[digest("north"), digest("south")].concat()[..length])
    }

    /// Computed with: printf %s 1700003600:0f1e | openssl dgst -sha1 -hmac SECRET -binary | base64
    #[test]
    fn a_credential_equals_the_one_of_coturn() {
        let minter = TurnCredentialMinter::new(&test_secret(64), Duration::from_secs(3_600));
        let minted = minter.mint_for_name("0f1e", 1_700_000_000);
        assert_eq!(minted.username, "1700003600:0f1e");
        assert_eq!(minted.credential, "oxeVO//UZo1TPW7cQEsZB17ws+M=");
        let long = TurnCredentialMinter::new(&test_secret(80), Duration::from_secs(3_600));
        assert_eq!(
            long.mint_for_name("0f1e", 1_700_000_000).credential,
            "LKb8oQ01MsQB2LrsEAWGfBIGemU=",
            "a secret longer than a block is hashed"
        );
    }

    #[test]
    fn a_turn_username_is_stable_and_hides_its_grant() {
        let minter = TurnCredentialMinter::new(&test_secret(64), Duration::from_secs(60));
        let name = |grant: &str, now| {
            minter.mint_for_grant(grant, now).username.split_once(':').unwrap().1.to_owned()
        };
        assert_eq!(name("grant", 1), name("grant", 2));
        assert_ne!(name("grant", 1), name("other", 1));
        assert!(!name("grant", 1).contains("grant") && name("grant", 1).len() == NAME_CHARS);
        assert_ne!(
            minter.mint_for_grant("grant", 1).credential,
            minter.mint_for_grant("grant", 2).credential
        );
    }

    fn settings() -> ServiceSettings {
        let mut settings = ServiceSettings::default();
        let server = |url: &str, region: Option<&str>| TurnServer {
            urls: vec![url.to_owned()],
            region: region.map(|region| RegionId::parse(region).unwrap()),
        };
        let stun = IceServer { urls: vec!["stun:s".to_owned()], username: None, credential: None };
        settings.ice.servers = vec![stun];
        settings.ice.turn =
            vec![server("turn:a", Some("eu")), server("turn:b", Some("us")), server("turn:c", None)];
        settings.ice.turn_ttl = TimeSpan::secs(60);
        settings
    }

    fn client_urls(directory: &IceDirectory, region: Option<&str>) -> Vec<String> {
        let region = region.map(|region| RegionId::parse(region).unwrap());
        let config = directory.client_config(&Role::parse("guest").unwrap(), region.as_ref(), "g", 0);
        config.servers.iter().flat_map(|server| server.urls.clone()).collect()
    }

    #[test]
    fn a_region_gets_its_own_servers_and_other_clients_get_all() {
        let directory = IceDirectory::new(&settings(), &[test_secret(64)]);
        assert_eq!(client_urls(&directory, Some("eu")), ["stun:s", "turn:a"]);
        assert_eq!(client_urls(&directory, Some("asia")), ["stun:s", "turn:a", "turn:b", "turn:c"]);
        assert_eq!(client_urls(&directory, None), ["stun:s", "turn:a", "turn:b", "turn:c"]);
    }

    #[test]
    fn a_role_has_its_own_ice_policy_or_the_default() {
        let mut settings = settings();
        let guest = Role::parse("guest").unwrap();
        settings.roles.0.get_mut(&guest).unwrap().ice = Some(IcePolicy::Relay);
        let directory = IceDirectory::new(&settings, &[test_secret(64)]);
        let policy = |role: &str| directory.client_config(&Role::parse(role).unwrap(), None, "g", 0).policy;
        assert_eq!(
            (policy("guest"), policy("host"), policy("unknown")),
            (IcePolicy::Relay, IcePolicy::All, IcePolicy::All)
        );
    }

    #[test]
    fn without_turn_servers_no_credential_expires() {
        let directory = IceDirectory::new(
            &ServiceSettings {
                ice: IceSettings { turn: vec![], ..settings().ice },
                ..ServiceSettings::default()
            },
            &[],
        );
        let config = directory.client_config(&Role::parse("guest").unwrap(), None, "g", 0);
        assert_eq!((config.servers.len(), config.lifetime), (1, None));
    }
}
