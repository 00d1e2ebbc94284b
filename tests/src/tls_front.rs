//! TLS in front of a server that has none.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::test_pki::TestPki;

/// A listener that forwards to another address what it decrypts. It ends with the runtime it was
/// started in.
pub struct TlsFront {
    /// `https://` with its address.
    pub url: String,
}

impl TlsFront {
    /// Starts a listener with the server certificate of `pki`.
    ///
    /// # Panics
    /// If no port is free, or the certificate cannot be used.
    pub async fn start(pki: &TestPki, target: SocketAddr) -> Self {
        let certificate = CertificateDer::from_pem_file(pki.file("server.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(pki.file("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate ends the connection.
                    let Ok(mut outside) = acceptor.accept(socket).await else { return };
                    let Ok(mut inside) = TcpStream::connect(target).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { url }
    }
}
