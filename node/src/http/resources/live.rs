//! Subscriptions as server-sent events (contract/streams 17).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::event::{ResolvedEvent, resolved};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::reply::GivenUp;
use crate::http::exchange::request::Request;
use crate::http::exchange::{delivery, extract, response};
use crate::http::format::atom::Embed;
use crate::http::format::links::Base;
use crate::http::format::sse;
use crate::http::limits::{KEEP_ALIVE_INTERVAL, PIECE_BYTES};
use crate::http::resources::page;
use crate::streams::{Filter, Piece, Source, StillReadable, Subscribe, Subscription, SubscriptionStart};

/// GET of a stream as server-sent events.
pub(crate) async fn stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let name = extract::stream(&request.params.stream)?;
    let start = start(request, extract::number)?;
    let links = extract::links(request.headers)?;
    answer(request, Source::Stream { name, links }, start, PlaceOf::Stream).await
}

/// GET of the log of all events as server-sent events.
pub(crate) async fn log(request: &Request<'_>, filter: Option<Filter>) -> Result<Response<Reply>, ApiError> {
    let start = start(request, extract::position)?;
    let links = extract::links_of_log(request.headers);
    answer(request, Source::Log { filter: filter.map(Arc::new), links }, start, PlaceOf::Log).await
}

/// `Last-Event-ID` is what a client has got already and wins, because it repeats the URI when it
/// comes again; `from` is what it wants first.
fn start(request: &Request<'_>, parse: impl Fn(&str) -> Result<u64, ApiError>) -> Result<SubscriptionStart, ApiError> {
    if let Some(last) = last_event_id(request.headers) {
        return Ok(SubscriptionStart::At(parse(&last)?.saturating_add(1)));
    }
    match request.query("from").as_deref() {
        None | Some("") => Ok(SubscriptionStart::At(0)),
        Some("head") => Ok(SubscriptionStart::Head),
        Some(text) => parse(text).map(SubscriptionStart::At),
    }
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    extract::text(headers, &extract::LAST_EVENT_ID).filter(|text| !text.is_empty())
}

async fn answer(
    request: &Request<'_>,
    source: Source,
    start: SubscriptionStart,
    place_of: PlaceOf,
) -> Result<Response<Reply>, ApiError> {
    let barrier = extract::read_barrier(request.headers)?;
    let closed = request.connection.closed.clone();
    let subscribe = Subscribe { source, start, barrier, longest_silence: KEEP_ALIVE_INTERVAL, closed };
    let subscription = request.state.rooms.streams.subscribe(&request.caller, subscribe).await;
    let live = Live {
        subscription: subscription.map_err(|error| ApiError::of_subscribe(error, request))?,
        place_of,
        base: request.base(),
        embed: request.query("embed").map_or(Embed::Body, |embed| Embed::parse(Some(&embed))),
        is_new: true,
        rest: None,
    };
    let pieces = futures::stream::unfold(live, |mut live| async move { live.piece().await.map(|piece| (piece, live)) });
    let mut answer = Response::new(Reply::live(pieces));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, request.chosen.header());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    caching::add_vary(headers, Varies::Page, request);
    // Proxies of the nginx family would keep events back until a buffer is full.
    headers.insert(response::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(answer)
}

/// What the ids of the sent events are.
#[derive(Debug, Clone, Copy)]
enum PlaceOf {
    /// Numbers in the stream.
    Stream,
    /// Positions in the log.
    Log,
}

impl PlaceOf {
    /// What a client says as `Last-Event-ID` after the event at this place.
    fn id(self, place: u64) -> String {
        match self {
            Self::Stream => place.to_string(),
            Self::Log => page::printed(place),
        }
    }

    fn id_of(self, event: &ResolvedEvent) -> String {
        match self {
            Self::Stream => self.id(event.original.number),
            Self::Log => self.id(event.original.position),
        }
    }
}

/// An answer that goes on as long as its subscription.
struct Live {
    subscription: Subscription,
    place_of: PlaceOf,
    base: Base,
    embed: Embed,
    /// Nothing was sent yet.
    is_new: bool,
    /// What of the last piece of the subscription is not sent yet.
    rest: Option<Rest>,
}

/// The rest of a piece of a subscription: one event may be megabytes of text.
struct Rest {
    text: Bytes,
    /// Asked before each piece of it.
    reader: StillReadable,
}

impl Live {
    /// The next piece of the answer; `None` ends it. Asked for when the connection has taken the
    /// piece before.
    async fn piece(&mut self) -> Option<Result<Bytes, GivenUp>> {
        if std::mem::take(&mut self.is_new) {
            // Says at once that the subscription stands, whenever the first event comes.
            return Some(Ok(Bytes::from_static(sse::GREETING)));
        }
        if let Some(rest) = self.rest.take() {
            return Some(self.part_of(rest).await);
        }
        // A client that comes again is told why its subscription has ended.
        Some(Ok(match self.subscription.next().await.ok()? {
            Piece::Events(events) => {
                let text = self.render(&events);
                if text.len() > PIECE_BYTES {
                    let reader = self.subscription.reader_of(&events);
                    return Some(self.part_of(Rest { text, reader }).await);
                }
                text
            }
            Piece::Checkpoint(place) => Bytes::from(sse::checkpoint(&self.place_of.id(place))),
            Piece::Silence => Bytes::from_static(sse::KEEP_ALIVE),
        }))
    }

    /// The next part of a long piece, in a copy: what is stuck in a connection must not keep all of
    /// the piece. An answer that ends in the middle of an event is one that was cut off.
    async fn part_of(&mut self, mut rest: Rest) -> Result<Bytes, GivenUp> {
        if let Err(error) = rest.reader.ask().await {
            delivery::log(error);
            return Err(GivenUp);
        }
        let part = rest.text.split_to(rest.text.len().min(PIECE_BYTES));
        self.rest = Some(rest).filter(|rest| !rest.text.is_empty());
        Ok(Bytes::copy_from_slice(&part))
    }

    fn render(&self, events: &[ResolvedEvent]) -> Bytes {
        let mut out = Vec::with_capacity(resolved::payload_bytes(events) + 1024 * events.len());
        for event in events {
            sse::push_event(&mut out, &self.place_of.id_of(event), &event.borrowed(), &self.base, self.embed);
        }
        Bytes::from(out)
    }
}
