//! Where the messages of a group come from: its stream, followed like a subscription, and single
//! events that are needed again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::GroupName;
use super::group::{Key, Message};
use super::settings::{Settings, Strategy};
use crate::access::{Caller, Principal};
use crate::event::caller::ADMINS;
use crate::event::{EventNumber, ResolvedEvent, StreamName};
use crate::streams::{
    Links, Piece, ReadBarrier, ReadEvents, Refusal, Source, Streams, Subscribe, SubscribeError, SubscriptionStart,
};

/// After how long without a message the reader says how far it has looked.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// Pieces that wait for the group to have room. Each has a bounded number of messages.
const PIECES: usize = 1;

/// Single events that are read at a time, and their bytes.
const REREAD_EVENTS: usize = 256;
const REREAD_BYTES: u64 = 1 << 20;

/// What the reader of a stream found.
#[derive(Debug)]
pub(super) enum Found {
    /// The next messages, and the number behind them.
    Messages(Vec<Message>, EventNumber),
    /// There is no message before this number.
    Passed(EventNumber),
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
}

/// The node itself: groups are read by nobody, and handed out by the rights of who takes them.
fn itself() -> Caller {
    Caller::User(Arc::new(Principal::vouched_for("headwater", vec![ADMINS.to_owned()])))
}

impl Reader {
    /// For a group with these settings.
    pub(super) fn new(streams: Streams, name: GroupName, settings: &Settings) -> Self {
        Self { streams, name, follows_links: settings.resolve_links, strategy: settings.strategy }
    }

    /// Follows the stream of the group from this number on, until the receiver is dropped.
    pub(super) fn follow(&self, from: EventNumber) -> mpsc::Receiver<Found> {
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
    async fn send(&self, from: EventNumber, sender: &mpsc::Sender<Found>) -> Found {
        let source = Source::Stream { name: self.name.stream.clone(), links: self.links() };
        let subscribe = Subscribe {
            source,
            start: SubscriptionStart::At(from),
            barrier: ReadBarrier::default(),
            longest_silence: LONGEST_SILENCE,
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
                    let end = events.last().map_or(from, |event| event.original.number + 1);
                    Found::Messages(events.iter().map(|event| self.message(event)).collect(), end)
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

    /// Reads messages of the stream again, from the first of these numbers on, and says behind
    /// which number it stopped.
    pub(super) async fn again(
        &self,
        first: EventNumber,
        last: EventNumber,
    ) -> Result<(Vec<Message>, EventNumber), Refusal> {
        let (events, end) = self.events(self.name.stream.clone(), first, last, self.links()).await?;
        Ok((events.iter().map(|event| self.message(event)).collect(), end))
    }

    /// Reads parked messages: their links are followed, and those that lead nowhere are left out.
    pub(super) async fn parked(
        &self,
        first: EventNumber,
        last: EventNumber,
    ) -> Result<(Vec<Message>, EventNumber), Refusal> {
        let Ok(stream) = StreamName::parse(self.name.parked_stream()) else { return Ok((Vec::new(), last + 1)) };
        let (events, end) = self.events(stream, first, last, Links::FollowedWhereAllowed).await?;
        let messages = events.iter().filter(|event| event.borrowed().followed_link().is_some());
        let parked = |event| Message { key: Key::Parked(number_of(event)), ..self.message(event) };
        Ok((messages.map(parked).collect(), end))
    }

    async fn events(
        &self,
        stream: StreamName,
        first: EventNumber,
        last: EventNumber,
        links: Links,
    ) -> Result<(Vec<ResolvedEvent>, EventNumber), Refusal> {
        let numbers: Vec<EventNumber> = (first..=last).take(REREAD_EVENTS).collect();
        let read = ReadEvents {
            stream,
            numbers,
            links,
            is_own: true,
            most_bytes: REREAD_BYTES,
            barrier: ReadBarrier::default(),
        };
        let read = self.streams.read_events(&itself(), read).await?;
        Ok((read.events, first + read.looked_at as u64))
    }

    fn links(&self) -> Links {
        links_of(self.follows_links)
    }

    fn message(&self, event: &ResolvedEvent) -> Message {
        let (number, stream) = event.borrowed().identity();
        Message {
            key: Key::Source(number_of(event)),
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

/// What is done with links before messages are sent. Of those whose targets a consumer may not
/// read, it gets the link.
pub(super) fn links_of(follows_links: bool) -> Links {
    if follows_links { Links::FollowedWhereAllowed } else { Links::AsStored }
}

fn number_of(event: &ResolvedEvent) -> EventNumber {
    event.original.number
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
