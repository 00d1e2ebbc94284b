//! The security of test servers: TLS, the users of the ACL that we ship, both, or none.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates};
use signalbox_config as config;
use signalbox_protocol::id::random_hex;
use tempfile::TempDir;

use crate::net::host_port;

/// The users that `deploy/make-secrets.sh` makes.
const ACL_TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/redis/users.acl.template");

/// Cheap to clone: all servers of a deployment share one.
#[derive(Clone)]
pub struct RedisSecurity {
    pki: Option<Arc<TestPki>>,
    passwords: Option<Arc<AclPasswords>>,
}

/// A certificate authority and a certificate for 127.0.0.1, made by openssl for this run.
struct TestPki {
    dir: TempDir,
}

struct AclPasswords {
    signal: String,
    auth: String,
    admin: String,
}

impl RedisSecurity {
    /// No TLS and no users.
    pub fn none() -> Self {
        Self { pki: None, passwords: None }
    }

    /// TLS without users.
    pub fn tls() -> Self {
        Self { pki: Some(Arc::new(TestPki::generate())), passwords: None }
    }

    /// The users of the shipped ACL, and an administrator for the test.
    pub fn acl() -> Self {
        let passwords = AclPasswords { signal: random_hex(), auth: random_hex(), admin: random_hex() };
        Self { pki: None, passwords: Some(Arc::new(passwords)) }
    }

    /// TLS and the users of the shipped ACL.
    pub fn tls_and_acl() -> Self {
        Self { pki: Self::tls().pki, ..Self::acl() }
    }

    /// The same TLS without users.
    pub(crate) fn without_users(&self) -> Self {
        Self { pki: self.pki.clone(), passwords: None }
    }

    /// The PEM file of the certificate authority, if there is TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.pki.as_ref().map(|pki| pki.dir.path().join("ca.crt"))
    }

    /// The settings of a service for these servers.
    pub fn settings(&self) -> config::RedisSettings {
        config::RedisSettings { ca_file: self.ca_file(), ..config::RedisSettings::default() }
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
        if let Some(password) = self.admin_password() {
            cli.args(["--user", "admin", "--no-auth-warning"]).env("REDISCLI_AUTH", password);
        }
        cli.stdin(Stdio::null()).stderr(Stdio::null());
        cli
    }

    /// A client with all permissions.
    pub(crate) fn client(&self, address: std::net::SocketAddr) -> Client {
        let (host, port) = host_port(address);
        let mut login = RedisConnectionInfo::default();
        if let Some(password) = self.admin_password() {
            login = login.set_username("admin").set_password(password);
        }
        let addr = match self.ca_file() {
            None => ConnectionAddr::Tcp(host, port),
            Some(ca) => {
                // An error means that a provider is installed already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                let root_cert = Some(std::fs::read(ca).expect("the authority's certificate"));
                let certificates = TlsCertificates { client_tls: None, root_cert };
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
            .replace("#@AUTH@", &format!(">{}", self.auth));
        format!("{rules}user admin on >{} ~* &* +@all\n", self.admin)
    }
}

impl TestPki {
    fn generate() -> Self {
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
