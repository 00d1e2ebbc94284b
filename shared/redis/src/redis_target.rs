//! Where the URL points: the addresses it names, and how a connection to any server of the deployment is opened.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    aio::{AsyncPushSender, MultiplexedConnection},
    io::tcp::TcpSettings,
};
use signalbox_config::{self as config, RedisHosts, RedisUrl};

use crate::{redis_address::RedisAddress, redis_error::RedisStartError};

/// Where Redis is, and as whom we come.
#[derive(Clone)]
pub struct RedisTarget {
    url: Arc<RedisUrl>,
    /// What a TLS address is told to trust; made once, from `redis.ca_file`.
    tls: Option<ConnectionAddr>,
    pub(crate) deadline: Duration,
    pub(crate) max_reconnect_wait: Duration,
}

impl RedisTarget {
    /// Reads the URL and the certificates; connects nowhere.
    ///
    /// # Errors
    /// [`RedisStartError::Url`] or [`RedisStartError::CaFile`].
    pub fn new(url: &str, settings: &config::RedisSettings) -> Result<Self, RedisStartError> {
        let url = Arc::new(RedisUrl::parse(url).map_err(RedisStartError::Url)?);
        let tls = if url.tls { Some(load_tls_trust(settings)?) } else { None };
        Ok(Self { url, tls, deadline: settings.deadline.0, max_reconnect_wait: settings.reconnect.0 })
    }

    /// Whether Sentinels know where the master is: their name for it.
    pub(crate) fn master_name(&self) -> Option<&str> {
        match &self.url.hosts {
            RedisHosts::Sentinels { master, .. } => Some(master),
            _ => None,
        }
    }

    pub(crate) fn uses_tls(&self) -> bool {
        self.tls.is_some()
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

    /// What the driver needs for a connection of its own to this server, with our user and database.
    ///
    /// # Errors
    /// What the driver does not take; there is nothing of that kind.
    pub fn connection_info(&self, address: &RedisAddress) -> RedisResult<ConnectionInfo> {
        let mut who = RedisConnectionInfo::default().set_db(i64::from(self.url.db));
        if let Some(user) = &self.url.user {
            who = who.set_username(user);
        }
        if let Some(password) = &self.url.password {
            who = who.set_password(password);
        }
        self.build_connection_info(address, who)
    }

    fn build_connection_info(
        &self,
        address: &RedisAddress,
        who: RedisConnectionInfo,
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
        // The driver would announce itself, which a narrow ACL refuses and notes in its log.
        let info = addr.into_connection_info()?.set_redis_settings(who.set_skip_set_lib_name());
        // Small requests follow each other closely: waiting for a segment to fill up would cost 40 ms now and then.
        Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }

    /// A connection for commands, each with the deadline.
    pub(crate) async fn open_for_commands(
        &self,
        address: &RedisAddress,
    ) -> RedisResult<MultiplexedConnection> {
        self.open_with(self.connection_info(address)?, self.connection_config()).await
    }

    /// A connection that hands pushes over (RESP3).
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

    /// A connection to a Sentinel, which has users of its own and mostly none: ours is told only to one that asks.
    pub(crate) async fn open_sentinel(&self, address: &RedisAddress) -> RedisResult<MultiplexedConnection> {
        let anonymous = self.build_connection_info(address, RedisConnectionInfo::default())?;
        let mut connection = self.open_with(anonymous, self.connection_config()).await?;
        match redis::cmd("PING").exec_async(&mut connection).await {
            Err(error) if error.code() == Some("NOAUTH") && self.url.password.is_some() => {
                let who = self.connection_info(address)?.redis_settings().clone().set_db(0);
                self.open_with(self.build_connection_info(address, who)?, self.connection_config()).await
            }
            outcome => outcome.map(|()| connection),
        }
    }

    fn connection_config(&self) -> AsyncConnectionConfig {
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

/// A TLS address that carries what is trusted; host and port are those of nowhere.
fn load_tls_trust(settings: &config::RedisSettings) -> Result<ConnectionAddr, RedisStartError> {
    // An error says that there is one already, which is as good: only this one is compiled in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let nowhere = ConnectionAddr::TcpTls { host: "0".to_owned(), port: 1, insecure: false, tls_params: None };
    let Some(path) = &settings.ca_file else { return Ok(nowhere) };
    let refused = |problem: String| RedisStartError::CaFile(problem);
    let pem = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    Client::build_with_tls(nowhere, certificates)
        .map(|client| client.get_connection_info().addr().clone())
        .map_err(|error: RedisError| refused(error.to_string()))
}
