//! The keys of a running process: the key that signs, the keys that verify, and the published set.
//!
//! Must not: decide the state of a key (`key_status.rs`), or write a file (`operations.rs`).

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use signalbox_access::StatementSigner;
use signalbox_protocol::clock;
use signalbox_token::{
    MAX_JWKS_KEYS, PublicJwk, SharedSecret, TokenClaims, TokenVerifier, VerificationKey, signed_statement,
};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{KeyState, KeyTiming, KeysError, PrivateKey, RecordSeal, SealKey, folder, key_statuses};

/// How often the folder is read. A new key waits at least `KeyTiming::lead_s` for its first
/// signature.
const FOLDER_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// After this time a read of the folder is reported as slow.
const FOLDER_READ_LIMIT: Duration = Duration::from_secs(5);

/// The key that signs now.
struct ActiveSigningKey {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

/// The published set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedJwks {
    /// `{"keys":[…]}`, public keys only.
    pub body: String,
    /// The entity tag (RFC 9110, section 8.8.3), quoted.
    pub etag: String,
    /// How long a client may cache the set, seconds.
    pub max_age_s: u64,
}

/// The state of the keys at one reading of the folder.
struct KeySnapshot {
    signer: ActiveSigningKey,
    /// Its first key belongs to the key that signs.
    record_seal: RecordSeal,
    /// Every key of the folder: an access rule outlives the tokens of the key that signed it.
    statement_verifier: TokenVerifier,
    published: Option<Arc<PublishedJwks>>,
}

struct KeyFolder {
    path: PathBuf,
    timing: KeyTiming,
    max_age_s: u64,
}

/// The keys of a process: one signs, and it and the earlier ones verify.
pub struct SigningKeys {
    verifier: TokenVerifier,
    folder: Option<KeyFolder>,
    // A std lock: held for the copy of a pointer.
    snapshot: RwLock<Arc<KeySnapshot>>,
}

impl SigningKeys {
    /// The shared secret signs (HS256); it and the previous one verify. No key is published.
    pub fn from_secret(secret: &SharedSecret, previous: Option<&SharedSecret>) -> Arc<Self> {
        let key = EncodingKey::from_secret(secret.expose());
        let signer = ActiveSigningKey { kid: secret.kid(), algorithm: Algorithm::HS256, key };
        let verifier = TokenVerifier::from_secrets(std::iter::once(secret).chain(previous));
        let secrets = std::iter::once(secret).chain(previous);
        let record_seal = RecordSeal::new(secrets.filter_map(|secret| SealKey::derive(secret.expose())));
        let statement_verifier = verifier.clone();
        let snapshot = KeySnapshot { signer, record_seal, statement_verifier, published: None };
        Arc::new(Self { verifier, folder: None, snapshot: RwLock::new(Arc::new(snapshot)) })
    }

