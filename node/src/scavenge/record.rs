//! What the cluster remembers of a run: events in `$scavenges-{id}`, the first and the last of
//! which are linked into `$scavenges` (contract/services 4.4). They are all the state that a run
//! has, so every node can start and stop one, and the next leader goes on with it.

use std::time::Duration;

use bytes::Bytes;
use headwater_proto::stored::{Append, AppendAll, Command, NewEvent, command::Kind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::stream_name::SCAVENGES;
use crate::event::{EventNumber, ExpectedVersion, LINK_EVENT_TYPE, METADATA_EVENT_TYPE, RecordedEvent, Ticks};
use crate::store::{ReadError, ReadView};

/// The stream of all runs.
pub(super) const RUNS: &str = SCAVENGES;
/// Operators may read about runs; a month of them is kept.
const METADATA: &str = r#"{"$maxAge":2592000,"$acl":{"$r":"$ops","$mr":"$ops"}}"#;

const STARTED: &str = "$scavengeStarted";
const PROGRESS: &str = "$scavengeChunksCompleted";
const COMPLETED: &str = "$scavengeCompleted";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunResult {
    /// Everything that could be removed is.
    Success,
    /// It cannot go on.
    Failed,
    /// Somebody stopped it.
    Stopped,
}

/// What an event about a run says. Names and forms are those of the original; `streams...`,
/// `eventsRemoved`, `rests` and `stops` are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    scavenge_id: String,
    node_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<RunResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_taken: Option<String>,
    #[serde(default)]
    space_saved: u64,
    #[serde(default)]
    events_removed: u64,
    /// The last stream that is done, in the order of names.
    #[serde(skip_serializing_if = "Option::is_none")]
    streams_until: Option<String>,
    /// Whether it works in the configured hours only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rests: bool,
    /// Whether it is to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stops: bool,
}

/// A run, as its newest event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its id.
    pub(crate) id: Uuid,
    /// When it began, or when its newest event was written if that is all that is left.
    pub(crate) started: Ticks,
    /// `None` while it goes on.
    pub(crate) result: Option<RunResult>,
    /// Events that it has removed; too few by what a leader that died had not written down yet.
    pub(crate) events: u64,
    /// Bytes of their rows, with the same reservation.
    pub(crate) bytes: u64,
    /// The last stream that it is done with.
    pub(super) reached: Option<String>,
    /// It was started by the leader itself, and rests outside the configured hours.
    pub(super) rests: bool,
    /// It is to stop: the leader ends it.
    pub(super) stops: bool,
    /// Number of its newest event.
    pub(super) last: EventNumber,
    /// Number of the newest event of all runs.
    pub(super) last_of_runs: EventNumber,
}

impl Run {
    /// Whether it goes on.
    pub(crate) fn is_running(&self) -> bool {
        self.result.is_none()
    }
}

/// Number of the last link to a run. It may lead nowhere any more: then no run goes on, and the
/// next one begins behind it.
pub(super) fn last_of_runs(view: &ReadView<'_>) -> Result<Option<EventNumber>, ReadError> {
    Ok(view.stream(RUNS)?.last_number)
}

/// The run that was started last; `None` when there was none lately.
pub(super) fn newest(view: &ReadView<'_>) -> Result<Option<Run>, ReadError> {
    let info = view.stream(RUNS)?;
    let (Some(id), Some(last_of_runs)) = (info.id, info.last_number) else { return Ok(None) };
    let Some(link) = view.event(id, last_of_runs)? else { return Ok(None) };
    let linked = std::str::from_utf8(&link.data).ok().and_then(|text| text.split_once('@'));
    let Some(run) = linked.and_then(|(_, stream)| stream.strip_prefix(RUNS)?.strip_prefix('-')?.parse().ok()) else {
        return Ok(None);
    };
    let info = view.stream(&stream_of(run))?;
    let (Some(id), Some(last)) = (info.id, info.last_number) else { return Ok(None) };
    let Some(newest) = view.event(id, last)? else { return Ok(None) };
    let started = view.event(id, 0)?.map_or(newest.time, |first| first.time);
    Ok(read(&newest).map(|(document, is_over)| Run {
        id: run,
        started,
        result: is_over.then_some(document.result.unwrap_or(RunResult::Success)),
        events: document.events_removed,
        bytes: document.space_saved,
        reached: document.streams_until,
        rests: document.rests,
        stops: document.stops,
        last,
        last_of_runs,
    }))
}

/// What the event says, and whether the run is over with it.
fn read(event: &RecordedEvent) -> Option<(Document, bool)> {
    let is_over = match event.event_type.as_str() {
        STARTED | PROGRESS => false,
        COMPLETED => true,
        _ => return None,
    };
    Some((serde_json::from_slice(&event.data).ok()?, is_over))
}

