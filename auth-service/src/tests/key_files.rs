//! Files with secrets, keys and certificates, as editors and shells write them.

use std::path::Path;

use signalbox_config::{CommonFlags, EnvVars, HttpClientSettings, LoadedConfig, RedisSettings, read_secret};
use signalbox_http::HttpClient;
use signalbox_redis::RedisClient;
use signalbox_tests::test_pki::TestPki;
use signalbox_token::{KeyAlgorithm, parse_jwks};

use super::random_secret;
use crate::auth::keys::{PrivateKey, folder};

/// What a program has added to a text, how, and whether the text is accepted.
type TextForm = (&'static str, fn(&str) -> Vec<u8>, bool);

const TEXT_FORMS: [TextForm; 11] = [
    ("unchanged", |text| text.into(), true),
    ("a byte order mark", |text| format!("\u{feff}{text}").into(), true),
    ("carriage returns", |text| text.replace('\n', "\r\n").into(), true),
    ("both", |text| format!("\u{feff}{}", text.replace('\n', "\r\n")).into(), true),
    ("blanks at the end of each line", |text| text.replace('\n', "  \n").into(), true),
    ("a tab at the end of each line", |text| text.replace('\n', "\t\n").into(), true),
    ("indented lines", |text| format!("  {}", text.trim_end().replace('\n', "\n  ")).into(), true),
    ("empty lines around it", |text| format!("\r\n\n{text}\n\r\n").into(), true),
    ("a no-break space at the end", |text| format!("{}\u{a0}\n", text.trim_end()).into(), true),
    ("no line feed at the end", |text| text.trim_end().into(), true),
    ("UTF-16", |text| text.encode_utf16().flat_map(u16::to_le_bytes).collect(), false),
];

/// The kinds of files. Each value reads such a file as the services do.
struct FileKinds {
    pki: TestPki,
    key: PrivateKey,
    jwks: String,
    secret: String,
}

impl FileKinds {
    const NAMES: [&str; 7] = [
        "secret",
        "private key of auth.keys_dir",
        "key set",
        "http_client.ca_file",
        "redis.ca_file",
        "redis.cert_file",
        "redis.key_file",
    ];

    fn new() -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EdDSA, 7).unwrap();
        let set = serde_json::json!({ "keys": [key.public] });
        Self {
            pki: TestPki::generate(),
            key,
            jwks: serde_json::to_string_pretty(&set).unwrap() + "\n",
            secret: String::from_utf8(random_secret().expose().to_vec()).unwrap() + "\n",
        }
    }

    /// The file as Signalbox or OpenSSL writes it.
    fn plain_text(&self, kind: &str) -> String {
        let pem = |name: &str| std::fs::read_to_string(self.pki.file(name)).unwrap();
        match kind {
            "secret" => self.secret.clone(),
            "private key of auth.keys_dir" => String::from_utf8(self.key.to_file_content().unwrap()).unwrap(),
            "key set" => self.jwks.clone(),
            "redis.cert_file" => pem("client.crt"),
            "redis.key_file" => pem("client.key"),
            _ => pem("ca.crt"),
        }
    }

    /// Reads a file of this kind, in every place that reads it.
    fn read(&self, kind: &str, folder: &Path, path: &Path) -> Result<(), String> {
        let pki_file = |name: &str| Some(self.pki.file(name));
        let mut redis = RedisSettings {
            ca_file: pki_file("ca.crt"),
            cert_file: pki_file("client.crt"),
            key_file: pki_file("client.key"),
            ..RedisSettings::default()
        };
        match kind {
            "secret" => {
                let env = EnvVars::from([("AUTH_SECRET_FILE".to_owned(), path.display().to_string())]);
                let read = read_secret("AUTH_SECRET", &env).map_err(|error| error.to_string())?;
                assert_eq!(read.as_deref(), Some(self.secret.trim_end()));
                return Ok(());
            }
            "private key of auth.keys_dir" => {
                return folder::read_keys(folder).map(drop).map_err(|error| error.to_string());
            }
            "key set" => {
                let keys = parse_jwks(&std::fs::read(path).unwrap()).map_err(|error| error.to_string())?;
                assert_eq!(keys.len(), 1);
                return Ok(());
            }
            "http_client.ca_file" => {
                let client =
                    HttpClientSettings { ca_file: Some(path.into()), ..HttpClientSettings::default() };
                HttpClient::from_settings(&client).map_err(|error| error.to_string())?;
            }
            "redis.ca_file" => redis.ca_file = Some(path.into()),
            "redis.cert_file" => redis.cert_file = Some(path.into()),
            _ => redis.key_file = Some(path.into()),
        }
        RedisClient::start("rediss://127.0.0.1:1", &redis).map_err(|error| error.to_string())?;
        let config = folder.join("signalbox.toml");
        let (section, name) = kind.split_once('.').unwrap();
        let partner = match name {
            "cert_file" => format!("key_file = {:?}\n", self.pki.file("client.key")),
            "key_file" => format!("cert_file = {:?}\n", self.pki.file("client.crt")),
            _ => String::new(),
        };
        std::fs::write(&config, format!("[{section}]\n{name} = {path:?}\n{partner}")).unwrap();
        let flags = CommonFlags { config: Some(config), ..CommonFlags::default() };
        LoadedConfig::load(&flags, &EnvVars::new()).map(drop).map_err(|error| error.to_string())
    }
}

#[actix_web::test]
async fn what_editors_add_to_a_file_changes_no_secret_no_key_and_no_certificate() {
    let kinds = FileKinds::new();
    let mut wrong = Vec::new();
    for kind in FileKinds::NAMES {
        for (form, write, expected) in TEXT_FORMS {
            let dir = tempfile::TempDir::new().unwrap();
            let keys = dir.path().join("keys");
            folder::create_folder(&keys).unwrap();
            let path = folder::write_key(&keys, &kinds.key).unwrap();
            std::fs::write(&path, write(&kinds.plain_text(kind))).unwrap();
            let read = kinds.read(kind, &keys, &path);
            if read.is_ok() != expected {
                wrong.push(format!("{kind}, {form}: {read:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
