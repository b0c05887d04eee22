//! Traces: what a request waits for, on every node that takes part, as spans for a collector
//! (OpenTelemetry).
//!
//! A span is recorded when it ends, as a value in a queue. Whether a trace is recorded is decided
//! once, where it begins; all else carries the decision with it, so that a request that is not
//! recorded costs nothing but to see that there is no [`Tracked`].

mod context;
mod export;
mod metrics;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

pub(crate) use opentelemetry::trace::SpanKind as Kind;
use opentelemetry::trace::{Link, SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use tokio::sync::mpsc;

use context::{Context, Parent};
pub(crate) use export::{Destination, Exporter, LAST_EXPORT_DEADLINE};
pub(crate) use metrics::TraceMetrics;

/// A ratio of one in millionths.
const ALL: u32 = 1_000_000;

/// Where traces begin. Cheap to clone; off unless there is a collector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<SpanData>,
    ids: RandomIdGenerator,
    /// Share of the requests that begin a trace, in millionths.
    ratio: AtomicU32,
    scope: InstrumentationScope,
    metrics: TraceMetrics,
}

impl Traces {
    /// Traces of so many millionths of the requests that no client traces, and what sends them.
    ///
    /// # Errors
    /// A sentence, when the destination cannot be one.
    pub(crate) fn to(destination: Destination, ratio: u32, metrics: TraceMetrics) -> Result<(Self, Exporter), String> {
        let (queue, queued) = mpsc::channel(export::QUEUED_SPANS);
        let exporter = Exporter::new(destination, queued, metrics.clone())?;
        Ok((Self::into_queue(queue, ratio, metrics), exporter))
    }

    fn into_queue(queue: mpsc::Sender<SpanData>, ratio: u32, metrics: TraceMetrics) -> Self {
        let scope = InstrumentationScope::builder("headwater").with_version(env!("CARGO_PKG_VERSION")).build();
        let ids = RandomIdGenerator::default();
        Self(Some(Arc::new(Inner { queue, ids, ratio: ratio.into(), scope, metrics })))
    }

    /// Changes the share of the requests that begin a trace.
    pub(crate) fn set_ratio(&self, millionths: u32) {
        if let Some(inner) = &self.0 {
            inner.ratio.store(millionths, Ordering::Relaxed);
        }
    }

    /// The span of a request, if it is recorded. A client that traces has decided that, in its
    /// header `traceparent`.
    pub(crate) fn begin<'h>(&self, name: &'static str, traceparent: impl FnOnce() -> Option<&'h str>) -> Option<Span> {
        let inner = self.0.as_ref()?;
        let (trace_id, parent) = match Parent::of(traceparent()) {
            Parent::Recorded(parent) => (parent.trace_id, Some(parent.span_id)),
            Parent::NotRecorded => return None,
            Parent::Unknown => {
                let trace_id = inner.ids.new_trace_id();
                inner.records(trace_id).then_some((trace_id, None))?
            }
        };
        Some(Span::begin(inner, trace_id, parent, name, Kind::Server, true))
    }

    /// A span of another node, as it came with a message. `None` when it is none, or when this node
    /// records nothing.
    pub(crate) fn of_other_node(&self, bytes: &[u8]) -> Option<Tracked> {
        let inner = self.0.as_ref().filter(|_| !bytes.is_empty())?;
        Some(Tracked { inner: inner.clone(), context: Context::from_bytes(bytes)?, is_remote: true })
    }
}

impl Inner {
    /// Decides by the id, which is random: any node would decide the same.
    fn records(&self, trace_id: TraceId) -> bool {
        let ratio = self.ratio.load(Ordering::Relaxed);
        let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
        let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        u128::from(place) * u128::from(ALL) < (u128::from(ratio) << 64)
    }

    fn send(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.metrics.dropped.inc();
        }
    }
}

/// A span that is recorded and of which others may be children. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    inner: Arc<Inner>,
    context: Context,
    /// Whether the span is of another node.
    is_remote: bool,
}

impl Tracked {
    /// The form in which it travels between nodes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.context.to_bytes()
    }

    /// Begins a span below this one.
    pub(crate) fn child(&self, name: &'static str, kind: Kind) -> Span {
        let Context { trace_id, span_id } = self.context;
        Span::begin(&self.inner, trace_id, Some(span_id), name, kind, self.is_remote)
    }

    /// Records a span below this one that began then and ends now.
    pub(crate) fn record(&self, name: &'static str, began: Instant) {
        self.child(name, Kind::Internal).since(began);
    }

    fn span_context(&self) -> SpanContext {
        recorded(self.context.trace_id, self.context.span_id, self.is_remote)
    }
}

