//! A stream, or the log of all events, as server-sent events: what is there already, then what comes.
//!
//! The answer is made piece by piece, each when the connection has taken the one before it. So a slow client slows down its own answer and
//! nothing else, and a subscription holds one piece in memory.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::access::{Caller, Policy};
use crate::budget::Reservation;
use crate::event::visibility::VisibleEvents;
use crate::event::{EventNumber, EventRef, Position, RecordedEvent, Ticks, Visibility, stream_name};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::{ReadBarrier, Request};
use crate::http::exchange::{extract, response};
use crate::http::format::atom::{self, Embed, OwnedEntry, Target as Behind};
use crate::http::format::links::Base;
use crate::http::format::sse;
use crate::http::limits::{
    CHECKPOINT_EVENTS, KEEP_ALIVE_INTERVAL, LARGE_PIECE_BYTES, LIVE_PIECE_BYTES, LIVE_PIECE_EVENTS,
};
use crate::http::resources::all;
use crate::http::resources::filter::Filter;
use crate::http::resources::read::{self, Resolver};
use crate::http::{AppState, Reply};
use crate::store::{EventPlace, ReadError, ReadView};
use crate::subscribe::{Subscription, Target, Woken};

/// What is followed, and how far it was sent.
#[derive(Debug, Clone)]
enum Source {
    /// A stream from an event number on.
    Stream { name: String, next: EventNumber, resolve_links: bool },
    /// The log from a position on, or what the filter leaves of it.
    Log { next: Position, filter: Option<Arc<Filter>> },
}

impl Source {
    /// Number or position of what is sent next.
    fn next(&self) -> u64 {
        match self {
            Self::Stream { next, .. } | Self::Log { next, .. } => *next,
        }
    }

    /// The number or position of an event.
    fn place_of(&self, event: &RecordedEvent) -> u64 {
        match self {
            Self::Stream { .. } => event.number,
            Self::Log { .. } => event.position,
        }
    }

    /// What a client says as `Last-Event-ID` after the event at this place.
    fn id(&self, place: u64) -> String {
        match self {
            Self::Stream { .. } => place.to_string(),
            Self::Log { .. } => all::printed(place),
        }
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At this number or position.
    At(u64),
    /// With what comes next.
    Head,
}

/// What one look at the store found.
enum Found {
    /// The next events, oldest first, and where to go on; none when everything up to there is invisible or filtered out.
    Events { entries: Vec<OwnedEntry>, next: u64 },
    /// Nothing yet.
    Nothing,
    /// The stream is deleted for good.
    Deleted,
    /// The subscriber may no longer read it.
    Denied,
}

/// GET of a stream as server-sent events.
pub async fn stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let name = String::from(extract::stream(&request.params.stream)?);
    let start = start(request, extract::number)?;
    let resolve_links = extract::resolve_links(request.headers)?;
    request.read_barrier(ReadBarrier::parse(request.headers)?).await?;
    request.authorize_read(&name).await?;
    let subscription = subscribe(request, Target::Stream(&name))?;
    let stream = name.clone();
    let info = request.state.cluster.store().read(move |view| view.stream(&stream)).await?;
    if info.tombstoned {
        return Err(ApiError::Deleted);
    }
    let next = match start {
        Start::At(number) => number,
        Start::Head => info.last_number.map_or(0, |last| last + 1),
    };
    Ok(answer(request, subscription, Source::Stream { name, next, resolve_links }))
}

/// GET of the log of all events as server-sent events.
pub async fn log(request: &Request<'_>, filter: Option<Filter>) -> Result<Response<Reply>, ApiError> {
    let start = start(request, extract::position)?;
    request.read_barrier(ReadBarrier::parse(request.headers)?).await?;
    request.authorize_read(stream_name::ALL).await?;
    let subscription = subscribe(request, Target::Log)?;
    let next = match start {
        Start::At(position) => position,
        Start::Head => request.state.cluster.store().read(|view| view.next_position()).await?,
    };
    Ok(answer(request, subscription, Source::Log { next, filter: filter.map(Arc::new) }))
}

