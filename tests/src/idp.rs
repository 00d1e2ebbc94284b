//! An OpenID provider of one's own: a real HTTP server with discovery and keys that openssl makes at run time.

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
pub struct TestIdp {
    /// Its `issuer`.
    pub issuer: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    issuer: String,
    said_issuer: Option<String>,
    keys: Vec<Value>,
    questions: usize,
    down: bool,
}

/// A key that signs.
pub struct IdpKey {
    /// Its name.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// The public half, as the provider publishes it.
    pub jwk: Value,
    key: EncodingKey,
}

impl TestIdp {
    /// Starts a provider without keys.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Mutex::new(Shared { issuer: issuer.clone(), ..Shared::default() }));
        let served = shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { answer(socket, &served).await });
            }
        });
        Self { issuer, shared }
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&IdpKey]) {
        self.publish_raw(keys.iter().map(|key| key.jwk.clone()).collect());
    }

    /// Publishes whatever this is.
    pub fn publish_raw(&self, keys: Vec<Value>) {
        self.shared().keys = keys;
    }

    /// Answers nothing but 503 from now on, or answers again.
    pub fn be_down(&self, down: bool) {
        self.shared().down = down;
    }

    /// Says in its discovery document that it is somebody else.
    pub fn pose_as(&self, issuer: &str) {
        self.shared().said_issuer = Some(issuer.to_owned());
    }

    /// How often its keys were asked for.
    pub fn questions(&self) -> usize {
        self.shared().questions
    }

    /// The claims of a token about a user that is right in everything.
    pub fn claims(&self, user: &str) -> Value {
        let now = clock::now_s();
        json!({ "iss": self.issuer, "aud": "signalbox", "sub": user, "iat": now, "exp": now + 300, "name": "Somebody" })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(mut socket: TcpStream, shared: &Mutex<Shared>) {
    let mut bytes = vec![0; 8_192];
    while let Ok(read) = socket.read(&mut bytes).await {
        if read == 0 {
            return;
        }
        let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
        let (status, body) = respond(head.split(' ').nth(1).unwrap_or_default(), shared);
        let text = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn respond(path: &str, shared: &Mutex<Shared>) -> (u16, String) {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if path == "/jwks" {
        shared.questions += 1;
    }
    match path {
        _ if shared.down => (503, "{}".to_owned()),
        "/.well-known/openid-configuration" => {
            let issuer = shared.said_issuer.as_ref().unwrap_or(&shared.issuer);
            (200, json!({ "issuer": issuer, "jwks_uri": format!("{}/jwks", shared.issuer) }).to_string())
        }
        "/jwks" => (200, json!({ "keys": shared.keys }).to_string()),
        _ => (404, "{}".to_owned()),
    }
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let output =
        Command::new("openssl").args(args).stderr(Stdio::null()).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {args:?}");
    output.stdout
}

impl IdpKey {
    /// A new key: RSA of 2048 bits, P-256 or Ed25519.
    ///
    /// # Panics
    /// If openssl cannot make it.
    pub fn new(kid: &str, algorithm: Algorithm) -> Self {
        Self::with_bits(kid, algorithm, 2048)
    }

    /// A new key; an RSA key of so many bits.
    ///
    /// # Panics
    /// If openssl cannot make it.
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

    /// A token with these claims.
    ///
    /// # Panics
    /// If it cannot be signed.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.algorithm, Some(&self.kid), claims)
    }

    /// A token that says what algorithm and key it likes.
    ///
    /// # Panics
    /// If it cannot be signed.
    pub fn sign_as(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).expect("a token")
    }
}