fn recorded(trace_id: TraceId, span_id: SpanId, is_remote: bool) -> SpanContext {
    SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, is_remote, TraceState::NONE)
}

/// A span under way; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Span {
    inner: Arc<Inner>,
    began: Instant,
    /// `None` once it was sent.
    data: Option<Box<SpanData>>,
    context: Context,
}

impl Span {
    fn begin(
        inner: &Arc<Inner>,
        trace_id: TraceId,
        parent: Option<SpanId>,
        name: &'static str,
        span_kind: Kind,
        parent_span_is_remote: bool,
    ) -> Self {
        let (span_id, start_time) = (inner.ids.new_span_id(), SystemTime::now());
        let data = SpanData {
            span_context: recorded(trace_id, span_id, false),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: parent.is_some() && parent_span_is_remote,
            span_kind,
            name: Cow::Borrowed(name),
            start_time,
            end_time: start_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: inner.scope.clone(),
        };
        let context = Context { trace_id, span_id };
        Self { inner: inner.clone(), began: Instant::now(), data: Some(Box::new(data)), context }
    }

    /// What its children need.
    pub(crate) fn tracked(&self) -> Tracked {
        Tracked { inner: self.inner.clone(), context: self.context, is_remote: false }
    }

    /// Says something of it.
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(data) = &mut self.data {
            data.attributes.push(KeyValue::new(key, value));
        }
    }

    /// Names another span to which this one belongs as well.
    pub(crate) fn link(&mut self, other: &Tracked) {
        if let Some(data) = &mut self.data {
            data.links.links.push(Link::new(other.span_context(), Vec::new(), 0));
        }
    }

    /// Says that what it is about has failed.
    pub(crate) fn fail(&mut self, why: impl Into<Cow<'static, str>>) {
        if let Some(data) = &mut self.data {
            data.status = Status::error(why);
        }
    }

    /// Lets it have begun earlier.
    pub(crate) fn since(mut self, began: Instant) {
        if let Some(data) = &mut self.data {
            data.start_time -= self.began.saturating_duration_since(began);
        }
        self.began = self.began.min(began);
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            data.end_time = data.start_time + self.began.elapsed();
            self.inner.send(*data);
        }
    }
}

/// The trace of a log entry, as long as the entry is in memory. It is not part of the entry: two
/// entries that differ in it alone are equal.
#[derive(Debug, Clone)]
pub(crate) struct EntryTrace(Arc<EntrySpan>);

#[derive(Debug)]
struct EntrySpan {
    tracked: Tracked,
    /// When this node began to write the entry to its log.
    begun: OnceLock<Instant>,
    /// When it had written it. The sync may be sooner than the note of that.
    written: OnceLock<Instant>,
}

impl EntryTrace {
    /// Of an entry that belongs to this span.
    pub(crate) fn new(tracked: Tracked) -> Self {
        Self(Arc::new(EntrySpan { tracked, begun: OnceLock::new(), written: OnceLock::new() }))
    }

    /// The form in which it travels between nodes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.tracked.to_bytes()
    }

    /// The entry is about to be written to the log of this node.
    pub(crate) fn begins(&self) {
        let _ = self.0.begun.set(Instant::now());
    }

    /// The entry is in the log now, and will be synced.
    pub(crate) fn written(&self) {
        let _ = self.0.written.set(Instant::now());
        self.record("log.append", self.0.begun.get());
    }

    /// The entry is durable on this node.
    pub(crate) fn synced(&self) {
        self.record("log.sync", self.0.written.get().or(self.0.begun.get()));
    }

    /// This node knows that the entry is committed.
    pub(crate) fn committed(&self) {
        self.record("raft.commit", self.0.begun.get());
    }

    /// What the entry decides can be seen on this node.
    pub(crate) fn applied(&self, began: Instant) {
        self.record("state.apply", Some(&began));
    }

    /// Nothing is recorded of an entry that this node has not written itself in the life of this
    /// value.
    fn record(&self, name: &'static str, began: Option<&Instant>) {
        if let Some(began) = began {
            self.0.tracked.record(name, *began);
        }
    }
}

impl PartialEq for EntryTrace {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for EntryTrace {}
