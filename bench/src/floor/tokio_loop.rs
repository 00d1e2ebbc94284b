//! tokio alone: one task for each connection. All messages that one wake-up brings are read with one
//! call and leave with one call for each target. An idle connection holds no buffer.

use std::{cell::RefCell, io, net::TcpListener, rc::Rc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, digest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::TcpStream,
    sync::Notify,
};

use crate::rooms::Rooms;

/// How many bytes one call reads.
const READ_SIZE: usize = 256 * 1024;

struct Member {
    socket: TcpStream,
    /// Bytes that the socket has not taken.
    output: RefCell<Vec<u8>>,
    wakes: Notify,
}

/// What all connections share.
struct Floor {
    rooms: Rooms<Member>,
    read_buffer: RefCell<Vec<u8>>,
    write_buffer: RefCell<Vec<u8>>,
}

pub fn serve(listener: TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let floor = Rc::new(Floor {
            rooms: Rooms::default(),
            read_buffer: RefCell::new(vec![0; READ_SIZE]),
            write_buffer: RefCell::new(Vec::with_capacity(READ_SIZE)),
        });
        loop {
            let (socket, _) = listener.accept().await?;
            let floor = floor.clone();
            tokio::task::spawn_local(async move {
                // The connection has ended, for whatever reason.
                let _ = serve_connection(&floor, socket).await;
            });
        }
    })
}

async fn serve_connection(floor: &Floor, mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let Some(name) = upgrade(&mut socket).await? else { return Ok(()) };
    let member = Rc::new(Member { socket, output: RefCell::default(), wakes: Notify::new() });
    let room = floor.rooms.join(&name, &member);
    let result = forward_frames(floor, &member, &room).await;
    floor.rooms.leave(&name, &room, &member);
    result
}

/// Answers the upgrade. Returns the path, or `None` if the request is none.
async fn upgrade(socket: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head);
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (Some(path), Some(key)) = (head.split(' ').nth(1), header("Sec-WebSocket-Key:")) else {
        return Ok(None);
    };
    let accept =
        BASE64.encode(digest(&SHA1, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes()).await?;
    Ok(Some(path.to_owned()))
}

async fn forward_frames(
    floor: &Floor,
    member: &Rc<Member>,
    room: &RefCell<Vec<Rc<Member>>>,
) -> io::Result<()> {
    let mut incomplete = Vec::new();
    loop {
        let blocked = !member.output.borrow().is_empty();
        let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let ready = tokio::select! {
            biased;
            ready = member.socket.ready(interest) => ready?,
            () = member.wakes.notified() => continue,
        };
        if ready.is_writable() && blocked {
            let waiting = std::mem::take(&mut *member.output.borrow_mut());
            member.write(&waiting);
        }
        if ready.is_readable() {
            let mut input = floor.read_buffer.borrow_mut();
            let mut output = floor.write_buffer.borrow_mut();
            output.clear();
            let count = match member.socket.try_read(&mut input) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if incomplete.is_empty() {
                let used = convert_frames(&mut input[..count], &mut output);
                incomplete.extend_from_slice(&input[used..count]);
            } else {
                incomplete.extend_from_slice(&input[..count]);
                let used = convert_frames(&mut incomplete, &mut output);
                incomplete.drain(..used);
            }
            if incomplete.is_empty() {
                incomplete = Vec::new();
            }
            for other in room.borrow().iter().filter(|other| !Rc::ptr_eq(other, member)) {
                other.write(&output);
            }
        }
    }
}

/// Unmasks all whole frames of `input` and appends them to `output` as frames of a server. Returns
/// the length of these frames in `input`.
fn convert_frames(input: &mut [u8], output: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Some((header, length)) = frame_lengths(&input[used..]) {
        let (head, payload) = input[used..used + header + length].split_at_mut(header);
        used += header + length;
        if head[0] & 0x0f != 1 {
            continue;
        }
        unmask(payload, [head[header - 4], head[header - 3], head[header - 2], head[header - 1]]);
        // The header of the server is that of the client without the mask.
        head[1] &= 0x7f;
        output.extend_from_slice(&head[..header - 4]);
        output.extend_from_slice(payload);
    }
    used
}

/// The lengths of the header, with the mask, and of the payload of a whole masked frame.
fn frame_lengths(input: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match input.get(1)? & 0x7f {
        126 => (8, usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        127 => (14, u64::from_be_bytes(input.get(2..10)?.try_into().ok()?) as usize),
        short => (6, usize::from(short)),
    };
    (input.len() >= header + length).then_some((header, length))
}

/// Eight bytes at a time, which the compiler turns into vector instructions.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let plain = u64::from_ne_bytes((&*chunk).try_into().unwrap_or_default()) ^ wide;
        chunk.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

impl Member {
    /// Writes behind what already waits for the socket.
    fn write(&self, bytes: &[u8]) {
        let mut waiting = self.output.borrow_mut();
        let mut written = 0;
        while waiting.is_empty() && written < bytes.len() {
            match self.socket.try_write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        if written < bytes.len() {
            waiting.extend_from_slice(&bytes[written..]);
            // The own task waits until the socket takes more.
            self.wakes.notify_one();
        }
    }
}
