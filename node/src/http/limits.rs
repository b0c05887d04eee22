//! Every limit of the HTTP API. Beyond one: a clear answer, nothing stored.

use std::time::Duration;

use crate::streams;

/// Bytes of one request body. Large enough for a batch of several events of the largest size (the
/// reference takes 16 MiB records), small enough that [`MAX_CONNECTIONS`] cannot be turned into an
/// arbitrary amount of memory by a few clients.
pub(crate) const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of heads and small bodies that all connections hold beyond the floor of each
/// ([`FLOOR_BYTES`](crate::budget::FLOOR_BYTES)).
pub(crate) const MAX_REQUESTS_BYTES: usize = 48 * 1024 * 1024;

/// Bodies up to this size are counted among the requests of their connection, as long as there is
/// room.
pub(crate) const SMALL_BODY_BYTES: usize = 64 * 1024;

/// Bytes of all larger bodies that are being read or written at the same time, besides those of one
/// body more; the next one waits. Parsed events and the command made of them take about as much
/// again.
pub(crate) const MAX_LARGE_BODIES_BYTES: usize = 2 * MAX_BODY_BYTES;

/// Bytes for which a large body takes room at a time, before they are read.
pub(crate) const MAX_BODY_STEP_BYTES: usize = 4 * 1024 * 1024;

/// How often it is looked whether a body is in the way of others.
pub(crate) const BODY_LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Bytes of such a body that have to come between two looks. A small one has to be complete.
pub(crate) const MIN_BODY_BYTES_PER_LOOK: usize = SMALL_BODY_BYTES;

/// Lists of events up to this size are parsed by the worker that received them: 6 ms in JSON and 13
/// ms in XML, as measured with nothing but small values. Other threads have a memory of their own,
/// which would be what usual bulk loads cost.
pub(crate) const PARSED_AT_ONCE_BYTES: usize = 512 * 1024;

/// Larger lists of events that are being parsed, each on a thread of its own; the next one waits.
pub(crate) const MAX_PARSED_LISTS: usize = 2;

/// Bytes of all events being written that are more than twice as long as their body: they are
/// stored indented, and deep lists become a hundred times as long by that. As many as four of the
/// largest appends.
pub(crate) const MAX_GROWN_EVENTS_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a body that describes a user. The largest that is accepted otherwise has 256 groups of
/// 1 KiB.
pub(crate) const MAX_USER_DOCUMENT_BYTES: usize = 512 * 1024;

/// Bytes of a body that describes a new member of the cluster: two addresses.
pub(crate) const MAX_MEMBER_DOCUMENT_BYTES: usize = 4 * 1024;

/// Bytes of a body with the settings of a group of consumers: 14 fields.
pub(crate) const MAX_GROUP_DOCUMENT_BYTES: usize = 16 * 1024;

/// Groups of which the leader tells at a time.
pub(crate) const LISTED_AT_A_TIME: usize = 500;

/// Messages that a connected consumer may have without settling them, where it does not say how
/// many.
pub(crate) const DEFAULT_CONSUMER_WINDOW: usize = 20;

/// Bytes of name and password in an Authorization header, as encoded.
pub(crate) const MAX_CREDENTIALS_BYTES: usize = 4 * 1024;

/// Events of a page that names no count.
pub(crate) const DEFAULT_PAGE_EVENTS: u64 = 20;

/// Bytes of a large answer that are handed to the connection at a time.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Bytes of all pages that are kept to be sent again.
pub(crate) const KEPT_PAGES_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a page that is kept; with bodies, 20 events of 3 KiB.
pub(crate) const MAX_KEPT_PAGE_BYTES: usize = 64 * 1024;

/// How long a live answer is silent at most: shorter than the idle time after which common proxies
/// close a connection.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Bodies from this size on are compressed on a thread of their own: it takes milliseconds.
pub(crate) const COMPRESS_APART_BYTES: usize = 256 * 1024;

/// Levels of nesting in JSON and XML that are followed.
pub(crate) const MAX_NESTING: usize = 128;

/// Bytes that a JSON text may grow to when it is indented. Indentation of deep arrays multiplies
/// their size.
pub(crate) const MAX_INDENTED_BYTES: usize = 2 * streams::limits::MAX_EVENT_BYTES;

/// Elements and attributes of data and metadata of one event in an XML body. Each takes at least 8
/// bytes in the stored JSON, so an event with more is too large in any case; and until it is
/// stored, each takes much more memory than in the body.
pub(crate) const MAX_XML_NODES: usize = 512 * 1024;

/// Namespaces declared with a prefix around an element of an XML body.
pub(crate) const MAX_XML_NAMESPACES: usize = 1024;

/// Bytes that data, or metadata, may grow to when it is converted to XML; beyond that its text is
/// shown. Each element of an array repeats the name of its member, which may be as long as the
/// whole document.
pub(crate) const MAX_PAYLOAD_AS_XML_BYTES: usize = 3 * streams::limits::MAX_EVENT_BYTES;