/// Whether the streams of runs have their access list.
pub(super) fn is_described(view: &ReadView<'_>) -> Result<bool, ReadError> {
    Ok(view.stream(&metastream_of(RUNS))?.last_number.is_some())
}

/// What a run begins with.
pub(super) struct Beginning {
    /// Its id.
    pub(super) id: Uuid,
    /// It begins only if no other was started since this one.
    pub(super) after: Option<EventNumber>,
    /// Whether the streams of runs have their access list.
    pub(super) is_described: bool,
    /// See [`Run::rests`].
    pub(super) rests: bool,
}

/// The beginning of a run.
pub(super) fn begin(node: &str, beginning: Beginning) -> Command {
    let Beginning { id, after, is_described, rests } = beginning;
    let stream = stream_of(id);
    let document = Document { scavenge_id: id.to_string(), rests, ..empty(node) };
    let runs_at = after.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exactly);
    let metadata = || event(METADATA_EVENT_TYPE, METADATA.into());
    let mut appends = vec![
        append(RUNS, runs_at, link(0, &stream)),
        append(&stream, ExpectedVersion::NoStream, event(STARTED, json(&document))),
        append(&metastream_of(&stream), ExpectedVersion::Any, metadata()),
    ];
    if !is_described {
        appends.push(append(&metastream_of(RUNS), ExpectedVersion::Any, metadata()));
    }
    command(appends)
}

/// How far a run has come. It is stored only if nothing else was written about the run since.
pub(super) fn progress(run: &Run, node: &str, taken: Duration) -> Command {
    let document = Document { time_taken: Some(in_words(taken)), ..document(run, node) };
    command(vec![append(&stream_of(run.id), ExpectedVersion::Exactly(run.last), event(PROGRESS, json(&document)))])
}

/// The end of a run. It is stored only if nothing else was written about the run since.
pub(super) fn end(run: &Run, node: &str, taken: Duration, result: RunResult, error: Option<String>) -> Command {
    let stream = stream_of(run.id);
    let document = Document { time_taken: Some(in_words(taken)), result: Some(result), error, ..document(run, node) };
    command(vec![
        append(RUNS, ExpectedVersion::Exactly(run.last_of_runs), link(run.last + 1, &stream)),
        append(&stream, ExpectedVersion::Exactly(run.last), event(COMPLETED, json(&document))),
    ])
}

fn empty(node: &str) -> Document {
    Document {
        scavenge_id: String::new(),
        node_endpoint: node.to_owned(),
        result: None,
        error: None,
        time_taken: None,
        space_saved: 0,
        events_removed: 0,
        streams_until: None,
        rests: false,
        stops: false,
    }
}

fn document(run: &Run, node: &str) -> Document {
    Document {
        scavenge_id: run.id.to_string(),
        space_saved: run.bytes,
        events_removed: run.events,
        streams_until: run.reached.clone(),
        rests: run.rests,
        stops: run.stops,
        ..empty(node)
    }
}

fn stream_of(run: Uuid) -> String {
    format!("{RUNS}-{run}")
}

fn metastream_of(stream: &str) -> String {
    format!("$${stream}")
}

fn json(document: &Document) -> Bytes {
    serde_json::to_vec(document).unwrap_or_default().into()
}

fn link(number: EventNumber, stream: &str) -> NewEvent {
    NewEvent { is_json: false, ..event(LINK_EVENT_TYPE, format!("{number}@{stream}").into()) }
}

fn event(event_type: &str, data: Bytes) -> NewEvent {
    NewEvent {
        event_id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        event_type: event_type.to_owned(),
        is_json: true,
        data,
        metadata: Bytes::new(),
    }
}

fn append(stream: &str, expected: ExpectedVersion, event: NewEvent) -> Append {
    let expected_version = expected.to_number();
    Append { stream: stream.to_owned(), expected_version, events: vec![event], ..Append::default() }
}

fn command(appends: Vec<Append>) -> Command {
    Command::of_streams(Kind::AppendAll(AppendAll { appends }))
}

