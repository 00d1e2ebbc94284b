//! `/ws/events`: the event feed of operators (docs/PROTOCOL.md, section 9).
//!
//! A reader gets the events from now on, of the rooms that its API key may use. A slow reader misses
//! events, and gets their number. After an outage of Redis, each reader is told that events are missing.
//! Messages of a reader are ignored, except for pongs. The feed is not on the message path, so
//! actix-ws serves it.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use actix_web::{HttpRequest, web};
use actix_ws::{Closed, Message, MessageStream, ProtocolError, Session};
use serde::Deserialize;
use signalbox_protocol::{CloseCode, CredentialRoot, problem::Problem};
use signalbox_token::scope::Scope;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    context::{
        authorization::{RoomFilter, authorize_api_key},
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The longest frame of a reader. Readers send only pings and pongs.
const MAX_FRAME_BYTES: usize = 1_024;

/// The event that says that a reader missed events, with their number if it is known.
pub(super) const SKIPPED: &str = "skipped";

/// Opens the feed. Checked before the upgrade: the web site, the API key, the number of readers.
pub(crate) async fn get(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    payload: web::Payload,
) -> ApiResult {
    let (caller, filter) = authorize_api_key(&request, &service.context, Some(Scope::Events))?.filter_rooms();
    service.room_service()?;
    let reader = caller.id.clone();
    let subject = FeedSubject {
        key: CredentialRoot::ApiKey(reader.clone()),
        address: service.context.client_address(&request),
    };
    if service.context.is_stopping() {
        return Err(Problem::new(503, "draining", "this process is stopping; try again").into());
    }
    let place = service.feed_readers.take_place(&reader, filter.is_limited())?;
    let events = service.feed.subscribe();
    let (response, session, messages) = actix_ws::handle(&request, payload)
        .map_err(|_| Problem::new(426, "upgrade_required", "this path takes a WebSocket upgrade"))?;
    tracing::info!(target: "signalbox_auth::audit", caller = %reader, "feed_opened");
    actix_web::rt::spawn(async move {
        service.context.metrics.feed_readers.inc();
        let messages = messages.max_frame_size(MAX_FRAME_BYTES);
        let outcome = serve_feed(&service, session, messages, events, &filter, &subject).await;
        service.context.metrics.feed_readers.dec();
        drop(place);
        tracing::info!(target: "signalbox_auth::audit", caller = %reader, ?outcome, "feed_closed");
    });
    Ok(response)
}

/// What an access rule about a reader names.
struct FeedSubject {
    key: CredentialRoot,
    address: Option<IpAddr>,
}

impl FeedSubject {
    /// The close code of the access rule that refuses the reader.
    fn find_refusal(&self, service: &ManagementService) -> Option<CloseCode> {
        let (rules, now) = (service.context.access.rules(), service.context.access.now_ms());
        if self.address.is_some_and(|address| rules.denies_address(address, now)) {
            return Some(CloseCode::AddressDenied);
        }
        rules.is_root_revoked(&self.key, now).then_some(CloseCode::Revoked)
    }
}

/// Why a feed was closed.
#[derive(Debug)]
enum FeedCloseReason {
    /// An access rule refuses the reader.
    Refused,
    /// The reader closed it, or the socket failed.
    Gone,
    /// The reader did not read, or did not answer pings.
    Dead,
    /// The process is stopping.
    Stopping,
}

async fn serve_feed(
    service: &ManagementService,
    mut session: Session,
    mut messages: MessageStream,
    mut events: Receiver<Arc<str>>,
    filter: &RoomFilter,
    subject: &FeedSubject,
) -> FeedCloseReason {
    let mut stop = service.context.subscribe_stop();
    let mut rules = service.context.access.watch_rules();
    // A rule may have come since the reader was authorized.
    rules.mark_changed();
    let mut ping = interval(service.ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_received_at = Instant::now();
    loop {
        // The stop first, then the rules and the messages of the reader, so that a flood of events cannot starve
        // its pongs.
        let sent = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {
                let _ = timeout(service.ping_interval, session.close(Some(actix_ws::CloseCode::Away.into()))).await;
                return FeedCloseReason::Stopping;
            }
            _ = rules.changed() => match subject.find_refusal(service) {
                None => Ok(()),
                Some(code) => {
                    let reason = actix_ws::CloseReason {
                        code: actix_ws::CloseCode::Other(code.number()),
                        description: Some(code.reason().to_owned()),
                    };
                    let _ = timeout(service.ping_interval, session.close(Some(reason))).await;
                    return FeedCloseReason::Refused;
                }
            },
            message = messages.recv() => {
                last_received_at = Instant::now();
                handle_message(&mut session, message, service.ping_interval).await
            }
            _ = ping.tick() => {
                if last_received_at.elapsed() > service.ping_interval.mul_f32(2.5) {
                    return FeedCloseReason::Dead;
                }
                send_within(service.ping_interval, session.ping(b"")).await
            }
            event = events.recv() => match next_line(service, event) {
                Some(line) if !is_visible(&line, filter) => Ok(()),
                Some(line) => send_within(service.ping_interval, session.text(line)).await,
                None => Err(FeedCloseReason::Stopping),
            },
        };
        if let Err(outcome) = sent {
            return outcome;
        }
    }
}

async fn handle_message(
    session: &mut Session,
    message: Option<Result<Message, ProtocolError>>,
    limit: Duration,
) -> Result<(), FeedCloseReason> {
    match message {
        Some(Ok(Message::Ping(payload))) => send_within(limit, session.pong(&payload)).await,
        Some(Ok(Message::Close(_))) => {
            // RFC 6455, section 5.5.1: a close is answered with a close.
            let _ = send_within(limit, session.clone().close(None)).await;
            Err(FeedCloseReason::Gone)
        }
        Some(Err(_)) | None => Err(FeedCloseReason::Gone),
        Some(Ok(_)) => Ok(()),
    }
}

/// Whether a reader may see an event. Every reader may know that it missed events.
fn is_visible(line: &str, filter: &RoomFilter) -> bool {
    #[derive(Deserialize)]
    struct EventRoom<'a> {
        #[serde(borrow)]
        room: Option<Cow<'a, str>>,
        event: Cow<'a, str>,
    }
    !filter.is_limited()
        || serde_json::from_str::<EventRoom<'_>>(line)
            .is_ok_and(|event| event.event == SKIPPED || filter.allows_name(event.room.as_deref()))
}

/// The next text frame; `None` if there are no more events.
fn next_line(service: &ManagementService, event: Result<Arc<str>, RecvError>) -> Option<String> {
    match event {
        Ok(line) => Some((*line).to_owned()),
        Err(RecvError::Lagged(count)) => {
            service.context.metrics.feed_skipped.inc_by(count);
            Some(format!(r#"{{"event":"{SKIPPED}","count":{count}}}"#))
        }
        Err(RecvError::Closed) => None,
    }
}

/// A full queue means that the reader does not read. It has one ping interval to read.
async fn send_within(
    limit: Duration,
    sending: impl Future<Output = Result<(), Closed>>,
) -> Result<(), FeedCloseReason> {
    match timeout(limit, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Closed)) => Err(FeedCloseReason::Gone),
        Err(_) => Err(FeedCloseReason::Dead),
    }
}
