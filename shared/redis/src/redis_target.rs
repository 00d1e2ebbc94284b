//! The URL of Redis, and how a connection to a server of the deployment is opened.
//!
//! Owns: the login, the certificates and the time limits of connections. Must not: keep a
//! connection.

use std::{fmt::Display, path::Path, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    aio::{AsyncPushSender, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use signalbox_config::{self as config, RedisHosts, RedisUrl};

use crate::{redis_address::RedisAddress, redis_error::RedisStartError, redis_namespace::RedisNamespace};

/// The servers that the URL names, and the user and password for them.
#[derive(Clone)]
pub(crate) struct RedisTarget {
    url: Arc<RedisUrl>,
    /// The files of `redis.ca_file`, `redis.cert_file` and `redis.key_file`, inside a TLS address.
    tls: Option<ConnectionAddr>,
    has_client_certificate: bool,
    pub(crate) deadline: Duration,
    pub(crate) max_reconnect_wait: Duration,
    /// The share of `maxmemory`, in percent, above which the level is high.
    pub(crate) memory_percent: u8,
    /// The names of this deployment.
    pub(crate) names: RedisNamespace,
}

impl RedisTarget {
    /// Reads the URL and the certificates. Does not connect.
    ///
    /// # Errors
    /// [`RedisStartError::Url`] or [`RedisStartError::TlsFile`].
    pub(crate) fn new(url: &str, settings: &config::RedisSettings) -> Result<Self, RedisStartError> {
        let url = Arc::new(RedisUrl::parse(url).map_err(RedisStartError::Url)?);
        let tls = if url.tls { Some(load_tls_trust(settings)?) } else { None };
        let names = RedisNamespace::new(&settings.prefix, url.db);
        Ok(Self {
            url,
            tls,
            has_client_certificate: settings.cert_file.is_some(),
            deadline: settings.deadline.0,
            max_reconnect_wait: settings.reconnect.0,
            memory_percent: settings.memory_percent,
            names,
        })
    }

    /// The name of the master at its Sentinels, if the URL names Sentinels.
    pub(crate) fn master_name(&self) -> Option<&str> {
        match &self.url.hosts {
            RedisHosts::Sentinels { master, .. } => Some(master),
            _ => None,
        }
    }

    pub(crate) fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What to check if a server ends a TLS connection; none without TLS.
    pub(crate) fn certificate_hint(&self) -> Option<&'static str> {
        self.tls.as_ref()?;
        Some(match self.has_client_certificate {
            true => "does it trust the certificate in redis.cert_file?",
            false => "if it requires client certificates, set redis.cert_file and redis.key_file",
        })
    }

    pub(crate) fn database(&self) -> u32 {
        self.url.db
    }

    /// The addresses that the URL names.
    pub(crate) fn seed_addresses(&self) -> Vec<RedisAddress> {
        match &self.url.hosts {
            RedisHosts::Servers(hosts) | RedisHosts::Sentinels { sentinels: hosts, .. } => {
                hosts.iter().cloned().map(RedisAddress::Tcp).collect()
            }
            RedisHosts::Socket(path) => vec![RedisAddress::UnixSocket(path.clone())],
        }
    }

    /// The driver's settings for a connection to a server, with user, password and database.
    ///
    /// # Errors
    /// An address that the driver does not accept. There is none.
    pub(crate) fn connection_info(&self, address: &RedisAddress) -> RedisResult<ConnectionInfo> {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(self.url.db));
        if let Some(user) = &self.url.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.url.password {
            login = login.set_password(password);
        }
        self.build_connection_info(address, login)
    }

    fn build_connection_info(
        &self,
        address: &RedisAddress,
        login: RedisConnectionInfo,
    ) -> RedisResult<ConnectionInfo> {
        let addr = match (address, &self.tls) {
            (RedisAddress::UnixSocket(path), _) => ConnectionAddr::Unix(path.clone()),
            (RedisAddress::Tcp(to), Some(ConnectionAddr::TcpTls { tls_params, .. })) => {
                ConnectionAddr::TcpTls {
                    host: to.host.clone(),
                    port: to.port,
                    insecure: false,
                    tls_params: tls_params.clone(),
                }
            }
            (RedisAddress::Tcp(to), _) => ConnectionAddr::Tcp(to.host.clone(), to.port),
        };
        // The driver would send its name. A narrow ACL refuses that and writes it to its log.
        let info = addr.into_connection_info()?.set_redis_settings(login.set_skip_set_lib_name());
        // Small requests follow each other closely. Waiting for a full segment could cost 40 ms.
        Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }

    /// A connection for commands. Each command ends after the deadline.
    pub(crate) async fn open_for_commands(
        &self,
        address: &RedisAddress,
    ) -> RedisResult<MultiplexedConnection> {
        self.open_with(self.connection_info(address)?, self.connection_config()).await
    }

    /// A connection that passes pushes to `receiver` (RESP3).
    pub(crate) async fn open_for_pushes(
        &self,
        address: &RedisAddress,
        receiver: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let info = self.connection_info(address)?;
        let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        self.open_with(info.set_redis_settings(resp3), self.connection_config().set_push_sender(receiver))
            .await
    }

    /// A connection to a Sentinel, with the login of the URL for Sentinels. Without one the login of
    /// the servers is sent, but only if the Sentinel needs a login; most need none.
    pub(crate) async fn open_sentinel(&self, address: &RedisAddress) -> RedisResult<MultiplexedConnection> {
        if let Some(login) = &self.url.sentinel_login {
            let mut own = RedisConnectionInfo::default().set_password(&login.password);
            if let Some(user) = &login.user {
                own = own.set_username(user);
            }
            return self.open_with(self.build_connection_info(address, own)?, self.connection_config()).await;
        }
        let anonymous = self.build_connection_info(address, RedisConnectionInfo::default())?;
        let mut connection = self.open_with(anonymous, self.connection_config()).await?;
        match redis::cmd("PING").exec_async(&mut connection).await {
            Err(error) if error.code() == Some("NOAUTH") && self.url.password.is_some() => {
                let login = self.connection_info(address)?.redis_settings().clone().set_db(0);
                self.open_with(self.build_connection_info(address, login)?, self.connection_config()).await
            }
            outcome => outcome.map(|()| connection),
        }
    }

    /// How the driver opens a connection: each wait ends after the deadline.
    pub(crate) fn connection_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline))
    }

    async fn open_with(
        &self,
        info: ConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// A TLS address with the trusted authorities and the certificate of this process. Its host and port
/// are not used.
fn load_tls_trust(settings: &config::RedisSettings) -> Result<ConnectionAddr, RedisStartError> {
    // An error means that a provider is installed already. Only this one is compiled in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unused_address =
        ConnectionAddr::TcpTls { host: "0".to_owned(), port: 1, insecure: false, tls_params: None };
    let root_cert = settings.ca_file.as_deref().map(|path| read_file("redis.ca_file", path)).transpose()?;
    let client_tls = match (&settings.cert_file, &settings.key_file) {
        (Some(certificate), Some(key)) => Some(load_client_certificate(certificate, key)?),
        _ => None,
    };
    Client::build_with_tls(unused_address, TlsCertificates { client_tls, root_cert })
        .map(|client| client.get_connection_info().addr().clone())
        // The client certificate has been checked.
        .map_err(|error: RedisError| tls_file_error("redis.ca_file", error))
}

/// The certificate with which this process proves itself, and its key.
fn load_client_certificate(certificate: &Path, key: &Path) -> Result<ClientTlsConfig, RedisStartError> {
    let client_cert = read_file("redis.cert_file", certificate)?;
    let client_key = read_file("redis.key_file", key)?;
    let chain = CertificateDer::pem_slice_iter(&client_cert).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| tls_file_error("redis.cert_file", error))?;
    let private = PrivateKeyDer::from_pem_slice(&client_key)
        .map_err(|error| tls_file_error("redis.key_file", error))?;
    match CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Ok(ClientTlsConfig { client_cert, client_key }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(tls_file_error("redis.key_file", "is not the key of the certificate in redis.cert_file"))
        }
        Err(error) => Err(tls_file_error("redis.key_file", error)),
    }
}

fn read_file(setting: &'static str, path: &Path) -> Result<Vec<u8>, RedisStartError> {
    let bytes = std::fs::read(path)
        .map_err(|error| tls_file_error(setting, format_args!("cannot be read: {error}")))?;
    config::canonical_pem(&bytes).map(String::into_bytes).map_err(|problem| tls_file_error(setting, problem))
}

fn tls_file_error(setting: &'static str, problem: impl Display) -> RedisStartError {
    RedisStartError::TlsFile { setting, problem: problem.to_string() }
}
