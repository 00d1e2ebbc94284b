//! The HTTP client, for key sets, the metadata of providers, and webhooks.
//!
//! Owns: the bounds of every request: one deadline for all of it, and the longest body. Must not:
//! interpret a response, use a proxy from the environment, or log a URL, which may hold a secret.
//! It must not follow a redirect either, because only the configured server may answer.
//!
//! A client keeps its connections, and its clones share them. TLS 1.2 and 1.3 come from rustls with
//! ring; certificates are always verified.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use signalbox_config::{HttpClientSettings, canonical_pem};

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// The time for the whole request: DNS, connection, TLS, response.
    pub deadline: Duration,
    /// The longest response body that is read, bytes.
    pub max_body_bytes: usize,
}

/// A response with any status. The caller checks the status; a redirect is a response too.
#[derive(Debug)]
pub struct ClientResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why a request has no response. No text holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpClientError {
    /// The URL is not an absolute `http:` or `https:` URL, or a header is invalid.
    #[error("the URL or a header of the request is invalid")]
    InvalidRequest,
    /// The file of the certificate authorities cannot be read.
    #[error("the PEM file of the certificate authorities cannot be read: {0}")]
    UnreadableFile(String),
    /// The PEM text holds no readable certificate.
    #[error("the PEM file of the certificate authorities holds no readable certificate")]
    InvalidCertificates,
    /// The deadline has passed.
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// The body is longer than [`RequestLimits::max_body_bytes`].
    #[error("the response is longer than {0} bytes")]
    BodyTooLong(usize),
    /// No trusted authority has signed the certificate of the server.
    #[error(
        "no authority trusted here has signed the certificate of the server; name its authority in http_client.ca_file (for a command, in --ca-file)"
    )]
    Untrusted,
    /// The connection or TLS failed, or the response ended too early.
    #[error("the server is not reachable: {0}")]
    Unreachable(String),
}

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// A client with the settings of the process.
    ///
    /// # Errors
    /// [`HttpClientError::UnreadableFile`] or [`HttpClientError::InvalidCertificates`]
    pub fn from_settings(settings: &HttpClientSettings) -> Result<Self, HttpClientError> {
        let Some(path) = &settings.ca_file else { return Self::new(None) };
        let pem = std::fs::read(path).map_err(|error| HttpClientError::UnreadableFile(error.to_string()))?;
        Self::new(Some(&pem))
    }

    /// A client that trusts the public certificate authorities in Mozilla's list. If a PEM text is
    /// given, the client trusts only the authorities in it.
    ///
    /// # Errors
    /// [`HttpClientError::InvalidCertificates`]
    pub fn new(authorities: Option<&[u8]>) -> Result<Self, HttpClientError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| HttpClientError::Unreachable(error.to_string()))?;
        let tls = match authorities {
            None => builder.with_webpki_roots(),
            Some(pem) => builder.with_root_certificates(parse_root_certificates(pem)?),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(4)
            .build(connector.build());
        Ok(Self { client })
    }

    /// Sends `GET` and asks for JSON.
    ///
    /// # Errors
    /// [`HttpClientError`]. A status of 400 or above is no error.
    pub async fn get(&self, url: &str, limits: RequestLimits) -> Result<ClientResponse, HttpClientError> {
        let request =
            build_request(Method::GET, url)?.header(ACCEPT, "application/json").body(Full::default());
        self.send_request(request.map_err(|_| HttpClientError::InvalidRequest)?, limits).await
    }

    /// Sends `POST` with a body and more headers, and returns the status and headers of the
    /// response. The body of the response is read within `limits` and dropped. A longer body is no
    /// error, but it ends the connection.
    ///
    /// # Errors
    /// [`HttpClientError`]. A status of 400 or above is no error.
    pub async fn post(
        &self,
        url: &str,
        media_type: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        limits: RequestLimits,
    ) -> Result<(StatusCode, HeaderMap), HttpClientError> {
        let mut request = build_request(Method::POST, url)?.header(CONTENT_TYPE, media_type);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|_| HttpClientError::InvalidRequest)?;
        let end = tokio::time::Instant::now() + limits.deadline;
        let response = tokio::time::timeout_at(end, self.client.request(request)).await;
        let (head, body) = response
            .map_err(|_| HttpClientError::TimedOut(limits.deadline))?
            .map_err(unreachable_error)?
            .into_parts();
        // The connection can be used again only after its body has been read.
        let _ = tokio::time::timeout_at(end, Limited::new(body, limits.max_body_bytes).collect()).await;
        Ok((head.status, head.headers))
    }

    /// Sends any method with more headers and an optional JSON body, and asks for JSON.
    ///
    /// # Errors
    /// [`HttpClientError`]. A status of 400 or above is no error.
    pub async fn request_json(
        &self,
        method: &str,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
        limits: RequestLimits,
    ) -> Result<ClientResponse, HttpClientError> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| HttpClientError::InvalidRequest)?;
        let mut request = build_request(method, url)?.header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        self.send_request(request.map_err(|_| HttpClientError::InvalidRequest)?, limits).await
    }

    async fn send_request(
        &self,
        request: Request<Full<Bytes>>,
        limits: RequestLimits,
    ) -> Result<ClientResponse, HttpClientError> {
        let exchange = async {
            let response = self.client.request(request).await.map_err(unreachable_error)?;
            let (head, body) = response.into_parts();
            let read = Limited::new(body, limits.max_body_bytes).collect().await;
            let body = read.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpClientError::BodyTooLong(limits.max_body_bytes)
                } else {
                    HttpClientError::Unreachable("the response ended too early".to_owned())
                }
            })?;
            Ok(ClientResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let timed_out = |_| HttpClientError::TimedOut(limits.deadline);
        tokio::time::timeout(limits.deadline, exchange).await.map_err(timed_out)?
    }
}

