//! The listener of a node: HTTP on one port, with the upgrade requests among it.
//!
//! Owns: the server, and the `101` or the refusal of an upgrade. Must not: decide about a request
//! (`admission`). Next: `task`.
//!
//! actix-http passes every upgrade request on with its socket. An upgrade of `/ws/signal` is
//! verified and answered with `101`; then `task` owns the bare socket, which costs a fraction of a
//! response stream through the HTTP dispatcher. Any other upgrade (the feed of the operators, `h2c`
//! offers) goes back to the App: a second dispatcher without the upgrade service reads its head
//! again.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_codec::{AsyncRead, AsyncWrite, Framed, ReadBuf};
use actix_http::{
    HttpMessage as _, HttpService, Request, Response,
    body::BodySize,
    h1::{Codec, Message},
    header, ws,
};
use actix_server::{Server, ServerBuilder};
use actix_service::{ServiceFactory, fn_factory, fn_service, map_config};
use actix_web::{App, dev::AppConfig, middleware::from_fn, web};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::SinkExt as _;
use signalbox_http::{KEEP_ALIVE, REQUEST_HEAD_DEADLINE, remedy_of};
use signalbox_protocol::{SUBPROTOCOL, problem::Problem};
use tokio::net::TcpStream;

use super::task;
use crate::{
    admission::{ConnectionPermit, CredentialSource, VerifiedRequest},
    connection_subject::ConnectionSubject,
    node::SignalNode,
    peer_rate::PeerRate,
};

/// Serves HTTP and `/ws/signal` on a listening socket. `configure` adds the routes, once for each
/// worker.
///
/// # Errors
/// If the socket cannot be used.
pub fn serve<C, F>(
    listener: std::net::TcpListener,
    node: &Arc<SignalNode>,
    configure: C,
) -> io::Result<Server>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: FnOnce(&mut web::ServiceConfig) + 'static,
{
    let node = node.clone();
    let mut builder = ServerBuilder::new().disable_signals().shutdown_timeout(1);
    let workers = node.settings.read(|settings| settings.server.workers);
    if workers > 0 {
        builder = builder.workers(workers);
    }
    let builder = builder.listen("signalbox", listener, move || {
        let app = {
            let configure = configure.clone();
            move || {
                map_config(
                    App::new().wrap(from_fn(signalbox_http::guard_request)).configure(configure()),
                    |_| AppConfig::default(),
                )
            }
        };
        let plain_app = app.clone();
        let node = node.clone();
        let upgrades = fn_factory(move || {
            let plain = HttpService::build()
                .keep_alive(KEEP_ALIVE)
                .client_request_timeout(REQUEST_HEAD_DEADLINE)
                .h1(plain_app())
                .new_service(());
            let node = node.clone();
            async move {
                let plain = std::rc::Rc::new(plain.await?);
                let service = fn_service(move |(request, framed): (Request, Framed<TcpStream, Codec>)| {
                    let (node, plain) = (node.clone(), plain.clone());
                    async move {
                        if request.path() == "/ws/signal" {
                            handle_upgrade(&node, &request, framed).await;
                        } else {
                            let address = request.peer_addr();
                            // The dispatcher logs its own failures.
                            let _ = actix_service::Service::call(
                                &*plain,
                                (ReplayedSocket::new(&request, framed), address),
                            )
                            .await;
                        }
                        Ok::<_, actix_web::Error>(())
                    }
                });
                Ok::<_, ()>(service)
            }
        });
        HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(REQUEST_HEAD_DEADLINE)
            .upgrade(upgrades)
            .h1(app())
            .tcp()
    })?;
    Ok(builder.run())
}

