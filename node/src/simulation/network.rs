//! The network: calls of one node to another as streams of parts, which are late, wait behind a cut
//! link, or break off.
//!
//! A call begins as the HTTP request that tonic made of it and ends in tonic's server on the other
//! node, so both ends encode and decode as they do on a socket. A stream keeps its order, as TCP
//! does. HTTP/2 itself is left out.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::transport::Error;

use crate::transport::Dial;

/// A silent connection is given up after this time, as keep-alive does (`transport/dialer.rs`).
const SILENCE_MS: u64 = 5_000;

/// The number of a call.
pub(super) type CallId = u64;

/// A part of a call.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// The beginning, towards the server: path and headers.
    Open(String, HeaderMap),
    /// The beginning of the answer.
    Head(HeaderMap),
    /// Bytes of a body.
    Data(Bytes),
    /// The end of the answer.
    Trailers(HeaderMap),
    /// Nothing more comes.
    End,
    /// The caller lets go.
    Cancel,
    /// The server finds that the caller is gone.
    Lost,
    /// The connection is gone.
    Broken,
}

/// A part that is under way, and whether it belongs to the answer.
type Sent = (CallId, bool, Part);

/// A part that has arrived.
pub(super) struct Arrival {
    pub(super) call: CallId,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) path: Arc<str>,
    pub(super) part: Part,
    pub(super) is_answer: bool,
}

struct Call {
    from: usize,
    to: usize,
    path: Arc<str>,
    /// Takes what comes back; `None` when nobody wants it any more.
    caller: Option<UnboundedSender<Part>>,
    /// Takes what goes there, and the task that serves it.
    server: Option<(UnboundedSender<Part>, AbortHandle)>,
    /// When the newest part of each direction arrives.
    due: [u64; 2],
    /// The first parts, for a copy that arrives once more, and when.
    copy: Option<(u64, Vec<Part>)>,
}

/// How a link is at present.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// Nothing comes through before this time.
    cut_until: u64,
    /// Since when nothing has.
    cut_since: u64,
    /// Its connections were given up since.
    is_given_up: bool,
    /// Parts are late until this time, by so much more.
    slow_until: u64,
    slow_ms: u64,
}

struct Inner {
    now: u64,
    rng: StdRng,
    links: BTreeMap<(usize, usize), Link>,
    is_down: Vec<bool>,
    calls: BTreeMap<CallId, Call>,
    next_call: CallId,
    next_part: u64,
    /// By time of arrival and order of sending.
    under_way: BTreeMap<(u64, u64), Sent>,
    held: BTreeMap<(usize, usize), VecDeque<Sent>>,
    latency_ms: (u64, u64),
    sent: u64,
}

/// All links between the nodes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<Inner>>);

