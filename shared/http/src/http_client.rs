//! Asking others over HTTP: a key set, an issuer's metadata, somebody's webhook.
//!
//! Owns: that every question has an end: a deadline over all of it, and a bound on what is read. Must not: know what the answer means,
//! follow a redirect (an answer of another place than the one that was configured is none), use a proxy from the environment, or log
//! a URL, which may hold a secret.
//!
//! One client keeps its connections; clones share them. TLS 1.2 and 1.3 by rustls with ring, certificates always checked.

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

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds of one question.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// For all of it: name, connection, TLS, answer.
    pub deadline: Duration,
    /// The longest body that is read, bytes.
    pub max_body_bytes: usize,
}

/// An answer, whatever its status: the caller judges it. A redirect is an answer like any other.
#[derive(Debug)]
pub struct ClientResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

/// Why there is no answer. No text holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpClientError {
    /// Not an absolute `http:` or `https:` URL, or a header that cannot be one.
    #[error("the URL or a header is not usable")]
    InvalidRequest,
    /// The authority's certificates cannot be used.
    #[error("no certificate of an authority can be read from the given PEM")]
    InvalidCertificates,
    /// Not in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// More than was asked for.
    #[error("the answer is longer than {0} bytes")]
    BodyTooLong(usize),
    /// No connection, no TLS, or broken off.
    #[error("not reachable: {0}")]
    Unreachable(String),
}

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// A client that trusts the public authorities, as Mozilla lists them; or, where a PEM text is given, only those in it.
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

    /// `GET`, wanting JSON.
    ///
    /// # Errors
    /// [`HttpClientError`]; a status of 400 and above is an answer.
    pub async fn get(&self, url: &str, patience: RequestLimits) -> Result<ClientResponse, HttpClientError> {
        let request =
            build_request(Method::GET, url)?.header(ACCEPT, "application/json").body(Full::default());
        self.send_request(request.map_err(|_| HttpClientError::InvalidRequest)?, patience).await
    }

    /// `POST` of a body of this media type, with more headers, whose answer matters only by its status and headers. Of its body so much is read as `patience` allows, and forgotten; a
    /// longer one is no error, and ends the connection.
    ///
    /// # Errors
    /// [`HttpClientError`]; a status of 400 and above is an answer.
    pub async fn post(
        &self,
        url: &str,
        media_type: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        patience: RequestLimits,
    ) -> Result<(StatusCode, HeaderMap), HttpClientError> {
        let mut request = build_request(Method::POST, url)?.header(CONTENT_TYPE, media_type);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|_| HttpClientError::InvalidRequest)?;
        let end = tokio::time::Instant::now() + patience.deadline;
        let asked = tokio::time::timeout_at(end, self.client.request(request)).await;
        let (head, body) = asked
            .map_err(|_| HttpClientError::TimedOut(patience.deadline))?
            .map_err(unreachable_error)?
            .into_parts();
        // Read to its end the connection can be used again; the status is known without.
        let _ = tokio::time::timeout_at(end, Limited::new(body, patience.max_body_bytes).collect()).await;
        Ok((head.status, head.headers))
    }

    /// Any method, wanting JSON, with more headers and, where there is one, a body of JSON.
    ///
    /// # Errors
    /// [`HttpClientError`]; a status of 400 and above is an answer.
    pub async fn request_json(
        &self,
        method: &str,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
        patience: RequestLimits,
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
        self.send_request(request.map_err(|_| HttpClientError::InvalidRequest)?, patience).await
    }

    async fn send_request(
        &self,
        request: Request<Full<Bytes>>,
        patience: RequestLimits,
    ) -> Result<ClientResponse, HttpClientError> {
        let asked = async {
            let answer = self.client.request(request).await.map_err(unreachable_error)?;
            let (head, body) = answer.into_parts();
            let read = Limited::new(body, patience.max_body_bytes).collect().await;
            let body = read.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpClientError::BodyTooLong(patience.max_body_bytes)
                } else {
                    HttpClientError::Unreachable("the answer breaks off".to_owned())
                }
            })?;
            Ok(ClientResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let late = |_| HttpClientError::TimedOut(patience.deadline);
        tokio::time::timeout(patience.deadline, asked).await.map_err(late)?
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
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots
            .add(certificate.map_err(|_| HttpClientError::InvalidCertificates)?)
            .map_err(|_| HttpClientError::InvalidCertificates)?;
    }
    if roots.is_empty() { Err(HttpClientError::InvalidCertificates) } else { Ok(roots) }
}

/// The innermost cause: "connection refused" says more than "client error".
fn unreachable_error(error: hyper_util::client::legacy::Error) -> HttpClientError {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    HttpClientError::Unreachable(cause.to_string())
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

    /// A server that gives one answer, and tells what it was asked.
    async fn start_server(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let read = socket.read(&mut bytes).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            String::from_utf8_lossy(&bytes[..read]).into_owned()
        });
        (url, asked)
    }

    async fn get_from_server(answer: &'static str) -> Result<ClientResponse, HttpClientError> {
        let (url, _asked) = start_server(answer).await;
        HttpClient::new(None).unwrap().get(&url, TEST_LIMITS).await
    }

    #[tokio::test]
    async fn a_response_is_read_up_to_its_limit() {
        let answer = get_from_server("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n12345678").await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"12345678"[..]));
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
        let away = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(get_from_server(away).await.unwrap().status.as_u16(), 302);
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
        let (url, asked) = start_server("HTTP/1.1 204 No Content\r\n\r\n").await;
        let headers = [(HeaderName::from_static("webhook-id"), HeaderValue::from_static("7"))];
        let ask = HttpClient::new(None).unwrap();
        let (status, _) =
            ask.post(&url, "application/json", &headers, Bytes::from("{}"), TEST_LIMITS).await.unwrap();
        assert_eq!(status.as_u16(), 204);
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /x HTTP/1.1\r\n") && asked.ends_with("\r\n\r\n{}"), "{asked}");
        assert!(
            asked.contains("webhook-id: 7") && asked.contains("content-type: application/json"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn a_post_ignores_a_long_or_broken_response_body() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", 200),
            ("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 20\r\n\r\n123", 503),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302),
        ] {
            let (url, _asked) = start_server(answer).await;
            let told = HttpClient::new(None)
                .unwrap()
                .post(&url, "application/json", &[], Bytes::new(), TEST_LIMITS)
                .await;
            assert_eq!(told.unwrap().0.as_u16(), status);
        }
        let (url, _asked) = start_server("").await;
        let told = HttpClient::new(None)
            .unwrap()
            .post(&url, "application/json", &[], Bytes::new(), TEST_LIMITS)
            .await;
        assert_eq!(told.unwrap_err(), HttpClientError::TimedOut(TEST_LIMITS.deadline));
    }

    #[tokio::test]
    async fn an_invalid_url_is_rejected_without_repeating_it() {
        let ask = HttpClient::new(None).unwrap();
        for url in ["", "x", "/x", "ftp://h/", "http://", "file:///etc/passwd", "http://h/ x"] {
            assert_eq!(
                ask.get(url, TEST_LIMITS).await.unwrap_err(),
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
