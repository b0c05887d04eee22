//! What is recorded, and as what.

use std::time::Duration;

use super::*;

/// Traces of which the test takes the spans.
fn traces(ratio: u32, queued: usize) -> (Traces, mpsc::Receiver<SpanData>, TraceMetrics) {
    let (queue, spans) = mpsc::channel(queued);
    let metrics = TraceMetrics::default();
    (Traces::into_queue(queue, ratio, metrics.clone()), spans, metrics)
}

const RECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_RECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[test]
fn nothing_is_recorded_without_a_collector_or_by_a_ratio_of_zero_unless_the_client_traces() {
    // A node without a collector does not even look at the header.
    assert!(Traces::default().begin("x", || panic!("looked at the header")).is_none());
    let (traces, mut spans, _) = traces(0, 8);
    assert!(traces.begin("x", || None).is_none());
    assert!(traces.begin("x", || Some(NOT_RECORDED)).is_none());
    drop(traces.begin("x", || Some(RECORDED)).unwrap());
    let span = spans.try_recv().unwrap();
    assert_eq!(span.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((span.parent_span_id.to_string().as_str(), span.parent_span_is_remote), ("b7ad6b7169203331", true));
    traces.set_ratio(ALL);
    assert!(traces.begin("x", || None).is_some());
    assert!(traces.begin("x", || Some(NOT_RECORDED)).is_none());
}

#[test]
fn the_ratio_is_the_share_of_requests_that_are_recorded() {
    let (traces, _spans, _) = traces(ALL / 4, 8);
    let recorded = (0..4_000).filter(|_| traces.begin("x", || None).is_some()).count();
    // Six standard deviations: less often wrong than the machine.
    assert!((836..1_164).contains(&recorded), "{recorded} of 4000");
}

#[test]
fn a_span_is_a_child_of_its_parent_also_on_another_node() {
    let (here, mut spans, _) = traces(ALL, 8);
    let (there, mut spans_there, _) = traces(0, 8);
    let mut root = here.begin("root", || None).unwrap();
    let bytes = root.tracked().to_bytes();
    there.of_other_node(&bytes).unwrap().record("remote", Instant::now() - Duration::from_millis(5));
    root.tracked().record("local", Instant::now());
    root.set("key", "value");
    drop(root);
    let (local, root, remote) = (spans.try_recv().unwrap(), spans.try_recv().unwrap(), spans_there.try_recv().unwrap());
    let id = root.span_context.span_id();
    assert_eq!((local.parent_span_id, local.parent_span_is_remote), (id, false));
    assert_eq!((remote.parent_span_id, remote.parent_span_is_remote), (id, true));
    assert_eq!(remote.span_context.trace_id(), root.span_context.trace_id());
    assert!(remote.end_time.duration_since(remote.start_time).unwrap() >= Duration::from_millis(5));
    assert_eq!((root.parent_span_id, root.attributes.len()), (SpanId::INVALID, 1));
    assert!(there.of_other_node(&[]).is_none() && Traces::default().of_other_node(&bytes).is_none());
}

#[test]
fn a_full_queue_drops_spans_and_counts_them() {
    let (traces, mut spans, metrics) = traces(ALL, 2);
    (0..5).for_each(|_| drop(traces.begin("x", || None)));
    assert_eq!(metrics.dropped.get(), 3);
    assert!(spans.try_recv().is_ok());
    drop(traces.begin("x", || None));
    assert_eq!(metrics.dropped.get(), 3);
}

#[test]
fn entries_that_differ_in_their_trace_alone_are_equal() {
    let (traces, mut spans, _) = traces(ALL, 16);
    let of = |name| EntryTrace::new(traces.begin(name, || None).unwrap().tracked());
    let (one, other) = (of("one"), of("other"));
    assert_eq!(one, other);
    one.synced();
    one.begins();
    one.written();
    one.synced();
    one.committed();
    one.applied(Instant::now());
    let names: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.name).collect();
    assert_eq!(names, ["one", "other", "log.append", "log.sync", "raft.commit", "state.apply"]);
}
