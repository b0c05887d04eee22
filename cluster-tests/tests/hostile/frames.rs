//! Frames of HTTP/2, made by hand: a library would not send what attackers send (RFC 9113, RFC
//! 7541).

/// Begins every connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// The largest payload that a server takes without being asked.
const MAX_PAYLOAD_BYTES: usize = 16_384;

/// Whether a head is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Complete,
    /// More of it is to come, and never does.
    Unfinished,
}

/// Whether a body follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Follows,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a client sends first. Answers get no further than `window` bytes without its leave.
pub(crate) fn opening(window: u32) -> Vec<u8> {
    let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    setting.extend(window.to_be_bytes());
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &setting), frame(SETTINGS, ACK, 0, &[])].concat()
}

/// The stream of the request with this number, counted from 0.
pub(crate) fn stream(request: usize) -> u32 {
    2 * request as u32 + 1
}

/// An integer with a prefix of 7 bits (RFC 7541 5.1).
fn integer(mut value: usize) -> Vec<u8> {
    const LARGEST: usize = 127;
    if value < LARGEST {
        return vec![value as u8];
    }
    let mut bytes = vec![LARGEST as u8];
    value -= LARGEST;
    while value >= 128 {
        bytes.push((value % 128 + 128) as u8);
        value /= 128;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that no table remembers.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &integer(name.len()), name.as_bytes(), &integer(value.len()), value.as_bytes()].concat()
}

/// The fields of a request, those of its target first.
pub(crate) fn fields(method: &str, path: &str, authority: &str, further: &[(&str, &str)]) -> Vec<u8> {
    let target = [(":method", method), (":scheme", "https"), (":path", path), (":authority", authority)];
    target.iter().chain(further).flat_map(|(name, value)| field(name, value)).collect()
}

/// So many fields of one byte each, that the node decodes to `accept-charset` without a value (RFC
/// 7541 Appendix A).
pub(crate) fn indexed_fields(count: usize) -> Vec<u8> {
    const ACCEPT_CHARSET: u8 = 15;
    vec![0x80 | ACCEPT_CHARSET; count]
}

/// The frames of a head.
pub(crate) fn head(stream: u32, fields: &[u8], state: Head, body: Body) -> Vec<u8> {
    let pieces: Vec<&[u8]> = fields.chunks(MAX_PAYLOAD_BYTES).collect();
    let last = pieces.len() - 1;
    let frames = pieces.iter().enumerate().map(|(index, piece)| {
        let (kind, ends_stream) = match index {
            0 => (HEADERS, body == Body::None),
            _ => (CONTINUATION, false),
        };
        let ends_head = index == last && state == Head::Complete;
        let flags = if ends_stream { END_STREAM } else { 0 } | if ends_head { END_HEADERS } else { 0 };
        frame(kind, flags, stream, piece)
    });
    frames.collect::<Vec<_>>().concat()
}

/// Bytes of a body that goes on.
pub(crate) fn data(stream: u32, bytes: usize) -> Vec<u8> {
    let payload = vec![b' '; bytes];
    payload.chunks(MAX_PAYLOAD_BYTES).flat_map(|piece| frame(DATA, 0, stream, piece)).collect()
}
