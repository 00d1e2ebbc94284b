//! The URL of the shared store: its servers, and the user and password for them.
//!
//! Owns: the forms that `REDIS_URL` may have. Must not: connect, or print a user or a password.
//! Next: `signalbox-redis` asks the servers whether they are one server, a Cluster or Sentinels.

use std::path::PathBuf;

use crate::url::split_host_port;

const SCHEME_ERROR: &str =
    "must begin with redis://, rediss://, redis+sentinel://, rediss+sentinel:// or unix://";

/// A parsed URL. Neither `Debug` nor [`RedisUrl::describe`] shows the user or the password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: String,
    /// The servers to connect to first.
    pub hosts: RedisHosts,
    /// Whether every connection uses TLS.
    pub tls: bool,
    /// The ACL user; `None` is the user `default`.
    pub user: Option<String>,
    /// The decoded password.
    pub password: Option<String>,
    /// The number of the database; a Cluster has only 0.
    pub db: u32,
    /// The user and password for Sentinels, if they differ from those of the servers.
    pub sentinel_login: Option<SentinelLogin>,
}

/// The login of a Sentinel. `Debug` is not derived, because it would show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct SentinelLogin {
    /// The ACL user; `None` is the user `default`.
    pub user: Option<String>,
    /// The decoded password.
    pub password: String,
}

/// The servers to connect to first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisHosts {
    /// One server, or some servers of a Cluster; the servers tell which.
    Servers(Vec<HostPort>),
    /// Sentinels, which know the address of the master.
    Sentinels {
        /// The addresses of the Sentinels.
        sentinels: Vec<HostPort>,
        /// The name that the Sentinels use for the master.
        master: String,
    },
    /// The path of a Unix domain socket.
    Socket(PathBuf),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl RedisUrl {
    /// Parses a URL in one of these forms; `rediss` instead of `redis` means TLS, user and password
    /// are percent-encoded:
    /// - `redis://[user:password@]host:port[,host:port…][/db]`
    /// - `redis+sentinel://[user:password@]host:port[,host:port…]/MASTER_NAME[/db][?sentinel_user=…&sentinel_pass=…]`
    /// - `unix:///path[?user=…&pass=…&db=…]`
    ///
    /// # Errors
    /// Says what is wrong and repeats no part of the URL. The text continues a sentence that begins
    /// with the name of the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(SCHEME_ERROR)?;
        let (tls, sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            "unix" => return Self::parse_socket(text, rest),
            _ => return Err(SCHEME_ERROR.to_owned()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (path, query) = path.split_once('?').filter(|_| sentinel).unwrap_or((path, ""));
        if [authority, path, query].iter().any(|part| part.contains(['?', '#'])) {
            let problem = "contains ? or #, which have no meaning here; in a password, write %3F or %23";
            return Err(problem.to_owned());
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = login.map_or(Ok((None, None)), parse_login)?;
        let default_port = if sentinel { 26_379 } else { 6_379 };
        let servers =
            hosts.split(',').map(|host| parse_host(host, default_port)).collect::<Result<_, _>>()?;
        let (hosts, db) = if sentinel {
            let (master, db) = path.split_once('/').unwrap_or((path, ""));
            (RedisHosts::Sentinels { sentinels: servers, master: parse_master(master)? }, db)
        } else {
            (RedisHosts::Servers(servers), path)
        };
        let (db, sentinel_login) = (parse_db(db)?, parse_sentinel_login(query)?);
        Ok(Self { text: text.to_owned(), hosts, tls, user, password, db, sentinel_login })
    }

    fn parse_socket(text: &str, rest: &str) -> Result<Self, String> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.starts_with('/') {
            return Err("must have the absolute path of a socket, like unix:///run/redis.sock".to_owned());
        }
        let hosts = RedisHosts::Socket(PathBuf::from(decode_percent(path)?));
        let mut url = Self {
            text: text.to_owned(),
            hosts,
            tls: false,
            user: None,
            password: None,
            db: 0,
            sentinel_login: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("db", db)) => url.db = parse_db(db)?,
                Some(("user", user)) => url.user = Some(decode_percent(user)?),
                Some(("pass", password)) => url.password = Some(decode_percent(password)?),
                _ => return Err("may have only db, user and pass after the ?".to_owned()),
            }
        }
        Ok(url)
    }

    /// The text of the URL, with its password.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The scheme and the hosts, without user, password and database.
    pub fn describe(&self) -> String {
        let scheme = self.text.split("://").next().unwrap_or_default();
        let list = |hosts: &[HostPort]| hosts.iter().map(HostPort::to_string).collect::<Vec<_>>().join(",");
        match &self.hosts {
            RedisHosts::Servers(hosts) => format!("{scheme}://{}", list(hosts)),
            RedisHosts::Sentinels { sentinels, master } => format!("{scheme}://{}/{master}", list(sentinels)),
            RedisHosts::Socket(path) => format!("unix://{}", path.display()),
        }
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

/// User and password.
type RedisLogin = (Option<String>, Option<String>);

fn parse_login(login: &str) -> Result<RedisLogin, String> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    if password.is_empty() {
        return Err("has an @ without a password before it; write user:password@ or :password@".to_owned());
    }
    let user = Some(decode_percent(user)?).filter(|user| !user.is_empty());
    Ok((user, Some(decode_percent(password)?)))
}

