//! What test servers ask of those who connect: nothing, or TLS, or the users of the shipped ACL, or both.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates};
use signalbox_config as config;
use signalbox_protocol::id::random_hex;
use tempfile::TempDir;

use crate::redis_node::host_port;

/// The users that `deploy/make-secrets.sh` makes.
const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/redis/users.acl.template");

/// See the module. Cheap to clone: all servers of a deployment share one.
#[derive(Clone)]
pub struct Guard {
    pki: Option<Arc<Pki>>,
    passwords: Option<Arc<Passwords>>,
}

/// A certificate authority and a certificate for 127.0.0.1, made by openssl for this run.
struct Pki {
    dir: TempDir,
}

struct Passwords {
    signal: String,
    auth: String,
    admin: String,
}

impl Guard {
    /// Everybody may do everything.
    pub fn none() -> Self {
        Self { pki: None, passwords: None }
    }

    /// TLS, and everybody may do everything.
    pub fn tls() -> Self {
        Self { pki: Some(Arc::new(Pki::make())), passwords: None }
    }

    /// The users of the shipped ACL, and an administrator for the test.
    pub fn acl() -> Self {
        let passwords = Passwords { signal: random_hex(), auth: random_hex(), admin: random_hex() };
        Self { pki: None, passwords: Some(Arc::new(passwords)) }
    }

    /// TLS and the users of the shipped ACL.
    pub fn both() -> Self {
        Self { pki: Self::tls().pki, ..Self::acl() }
    }

    /// The same without users.
    pub(crate) fn without_users(&self) -> Self {
        Self { pki: self.pki.clone(), passwords: None }
    }

    /// The PEM file of the authority, where there is TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.pki.as_ref().map(|pki| pki.dir.path().join("ca.crt"))
    }

    /// The product's settings for these servers.
    pub fn settings(&self) -> config::RedisSettings {
        config::RedisSettings { ca_file: self.ca_file(), ..config::RedisSettings::default() }
    }

    /// `redis` or `rediss`.
    pub fn scheme(&self) -> &'static str {
        if self.pki.is_some() { "rediss" } else { "redis" }
    }

    /// `user:password@` for a user of the ACL (`signal`, `auth`), where there is one.
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

    /// The administrator's password, where there is one.
    pub(crate) fn admin(&self) -> Option<&str> {
        self.passwords.as_ref().map(|passwords| passwords.admin.as_str())
    }

    /// Arguments of a server that listens on this port.
    pub(crate) fn server_args(&self, port: u16, dir: &Path) -> Vec<String> {
        let mut args = Vec::new();
        let mut add = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        if let Some(pki) = &self.pki {
            let file = |name: &str| pki.dir.path().join(name).display().to_string();
            add("port", "0".into());
            add("tls-port", port.to_string());
            add("tls-cert-file", file("server.crt"));
            add("tls-key-file", file("server.key"));
            add("tls-ca-cert-file", file("ca.crt"));
            add("tls-auth-clients", "no".into());
            add("tls-replication", "yes".into());
        } else {
            add("port", port.to_string());
        }
        if let Some(passwords) = &self.passwords {
            let path = dir.join("users.acl");
            std::fs::write(&path, passwords.rules()).expect("an ACL file");
            add("aclfile", path.display().to_string());
            add("masteruser", "admin".into());
            add("masterauth", passwords.admin.clone());
        }
        args
    }

    /// Arguments of `redis-cli` as the administrator; the password goes into its environment.
    pub(crate) fn cli(&self) -> Command {
        let mut cli = Command::new("redis-cli");
        if let Some(ca) = self.ca_file() {
            cli.arg("--tls").arg("--cacert").arg(ca);
        }
        if let Some(password) = self.admin() {
            cli.args(["--user", "admin", "--no-auth-warning"]).env("REDISCLI_AUTH", password);
        }
        cli.stdin(Stdio::null()).stderr(Stdio::null());
        cli
    }

    /// A client that may do everything.
    pub(crate) fn client(&self, address: std::net::SocketAddr) -> Client {
        let (host, port) = host_port(address);
        let mut who = RedisConnectionInfo::default();
        if let Some(password) = self.admin() {
            who = who.set_username("admin").set_password(password);
        }
        let addr = match self.ca_file() {
            None => ConnectionAddr::Tcp(host, port),
            Some(ca) => {
                // An error says that it was installed before.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let plain = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                let root_cert = Some(std::fs::read(ca).expect("the authority's certificate"));
                let certificates = TlsCertificates { client_tls: None, root_cert };
                let client = Client::build_with_tls(plain, certificates).expect("a TLS client");
                client.get_connection_info().addr().clone()
            }
        };
        let info = addr.into_connection_info().expect("an address").set_redis_settings(who);
        Client::open(info).expect("a client")
    }
}

impl Passwords {
    fn rules(&self) -> String {
        let template = std::fs::read_to_string(TEMPLATE).expect("the ACL template");
        let rules: String = template
            .lines()
            .filter(|line| line.starts_with("user "))
            .map(|line| format!("{line}\n"))
            .collect();
        let rules = rules
            .replace("#@SIGNAL@", &format!(">{}", self.signal))
            .replace("#@AUTH@", &format!(">{}", self.auth));
        format!("{rules}user admin on >{} ~* &* +@all\n", self.admin)
    }
}

impl Pki {
    fn make() -> Self {
        let dir = TempDir::with_prefix("signalbox-pki-").expect("a temporary folder");
        let script = "
            set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=signalbox-test-ca -keyout ca.key -out ca.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=redis -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt
        ";
        let output = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        Self { dir }
    }
}
