//! An OpenID provider for tests: an HTTP server with a discovery document, and keys that openssl
//! makes at run time.

use std::{
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A running provider. It ends with the runtime it was started in.
pub struct TestProvider {
    /// The `iss` of its tokens.
    pub issuer: String,
    state: Arc<Mutex<ProviderState>>,
}

#[derive(Default)]
struct ProviderState {
    base: String,
    issuer: String,
    discovery_issuer: Option<String>,
    jwks_uri: Option<String>,
    keys: Vec<Value>,
    key_requests: usize,
    fault: Option<ProviderFault>,
}

/// How a provider fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderFault {
    /// It answers every request with 503.
    Unavailable,
    /// It answers every request with 404, as a proxy without the provider does.
    NotFound,
    /// It redirects every request.
    Redirect,
    /// It answers every request with a web page.
    WebPage,
    /// Its discovery document names another issuer.
    ForeignIssuer,
    /// Its key set is empty.
    NoKeys,
    /// Its key set has no key that can verify.
    UnusableKeys,
    /// It does not answer.
    NoAnswer,
    /// It ends every connection.
    Disconnect,
}

impl ProviderFault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unavailable,
        Self::NotFound,
        Self::Redirect,
        Self::WebPage,
        Self::ForeignIssuer,
        Self::NoKeys,
        Self::UnusableKeys,
        Self::NoAnswer,
        Self::Disconnect,
    ];
}

/// A key that signs.
pub struct ProviderKey {
    /// The key id.
    pub kid: String,
    /// The algorithm of the key.
    pub algorithm: Algorithm,
    /// The public key, as the provider publishes it.
    pub jwk: Value,
    key: EncodingKey,
}

impl TestProvider {
    /// Starts a provider without keys.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        Self::start_below("").await
    }

    /// Starts a provider without keys, whose issuer has this path.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start_below(path: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let issuer = format!("{base}{path}");
        let state = ProviderState { base, issuer: issuer.clone(), ..ProviderState::default() };
        let state = Arc::new(Mutex::new(state));
        let served = state.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { serve(socket, &served).await });
            }
        });
        Self { issuer, state }
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&ProviderKey]) {
        self.publish_raw(keys.iter().map(|key| key.jwk.clone()).collect());
    }

    /// Publishes these values as keys, valid or not.
    pub fn publish_raw(&self, keys: Vec<Value>) {
        self.state().keys = keys;
    }

    /// While `down`, answers every request with 503.
    pub fn set_down(&self, down: bool) {
        self.set_fault(down.then_some(ProviderFault::Unavailable));
    }

    /// Fails in this way from now on, or no longer.
    pub fn set_fault(&self, fault: Option<ProviderFault>) {
        self.state().fault = fault;
    }

    /// Puts another issuer into the discovery document.
    pub fn set_discovery_issuer(&self, issuer: &str) {
        self.state().discovery_issuer = Some(issuer.to_owned());
    }

    /// Names another address of this provider in its discovery document and its tokens, such as that
    /// of a [`crate::tls_front::TlsFront`].
    pub fn set_public_url(&mut self, url: &str) {
        (self.state().base, self.state().issuer) = (url.to_owned(), url.to_owned());
        url.clone_into(&mut self.issuer);
    }

    /// Names another address for the keys in the discovery document.
    pub fn set_jwks_uri(&self, url: &str) {
        self.state().jwks_uri = Some(url.to_owned());
    }

    /// How often the keys were requested.
    pub fn key_requests(&self) -> usize {
        self.state().key_requests
    }

    /// The claims of a valid token for a user.
    pub fn claims(&self, user: &str) -> Value {
        let now = clock::now_s();
        json!({ "iss": self.issuer, "aud": "signalbox", "sub": user, "iat": now, "exp": now + 300, "name": "Sam" })
    }

    fn state(&self) -> MutexGuard<'_, ProviderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(mut socket: TcpStream, state: &Mutex<ProviderState>) {
    let mut bytes = vec![0; 8_192];
    while let Ok(read) = socket.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
        let fault = state.lock().unwrap_or_else(PoisonError::into_inner).fault;
        match fault {
            Some(ProviderFault::Disconnect) => return,
            Some(ProviderFault::NoAnswer) => std::future::pending().await,
            _ => {}
        }
        let (status, body) = respond(head.split(' ').nth(1).unwrap_or_default(), state);
        let text = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn respond(path: &str, state: &Mutex<ProviderState>) -> (u16, String) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if path == "/jwks" {
        state.key_requests += 1;
    }
    match path {
        _ if state.fault == Some(ProviderFault::Unavailable) => (503, "{}".to_owned()),
        _ if state.fault == Some(ProviderFault::NotFound) => (404, "{}".to_owned()),
        _ if state.fault == Some(ProviderFault::Redirect) => (302, String::new()),
        _ if state.fault == Some(ProviderFault::WebPage) => (200, "<!doctype html>".to_owned()),
        path if state.base.clone() + path == discovery_url(&state.issuer) => {
            let foreign =
                (state.fault == Some(ProviderFault::ForeignIssuer)).then_some("https://other.example");
            let issuer = foreign.or(state.discovery_issuer.as_deref()).unwrap_or(&state.issuer).to_owned();
            let jwks_uri = state.jwks_uri.clone().unwrap_or_else(|| format!("{}/jwks", state.base));
            (200, json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string())
        }
        "/jwks" if state.fault == Some(ProviderFault::NoKeys) => (200, json!({ "keys": [] }).to_string()),
        "/jwks" if state.fault == Some(ProviderFault::UnusableKeys) => {
            (200, json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }).to_string())
        }
        "/jwks" => (200, json!({ "keys": state.keys }).to_string()),
        _ => (404, "{}".to_owned()),
    }
}