/// Reads the query after the name of the master.
fn parse_sentinel_login(query: &str) -> Result<Option<SentinelLogin>, String> {
    let (mut user, mut password) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", text)) if !text.is_empty() => user = Some(decode_percent(text)?),
            Some(("sentinel_pass", text)) if !text.is_empty() => password = Some(decode_percent(text)?),
            _ => return Err("may have only sentinel_user=… and sentinel_pass=… after the ?".to_owned()),
        }
    }
    match (user, password) {
        (None, None) => Ok(None),
        (user, Some(password)) => Ok(Some(SentinelLogin { user, password })),
        (Some(_), None) => Err("has sentinel_user without sentinel_pass; write both".to_owned()),
    }
}

fn parse_host(text: &str, default_port: u16) -> Result<HostPort, String> {
    let problem = || {
        "must name its hosts like redis.example:6379 or [2001:db8::1]:6379, separated by commas".to_owned()
    };
    let (host, port) = split_host_port(text).ok_or_else(problem)?;
    if matches!(host, "0.0.0.0" | "::") {
        return Err("names the host 0.0.0.0 or [::], which is not an address to connect to".to_owned());
    }
    Ok(HostPort { host: host.to_owned(), port: port.unwrap_or(default_port) })
}

fn parse_master(name: &str) -> Result<String, String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(is_name_char) {
        let problem = "must end with the name that the Sentinels use for the master, like /mymaster";
        return Err(problem.to_owned());
    }
    Ok(name.to_owned())
}

