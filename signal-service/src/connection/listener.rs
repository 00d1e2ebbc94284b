//! The listener of a node: HTTP on one port, with the upgrade requests among it.
//!
//! Owns: the server with its workers, and the way of a request to the right service. Must not:
//! answer an upgrade of `/ws/signal`. Next: `upgrade`.
//!
//! actix-http passes every upgrade request on with its socket. An upgrade of `/ws/signal` goes to
//! `upgrade`. Any other upgrade (the feed of the operators, `h2c` offers) goes back to the App: a
//! second dispatcher without the upgrade service reads its head again.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_codec::{AsyncRead, AsyncWrite, Framed, ReadBuf};
use actix_http::{HttpMessage as _, HttpService, Request, h1::Codec};
use actix_server::{Server, ServerBuilder};
use actix_service::{ServiceFactory, fn_factory, fn_service, map_config};
use actix_web::{App, dev::AppConfig, middleware::from_fn, web};
use bytes::{Buf, BytesMut};
use signalbox_http::{KEEP_ALIVE, REQUEST_HEAD_DEADLINE};
use tokio::net::TcpStream;

use super::upgrade::{WorkerPool, handle_upgrade};
use crate::node::SignalNode;

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
    let pool = Arc::new(WorkerPool::default());
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
        let (node, pool) = (node.clone(), pool.clone());
        let upgrades = fn_factory(move || {
            let plain = HttpService::build()
                .keep_alive(KEEP_ALIVE)
                .client_request_timeout(REQUEST_HEAD_DEADLINE)
                .h1(plain_app())
                .new_service(());
            let (node, pool) = (node.clone(), pool.clone());
            async move {
                let plain = std::rc::Rc::new(plain.await?);
                let worker = pool.add_current_worker(&node);
                let service = fn_service(move |(request, framed): (Request, Framed<TcpStream, Codec>)| {
                    let (node, plain, worker) = (node.clone(), plain.clone(), worker.clone());
                    async move {
                        if request.path() == "/ws/signal" {
                            handle_upgrade(&node, &worker, &request, framed).await;
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