/// OpenID Connect Discovery 1.0, section 4: a slash at the end of the issuer is removed.
fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let output =
        Command::new("openssl").args(args).stderr(Stdio::null()).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {args:?}");
    output.stdout
}

impl ProviderKey {
    /// Makes a key: RSA with 2048 bits, P-256 or Ed25519.
    ///
    /// # Panics
    /// If openssl cannot make the key.
    pub fn new(kid: &str, algorithm: Algorithm) -> Self {
        Self::with_bits(kid, algorithm, 2048)
    }

    /// Makes a key; an RSA key has this number of bits.
    ///
    /// # Panics
    /// If openssl cannot make the key.
    pub fn with_bits(kid: &str, algorithm: Algorithm, bits: usize) -> Self {
        let dir = TempDir::with_prefix("signalbox-idp-").expect("a temporary folder");
        let path = dir.path().join("key.pem").display().to_string();
        let bits = format!("rsa_keygen_bits:{bits}");
        let kind: &[&str] = match algorithm {
            Algorithm::ES256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Algorithm::EdDSA => &["-algorithm", "ED25519"],
            _ => &["-algorithm", "RSA", "-pkeyopt", &bits],
        };
        openssl(&[&["genpkey", "-out", &path], kind].concat());
        let public = openssl(&["pkey", "-in", &path, "-pubout", "-outform", "DER"]);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let end = |count: usize| &public[public.len() - count..];
        let (jwk, key) = match algorithm {
            Algorithm::ES256 => {
                let der = openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &path, "-outform", "DER"]);
                let (x, y) = end(64).split_at(32);
                (
                    json!({ "kty": "EC", "crv": "P-256", "x": part(x), "y": part(y) }),
                    EncodingKey::from_ec_der(&der),
                )
            }
            Algorithm::EdDSA => {
                let der = openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &path, "-outform", "DER"]);
                (
                    json!({ "kty": "OKP", "crv": "Ed25519", "x": part(end(32)) }),
                    EncodingKey::from_ed_der(&der),
                )
            }
            _ => {
                let der = openssl(&["rsa", "-in", &path, "-outform", "DER", "-traditional"]);
                let text = String::from_utf8_lossy(&openssl(&["rsa", "-in", &path, "-noout", "-modulus"]))
                    .into_owned();
                let hex = text.trim().trim_start_matches("Modulus=").to_owned();
                let digits =
                    |place: usize| u8::from_str_radix(&hex[place..place + 2], 16).expect("hexadecimal");
                let n: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
                (json!({ "kty": "RSA", "n": part(&n), "e": "AQAB" }), EncodingKey::from_rsa_der(&der))
            }
        };
        let mut whole = json!({ "kid": kid, "use": "sig", "alg": format!("{algorithm:?}") });
        whole.as_object_mut().expect("an object").extend(jwk.as_object().expect("an object").clone());
        Self { kid: kid.to_owned(), algorithm, jwk: whole, key }
    }

    /// Signs a token with these claims.
    ///
    /// # Panics
    /// If the token cannot be signed.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.algorithm, Some(&self.kid), claims)
    }

    /// Signs a token with any algorithm and key id in its header.
    ///
    /// # Panics
    /// If the token cannot be signed.
    pub fn sign_as(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        self.sign_with_header(&header, claims)
    }

    /// Signs a token with this header.
    ///
    /// # Panics
    /// If the token cannot be signed.
    pub fn sign_with_header(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).expect("a token")
    }
}