fn parse_db(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| "must have a number as its database, like 0".to_owned())
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decode_percent(text: &str) -> Result<String, String> {
    let problem =
        || "contains a % without two hexadecimal digits of UTF-8 after it; write %25 for a %".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16)).ok_or_else(problem);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_port(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn every_url_form_gives_hosts_and_login() {
        let servers = |list: &[(&str, u16)]| {
            RedisHosts::Servers(list.iter().map(|(name, port)| host_port(name, *port)).collect())
        };
        let sentinels = |list: &[(&str, u16)], master: &str| RedisHosts::Sentinels {
            sentinels: list.iter().map(|(name, port)| host_port(name, *port)).collect(),
            master: master.to_owned(),
        };
        for (text, hosts, tls, user, password, db) in [
            ("redis://h:1", servers(&[("h", 1)]), false, None, None, 0),
            ("redis://h", servers(&[("h", 6379)]), false, None, None, 0),
            ("redis://h:1/", servers(&[("h", 1)]), false, None, None, 0),
            ("redis://h:1/3", servers(&[("h", 1)]), false, None, None, 3),
            ("redis://:p@h:1/0", servers(&[("h", 1)]), false, None, Some("p"), 0),
            (
                "rediss://u:p%40%2f%25:x@h:1,[::1]:2,10.0.0.1:3",
                servers(&[("h", 1), ("::1", 2), ("10.0.0.1", 3)]),
                true,
                Some("u"),
                Some("p@/%:x"),
                0,
            ),
            ("redis://u:p@p@h:1", servers(&[("h", 1)]), false, Some("u"), Some("p@p"), 0),
            (
                "redis+sentinel://a:1,b/mymaster",
                sentinels(&[("a", 1), ("b", 26379)], "mymaster"),
                false,
                None,
                None,
                0,
            ),
            (
                "rediss+sentinel://u:p@a:1/m-1.x/2",
                sentinels(&[("a", 1)], "m-1.x"),
                true,
                Some("u"),
                Some("p"),
                2,
            ),
            ("unix:///run/redis.sock", RedisHosts::Socket("/run/redis.sock".into()), false, None, None, 0),
            (
                "unix:///run/r%20s?db=2&user=u&pass=p%26",
                RedisHosts::Socket("/run/r s".into()),
                false,
                Some("u"),
                Some("p&"),
                2,
            ),
        ] {
            let url = RedisUrl::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            assert_eq!(url.hosts, hosts, "{text}");
            let login = (url.user.as_deref(), url.password.as_deref());
            assert_eq!((url.tls, login, url.db), (tls, (user, password), db), "{text}");
        }
    }

    #[test]
    fn sentinels_may_have_a_login_of_their_own() {
        for (query, expected) in [
            ("", None),
            ("?", None),
            ("?sentinel_pass=s%40p%26", Some((None, "s@p&"))),
            ("?sentinel_user=watcher&sentinel_pass=p", Some((Some("watcher"), "p"))),
            ("?sentinel_pass=p&sentinel_user=watcher", Some((Some("watcher"), "p"))),
        ] {
            for path in ["m", "m/2"] {
                let text = format!("redis+sentinel://u:q@a:1/{path}{query}");
                let url = RedisUrl::parse(&text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
                let login = url.sentinel_login.as_ref();
                let found = login.map(|login| (login.user.as_deref(), login.password.as_str()));
                assert_eq!(found, expected, "{text}");
                assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("u"), Some("q")));
                assert_eq!(url.describe(), "redis+sentinel://a:1/m");
            }
        }
    }

    #[test]
    fn an_invalid_url_is_rejected_and_not_repeated() {
        for text in [
            "hunter2",
            "http://hunter2@h:1",
            "redis:/hunter2",
            "redis://user:hunter2@:x",
            "redis://user:hunter2@",
            "redis://hunter2@h:1",
            "redis://user:@h:1",
            "redis://user:hunter2%4@h:1",
            "redis://user:hunter2%ff@h:1",
            "redis://user:hunter2@h:0",
            "redis://user:hunter2@h:65536",
            "redis://user:hunter2@h:1,",
            "redis://user:hunter2@h:1/x",
            "redis://user:hunter2@h:1/0/1",
            "redis://user:hunter2@h:1/-1",
            "redis://user:hunter2@0.0.0.0:1",
            "redis://user:hunter2@[::]:1",
            "redis://user:hunter2@[h]:1",
            "redis://user:hunter2@h:1?protocol=3",
            "rediss://user:hunter2@h:1/#insecure",
            "redis+sentinel://user:hunter2@h:1",
            "redis+sentinel://user:hunter2@h:1/",
            "redis+sentinel://user:hunter2@h:1/m/x",
            "redis+sentinel://user:hunter2@h:1/m a",
            "redis+sentinel://user:hun?ter2@h:1/m",
            "redis+sentinel://user:hunter2@h:1/m?sentinel_user=x",
            "redis+sentinel://h:1/m?sentinel_pass=",
            "redis+sentinel://h:1/m?sentinel_pass=hunter2#x",
            "redis+sentinel://h:1/m?sentinel_pass=hunter2?x",
            "redis+sentinel://h:1/m?sentinel_pass=hunter2%4",
            "redis+sentinel://h:1/m?pass=hunter2",
            "redis+sentinel://h:1/?sentinel_pass=hunter2",
            "redis://h:1/0?sentinel_pass=hunter2",
            "unix://hunter2",
            "unix:///s?pass=hunter2&x=1",
        ] {
            let problem = RedisUrl::parse(text).expect_err(text);
            assert!(!problem.contains("hunter2") && !problem.contains('\n'), "{text}: {problem}");
        }
    }

    #[test]
    fn a_description_contains_only_scheme_and_hosts() {
        for (text, expected) in [
            ("redis://user:hunter2@h:1,[::1]:2/3", "redis://h:1,[::1]:2"),
            ("rediss+sentinel://user:hunter2@a:1,b:2/m/3", "rediss+sentinel://a:1,b:2/m"),
            ("unix:///run/redis.sock?user=user&pass=hunter2", "unix:///run/redis.sock"),
        ] {
            let url = RedisUrl::parse(text).unwrap();
            assert_eq!((url.describe(), format!("{url:?}")), (expected.to_owned(), expected.to_owned()));
        }
    }
}
