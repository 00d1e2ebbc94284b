//! A certificate authority, a certificate for 127.0.0.1 and one for a client, made by openssl for one
//! run.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

/// The files. They are removed when it is dropped.
pub struct TestPki {
    dir: TempDir,
}

impl TestPki {
    /// Makes all of them.
    ///
    /// # Panics
    /// If openssl cannot make them.
    pub fn generate() -> Self {
        let dir = TempDir::with_prefix("signalbox-pki-").expect("a temporary folder");
        let script = "
            set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=signalbox-test-ca -keyout ca.key -out ca.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=redis -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > ext
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=signalbox -keyout client.key -out client.csr
            openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out client.crt
        ";
        let output = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        Self { dir }
    }

    /// The path of `ca.crt`, `server.crt`, `server.key`, `client.crt` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
