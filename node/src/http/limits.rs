//! Every limit of the HTTP API. Beyond one: a clear answer, nothing stored.

use std::time::Duration;

use crate::streams;
/// Here for tests of whole nodes.
pub use crate::streams::limits::MAX_LARGE_ANSWERS_BYTES;

/// Bytes of one request body. Large enough for a batch of several events of the largest size (the
/// reference takes 16 MiB records), small enough that [`MAX_CONNECTIONS`] cannot be turned into an
/// arbitrary amount of memory by a few clients.
pub const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Bodies up to this size are read without a reservation of memory; [`MAX_CONNECTIONS`] bounds
/// them.
pub const SMALL_BODY_BYTES: usize = 64 * 1024;

/// Bytes of all larger bodies that are being read or written at the same time; the next one waits.
/// Parsed events and the command made of them take about as much again.
pub const MAX_LARGE_BODIES_BYTES: usize = 2 * MAX_BODY_BYTES;

/// Lists of events up to this size are parsed by the worker that received them: 6 ms in JSON and 13
/// ms in XML, as measured with nothing but small values. Other threads have a memory of their own,
/// which would be what usual bulk loads cost.
pub const PARSED_AT_ONCE_BYTES: usize = 512 * 1024;

/// Larger lists of events that are being parsed, each on a thread of its own; the next one waits.
pub const MAX_PARSED_LISTS: usize = 2;

/// Bytes of all events being written that are more than twice as long as their body: they are
/// stored indented, and deep lists become a hundred times as long by that. As many as four of the
/// largest appends.
pub const MAX_GROWN_EVENTS_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a body that describes a user. The largest that is accepted otherwise has 256 groups of
/// 1 KiB.
pub const MAX_USER_DOCUMENT_BYTES: usize = 512 * 1024;

/// Bytes of name and password in an Authorization header, as encoded.
pub const MAX_CREDENTIALS_BYTES: usize = 4 * 1024;

/// Events of a page that names no count.
pub const DEFAULT_PAGE_EVENTS: u64 = 20;

/// Bytes of a large answer that are handed to the connection at a time.
pub const PIECE_BYTES: usize = 64 * 1024;

/// How long a client may take for a piece of a large answer.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of all pages that are kept to be sent again.
pub const KEPT_PAGES_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a page that is kept; with bodies, 20 events of 3 KiB.
pub const MAX_KEPT_PAGE_BYTES: usize = 64 * 1024;

/// How long a live answer is silent at most: shorter than the idle time after which common proxies
/// close a connection.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Bodies from this size on are compressed on a thread of their own: it takes milliseconds.
pub const COMPRESS_APART_BYTES: usize = 256 * 1024;

/// Levels of nesting in JSON and XML that are followed.
pub const MAX_NESTING: usize = 128;

/// Bytes that a JSON text may grow to when it is indented. Indentation of deep arrays multiplies
/// their size.
pub const MAX_INDENTED_BYTES: usize = 2 * streams::limits::MAX_EVENT_BYTES;

/// Elements and attributes of data and metadata of one event in an XML body. Each takes at least 8
/// bytes in the stored JSON, so an event with more is too large in any case; and until it is
/// stored, each takes much more memory than in the body.
pub const MAX_XML_NODES: usize = 512 * 1024;

/// Namespaces declared with a prefix around an element of an XML body.
pub const MAX_XML_NAMESPACES: usize = 1024;

/// Bytes that data, or metadata, may grow to when it is converted to XML; beyond that its text is
/// shown. Each element of an array repeats the name of its member, which may be as long as the
/// whole document.
pub const MAX_PAYLOAD_AS_XML_BYTES: usize = 3 * streams::limits::MAX_EVENT_BYTES;

/// Bytes of the request line and all headers, as they are without blanks that mean nothing.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Number of request headers.
pub const MAX_HEADERS: usize = 100;

/// Bytes of names in Access-Control-Request-Headers that the answer to a preflight repeats.
pub const MAX_PREFLIGHT_NAMES_BYTES: usize = 8 * 1024;

/// How long a client may take to send the request line and headers; also how long an idle
/// connection is kept.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may take to send a request body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take none of the bytes that wait for it.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Open connections, where the process may open files enough. The next one takes the place of one
/// that is idle, or waits until there is one.
pub const MAX_CONNECTIONS: usize = 10_000;

/// TLS handshakes of clients under way; the next one waits for its turn, within the time it has.
pub const MAX_HANDSHAKES: usize = 1_024;

/// Requests under way on one HTTP/2 connection; the client holds back the next one.
pub const MAX_STREAMS: u32 = 128;

/// Requests under way on all HTTP/2 connections together: as many as [`MAX_CONNECTIONS`] of
/// HTTP/1.1 could have.
pub const MAX_HTTP2_REQUESTS: usize = MAX_CONNECTIONS;

/// A silent HTTP/2 connection is pinged this often, and ended when a ping is not answered in as
/// long again.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long open requests may take to finish once the node shuts down.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest long poll; more is shortened to this. Clients repeat a long poll, and balancers drop
/// idle connections.
pub const MAX_LONG_POLL: Duration = Duration::from_secs(60);