impl Network {
    /// Between so many nodes, all of them down.
    pub(super) fn new(nodes: usize, latency_ms: (u64, u64), rng: StdRng) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            rng,
            links: BTreeMap::new(),
            is_down: vec![true; nodes],
            calls: BTreeMap::new(),
            next_call: 0,
            next_part: 0,
            under_way: BTreeMap::new(),
            held: BTreeMap::new(),
            latency_ms,
            sent: 0,
        })))
    }

    /// The way out of a node.
    pub(super) fn dialer(&self, from: usize) -> Dialer {
        Dialer { network: self.clone(), from }
    }

    /// Parts sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.0.lock().sent
    }

    /// A node listens from now on.
    pub(super) fn up(&self, node: usize) {
        self.0.lock().is_down[node] = false;
    }

    /// A node is gone. With `tells` its machine closes the connections; otherwise the others notice
    /// after a while.
    pub(super) fn down(&self, node: usize, tells: bool) {
        let mut inner = self.0.lock();
        inner.is_down[node] = true;
        let after = if tells { 1 } else { SILENCE_MS };
        let own: Vec<CallId> =
            inner.calls.iter().filter(|(_, call)| call.from == node || call.to == node).map(|(id, _)| *id).collect();
        for id in own {
            let due = inner.now + after;
            let Some(call) = inner.calls.get_mut(&id) else { continue };
            let (is_callers_end, part) = if call.from == node { (false, Part::Lost) } else { (true, Part::Broken) };
            if is_callers_end {
                call.server = None;
            } else {
                call.caller = None;
            }
            inner.put(due, id, is_callers_end, part);
        }
    }

    /// Nothing comes through from one node to another for so long.
    pub(super) fn cut(&self, from: usize, to: usize, for_ms: u64) {
        let mut inner = self.0.lock();
        let now = inner.now;
        let link = inner.links.entry((from, to)).or_default();
        if link.cut_until <= now {
            (link.cut_since, link.is_given_up) = (now, false);
        }
        link.cut_until = link.cut_until.max(now + for_ms);
    }

    /// Everything from one node to another is late for so long.
    pub(super) fn slow(&self, from: usize, to: usize, for_ms: u64, slow_ms: u64) {
        let mut inner = self.0.lock();
        let slow_until = inner.now + for_ms;
        let link = inner.links.entry((from, to)).or_default();
        (link.slow_until, link.slow_ms) = (slow_until, slow_ms);
    }

    /// All connections between two nodes break.
    pub(super) fn reset(&self, one: usize, other: usize) {
        let mut inner = self.0.lock();
        let between = |call: &Call| [(one, other), (other, one)].contains(&(call.from, call.to));
        let ids: Vec<CallId> = inner.calls.iter().filter(|(_, call)| between(call)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| inner.break_off(id));
    }

    /// All links are whole.
    pub(super) fn heal(&self) {
        self.0.lock().links.clear();
    }

    /// What arrives at this moment.
    pub(super) fn advance(&self, now: u64) -> Vec<Arrival> {
        let mut inner = self.0.lock();
        inner.now = now;
        inner.release_held();
        inner.break_silent();
        let mut arrivals = Vec::new();
        while let Some(entry) = inner.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            let (id, is_answer, part) = entry.remove();
            let Some(call) = inner.calls.get(&id) else { continue };
            let (from, to) = if is_answer { (call.to, call.from) } else { (call.from, call.to) };
            // What a node notices by itself needs no link.
            let is_noticed = matches!(part, Part::Broken | Part::Lost);
            if !is_noticed && inner.links.get(&(from, to)).is_some_and(|link| link.cut_until > now) {
                inner.held.entry((from, to)).or_default().push_back((id, is_answer, part));
                continue;
            }
            let path = call.path.clone();
            arrivals.push(Arrival { call: id, from, to, path, part, is_answer });
        }
        arrivals
    }

    /// Hands a part to the end of the call where it has arrived, but for the opening.
    pub(super) fn hand_over(&self, arrival: Arrival) {
        let mut inner = self.0.lock();
        let Some(call) = inner.calls.get_mut(&arrival.call) else { return };
        let is_last = matches!(arrival.part, Part::Cancel | Part::Lost | Part::Broken);
        if arrival.is_answer {
            let is_end = is_last || matches!(arrival.part, Part::End);
            if let Some(caller) = &call.caller {
                // The caller may have let go.
                let _ = caller.send(arrival.part);
            }
            if is_end {
                inner.calls.remove(&arrival.call);
            }
        } else if is_last {
            if let Some((_, task)) = call.server.take() {
                task.abort();
            }
            if call.caller.is_none() {
                inner.calls.remove(&arrival.call);
            }
        } else if let Some((server, _)) = &call.server {
            let _ = server.send(arrival.part);
        }
    }

    /// There is nobody at the other end.
    pub(super) fn refuse(&self, call: CallId) {
        self.send(call, true, Part::Broken);
    }

    /// The task that serves a call, and its way in.
    pub(super) fn serve(&self, call: CallId, way_in: UnboundedSender<Part>, task: AbortHandle) {
        if let Some(call) = self.0.lock().calls.get_mut(&call) {
            call.server = Some((way_in, task));
        }
    }

    /// Sends a part.
    pub(super) fn send(&self, call: CallId, is_answer: bool, part: Part) {
        self.0.lock().send(call, is_answer, part);
    }

    /// Copies of calls that are due to arrive once more.
    pub(super) fn begin_copies(&self) {
        let mut inner = self.0.lock();
        let now = inner.now;
        let is_due = |call: &Call| call.copy.as_ref().is_some_and(|(at, _)| *at <= now);
        let due: Vec<CallId> = inner.calls.iter().filter(|(_, call)| is_due(call)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(call) = inner.calls.get_mut(&id) else { continue };
            let Some((_, parts)) = call.copy.take() else { continue };
            let (from, to, path) = (call.from, call.to, call.path.clone());
            let copy = inner.register(from, to, path, None);
            for part in parts.into_iter().chain([Part::End]) {
                inner.send(copy, false, part);
            }
        }
    }

    fn open(&self, from: usize, to: usize, request: &Request<Body>) -> (CallId, UnboundedReceiver<Part>) {
        let (caller, answers) = unbounded_channel();
        let mut inner = self.0.lock();
        let path: Arc<str> = request.uri().path().into();
        let id = inner.register(from, to, path.clone(), Some(caller));
        if inner.rng.random_range(0..100) < 2 {
            let at = inner.now + inner.rng.random_range(200..4_000);
            if let Some(call) = inner.calls.get_mut(&id) {
                call.copy = Some((at, Vec::new()));
            }
        }
        inner.send(id, false, Part::Open(path.to_string(), request.headers().clone()));
        (id, answers)
    }

    fn let_go(&self, call: CallId) {
        let mut inner = self.0.lock();
        if let Some(open) = inner.calls.get_mut(&call) {
            open.caller = None;
            inner.send(call, false, Part::Cancel);
        }
    }
}

