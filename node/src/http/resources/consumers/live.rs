//! The messages of a group as server-sent events, of which a consumer has only so many that it has
//! not settled. Ours, not the original's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use crate::budget::Reservation;
use crate::consumers::{Consume, Consumption, GroupName, MAX_WINDOW};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::reply::GivenUp;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::format::atom::Embed;
use crate::http::format::competing;
use crate::http::format::links::Base;
use crate::http::format::sse;
use crate::http::limits::{DEFAULT_CONSUMER_WINDOW, KEEP_ALIVE_INTERVAL, PIECE_BYTES};

/// GET of the messages of a group as server-sent events. While the answer goes on, its client is a
/// consumer of the group; when it ends, the messages that were not settled go to others.
pub(super) async fn stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let consume = Consume {
        from: address(request),
        window: window(request.query("window").as_deref())?,
        longest_silence: KEEP_ALIVE_INTERVAL,
        closed: request.connection.closed.clone(),
    };
    let consumption = request.state.rooms.consumers.consume(request.client(), &name, consume).await;
    let live = Live {
        consumption: consumption.map_err(|error| ApiError::of_consume(error, request))?,
        name,
        base: request.base(),
        embed: request.query("embed").map_or(Embed::Body, |embed| Embed::parse(Some(&embed))),
        is_new: true,
        rest: Bytes::new(),
        memory: Vec::new(),
    };
    let pieces = futures::stream::unfold(live, |mut live| async move { live.piece().await.map(|piece| (piece, live)) });
    let mut answer = Response::new(Reply::live(pieces));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, request.chosen.header());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    caching::add_vary(headers, Varies::Linked, request);
    // Proxies of the nginx family would keep messages back until a buffer is full.
    headers.insert(response::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(answer)
}

fn window(text: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = text else { return Ok(DEFAULT_CONSUMER_WINDOW) };
    let window = text.parse().ok().filter(|window| (1..=MAX_WINDOW).contains(window));
    window.ok_or_else(|| {
        ApiError::BadRequest(format!("window must be an integer between 1 and {MAX_WINDOW}, and not '{text}'").into())
    })
}

/// Where the consumer is, to be shown: with its port, unless a proxy speaks for it.
fn address(request: &Request<'_>) -> String {
    let (peer, client) = (request.connection.peer, request.client().address);
    if client == peer.ip() { peer.to_string() } else { client.to_string() }
}

/// An answer that goes on as long as its consumer is connected.
struct Live {
    consumption: Consumption,
    name: GroupName,
    base: Base,
    embed: Embed,
    /// Nothing was sent yet.
    is_new: bool,
    /// What of the last messages is not sent yet.
    rest: Bytes,
    /// The memory of these messages, where they are large.
    memory: Vec<Arc<Reservation>>,
}

impl Live {
    /// The next piece of the answer; `None` ends it. Asked for when the connection has taken the
    /// piece before.
    async fn piece(&mut self) -> Option<Result<Bytes, GivenUp>> {
        if std::mem::take(&mut self.is_new) {
            // Says at once that the consumer is connected, whenever the first message comes.
            return Some(Ok(Bytes::from_static(sse::GREETING)));
        }
        if self.rest.is_empty() {
            // A client that comes again is told why it was dropped.
            let messages = self.consumption.next().await.ok()?;
            if messages.is_empty() {
                return Some(Ok(Bytes::from_static(sse::KEEP_ALIVE)));
            }
            self.rest = Bytes::from(competing::events(&self.base, self.embed, &self.name, &messages));
            self.memory = messages.into_iter().filter_map(|message| message.memory).collect();
        }
        let part = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        if self.rest.is_empty() {
            self.memory.clear();
        }
        // A copy: what is stuck in a connection must not keep all of the messages.
        Some(Ok(Bytes::copy_from_slice(&part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_number_of_messages() {
        assert_eq!(window(None), Ok(DEFAULT_CONSUMER_WINDOW));
        assert_eq!((window(Some("1")), window(Some("1000"))), (Ok(1), Ok(1000)));
        for wrong in ["0", "1001", "-1", "x", ""] {
            assert!(window(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
