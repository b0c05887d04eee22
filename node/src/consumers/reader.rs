//! Where the messages of a group come from: its stream, or the log, followed like a subscription,
//! and single events that are needed again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::GroupName;
use super::group::{Key, Message};
use super::names::is_of_group_on_log;
use super::record::Stored;
use super::settings::Strategy;
use crate::access::{Caller, Principal};
use crate::event::caller::ADMINS;
use crate::event::{EventNumber, ResolvedEvent, StreamName};
use crate::streams::{
    Filter, Links, PatternError, Piece, ReadBarrier, ReadEvents, Refusal, Source, Streams, Subscribe, SubscribeError,
    SubscriptionStart,
};

/// After how long without a message the reader says how far it has looked.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// After how many numbers or positions without a message the reader says so: at once. A group that
/// has seen all there is must not look like one that has not.
const CHECKPOINT_AFTER: u64 = 1;

/// Pieces that wait for the group to have room. Each has a bounded number of messages.
const PIECES: usize = 1;

/// Single events that are read at a time, and their bytes.
const REREAD_EVENTS: usize = 256;
const REREAD_BYTES: u64 = 1 << 20;

/// What the reader of a stream found.
#[derive(Debug)]
pub(super) enum Found {
    /// The next messages, and the number or position behind them.
    Messages(Vec<Message>, u64),
    /// There is no message before this number or position.
    Passed(u64),
    /// It cannot go on, for this reason. It begins again later.
    Failed(String),
    /// The stream is hard-deleted: there will never be another message.
    Deleted,
}

/// Reads for one group.
#[derive(Clone)]
pub(super) struct Reader {
    streams: Streams,
    name: GroupName,
    follows_links: bool,
    strategy: Strategy,
    /// What it reads of the log.
    filter: Result<Option<Arc<Filter>>, PatternError>,
}

/// The node itself: groups are read by nobody, and handed out by the rights of who takes them.
fn itself() -> Caller {
    Caller::User(Arc::new(Principal::vouched_for("headwater", vec![ADMINS.to_owned()])))
}

impl Reader {
    /// For this group.
    pub(super) fn new(streams: Streams, stored: &Stored) -> Self {
        let Stored { name, settings, filter, .. } = stored;
        let filter = filter.as_ref().map(|filter| filter.compile().map(Arc::new)).transpose();
        let (follows_links, strategy) = (settings.resolve_links, settings.strategy);
        Self { streams, name: name.clone(), follows_links, strategy, filter }
    }