impl Inner {
    fn register(&mut self, from: usize, to: usize, path: Arc<str>, caller: Option<UnboundedSender<Part>>) -> CallId {
        let id = self.next_call;
        self.next_call += 1;
        self.calls.insert(id, Call { from, to, path, caller, server: None, due: [0; 2], copy: None });
        id
    }

    fn put(&mut self, due: u64, call: CallId, is_answer: bool, part: Part) {
        self.under_way.insert((due, self.next_part), (call, is_answer, part));
        self.next_part += 1;
    }

    fn send(&mut self, id: CallId, is_answer: bool, part: Part) {
        let now = self.now;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (from, to) = if is_answer { (call.to, call.from) } else { (call.from, call.to) };
        // A part of the machine, not of the process, says that nobody listens.
        if self.is_down[from] && !matches!(part, Part::Broken) {
            return;
        }
        if !is_answer
            && let Some((_, parts)) = &mut call.copy
            && parts.len() < 4
        {
            parts.push(part.clone());
        }
        let slow = self.links.get(&(from, to)).filter(|link| link.slow_until > now).map_or(0, |link| link.slow_ms);
        // The parts of a snapshot share the latency of the first: how many there are depends on
        // files of RocksDB, and must not change what else happens.
        let is_one_of_many = matches!(part, Part::Data(_)) && call.path.ends_with("InstallSnapshot");
        let (low, high) = self.latency_ms;
        let latency = if is_one_of_many { high } else { self.rng.random_range(low..=high) };
        let due = (now + latency + slow).max(call.due[usize::from(is_answer)]);
        call.due[usize::from(is_answer)] = due;
        self.sent += 1;
        self.put(due, id, is_answer, part);
    }

    /// Both ends notice, but what is under way may still arrive.
    fn break_off(&mut self, id: CallId) {
        let now = self.now;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let is_known_there = call.server.is_some();
        let is_late = self.rng.random_range(0..2) == 0;
        let (server_due, part) = if is_late { (call.due[0].max(now) + 1, Part::Cancel) } else { (now, Part::Lost) };
        if let Some(caller) = call.caller.take() {
            let _ = caller.send(Part::Broken);
        }
        if is_known_there && !is_late {
            self.under_way.retain(|_, (call, ..)| *call != id);
        }
        self.put(server_due, id, false, part);
    }

