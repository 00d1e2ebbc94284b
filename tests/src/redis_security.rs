//! The security of test servers: TLS, the users of the ACL that we ship, both, or none.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use crate::{net::host_port, test_pki::TestPki};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates,
};
use signalbox_config as config;
use signalbox_protocol::id::random_hex;
use signalbox_redis::RedisNamespace;

/// The users that `deploy/make-secrets.sh` makes.
const ACL_TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/redis/users.acl.template");

/// Cheap to clone: all servers of a deployment share one.
#[derive(Clone)]
pub struct RedisSecurity {
    pki: Option<Arc<TestPki>>,
    passwords: Option<Arc<AclPasswords>>,
    /// Whether a server accepts only clients with a certificate.
    needs_client_certificate: bool,
    /// Whether Sentinels accept only clients with a login of their own.
    guards_sentinels: bool,
    /// The number of the database.
    database: u32,
}

struct AclPasswords {
    signal: String,
    auth: String,
    admin: String,
    watcher: String,
    /// What stands before each name in the rules: `redis.prefix` and a colon, or nothing.
    prefix: String,
}

impl RedisSecurity {
    /// No TLS and no users.
    pub fn none() -> Self {
        Self {
            pki: None,
            passwords: None,
            needs_client_certificate: false,
            guards_sentinels: false,
            database: 0,
        }
    }

    /// TLS without users.
    pub fn tls() -> Self {
        Self { pki: Some(Arc::new(TestPki::generate())), ..Self::none() }
    }

    /// TLS where each side proves itself with a certificate.
    pub fn mutual_tls() -> Self {
        Self { needs_client_certificate: true, ..Self::tls() }
    }

    /// The users of the shipped ACL, and Sentinels with a user of their own.
    pub fn acl_and_guarded_sentinels() -> Self {
        Self { guards_sentinels: true, ..Self::acl() }
    }

    /// The users of the shipped ACL, and an administrator for the test.
    pub fn acl() -> Self {
        Self::acl_with_prefix("")
    }

