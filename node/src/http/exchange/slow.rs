//! Requests that took long and where their time went: a line in the log for each, and the newest
//! of them to be asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::request::Parts;
use parking_lot::Mutex;
use serde::Serialize;

use crate::config::Live;
use crate::event::Ticks;
use crate::http::limits::{KEPT_SLOW_REQUESTS, MAX_LOGGED_PATH_BYTES, MAX_REQUEST_ID_BYTES, MAX_SLOW_LINES_PER_SECOND};
use crate::timing::Spent;

/// Requests that took long. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct SlowRequests {
    live: Live,
    lines: Arc<Lines>,
    newest: Arc<Mutex<VecDeque<SlowRequest>>>,
}

/// A request that took long.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SlowRequest {
    /// When it was answered.
    at: String,
    method: String,
    path: String,
    route: &'static str,
    status: u16,
    taken_ms: u64,
    /// Milliseconds in each phase.
    spent_ms: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// How many lines there may be.
#[derive(Debug)]
struct Lines {
    began: Instant,
    /// The second since then that is counted, in the upper half, and its lines in the lower one.
    counted: AtomicU64,
    /// Requests without a line since the last one that has one.
    left_out: AtomicU64,
}

impl SlowRequests {
    /// Requests that take longer than `--slow-request-ms` says; none are told without a limit.
    pub(crate) fn new(live: Live) -> Self {
        let lines = Lines { began: Instant::now(), counted: AtomicU64::new(0), left_out: AtomicU64::new(0) };
        Self { live, lines: lines.into(), newest: Arc::default() }
    }

    /// Notes the request if it took too long, without what its client has asked to wait for. Its
    /// answer may still be on its way.
    pub(crate) fn ended(&self, head: &Parts, route: &'static str, status: u16, taken: Duration, spent: &Spent) {
        if self.live.now().slow_request.is_none_or(|limit| taken < limit) {
            return;
        }
        let path = logged_path(&head.uri);
        let (id, taken_ms) = (request_id(&head.headers), taken.as_millis() as u64);
        if self.lines.has_room() {
            let left_out = self.lines.left_out.swap(0, Ordering::Relaxed);
            let (id, spent) = (id.unwrap_or("-"), describe(spent));
            tracing::warn!(taken_ms, spent, method = %head.method, path, route, status, id, left_out, "slow request");
        }
        self.keep(SlowRequest {
            at: Ticks::from_system_time(SystemTime::now()).to_string(),
            method: head.method.to_string(),
            path: path.to_owned(),
            route,
            status,
            taken_ms,
            spent_ms: spent
                .longest_first()
                .into_iter()
                .map(|(phase, time)| (phase.name(), time.as_millis() as u64))
                .collect(),
            id: id.map(str::to_owned),
        });
    }

    /// The newest of them, newest first.
    pub(crate) fn newest(&self) -> Vec<SlowRequest> {
        self.newest.lock().iter().rev().cloned().collect()
    }

    fn keep(&self, request: SlowRequest) {
        let mut newest = self.newest.lock();
        if newest.len() == KEPT_SLOW_REQUESTS {
            newest.pop_front();
        }
        newest.push_back(request);
    }
}

impl Lines {
    fn has_room(&self) -> bool {
        let second = self.began.elapsed().as_secs() << 32;
        let count = |counted: u64| match counted {
            counted if counted < second => Some(second + 1),
            counted if counted & u64::from(u32::MAX) < MAX_SLOW_LINES_PER_SECOND => Some(counted + 1),
            _ => None,
        };
        let has_room = self.counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok();
        if !has_room {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

/// Like `commit 1043 ms, body 12 ms`.
fn describe(spent: &Spent) -> String {
    let phases = spent.longest_first();
    let phases: Vec<String> =
        phases.iter().map(|(phase, time)| format!("{} {} ms", phase.name(), time.as_millis())).collect();
    phases.join(", ")
}

/// The id that the client or a proxy has given to the request: `X-Request-Id`, or the trace of
/// `traceparent` (W3C Trace Context 3.2).
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let is_id = |id: &&str| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES;
    let of_trace = || text("traceparent").and_then(|trace| trace.split('-').nth(1));
    text("x-request-id").filter(is_id).or_else(|| of_trace().filter(is_id))
}

/// The path of a request as it is logged: its begin, if it is long.
pub(crate) fn logged_path(uri: &http::Uri) -> &str {
    cut(uri.path(), MAX_LOGGED_PATH_BYTES)
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LiveOptions;

    #[test]
    fn the_id_of_a_request_is_that_of_the_proxy_or_of_the_trace() {
        let id = |headers: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
                .collect();
            request_id(&headers).map(str::to_owned)
        };
        let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(id(&[]), None);
        assert_eq!(id(&[trace]).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(id(&[trace, ("x-request-id", " a1 ")]).as_deref(), Some("a1"));
        assert_eq!(id(&[("traceparent", "nonsense")]), None);
        assert_eq!(id(&[("x-request-id", "")]), None);
        let long: &'static str = "x".repeat(MAX_REQUEST_ID_BYTES + 1).leak();
        assert_eq!(id(&[("x-request-id", long)]), None);
    }

    fn slower_than(limit: Duration) -> SlowRequests {
        let live = crate::config::Config::single_node(".").unwrap().live;
        let options = LiveOptions { slow_request: Some(limit), ..LiveOptions::clone(&live.now()) };
        live.replace(options);
        SlowRequests::new(live)
    }

    #[test]
    fn a_second_has_a_bounded_number_of_lines() {
        let slow = slower_than(Duration::ZERO);
        let lines = (0..10 * MAX_SLOW_LINES_PER_SECOND).filter(|_| slow.lines.has_room()).count() as u64;
        let seconds = 1 + slow.lines.began.elapsed().as_secs();
        assert!((1..=seconds * MAX_SLOW_LINES_PER_SECOND).contains(&lines), "{lines}");
        assert_eq!(slow.lines.left_out.load(Ordering::Relaxed) + lines, 10 * MAX_SLOW_LINES_PER_SECOND);
    }

    #[test]
    fn the_newest_slow_requests_are_kept() {
        let slow = slower_than(Duration::from_millis(5));
        let ended = |path: &str, taken: u64| {
            let (head, ()) = http::Request::builder().uri(path).body(()).unwrap().into_parts();
            slow.ended(&head, "feed_head", 200, Duration::from_millis(taken), &Spent::default());
        };
        ended("/streams/fast", 4);
        assert!(slow.newest().is_empty());
        for number in 0..=KEPT_SLOW_REQUESTS {
            ended(&format!("/streams/{number}"), 5);
        }
        let paths: Vec<String> = slow.newest().into_iter().map(|request| request.path).collect();
        assert_eq!(paths.len(), KEPT_SLOW_REQUESTS);
        assert_eq!((paths[0].as_str(), paths.last().unwrap().as_str()), ("/streams/32", "/streams/1"));
    }

    #[test]
    fn a_path_is_cut_between_letters() {
        assert_eq!(cut("/streams/ä", 10), "/streams/");
        assert_eq!(cut("/ping", 10), "/ping");
    }
}