    fn release_held(&mut self) {
        let now = self.now;
        let whole: Vec<(usize, usize)> = self
            .held
            .keys()
            .filter(|link| self.links.get(link).is_none_or(|link| link.cut_until <= now))
            .copied()
            .collect();
        for link in whole {
            for (id, is_answer, part) in self.held.remove(&link).into_iter().flatten() {
                let Some(call) = self.calls.get_mut(&id) else { continue };
                let due = now + 1;
                call.due[usize::from(is_answer)] = call.due[usize::from(is_answer)].max(due);
                self.put(due, id, is_answer, part);
            }
        }
    }

    fn break_silent(&mut self) {
        let now = self.now;
        let is_silent = |link: &Link| link.cut_until > now && now >= link.cut_since + SILENCE_MS && !link.is_given_up;
        let silent: Vec<(usize, usize)> =
            self.links.iter().filter(|(_, link)| is_silent(link)).map(|(ends, _)| *ends).collect();
        for (one, other) in silent {
            self.links.entry((one, other)).or_default().is_given_up = true;
            let between = |call: &Call| [(one, other), (other, one)].contains(&(call.from, call.to));
            let ids: Vec<CallId> = self.calls.iter().filter(|(_, call)| between(call)).map(|(id, _)| *id).collect();
            ids.into_iter().for_each(|id| self.break_off(id));
        }
    }
}

/// Makes the channels of one node. The address of a node is its number.
pub(super) struct Dialer {
    network: Network,
    from: usize,
}

impl Dial for Dialer {
    type Channel = Channel;

    fn channel(&self, server: u16, _address: &str) -> Result<Channel, Error> {
        Ok(Channel { network: self.network.clone(), from: self.from, to: usize::from(server) - 1 })
    }
}

/// Calls of one node to another.
#[derive(Clone)]
pub(super) struct Channel {
    network: Network,
    from: usize,
    to: usize,
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { network, from, to } = self.clone();
        Box::pin(async move {
            let (id, mut answers) = network.open(from, to, &request);
            let pump = tokio::spawn(pump(network.clone(), id, false, request.into_body())).abort_handle();
            let guard = LetGo { network, id, pump };
            match answers.recv().await {
                Some(Part::Head(headers)) => {
                    let mut response = Response::new(body(answers, guard));
                    *response.headers_mut() = headers;
                    Ok(response)
                }
                _ => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        })
    }
}

/// The end of a call at the caller.
struct LetGo {
    network: Network,
    id: CallId,
    pump: AbortHandle,
}

impl Drop for LetGo {
    fn drop(&mut self) {
        self.pump.abort();
        self.network.let_go(self.id);
    }
}

/// A body out of the parts that arrive.
fn body(parts: UnboundedReceiver<Part>, held: impl Send + 'static) -> Body {
    let frames = UnboundedReceiverStream::new(parts)
        .take_while(|part| std::future::ready(!matches!(part, Part::End)))
        .map(move |part| {
            let _ = &held;
            match part {
                Part::Data(bytes) => Ok(Frame::data(bytes)),
                Part::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                _ => Err(tonic::Status::unavailable("the connection is gone")),
            }
        });
    Body::new(StreamBody::new(frames))
}

/// Sends a body part by part.
async fn pump(network: Network, id: CallId, is_answer: bool, mut body: Body) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        match frame.into_data() {
            Ok(bytes) => network.send(id, is_answer, Part::Data(bytes)),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    network.send(id, is_answer, Part::Trailers(trailers));
                }
            }
        }
    }
    network.send(id, is_answer, Part::End);
}

/// Serves one call with tonic's server; the way in for its parts.
pub(super) fn serve<S>(
    network: &Network,
    id: CallId,
    path: &str,
    headers: HeaderMap,
    mut service: S,
) -> (UnboundedSender<Part>, impl Future<Output = ()> + use<S>)
where
    S: tower_service::Service<Request<Body>, Response = Response<Body>, Future: Send> + Send + 'static,
{
    let (way_in, parts) = unbounded_channel();
    let mut request = Request::new(body(parts, ()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    *request.headers_mut() = headers;
    let network = network.clone();
    let task = async move {
        let Ok(response) = service.call(request).await else { return };
        let (head, body) = response.into_parts();
        network.send(id, true, Part::Head(head.headers));
        pump(network, id, true, body).await;
    };
    (way_in, task)
}
