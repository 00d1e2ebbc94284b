//! The keys of a running process.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use signalbox_protocol::clock;
use signalbox_token::{Claims, MAX_JWKS_KEYS, PublicJwk, SharedSecret, Verifier, VerifyKey};

use super::{KeyState, KeysError, PrivateKey, Times, folder, places};

/// How often the folder is looked into. A new key waits at least `Times::lead_s` for its first signature.
const LOOK: Duration = Duration::from_secs(1);

/// What signs now.
struct Signer {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
}

/// The published set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `{"keys":[…]}`, public keys only.
    pub body: String,
    /// Its entity tag (RFC 9110, section 8.8.3), quoted.
    pub etag: String,
    /// How long it may be kept, seconds.
    pub max_age_s: u64,
}

/// What follows from the folder and the time.
struct Now {
    signer: Signer,
    published: Option<Arc<Published>>,
}

struct Folder {
    path: PathBuf,
    times: Times,
    max_age_s: u64,
}

/// What a process signs with, and what it checks with: the same keys, and those before.
pub struct SigningKeys {
    verifier: Verifier,
    folder: Option<Folder>,
    // Held for the copy of a pointer.
    now: RwLock<Arc<Now>>,
}

impl SigningKeys {
    /// The shared secret signs (HS256); it and the previous one check. Nothing is published.
    pub fn shared(secret: &SharedSecret, previous: Option<&SharedSecret>) -> Arc<Self> {
        let key = EncodingKey::from_secret(secret.expose());
        let signer = Signer { kid: secret.kid(), algorithm: Algorithm::HS256, key };
        let verifier = Verifier::hs256(std::iter::once(secret).chain(previous));
        let now = RwLock::new(Arc::new(Now { signer, published: None }));
        Arc::new(Self { verifier, folder: None, now })
    }

    /// The keys of a folder sign and check. Tokens of applications that sign with a shared secret are good where one is given,
    /// and only there.
    ///
    /// # Errors
    /// [`KeysError`], for the operator.
    pub fn in_folder<'a>(
        path: PathBuf,
        auth: &signalbox_config::Auth,
        secrets: impl IntoIterator<Item = &'a SharedSecret>,
        now_s: u64,
    ) -> Result<Arc<Self>, KeysError> {
        let verifier = Verifier::changing(secrets);
        let folder = Folder { path, times: Times::new(auth), max_age_s: auth.jwks_ttl.0.as_secs() };
        let (now, keys) = folder.look(now_s)?;
        verifier.hold(keys);
        Ok(Arc::new(Self { verifier, folder: Some(folder), now: RwLock::new(Arc::new(now)) }))
    }

    /// Checks what this signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// A token of any kind (RFC 7515, compact).
    ///
    /// # Errors
    /// Only a fault of the library; there is nothing a caller could send to cause it.
    pub fn sign<C: Claims>(&self, claims: &C) -> Result<String, jsonwebtoken::errors::Error> {
        let now = self.now();
        let header = Header {
            typ: Some(C::KIND.typ().to_owned()),
            kid: Some(now.signer.kid.clone()),
            ..Header::new(now.signer.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &now.signer.key)
    }

    /// What is published; nothing where a shared secret signs.
    pub fn jwks(&self) -> Option<Arc<Published>> {
        self.now().published.clone()
    }

    /// Looks into the folder again. What is held stays where the folder is not usable just now.
    ///
    /// # Errors
    /// [`KeysError`], for the operator.
    pub fn refresh(&self, now_s: u64) -> Result<(), KeysError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let (now, keys) = folder.look(now_s)?;
        let before = self.now();
        if before.signer.kid != now.signer.kid {
            tracing::info!(event = "signing_key_changed", kid = now.signer.kid);
        }
        // First what checks, so that nothing is signed that would not be taken back here.
        self.verifier.hold(keys);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        Ok(())
    }

    /// Looks into the folder every second until the process ends. Each change between usable and not is one line of the log.
    pub async fn follow(self: Arc<Self>) {
        if self.folder.is_none() {
            return;
        }
        let mut said: Option<KeysError> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let keys = self.clone();
            let looked = tokio::task::spawn_blocking(move || keys.refresh(clock::now_s())).await;
            match looked {
                Ok(Ok(())) if said.is_some() => {
                    tracing::info!(event = "keys_dir_usable");
                    said = None;
                }
                Ok(Err(error)) if said.as_ref() != Some(&error) => {
                    tracing::error!(event = "keys_dir_unusable", %error, "the keys that are held go on");
                    said = Some(error);
                }
                // A thread that did not come back is tried again in a second.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn now(&self) -> Arc<Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Folder {
    fn look(&self, now_s: u64) -> Result<(Now, Vec<VerifyKey>), KeysError> {
        let keys = folder::read(&self.path)?;
        let begins: Vec<_> = keys.iter().map(|key| key.signs_from).collect();
        let (mut signer, mut public, mut checking) = (None, Vec::new(), Vec::new());
        for (key, place) in keys.iter().zip(places(&begins, now_s, self.times)) {
            if place.state == KeyState::Signing {
                signer = Some(signer_of(key));
            }
            if place.state != KeyState::Over {
                let broken = |_| KeysError::Broken { path: self.path.clone(), problem: "holds a broken key" };
                checking.push(key.public.verify_key().map_err(broken)?);
            }
            if place.published {
                public.push(&key.public);
            }
        }
        if public.len() > MAX_JWKS_KEYS {
            return Err(KeysError::TooManyPublished(public.len()));
        }
        let signer = signer.ok_or_else(|| KeysError::NoneSigns(self.path.clone()))?;
        let published = Some(Arc::new(publish(&public, self.max_age_s)));
        Ok((Now { signer, published }, checking))
    }
}

fn signer_of(key: &PrivateKey) -> Signer {
    let algorithm = key.public.algorithm().library();
    Signer { kid: key.public.kid().to_owned(), algorithm, key: key.encoding().clone() }
}

fn publish(keys: &[&PublicJwk], max_age_s: u64) -> Published {
    #[derive(Serialize)]
    struct Set<'a> {
        keys: &'a [&'a PublicJwk],
    }
    // Texts and a list: there is nothing that could not be written.
    let body = serde_json::to_string(&Set { keys }).unwrap_or_default();
    let digest = Sha256::digest(&body);
    let etag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Published { body, etag: format!("\"{etag}\""), max_age_s }
}
