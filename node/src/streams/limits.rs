//! Limits of events, appends and reads, whichever door they come through. Beyond one: a clear
//! answer, nothing stored.

use std::time::Duration;

use crate::event;

/// Data and metadata of one event together (contract/streams 6.1: equal is fine).
pub(crate) const MAX_EVENT_BYTES: usize = event::MAX_EVENT_BYTES;

/// Data and metadata of an event from here on make the request one that no log can hold, which is
/// another answer (contract/streams 6.1).
pub(crate) const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of an event's type.
pub(crate) const MAX_EVENT_TYPE_BYTES: usize = 1024;

/// Events of one append. They are applied together.
pub(crate) const MAX_EVENTS_PER_APPEND: usize = 20_000;

/// Bytes of an encoded command. It travels whole in one node-to-node message of at most 32 MiB,
/// behind up to 1 MiB of others: what does not fit there could never be replicated.
pub(crate) const MAX_COMMAND_BYTES: usize = 16 * 1024 * 1024;

/// Stored size of the events of a page, or of one event, up to which they are read and written at
/// once; entries count [`PAGE_ENTRY_BYTES`] each, and without bodies nothing else. What is larger
/// reserves its memory first and is sent part by part. The connections of a door bound small ones.
pub(crate) const SMALL_PAGE_BYTES: u64 = 128 * 1024;

/// What an entry takes in a document besides its payload, about.
pub(crate) const PAGE_ENTRY_BYTES: u64 = 512;

/// How often an entry repeats the name of its stream, about.
pub(crate) const NAMES_PER_ENTRY: usize = 10;

/// Bytes of stored events that a page reads in one step; a larger event is read alone.
pub(crate) const PAGE_READ_STEP_BYTES: u64 = 256 * 1024;

/// Length at which a part of a large page is sent. One event of the largest size makes a longer
/// one.
pub(crate) const PART_BYTES: usize = 256 * 1024;

/// Before the first part of a page is sent its links are looked at: those in events of at most this
/// size, which is some names long, ...
pub(crate) const MAX_CHECKED_LINK_BYTES: u64 = 16 * 1024;

/// ... until so much was read of the page.
pub(crate) const MAX_CHECKED_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of stored events after which a look for the next part pauses although it found little to
/// show, so that it ends soon when the client has left.
pub(crate) const MAX_PART_READ_BYTES: u64 = 16 * 1024 * 1024;

/// How often it is asked, while a part of a page is sent, about the streams that its links lead to:
/// there may be hundreds in a part, which a client at a usual pace has in this time.
pub(crate) const TARGETS_ASKED_EVERY: Duration = Duration::from_millis(10);

/// Memory reserved before a part, or a large event, is read: as much as one of the largest events
/// and the text of it. What turns out not to be needed is given back once the part is written.
pub(crate) const PART_MEMORY_BYTES: usize = 16 * 1024 * 1024;

/// How long the next part of a large page waits for its memory.
pub(crate) const PART_MEMORY_WAIT: Duration = Duration::from_secs(30);

/// Bytes of all large answers that are being read, written and sent; the next part waits.
pub const MAX_LARGE_ANSWERS_BYTES: usize = 128 * 1024 * 1024;

/// Bytes of the places of events on all large pages that are under way, and on all filtered ones
/// that are searched for. A page of 4096 events has 96 KiB of them for as long as its client takes:
/// there is room for 682 such pages, and one more is refused.
pub(crate) const MAX_PLACES_BYTES: usize = 64 * 1024 * 1024;

/// Events of one piece of a subscription.
pub(crate) const LIVE_PIECE_EVENTS: u64 = 256;

/// Payload of one piece of a subscription. One event may be larger; its piece is one of the
/// [`MAX_LARGE_PIECES`].
pub(crate) const LIVE_PIECE_BYTES: usize = 64 * 1024;

/// Larger pieces that subscribers have not taken yet. Apart from
/// [`MAX_LARGE_ANSWERS_BYTES`], so that slow subscribers do not keep others from reading pages.
pub(crate) const MAX_LARGE_PIECES: usize = 8;

/// Memory reserved for each of them: as much as for a part of a page.
pub(crate) const LARGE_PIECE_BYTES: usize = PART_MEMORY_BYTES;

/// Events without interest to a subscriber after which it is told how far it has come.
pub(crate) const CHECKPOINT_EVENTS: u64 = 16 * 1024;

/// Events that one read of a filtered page looks at. With [`MAX_SCANNED_BYTES`] some ten
/// milliseconds of work.
pub(crate) const MAX_SCANNED_EVENTS: u64 = 16 * 1024;

/// Payload that one read of a filtered page looks at.
pub(crate) const MAX_SCANNED_BYTES: usize = 32 * 1024 * 1024;

/// Events looked at in one step of such a read; other requests have their turn between two.
pub(crate) const SCAN_STEP_EVENTS: u64 = 512;

/// Bytes of the `data` of a filter.
pub(crate) const MAX_FILTER_BYTES: usize = 4 * 1024;

/// Prefixes of a filter.
pub(crate) const MAX_FILTER_PREFIXES: usize = 100;

/// Memory of a compiled regular expression, and again as much of what it keeps while it runs.
pub(crate) const MAX_FILTER_REGEX_BYTES: usize = 256 * 1024;

/// The same of one as most are: what needs no more holds no more.
pub(crate) const USUAL_FILTER_REGEX_BYTES: usize = 64 * 1024;

/// Memory of all regular expressions of pages being read and of subscriptions: 256 usual ones, or
/// 64 of the largest. One more is refused.
pub(crate) const FILTERS_BYTES: usize = 32 * 1024 * 1024;

/// Steps that wait for the thread on which expressions are matched. One more is refused: with a
/// full queue each waits for a second already.
pub(crate) const MAX_WAITING_FILTERS: usize = 256;

/// How long one step matches: the others wait for their turn meanwhile. It looks at one event at
/// least, and the slowest expressions take tens of milliseconds for the longest type.
pub(crate) const MATCH_STEP_TIME: Duration = Duration::from_millis(2);

/// How long one read of a filtered page matches and waits for its turn. Then the page is shorter,
/// and its links lead on.
pub(crate) const MATCH_PAGE_TIME: Duration = Duration::from_millis(500);

/// Payload of a page of an export. One event may be larger.
pub(crate) const EXPORT_PAGE_BYTES: usize = 1024 * 1024;

/// Positions that a page of an export passes over, when a filter leaves little of them.
pub(crate) const EXPORT_SCANNED_EVENTS: u64 = 16 * 1024;

/// Streams that one request of an export looks at for lost ends.
pub(crate) const EXPORT_SCANNED_STREAMS: usize = 16 * 1024;

/// Streams of them that are looked at in one step.
pub(crate) const EXPORT_STEP_STREAMS: usize = 256;

/// Events that an export reads in one step; other requests have their turn between two.
pub(crate) const EXPORT_STEP_EVENTS: u64 = 1024;