    /// The keys of a folder sign and verify. Tokens that an application signs with a shared secret
    /// are valid only if `secrets` has that secret.
    ///
    /// # Errors
    /// [`KeysError`], for the operator.
    pub fn from_folder<'a>(
        path: PathBuf,
        auth: &signalbox_config::AuthSettings,
        secrets: impl IntoIterator<Item = &'a SharedSecret>,
        now_s: u64,
    ) -> Result<Arc<Self>, KeysError> {
        let verifier = TokenVerifier::with_published_keys(secrets);
        let folder = KeyFolder { path, timing: KeyTiming::new(auth), max_age_s: auth.jwks_ttl.0.as_secs() };
        let (snapshot, keys) = folder.load_snapshot(now_s)?;
        verifier.replace_published_keys(keys);
        Ok(Arc::new(Self { verifier, folder: Some(folder), snapshot: RwLock::new(Arc::new(snapshot)) }))
    }

    /// The verifier of the tokens that these keys sign.
    pub fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    /// Signs a token of any kind (RFC 7515, compact serialization).
    ///
    /// # Errors
    /// Only a fault of the library; no caller can cause it.
    pub fn sign<C: TokenClaims>(&self, claims: &C) -> Result<String, jsonwebtoken::errors::Error> {
        let snapshot = self.snapshot();
        let header = Header {
            typ: Some(C::KIND.typ().to_owned()),
            kid: Some(snapshot.signer.kid.clone()),
            ..Header::new(snapshot.signer.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &snapshot.signer.key)
    }

    /// The seal of records, with the keys of this moment.
    pub(crate) fn record_seal(&self) -> RecordSeal {
        self.snapshot().record_seal.clone()
    }

    /// The published set; `None` if a shared secret signs.
    pub fn published_jwks(&self) -> Option<Arc<PublishedJwks>> {
        self.snapshot().published.clone()
    }

    /// Reads the folder again. If the folder cannot be used now, the current keys stay, and a token
    /// with another key gets 503.
    ///
    /// # Errors
    /// [`KeysError`], for the operator.
    pub fn reload(&self, now_s: u64) -> Result<(), KeysError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let (next, keys) =
            folder.load_snapshot(now_s).inspect_err(|_| self.verifier.keep_published_keys())?;
        let before = self.snapshot();
        if before.signer.kid != next.signer.kid {
            tracing::info!(event = "signing_key_changed", kid = next.signer.kid);
        }
        // The verifier first, so that this process accepts every token that it signs.
        self.verifier.replace_published_keys(keys);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }

    /// Reads the folder every second until the process ends. The log has one line for each change
    /// between usable and unusable.
    pub async fn watch_folder(self: Arc<Self>) {
        if self.folder.is_none() {
            return;
        }
        let mut logged: Option<KeysError> = None;
        loop {
            tokio::time::sleep(FOLDER_POLL_INTERVAL).await;
            let keys = self.clone();
            let mut reload = tokio::task::spawn_blocking(move || keys.reload(clock::now_s()));
            // A file system that does not answer is reported, and the read goes on. No second read
            // is started.
            let reloaded = match timeout(FOLDER_READ_LIMIT, &mut reload).await {
                Ok(reloaded) => reloaded,
                Err(_) => {
                    tracing::error!(event = "keys_dir_slow", "the loaded keys stay in use");
                    reload.await
                }
            };
            match reloaded {
                Ok(Ok(())) if logged.is_some() => {
                    tracing::info!(event = "keys_dir_usable");
                    logged = None;
                }
                Ok(Err(error)) if logged.as_ref() != Some(&error) => {
                    tracing::error!(event = "keys_dir_unusable", %error, "the loaded keys stay in use");
                    logged = Some(error);
                }
                // After a failure of the thread the next second retries.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn snapshot(&self) -> Arc<KeySnapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Signatures of statements that are no tokens; [`TokenVerifier::verify_statement`] verifies them
/// on a node.
impl StatementSigner for SigningKeys {
    fn sign_statement(&self, purpose: &str, statement: &str) -> Option<String> {
        let signer = &self.snapshot().signer;
        let bytes = signed_statement(purpose, statement);
        let signature = jsonwebtoken::crypto::sign(bytes.as_bytes(), &signer.key, signer.algorithm).ok()?;
        Some(format!("{}~{signature}", signer.kid))
    }

    fn verify_statement(&self, purpose: &str, statement: &str, signature: &str) -> bool {
        self.snapshot().statement_verifier.verify_statement(purpose, statement, signature)
    }

    fn is_current_signature(&self, signature: &str) -> bool {
        signature.split_once('~').is_some_and(|(kid, _)| kid == self.snapshot().signer.kid)
    }
}

impl KeyFolder {
    fn load_snapshot(&self, now_s: u64) -> Result<(KeySnapshot, Vec<VerificationKey>), KeysError> {
        let keys = folder::read_keys(&self.path)?;
        let begins: Vec<_> = keys.iter().map(|key| key.signs_from).collect();
        let (mut signer, mut public, mut verifying) = (None, Vec::new(), Vec::new());
        let (mut seal_keys, mut ever_verifying) = (VecDeque::new(), Vec::new());
        let broken = |_| KeysError::Broken { path: self.path.clone(), problem: "holds a broken key" };
        for (key, status) in keys.iter().zip(key_statuses(&begins, now_s, self.timing)) {
            let verification_key = key.public.to_verification_key().map_err(broken)?;
            ever_verifying.push(verification_key.clone());
            if status.state == KeyState::Signing {
                signer = Some(active_key(key));
                seal_keys.extend(key.seal_key());
                seal_keys.rotate_right(1);
            } else {
                seal_keys.extend(key.seal_key());
            }
            if status.state != KeyState::Expired {
                verifying.push(verification_key);
            }
            if status.published {
                public.push(&key.public);
            }
        }
        if public.len() > MAX_JWKS_KEYS {
            return Err(KeysError::TooManyPublished(public.len()));
        }
        let signer = signer.ok_or_else(|| KeysError::NoSigningKey(self.path.clone()))?;
        let published = Some(Arc::new(build_published_jwks(&public, self.max_age_s)));
        let statement_verifier = TokenVerifier::with_published_keys([]);
        statement_verifier.replace_published_keys(ever_verifying);
        let record_seal = RecordSeal::new(seal_keys);
        Ok((KeySnapshot { signer, record_seal, statement_verifier, published }, verifying))
    }
}

fn active_key(key: &PrivateKey) -> ActiveSigningKey {
    let algorithm = key.public.algorithm().to_jsonwebtoken();
    ActiveSigningKey { kid: key.public.kid().to_owned(), algorithm, key: key.encoding_key().clone() }
}

/// A JWK set (RFC 7517).
#[derive(Serialize, ToSchema)]
#[schema(as = Jwks)]
pub(crate) struct JwksBody<'a> {
    keys: &'a [&'a PublicJwk],
}

fn build_published_jwks(keys: &[&PublicJwk], max_age_s: u64) -> PublishedJwks {
    // Texts and a list: their serialization cannot fail.
    let body = serde_json::to_string(&JwksBody { keys }).unwrap_or_default();
    let digest = Sha256::digest(&body);
    let etag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    PublishedJwks { body, etag: format!("\"{etag}\""), max_age_s }
}
