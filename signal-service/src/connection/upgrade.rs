//! One upgrade request of `/ws/signal`: the `101` or the refusal, then the worker of its room.
//!
//! Owns: the answer, the choice of a worker for each room, and the hand-over of the socket to it.
//! Must not: decide about a request (`admission`). Next: `task` owns the bare socket, which costs a
//! fraction of a response stream through the HTTP dispatcher.
//!
//! The system hands a new socket to any worker. All peers of a room are served by one worker:
//! a message between two peers then stays on one thread, with its locks and its buffers in the
//! cache of one core, and all that one turn sends to a socket leaves in one write.

use std::sync::{Arc, Mutex, PoisonError};

use actix_codec::Framed;
use actix_http::{
    HttpMessage as _, Request, Response,
    body::BodySize,
    h1::{Codec, Message},
    header, ws,
};
use actix_rt::{Arbiter, ArbiterHandle};
use bytes::Bytes;
use futures_util::SinkExt as _;
use prometheus::IntGauge;
use signalbox_http::remedy_of;
use signalbox_protocol::{SUBPROTOCOL, problem::Problem};
use tokio::net::TcpStream;

use super::task::{self, AdmittedConnection};
use crate::{
    admission::{ConnectionPermit, CredentialSource, VerifiedRequest},
    connection_subject::ConnectionSubject,
    node::SignalNode,
    node_metrics::{ConnectionCount, NodeMetrics},
    peer_rate::PeerRate,
    registry::LocalRoom,
};

/// The workers of the process. Each is a thread with a runtime of its own.
#[derive(Default)]
pub(super) struct WorkerPool {
    // A std mutex: held to add or to choose a worker, once for each connection.
    workers: Mutex<Vec<Worker>>,
}

struct Worker {
    arbiter: ArbiterHandle,
    connections: IntGauge,
}

/// The worker of this thread.
#[derive(Clone)]
pub(super) struct CurrentWorker {
    pool: Arc<WorkerPool>,
    index: usize,
}

impl WorkerPool {
    /// Adds the worker of this thread. All workers are added before the first connection.
    pub(super) fn add_current_worker(self: &Arc<Self>, node: &SignalNode) -> CurrentWorker {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let index = workers.len();
        let connections = node.registry.context().metrics.worker_connections(index);
        workers.push(Worker { arbiter: Arbiter::current(), connections });
        CurrentWorker { pool: self.clone(), index }
    }
}

impl CurrentWorker {
    /// Counts a connection for the worker of its room. Also returns that worker, unless it is this
    /// one. A room without a worker gets the one with the fewest connections, and stays with it.
    fn place_connection(
        &self,
        room: &LocalRoom,
        metrics: &NodeMetrics,
    ) -> (ConnectionCount, Option<ArbiterHandle>) {
        let workers = self.pool.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let load = |index: &usize| (workers[*index].connections.get(), *index != self.index);
        let index = *room.worker.get_or_init(|| (0..workers.len()).min_by_key(load).unwrap_or(self.index));
        let Worker { arbiter, connections } = &workers[index];
        (metrics.count_connection(connections), (index != self.index).then(|| arbiter.clone()))
    }
}

/// Verifies one upgrade request for `/ws/signal` and answers it.
pub(super) async fn handle_upgrade(
    node: &Arc<SignalNode>,
    worker: &CurrentWorker,
    request: &Request,
    mut framed: Framed<TcpStream, Codec>,
) {
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
    let room = node.registry.get_or_create_room(upgrade.request.intent.room_id());
    let (count, other_worker) = worker.place_connection(&room, &node.registry.context().metrics);
    let admitted = Box::new(AdmittedConnection {
        permit: upgrade.permit,
        count,
        intent: upgrade.request.intent,
        subject: upgrade.subject,
        rate: upgrade.rate,
        early_bytes: parts.read_buf,
    });
    match other_worker {
        Some(other) => hand_over(node.clone(), room, &other, admitted, parts.io),
        // A task of its own: the state of the dispatcher would otherwise live as long as the
        // connection.
        None => drop(actix_rt::spawn(task::run_connection(node.clone(), admitted, parts.io))),
    }
}

/// Serves the connection on another worker. What its client sends meanwhile stays in the socket.
fn hand_over(
    node: Arc<SignalNode>,
    room: Arc<LocalRoom>,
    worker: &ArbiterHandle,
    admitted: Box<AdmittedConnection>,
    socket: TcpStream,
) {
    let socket = socket.into_std();
    // If the worker has ended, so has the process.
    let _ = worker.spawn_fn(move || match socket.and_then(TcpStream::from_std) {
        Ok(socket) => drop(actix_rt::spawn(task::run_connection(node, admitted, socket))),
        Err(error) => {
            let text = "a socket could not be moved to its worker, so the connection was closed";
            tracing::warn!(event = "hand_over_failed", %error, "{text}");
            room.forget_if_idle();
        }
    });
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