/// Bytes of the request line and all headers, as they are without blanks that mean nothing.
pub(crate) const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Number of request headers.
pub(crate) const MAX_HEADERS: usize = 100;

/// Bytes of names in Access-Control-Request-Headers that the answer to a preflight repeats.
pub(crate) const MAX_PREFLIGHT_NAMES_BYTES: usize = 8 * 1024;

/// How long a client may take to send the request line and headers; also how long an idle
/// connection is kept.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may take to send a request body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take none of the bytes that wait for it. One that takes some, however few,
/// gets all of its answer.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Open connections, where the process may open files enough. The next one takes the place of one
/// that is idle, or waits until there is one.
pub(crate) const MAX_CONNECTIONS: usize = 10_000;

/// TLS handshakes of clients under way; the next one waits for its turn, within the time it has.
pub(crate) const MAX_HANDSHAKES: usize = 1_024;

/// Bytes of bodies that a client may send over HTTP/2 before the node reads them, on one request
/// and on one connection. Enough for 1.3 MB/s at a distance of 100 ms.
pub(crate) const HTTP2_WINDOW_BYTES: u32 = 128 * 1024;

/// Requests under way on one HTTP/2 connection; the client holds back the next one.
pub(crate) const MAX_STREAMS: u32 = 128;

/// The same on a connection that begins while heads and small bodies have little room left.
pub(crate) const MAX_STREAMS_UNDER_PRESSURE: u32 = 16;

/// Bytes that a request over HTTP/2 counts at least, for as long as its answer is not sent: what
/// hyper and h2 keep of it, its future, and headers of both.
pub(crate) const REQUEST_BYTES: usize = 4 * 1024;

/// Bytes that each of its headers counts besides name and value until the answer is there: its
/// place in tables of headers.
pub(crate) const HEADER_FIELD_BYTES: usize = 150;

/// Bytes of answers that all connections hold beyond the floor of each
/// ([`FLOOR_BYTES`](crate::budget::FLOOR_BYTES)).
pub(crate) const MAX_ANSWERS_BYTES: usize = 48 * 1024 * 1024;

/// Bytes of an answer that is not counted: its request is.
pub(crate) const UNCOUNTED_ANSWER_BYTES: usize = 4 * 1024;

/// Bytes that an answer counts at most. More would be beyond the share of any connection, and only
/// the list of thousands of users is that long; what is longer otherwise is sent in pieces.
pub(crate) const MAX_COUNTED_ANSWER_BYTES: usize = 1024 * 1024;

/// Bytes of answers from which on an HTTP/2 connection begins no other read until its client has
/// taken some.
pub(crate) const CONNECTION_ANSWERS_BYTES: usize = 256 * 1024;

/// Answers that exist and wait to be counted, because others hold all there is; one more is
/// refused.
pub(crate) const MAX_WAITING_ANSWERS: usize = 64;

/// How long such an answer waits before it is refused.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long a piece of a large answer waits for room. Its connection may be slow, which is looked
/// after elsewhere ([`STALL_TIMEOUT`]); this bounds how long others may be in the way.
pub(crate) const PIECE_WAIT: Duration = Duration::from_secs(120);

/// How long a connection may do nothing that holds more than its floor while others wait.
pub(crate) const STALL_TIMEOUT_UNDER_PRESSURE: Duration = Duration::from_secs(5);

/// A silent HTTP/2 connection is pinged this often.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a client may take to answer such a ping, which it finds behind all that was sent
/// before: megabytes perhaps, for which a slow one takes its time.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes per second that a client may read as slowly as over HTTP/2, where it makes room for more
/// only when it has read half of what it had room for.
pub(crate) const SLOWEST_READ_BYTES: usize = 32 * 1024;

/// Bytes of an answer over HTTP/2 that a client may have to read before it makes room for more, at
/// most: half of the largest windows in use.
pub(crate) const MAX_UNREAD_BYTES: usize = 8 * 1024 * 1024;

/// How long open requests may take to finish once the node shuts down.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest long poll; more is shortened to this. Clients repeat a long poll, and balancers drop
/// idle connections.
pub(crate) const MAX_LONG_POLL: Duration = Duration::from_secs(60);

/// Lines about slow requests that the log gets in a second; the next line counts those left out.
pub(crate) const MAX_SLOW_LINES_PER_SECOND: u64 = 10;

/// Bytes of the path of a request in a line of the log.
pub(crate) const MAX_LOGGED_PATH_BYTES: usize = 256;

/// Bytes of the id of a request, in a line of the log. A longer one is as good as none.
pub(crate) const MAX_REQUEST_ID_BYTES: usize = 128;

/// Slow requests that can be asked for.
pub(crate) const KEPT_SLOW_REQUESTS: usize = 32;