/// As the original prints a span of time: hours, minutes, seconds and milliseconds.
fn in_words(taken: Duration) -> String {
    let seconds = taken.as_secs();
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60, taken.subsec_millis())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::event::WriteOutcome;
    use crate::store::StateWriter;

    const NODE: &str = "127.0.0.1:2113";

    /// A state to which commands are applied, each a chunk of its own.
    struct State {
        _directory: tempfile::TempDir,
        writer: StateWriter,
        entries: u64,
    }

    impl State {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let writer = StateWriter::open(directory.path(), 1 << 20).unwrap();
            Self { _directory: directory, writer, entries: 0 }
        }

        fn apply(&mut self, command: &Command) -> WriteOutcome {
            let mut chunk = self.writer.begin();
            self.entries += 1;
            let outcome = crate::machine::apply(&mut chunk, Ticks(self.entries), &command.encode_to_vec().into());
            chunk.commit(self.entries, Vec::new(), None);
            outcome.unwrap()
        }

        fn newest(&self) -> Option<Run> {
            self.writer.view(|view| newest(view).unwrap())
        }
    }

    fn begun(id: Uuid, after: Option<EventNumber>, is_described: bool) -> Beginning {
        Beginning { id, after, is_described, rests: false }
    }

    fn is_stored(outcome: &WriteOutcome) -> bool {
        matches!(outcome, WriteOutcome::Appended { repeated: false, .. })
    }

    #[test]
    fn a_run_is_told_by_its_events_from_its_beginning_to_its_end() {
        let mut state = State::new();
        assert_eq!(state.newest(), None);
        let id = Uuid::from_u128(7);
        assert!(!state.writer.view(|view| is_described(view).unwrap()));
        assert!(is_stored(&state.apply(&begin(NODE, begun(id, None, false)))));
        assert!(state.writer.view(|view| is_described(view).unwrap()));
        let run = state.newest().unwrap();
        assert_eq!((run.id, run.is_running(), run.events, run.reached.clone()), (id, true, 0, None));
        let refused = state.apply(&begin(NODE, begun(Uuid::from_u128(8), None, true)));
        assert!(matches!(refused, WriteOutcome::WrongExpectedVersion { .. }), "one at a time: {refused:?}");

        let further = Run { events: 5, bytes: 700, reached: Some("s".into()), ..run };
        assert!(is_stored(&state.apply(&progress(&further, NODE, Duration::from_millis(61_005)))));
        let run = state.newest().unwrap();
        assert_eq!((run.events, run.bytes, run.reached.as_deref()), (5, 700, Some("s")));
        assert!(run.is_running() && run.started == Ticks(1));
        assert!(!is_stored(&state.apply(&progress(&further, NODE, Duration::ZERO))), "it has come further since");

        assert!(is_stored(&state.apply(&end(&run, NODE, Duration::ZERO, RunResult::Stopped, None))));
        let run = state.newest().unwrap();
        assert_eq!((run.result, run.events), (Some(RunResult::Stopped), 5));
        assert!(is_stored(&state.apply(&begin(NODE, begun(Uuid::from_u128(8), Some(run.last_of_runs), true)))));
        assert_eq!(state.newest().unwrap().id, Uuid::from_u128(8));
    }

    #[test]
    fn a_run_that_rests_at_some_hours_can_be_made_to_go_on() {
        let mut state = State::new();
        let beginning = Beginning { rests: true, ..begun(Uuid::from_u128(7), None, false) };
        state.apply(&begin(NODE, beginning));
        let run = state.newest().unwrap();
        assert!(run.rests);
        let awake = Run { rests: false, ..run.clone() };
        assert!(is_stored(&state.apply(&progress(&awake, NODE, Duration::ZERO))));
        assert!(!state.newest().unwrap().rests);
        assert!(!is_stored(&state.apply(&progress(&run, NODE, Duration::ZERO))), "it was told to go on");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_followed_by_the_next_run() {
        let mut state = State::new();
        let stranger = NewEvent {
            event_id: Bytes::copy_from_slice(Uuid::from_u128(1).as_bytes()),
            event_type: "note".to_owned(),
            ..NewEvent::default()
        };
        let append =
            Append { stream: RUNS.to_owned(), expected_version: -2, events: vec![stranger], ..Append::default() };
        assert!(is_stored(&state.apply(&Command::of_maintenance(Kind::Append(append)))));
        assert_eq!(state.newest(), None);
        let last = state.writer.view(|view| last_of_runs(view).unwrap());
        assert!(is_stored(&state.apply(&begin(NODE, begun(Uuid::from_u128(8), last, false)))));
        assert_eq!(state.newest().unwrap().id, Uuid::from_u128(8));
    }

    #[test]
    fn documents_have_the_names_of_the_original() {
        let id = Uuid::from_u128(7);
        let run = Run {
            id,
            started: Ticks(0),
            result: None,
            events: 5,
            bytes: 700,
            reached: None,
            rests: false,
            stops: false,
            last: 0,
            last_of_runs: 0,
        };
        let Some(Kind::AppendAll(command)) =
            end(&run, NODE, Duration::from_millis(3_723_004), RunResult::Success, None).kind
        else {
            panic!("it appends to several streams");
        };
        let data = std::str::from_utf8(&command.appends[1].events[0].data).unwrap();
        let expected = format!(
            r#"{{"scavengeId":"{id}","nodeEndpoint":"{NODE}","result":"Success","timeTaken":"01:02:03.004","spaceSaved":700,"eventsRemoved":5}}"#
        );
        assert_eq!(data, expected);
    }
}