    /// The users of the shipped ACL for a deployment with this `redis.prefix`.
    pub fn acl_with_prefix(prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}:") };
        let [signal, auth, admin, watcher] = [random_hex(), random_hex(), random_hex(), random_hex()];
        let passwords = AclPasswords { signal, auth, admin, watcher, prefix };
        Self { passwords: Some(Arc::new(passwords)), ..Self::none() }
    }

    /// The same, in this database.
    pub fn acl_in_shared_redis(prefix: &str, database: u32) -> Self {
        Self { database, ..Self::acl_with_prefix(prefix) }
    }

    /// The number of the database as a URL has it, if it is not 0.
    pub fn database_path(&self) -> String {
        if self.database == 0 { String::new() } else { format!("/{}", self.database) }
    }

    /// The names of the deployment in Redis.
    pub(crate) fn names(&self) -> RedisNamespace {
        RedisNamespace::new(&self.settings().prefix, self.database)
    }

    /// TLS and the users of the shipped ACL.
    pub fn tls_and_acl() -> Self {
        Self { pki: Self::tls().pki, ..Self::acl() }
    }

    /// The same TLS without users.
    pub(crate) fn without_users(&self) -> Self {
        Self { passwords: None, ..self.clone() }
    }

    /// The security with which a test reaches a Sentinel.
    pub(crate) fn of_sentinels(&self) -> Self {
        if self.guards_sentinels { self.clone() } else { self.without_users() }
    }

    /// The lines of the configuration of a Sentinel that guard it.
    pub(crate) fn sentinel_users(&self) -> String {
        let Some(passwords) = self.passwords.as_ref().filter(|_| self.guards_sentinels) else {
            return String::new();
        };
        let AclPasswords { admin, watcher, .. } = &**passwords;
        format!(
            "user default off\nuser admin on >{admin} ~* &* +@all\nsentinel sentinel-user admin\n\
             sentinel sentinel-pass {admin}\nuser watcher on >{watcher} resetchannels -@all +ping +info \
             +sentinel|get-master-addr-by-name +sentinel|masters\n"
        )
    }

    /// The part of a URL with the login for Sentinels, if they are guarded.
    pub(crate) fn sentinel_query(&self) -> String {
        let passwords = self.passwords.as_ref().filter(|_| self.guards_sentinels);
        passwords.map_or_else(String::new, |passwords| {
            format!("?sentinel_user=watcher&sentinel_pass={}", passwords.watcher)
        })
    }

    /// The PEM file of the certificate authority, if there is TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.pki.as_ref().map(|pki| pki.file("ca.crt"))
    }

    /// The settings of a service for these servers.
    pub fn settings(&self) -> config::RedisSettings {
        let prefix = self.passwords.as_ref().map_or("", |passwords| passwords.prefix.trim_end_matches(':'));
        let client_file = |name: &str| {
            let pki = self.pki.as_ref().filter(|_| self.needs_client_certificate)?;
            Some(pki.file(name))
        };
        config::RedisSettings {
            ca_file: self.ca_file(),
            cert_file: client_file("client.crt"),
            key_file: client_file("client.key"),
            prefix: prefix.to_owned(),
            ..config::RedisSettings::default()
        }
    }

    /// `redis` or `rediss`.
    pub fn scheme(&self) -> &'static str {
        if self.pki.is_some() { "rediss" } else { "redis" }
    }

    /// `user:password@` for a user of the ACL (`signal`, `auth`), if there is an ACL.
    ///
    /// # Panics
    /// If the ACL has no such user.
    pub fn login(&self, user: &str) -> String {
        let Some(passwords) = &self.passwords else { return String::new() };
        let password = match user {
            "signal" => &passwords.signal,
            "auth" => &passwords.auth,
            other => panic!("there is no user {other}"),
        };
        format!("{user}:{password}@")
    }

    /// The password of the administrator, if there is an ACL.
    pub(crate) fn admin_password(&self) -> Option<&str> {
        self.passwords.as_ref().map(|passwords| passwords.admin.as_str())
    }

    /// The arguments of a server that listens on this port.
    pub(crate) fn server_args(&self, port: u16, dir: &Path) -> Vec<String> {
        let mut args = Vec::new();
        let mut add = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        if let Some(pki) = &self.pki {
            let file = |name: &str| pki.file(name).display().to_string();
            add("port", "0".into());
            add("tls-port", port.to_string());
            add("tls-cert-file", file("server.crt"));
            add("tls-key-file", file("server.key"));
            add("tls-ca-cert-file", file("ca.crt"));
            add("tls-auth-clients", if self.needs_client_certificate { "yes" } else { "no" }.into());
            add("tls-replication", "yes".into());
        } else {
            add("port", port.to_string());
        }
        if let Some(passwords) = &self.passwords {
            let path = dir.join("users.acl");
            std::fs::write(&path, passwords.acl_rules()).expect("an ACL file");
            add("aclfile", path.display().to_string());
            add("masteruser", "admin".into());
            add("masterauth", passwords.admin.clone());
        }
        args
    }

    /// `redis-cli` as administrator. The password is in its environment.
    pub(crate) fn cli(&self) -> Command {
        let mut cli = Command::new("redis-cli");
        if let Some(ca) = self.ca_file() {
            cli.arg("--tls").arg("--cacert").arg(ca);
        }
        let config::RedisSettings { cert_file, key_file, .. } = self.settings();
        for (option, file) in [("--cert", cert_file), ("--key", key_file)] {
            file.into_iter().for_each(|file| _ = cli.arg(option).arg(file));
        }
        if let Some(password) = self.admin_password() {
            cli.args(["--user", "admin", "--no-auth-warning"]).env("REDISCLI_AUTH", password);
        }
        cli.stdin(Stdio::null()).stderr(Stdio::null());
        cli
    }

    /// A client with all permissions.
    pub(crate) fn client(&self, address: std::net::SocketAddr) -> Client {
        let (host, port) = host_port(address);
        let mut login = RedisConnectionInfo::default().set_db(i64::from(self.database));
        if let Some(password) = self.admin_password() {
            login = login.set_username("admin").set_password(password);
        }
        let addr = match self.ca_file() {
            None => ConnectionAddr::Tcp(host, port),
            Some(ca) => {
                // An error means that a provider is installed already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                let read = |path: PathBuf| std::fs::read(path).expect("a file of the test");
                let config::RedisSettings { cert_file, key_file, .. } = self.settings();
                let client_tls = cert_file.zip(key_file).map(|(certificate, key)| ClientTlsConfig {
                    client_cert: read(certificate),
                    client_key: read(key),
                });
                let certificates = TlsCertificates { client_tls, root_cert: Some(read(ca)) };
                let client = Client::build_with_tls(address, certificates).expect("a TLS client");
                client.get_connection_info().addr().clone()
            }
        };
        let info = addr.into_connection_info().expect("an address").set_redis_settings(login);
        Client::open(info).expect("a client")
    }
}

impl AclPasswords {
    fn acl_rules(&self) -> String {
        let template = std::fs::read_to_string(ACL_TEMPLATE).expect("the ACL template");
        let rules: String = template
            .lines()
            .filter(|line| line.starts_with("user "))
            .map(|line| format!("{line}\n"))
            .collect();
        let rules = rules
            .replace("#@SIGNAL@", &format!(">{}", self.signal))
            .replace("#@AUTH@", &format!(">{}", self.auth))
            .replace("~sb:", &format!("~{}sb:", self.prefix))
            .replace("&sb:", &format!("&{}sb:", self.prefix));
        format!("{rules}user admin on >{} ~* &* +@all\n", self.admin)
    }
}