/// Verifies one upgrade request for `/ws/signal` and answers it.
async fn handle_upgrade(node: &Arc<SignalNode>, request: &Request, mut framed: Framed<TcpStream, Codec>) {
    let mut upgrade = match verify_upgrade(node, request).await {
        Ok(upgrade) => upgrade,
        Err(problem) => {
            node.registry.context().metrics.count_refused_upgrade(problem.code);
            let remedy = remedy_of(problem.code);
            tracing::info!(event = "upgrade_refused", status = problem.status, code = problem.code, remedy);
            return send_http_refusal(&mut framed, &problem).await;
        }
    };
    if upgrade.request.echo_subprotocol {
        upgrade.response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    let response = upgrade
        .response
        .message_body(())
        .unwrap_or_else(|_| Response::new(actix_http::StatusCode::SWITCHING_PROTOCOLS).drop_body());
    if framed.send(Message::Item((response, BodySize::None))).await.is_err() {
        return;
    }
    let parts = framed.into_parts();
    // A task of its own: the state of the dispatcher would otherwise live as long as the
    // connection.
    actix_rt::spawn(task::run_connection(
        node.clone(),
        upgrade.permit,
        (upgrade.request.intent, upgrade.subject, upgrade.rate),
        parts.io,
        parts.read_buf,
    ));
}

/// An upgrade that may be answered with `101`.
struct VerifiedUpgrade {
    permit: ConnectionPermit,
    request: VerifiedRequest,
    subject: ConnectionSubject,
    rate: Arc<PeerRate>,
    response: actix_http::ResponseBuilder,
}

async fn verify_upgrade(node: &SignalNode, request: &Request) -> Result<VerifiedUpgrade, Problem> {
    let (admission, headers) = (&node.admission, request.headers());
    let permit = admission.acquire_permit()?;
    let source = CredentialSource::Upgrade(request.uri().query().unwrap_or(""), headers);
    let verified = admission.verify_request(&source).await?;
    let response = ws::handshake(request.head()).map_err(|error| match error {
        ws::HandshakeError::UnsupportedVersion => {
            Problem::new(426, "upgrade_required", "this server speaks version 13 of the WebSocket protocol")
        }
        error => {
            let detail = format!("this is not a WebSocket upgrade of RFC 6455: {error}");
            Problem::new(400, "bad_request", detail)
        }
    })?;
    let socket_address = request.peer_addr().map(|peer| peer.ip());
    let (subject, cost) = admission.authorize_request(&verified, headers, socket_address).await?;
    let rate = admission.charge_connection(&subject, cost)?;
    if let Some(ticket) = &verified.ticket {
        admission.redeem_ticket(ticket).await?;
    }
    Ok(VerifiedUpgrade { permit, request: verified, subject, rate, response })
}

/// Answers a refused upgrade with plain HTTP and closes.
async fn send_http_refusal(framed: &mut Framed<TcpStream, Codec>, problem: &Problem) {
    let body = problem.to_json();
    let mut response = Response::build(actix_http::StatusCode::from_u16(problem.status).unwrap_or_default());
    response.insert_header((header::CONTENT_TYPE, signalbox_protocol::problem::PROBLEM_MEDIA_TYPE));
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if let Some(seconds) = problem.retry_after {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    if problem.status == 401 {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    if problem.status == 426 {
        response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
    }
    response.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    response.force_close();
    let Ok(head) = response.message_body(()) else { return };
    let messages = [
        Message::Item((head, BodySize::Sized(body.len() as u64))),
        Message::Chunk(Some(Bytes::from(body))),
        Message::Chunk(None),
    ];
    for message in messages {
        if framed.send(message).await.is_err() {
            return;
        }
    }
    // The client has its answer, or the socket is closed.
    let _ = tokio::io::AsyncWriteExt::shutdown(framed.io_mut()).await;
}

/// A socket whose first request is read again.
struct ReplayedSocket {
    unread_bytes: BytesMut,
    socket: TcpStream,
}

impl ReplayedSocket {
    fn new(request: &Request, framed: Framed<TcpStream, Codec>) -> Self {
        let mut unread_bytes =
            BytesMut::from(format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).as_bytes());
        for (name, value) in request.headers() {
            unread_bytes.extend_from_slice(name.as_str().as_bytes());
            unread_bytes.extend_from_slice(b": ");
            unread_bytes.extend_from_slice(value.as_bytes());
            unread_bytes.extend_from_slice(b"\r\n");
        }
        unread_bytes.extend_from_slice(b"\r\n");
        let parts = framed.into_parts();
        unread_bytes.extend_from_slice(&parts.read_buf);
        Self { unread_bytes, socket: parts.io }
    }
}

impl AsyncRead for ReplayedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread_bytes.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let count = self.unread_bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.unread_bytes[..count]);
        self.unread_bytes.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReplayedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