/// `Last-Event-ID` is what a client has got already and wins, because it repeats the URI when it comes again; `from` is what it wants first.
fn start(request: &Request<'_>, parse: impl Fn(&str) -> Result<u64, ApiError>) -> Result<Start, ApiError> {
    if let Some(last) = last_event_id(request.headers) {
        return Ok(Start::At(parse(&last)?.saturating_add(1)));
    }
    match request.query("from").as_deref() {
        None | Some("") => Ok(Start::At(0)),
        Some("head") => Ok(Start::Head),
        Some(text) => parse(text).map(Start::At),
    }
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    extract::text(headers, &extract::LAST_EVENT_ID).filter(|text| !text.is_empty())
}

fn subscribe(request: &Request<'_>, target: Target<'_>) -> Result<Subscription, ApiError> {
    let state = request.state;
    let busy = || ApiError::TooBusy;
    state.waiters.subscribe(state.cluster.store(), target).ok_or_else(busy)
}

fn answer(request: &Request<'_>, subscription: Subscription, source: Source) -> Response<Reply> {
    let live = Live {
        state: request.state.clone(),
        caller: request.caller.clone(),
        subscription,
        source,
        base: request.base(),
        embed: request.query("embed").map_or(Embed::Body, |embed| Embed::parse(Some(&embed))),
        memory: None,
        is_new: true,
        passed: 0,
    };
    let pieces = futures::stream::unfold(live, |mut live| async move { live.piece().await.map(|piece| (piece, live)) });
    let mut answer = Response::new(Reply::live(pieces));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, request.chosen.header());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    // Proxies of the nginx family would keep events back until a buffer is full.
    headers.insert(response::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    answer
}

/// A subscription at work.
struct Live {
    state: AppState,
    /// Who subscribed; asked for again at each piece, because users and access lists change.
    caller: Caller,
    subscription: Subscription,
    source: Source,
    base: Base,
    embed: Embed,
    /// Kept while a piece beyond [`LIVE_PIECE_BYTES`] is on its way.
    memory: Option<Reservation>,
    /// Nothing was sent yet.
    is_new: bool,
    /// Numbers or positions passed since the client heard of one.
    passed: u64,
}

impl Live {
    /// The next piece of the answer; `None` ends it.
    async fn piece(&mut self) -> Option<Bytes> {
        // The connection has taken the piece before.
        self.memory = None;
        if std::mem::take(&mut self.is_new) {
            // Says at once that the subscription stands, whenever the first event comes.
            return Some(Bytes::from_static(sse::GREETING));
        }
        while !self.subscription.is_closed() {
            // Damage was logged where it was found, and the node stops.
            let (entries, next) = match self.look().await.ok()? {
                Found::Events { entries, next } => (entries, next),
                Found::Deleted | Found::Denied => return None,
                Found::Nothing => match self.subscription.changed(KEEP_ALIVE_INTERVAL).await {
                    Woken::Changed => continue,
                    Woken::Idle => return Some(self.sign_of_life()),
                    Woken::Closed => return None,
                },
            };
            if self.memory.is_none() && atom::payload(&entries) > LIVE_PIECE_BYTES {
                // Not kept while others have their turn.
                drop(entries);
                if !self.reserve_memory().await {
                    return Some(self.sign_of_life());
                }
                continue;
            }
            self.advance(next);
            if !entries.is_empty() {
                return Some(self.render(&entries));
            }
            if self.passed >= CHECKPOINT_EVENTS {
                return Some(self.sign_of_life());
            }
            // A long way without events must not keep a worker from its other work.
            tokio::task::yield_now().await;
        }
        None
    }

    /// Memory for a large piece, false when none became free in time.
    async fn reserve_memory(&mut self) -> bool {
        self.memory = self.state.budgets.live_pieces.reserve(LARGE_PIECE_BYTES).await.ok();
        self.memory.is_some()
    }

    fn render(&mut self, entries: &[OwnedEntry]) -> Bytes {
        let mut out = Vec::with_capacity(atom::payload(entries) + 1024 * entries.len());
        for entry in entries {
            let at = self.source.place_of(&entry.event);
            sse::push_event(&mut out, &self.source.id(at), &entry.borrowed(), &self.base, self.embed);
        }
        self.passed = 0;
        Bytes::from(out)
    }