fn build_request(method: Method, url: &str) -> Result<hyper::http::request::Builder, HttpClientError> {
    let uri: Uri = url.parse().map_err(|_| HttpClientError::InvalidRequest)?;
    if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(HttpClientError::InvalidRequest);
    }
    let agent = concat!("signalbox/", env!("CARGO_PKG_VERSION"));
    Ok(Request::builder().method(method).uri(uri).header(USER_AGENT, agent))
}

fn parse_root_certificates(pem: &[u8]) -> Result<RootCertStore, HttpClientError> {
    let pem = canonical_pem(pem).map_err(|_| HttpClientError::InvalidCertificates)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots
            .add(certificate.map_err(|_| HttpClientError::InvalidCertificates)?)
            .map_err(|_| HttpClientError::InvalidCertificates)?;
    }
    if roots.is_empty() { Err(HttpClientError::InvalidCertificates) } else { Ok(roots) }
}

/// The innermost cause of an error: "connection refused" is clearer than "client error".
fn unreachable_error(error: hyper_util::client::legacy::Error) -> HttpClientError {
    let mut cause: &dyn std::error::Error = &error;
    loop {
        // An I/O error has the error of TLS inside, and is not its source.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match inner.map(|inner| inner as &dyn std::error::Error).or_else(|| cause.source()) {
            Some(source) => cause = source,
            None => break,
        }
    }
    use rustls::{CertificateError, Error};
    match cause.downcast_ref::<rustls::Error>() {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            HttpClientError::Untrusted
        }
        Some(error) => HttpClientError::Unreachable(describe_tls_error(error)),
        None => HttpClientError::Unreachable(cause.to_string()),
    }
}