    /// Follows the stream of the group, or the log, from this number or position on, until the
    /// receiver is dropped.
    pub(super) fn follow(&self, from: u64) -> mpsc::Receiver<Found> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let reader = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                end = reader.send(from, &sender) => {
                    let _ = sender.send(end).await;
                }
            }
        });
        receiver
    }

    /// Sends what is found, and says why that has come to an end.
    async fn send(&self, from: u64, sender: &mpsc::Sender<Found>) -> Found {
        let filter = match &self.filter {
            Ok(filter) => filter.clone(),
            Err(error) => return Found::Failed(error.to_string()),
        };
        let subscribe = Subscribe {
            source: source_of(&self.name, self.follows_links, filter),
            start: SubscriptionStart::At(from),
            barrier: ReadBarrier::default(),
            longest_silence: LONGEST_SILENCE,
            checkpoint_after: CHECKPOINT_AFTER,
            closed: CancellationToken::new(),
        };
        let mut subscription = match self.streams.subscribe(&itself(), subscribe).await {
            Ok(subscription) => subscription,
            Err(SubscribeError::Deleted) => return Found::Deleted,
            Err(error) => return Found::Failed(error.to_string()),
        };
        loop {
            let found = match subscription.next().await {
                Ok(Piece::Events(events)) => {
                    let end = events.last().map_or(from, |event| self.place_of(event) + 1);
                    let shared = events.iter().filter(|event| self.shares_out(event));
                    Found::Messages(shared.map(|event| self.message(event)).collect(), end)
                }
                Ok(Piece::Checkpoint(last)) => Found::Passed(last + 1),
                Ok(Piece::Silence) => continue,
                Err(end) if end.is_deletion() => return Found::Deleted,
                Err(end) => return Found::Failed(end.to_string()),
            };
            if sender.send(found).await.is_err() {
                return Found::Failed("nobody reads".to_owned());
            }
        }
    }

    /// Reads messages of the stream, or of the log, again, from the first of these numbers on, and
    /// says behind which number it stopped.
    pub(super) async fn again(&self, first: u64, last: u64) -> Result<(Vec<Message>, u64), Refusal> {
        let (events, end) = self.events(source_of(&self.name, self.follows_links, None), first, last).await?;
        Ok((events.iter().map(|event| self.message(event)).collect(), end))
    }

    /// Reads parked messages: their links are followed, and those that lead nowhere are left out.
    pub(super) async fn parked(
        &self,
        first: EventNumber,
        last: EventNumber,
    ) -> Result<(Vec<Message>, EventNumber), Refusal> {
        let Ok(stream) = StreamName::parse(self.name.parked_stream()) else { return Ok((Vec::new(), last + 1)) };
        let source = Source::Stream { name: stream, links: Links::FollowedWhereAllowed };
        let (events, end) = self.events(source, first, last).await?;
        let messages = events.iter().filter(|event| event.borrowed().followed_link().is_some());
        let parked = |event: &ResolvedEvent| Message { key: Key::Parked(event.original.number), ..self.message(event) };
        Ok((messages.map(parked).collect(), end))
    }

    async fn events(&self, source: Source, first: u64, last: u64) -> Result<(Vec<ResolvedEvent>, u64), Refusal> {
        let numbers = (first..=last).take(REREAD_EVENTS).collect();
        let barrier = ReadBarrier::default();
        let read = ReadEvents { source, numbers, is_own: true, most_bytes: REREAD_BYTES, barrier };
        let read = self.streams.read_events(&itself(), read).await?;
        Ok((read.events, first + read.looked_at as u64))
    }

    /// Number or position of an event by which the group knows it.
    fn place_of(&self, event: &ResolvedEvent) -> u64 {
        if self.name.is_on_log() { event.original.position } else { event.original.number }
    }

    /// Whether an event that was read is a message of the group.
    fn shares_out(&self, event: &ResolvedEvent) -> bool {
        !self.name.is_on_log() || !is_of_group_on_log(&event.original.stream)
    }

    fn message(&self, event: &ResolvedEvent) -> Message {
        let (number, stream) = event.borrowed().identity();
        Message {
            key: Key::Source(self.place_of(event)),
            id: event.original.event_id,
            bytes: event.payload_bytes() as u64,
            lane: self.lane(event),
            origin: (number, stream.to_owned()),
        }
    }

    /// What messages that belong together have in common.
    fn lane(&self, event: &ResolvedEvent) -> u64 {
        let (_, stream) = event.borrowed().identity();
        match self.strategy {
            Strategy::PinnedByCorrelation => match correlation(event) {
                Some(correlation) => hash(&correlation),
                None => hash(stream),
            },
            Strategy::Pinned | Strategy::OrderedByStream => hash(stream),
            Strategy::RoundRobin | Strategy::DispatchToSingle => 0,
        }
    }
}

/// What a group shares out. Of links whose targets a consumer may not read, it gets the link.
pub(super) fn source_of(name: &GroupName, follows_links: bool, filter: Option<Arc<Filter>>) -> Source {
    let links = if follows_links { Links::FollowedWhereAllowed } else { Links::AsStored };
    if name.is_on_log() { Source::Log { filter, links } } else { Source::Stream { name: name.stream.clone(), links } }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The correlation id in the metadata of the event that is shown.
fn correlation(event: &ResolvedEvent) -> Option<String> {
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "$correlationId")]
        correlation_id: String,
    }
    let shown = event.borrowed().shown()?;
    serde_json::from_slice::<Metadata>(shown.metadata).ok().map(|metadata| metadata.correlation_id)
}