    /// Keeps the connection alive; after a way without events it says how far that led, so that it is not gone again.
    fn sign_of_life(&mut self) -> Bytes {
        match self.source.next().checked_sub(1) {
            Some(last) if std::mem::take(&mut self.passed) > 0 => Bytes::from(sse::checkpoint(&self.source.id(last))),
            _ => Bytes::from_static(sse::KEEP_ALIVE),
        }
    }

    fn advance(&mut self, to: u64) {
        self.passed += to.saturating_sub(self.source.next());
        match &mut self.source {
            Source::Stream { next, .. } | Source::Log { next, .. } => *next = to,
        }
    }

    async fn look(&self) -> Result<Found, ReadError> {
        let Some(caller) = self.state.access.present(&self.caller).await? else { return Ok(Found::Denied) };
        let source = self.source.clone();
        let now = read::now();
        let policy = self.state.access.policy(&caller);
        let read = move |view: &ReadView<'_>| match &source {
            Source::Stream { name, next, resolve_links } => {
                look_at_stream(view, &policy, name, *next, *resolve_links, now)
            }
            Source::Log { next, filter } => look_at_log(view, &policy, *next, filter.as_deref(), now),
        };
        self.state.cluster.store().read(read).await
    }
}

fn look_at_stream(
    view: &ReadView<'_>,
    policy: &Policy,
    name: &str,
    next: EventNumber,
    resolve_links: bool,
    now: Ticks,
) -> Result<Found, ReadError> {
    let info = view.stream(name)?;
    if !policy.may_read(name, &info) {
        return Ok(Found::Denied);
    }
    let VisibleEvents { bounds, oldest } = match info.visibility(now) {
        Visibility::Readable(visible) => visible,
        Visibility::NotFound => return Ok(Found::Nothing),
        Visibility::Deleted => return Ok(Found::Deleted),
    };
    let first = next.max(bounds.min);
    if first > bounds.last {
        return Ok(Found::Nothing);
    }
    let end = bounds.last.min(first.saturating_add(LIVE_PIECE_EVENTS - 1));
    let Some(id) = info.id else { return Ok(Found::Nothing) };
    let places = view.places(id, first..=end)?;
    let mut bytes = 0;
    let fits = |place: &&EventPlace| {
        bytes += place.bytes as usize;
        bytes <= LIVE_PIECE_BYTES
    };
    let count = places.iter().take_while(fits).count().max(1).min(places.len());
    let next = places.get(count).map_or(end + 1, |place| place.number);
    let rows = view.rows(&places[..count])?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        events.push(row.event()?);
    }
    let young = events.into_iter().filter(|event| event.time >= oldest).map(EventRef::to_recorded);
    let resolver = resolve_links.then(|| Resolver::new(view, now, policy));
    entries(young, next, resolver, |event| event.number)
}

fn look_at_log(
    view: &ReadView<'_>,
    policy: &Policy,
    next: Position,
    filter: Option<&Filter>,
    now: Ticks,
) -> Result<Found, ReadError> {
    if !policy.may_read(stream_name::ALL, &view.stream(stream_name::ALL)?) {
        return Ok(Found::Denied);
    }
    let events = view.log_forward(next, LIVE_PIECE_EVENTS as usize, LIVE_PIECE_BYTES)?;
    let Some(last) = events.last() else { return Ok(Found::Nothing) };
    let next = last.position + 1;
    let is_wanted = |event: &RecordedEvent| filter.is_none_or(|filter| filter.matches(event));
    let events = events.into_iter().filter(is_wanted);
    entries(events, next, Some(Resolver::new(view, now, policy)), |event| event.position)
}

/// The entries of `events`, the oldest first, which lead on to `next`; fewer when what links lead to is too large for one piece.
fn entries(
    events: impl Iterator<Item = RecordedEvent>,
    next: u64,
    mut resolver: Option<Resolver<'_, '_>>,
    place: impl Fn(&RecordedEvent) -> u64,
) -> Result<Found, ReadError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    for event in events {
        let at = place(&event);
        let entry = match &mut resolver {
            Some(resolver) => resolver.entry(event)?,
            None => OwnedEntry { event, target: Behind::None },
        };
        bytes += entry.payload();
        if bytes > LIVE_PIECE_BYTES && !entries.is_empty() {
            return Ok(Found::Events { entries, next: at });
        }
        entries.push(entry);
    }
    Ok(Found::Events { entries, next })
}