/// Why TLS failed, in the words of an operator.
fn describe_tls_error(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidMessage(_) => "it does not speak TLS there".to_owned(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        // The TLS library has no variant of its own for it.
        Error::InvalidCertificate(CertificateError::Other(_))
            if error.to_string().contains("CaUsedAsEndEntity") =>
        {
            "its certificate is one of an authority (CA:TRUE); give it a certificate with CA:FALSE".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const TEST_LIMITS: RequestLimits =
        RequestLimits { deadline: Duration::from_millis(500), max_body_bytes: 8 };

    /// A server that sends one response, and returns the request.
    async fn start_server(response: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let request = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let read = socket.read(&mut bytes).await.unwrap();
            socket.write_all(response.as_bytes()).await.unwrap();
            if response.is_empty() {
                std::future::pending::<()>().await;
            }
            String::from_utf8_lossy(&bytes[..read]).into_owned()
        });
        (url, request)
    }

    async fn get_from_server(response: &'static str) -> Result<ClientResponse, HttpClientError> {
        let (url, _request) = start_server(response).await;
        HttpClient::new(None).unwrap().get(&url, TEST_LIMITS).await
    }

    #[tokio::test]
    async fn a_response_is_read_up_to_its_limit() {
        let response = get_from_server("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678").await.unwrap();
        assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"12345678"[..]));
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789";
        assert_eq!(get_from_server(long).await.unwrap_err(), HttpClientError::BodyTooLong(8));
        let chunks =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n";
        assert_eq!(get_from_server(chunks).await.unwrap_err(), HttpClientError::BodyTooLong(8));
        let broken = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n123";
        assert!(matches!(get_from_server(broken).await.unwrap_err(), HttpClientError::Unreachable(_)));
    }

    #[tokio::test]
    async fn a_redirect_is_returned_and_not_followed() {
        let redirect = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(get_from_server(redirect).await.unwrap().status.as_u16(), 302);
    }

    #[tokio::test]
    async fn a_server_without_a_response_times_out() {
        assert_eq!(get_from_server("").await.unwrap_err(), HttpClientError::TimedOut(TEST_LIMITS.deadline));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error =
            HttpClient::new(None).unwrap().get(&format!("http://{closed}/"), TEST_LIMITS).await.unwrap_err();
        assert!(matches!(&error, HttpClientError::Unreachable(why) if why.contains("refused")), "{error}");
    }

    #[tokio::test]
    async fn a_post_sends_its_headers_and_body() {
        let (url, request) = start_server("HTTP/1.1 204 No Content\r\n\r\n").await;
        let headers = [(HeaderName::from_static("webhook-id"), HeaderValue::from_static("7"))];
        let client = HttpClient::new(None).unwrap();
        let (status, _) =
            client.post(&url, "application/json", &headers, Bytes::from("{}"), TEST_LIMITS).await.unwrap();
        assert_eq!(status.as_u16(), 204);
        let request = request.await.unwrap();
        assert!(request.starts_with("POST /x HTTP/1.1\r\n") && request.ends_with("\r\n\r\n{}"), "{request}");
        assert!(
            request.contains("webhook-id: 7") && request.contains("content-type: application/json"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn a_post_ignores_a_long_or_broken_response_body() {
        for (response, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", 200),
            ("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 20\r\n\r\n123", 503),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302),
        ] {
            let (url, _request) = start_server(response).await;
            let result = HttpClient::new(None)
                .unwrap()
                .post(&url, "application/json", &[], Bytes::new(), TEST_LIMITS)
                .await;
            assert_eq!(result.unwrap().0.as_u16(), status);
        }
        let (url, _request) = start_server("").await;
        let result = HttpClient::new(None)
            .unwrap()
            .post(&url, "application/json", &[], Bytes::new(), TEST_LIMITS)
            .await;
        assert_eq!(result.unwrap_err(), HttpClientError::TimedOut(TEST_LIMITS.deadline));
    }

    #[tokio::test]
    async fn an_invalid_url_is_rejected_without_repeating_it() {
        let client = HttpClient::new(None).unwrap();
        for url in ["", "x", "/x", "ftp://h/", "http://", "file:///etc/passwd", "http://h/ x"] {
            assert_eq!(
                client.get(url, TEST_LIMITS).await.unwrap_err(),
                HttpClientError::InvalidRequest,
                "{url}"
            );
        }
        assert_eq!(
            HttpClient::new(Some(b"none")).map(drop).unwrap_err(),
            HttpClientError::InvalidCertificates
        );
    }
}
