//! actix-http hands the socket over after the `101`, as in `signal-service`. One task for each
//! connection, the frame codec of actix-http, one write for each message.

use std::{cell::RefCell, io, net::TcpListener, rc::Rc};

use actix_codec::{Decoder as _, Encoder as _, Framed};
use actix_http::{
    HttpService, Request, Response,
    body::BodySize,
    h1::{Codec, Message},
    ws,
};
use actix_server::ServerBuilder;
use actix_service::{fn_factory, fn_service};
use bytes::{Buf as _, BytesMut};
use futures_util::SinkExt as _;
use tokio::{io::Interest, net::TcpStream};

use crate::rooms::Rooms;

/// A connection as its room sees it.
struct Member {
    socket: TcpStream,
    /// Bytes that the socket has not taken.
    output: RefCell<BytesMut>,
    wakes: tokio::sync::Notify,
}

type SocketRooms = Rc<Rooms<Member>>;

pub fn serve(listener: TcpListener) -> io::Result<()> {
    actix_rt::System::new().block_on(async {
        ServerBuilder::new()
            .workers(1)
            .listen("floor", listener, || {
                let upgrades = fn_factory(|| async {
                    let rooms = SocketRooms::default();
                    let service =
                        fn_service(move |(request, framed): (Request, Framed<TcpStream, Codec>)| {
                            let rooms = rooms.clone();
                            async move {
                                hand_over(rooms, &request, framed).await;
                                Ok::<_, actix_http::Error>(())
                            }
                        });
                    Ok::<_, ()>(service)
                });
                let plain = fn_service(|_: Request| async {
                    Ok::<_, actix_http::Error>(Response::new(actix_http::StatusCode::NOT_FOUND))
                });
                HttpService::build().upgrade(upgrades).h1(plain).tcp()
            })?
            .run()
            .await
    })
}

async fn hand_over(rooms: SocketRooms, request: &Request, mut framed: Framed<TcpStream, Codec>) {
    let Ok(mut response) = ws::handshake(request.head()) else { return };
    let Ok(response) = response.message_body(()) else { return };
    if framed.send(Message::Item((response, BodySize::None))).await.is_err() {
        return;
    }
    let name = request.path().to_owned();
    let parts = framed.into_parts();
    let _ = parts.io.set_nodelay(true);
    let member =
        Rc::new(Member { socket: parts.io, output: RefCell::default(), wakes: tokio::sync::Notify::new() });
    actix_rt::spawn(async move {
        let room = rooms.join(&name, &member);
        // The connection has ended, for whatever reason.
        let _ = forward_frames(&member, &room, parts.read_buf).await;
        rooms.leave(&name, &room, &member);
    });
}

async fn forward_frames(
    member: &Rc<Member>,
    room: &RefCell<Vec<Rc<Member>>>,
    early: BytesMut,
) -> io::Result<()> {
    let (mut input, mut codec) = (early, ws::Codec::new());
    loop {
        while let Some(frame) = codec.decode(&mut input).map_err(io::Error::other)? {
            let ws::Frame::Text(text) = frame else { continue };
            for other in room.borrow().iter().filter(|other| !Rc::ptr_eq(other, member)) {
                // As text it would have to be checked for UTF-8.
                let message = ws::Message::Binary(text.clone());
                codec.encode(message, &mut other.output.borrow_mut()).map_err(io::Error::other)?;
                other.write();
            }
        }
        if input.is_empty() {
            input = BytesMut::new();
        }
        let blocked = !member.output.borrow().is_empty();
        let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let ready = tokio::select! {
            ready = member.socket.ready(interest) => ready?,
            () = member.wakes.notified() => continue,
        };
        if ready.is_writable() {
            member.write();
        }
        if ready.is_readable() {
            input.reserve(16 * 1024);
            match member.socket.try_read_buf(&mut input) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }
}

impl Member {
    fn write(&self) {
        let mut output = self.output.borrow_mut();
        while !output.is_empty() {
            match self.socket.try_write(&output) {
                Ok(count) => output.advance(count),
                Err(_) => {
                    // The own task waits until the socket takes more.
                    self.wakes.notify_one();
                    return;
                }
            }
        }
        *output = BytesMut::new();
    }
}
