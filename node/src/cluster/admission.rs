//! Who a write is made for, and the leader's decision whether it may be made (contract/services 5.2).
//!
//! The node that receives a request decides by its own state, which may be behind. So a write travels with whoever asks for it, and the leader, whose
//! state has everything that was acknowledged, decides again before it proposes. How, the room of access rules knows; it hands that in.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::BoxFuture;
use headwater_proto::cluster as wire;
use prost::Message;

use super::Cluster;
use super::gate::Proposed;
use crate::event::Caller;

/// In whose name a write is made. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// The node itself: the first users, the renewed hash of a password.
    Node,
    /// Whoever sent a request.
    Caller(Caller),
}

/// When the right of a caller was looked at: under which leadership of this node. Its state has everything that was acknowledged only while
/// it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64);

impl Moment {
    /// Not looked at, or not while this node led.
    pub const NEVER: Self = Self(0);
}

/// A write and what decides whether it may be made.
#[derive(Debug, Clone)]
pub struct Write {
    /// An encoded [`headwater_proto::stored::Command`].
    pub command: Bytes,
    /// In whose name.
    pub asker: Asker,
    /// When this node found that it may be made, just before.
    pub checked: Moment,
}

/// What is written to, as access lists see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Events for a stream.
    Append(String),
    /// The end of a stream.
    Delete(String),
    /// A change of users: events for all of these streams.
    Users(Vec<String>),
    /// Nothing; the state machine refuses it.
    Nothing,
}

impl Target {
    /// Of an encoded command; its events are skipped.
    pub fn of(command: &Bytes) -> Self {
        use wire::command_target::Kind;
        match wire::CommandTarget::decode(command.clone()).ok().and_then(|target| target.kind) {
            Some(Kind::Append(target)) => Self::Append(target.stream),
            Some(Kind::Delete(target)) => Self::Delete(target.stream),
            Some(Kind::AppendAll(targets)) => {
                let with_events = targets.appends.into_iter().filter(|append| !append.events.is_empty());
                Self::Users(with_events.map(|append| append.stream).collect())
            }
            None => Self::Nothing,
        }
    }
}

/// A decision on a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It may be made.
    Yes,
    /// Whoever asks may not.
    No,
    /// Nobody can tell now.
    NotNow,
}

/// Decides by the newest state of this node.
pub trait Admission: Send + Sync {
    /// Whether the write may be made.
    fn admits(&self, asker: Asker, target: Target) -> BoxFuture<'static, Admitted>;
}

impl Cluster {
    /// Says who decides on writes while this node leads. Before, none is made.
    pub fn decide_with(&self, admission: Box<dyn Admission>) {
        let is_first = self.inner.admission.set(admission).is_ok();
        debug_assert!(is_first, "somebody decides already");
    }

    /// Now, for [`Write::checked`]: take it before the right is looked at.
    pub fn moment(&self) -> Moment {
        Moment(self.inner.reign.load(Ordering::Acquire))
    }

    /// Whether the right was looked at while this node led as it leads now.
    pub fn is_checked(&self, moment: Moment) -> bool {
        moment != Moment::NEVER && moment == self.moment()
    }

    /// Decides as leader whether the write may enter the gate: `None`, or the answer instead.
    pub(super) fn refusal(&self, asker: Asker, command: &Bytes) -> BoxFuture<'static, Option<Proposed>> {
        let moment = self.moment();
        let Some(admission) = self.inner.admission.get().filter(|_| moment != Moment::NEVER) else {
            return Box::pin(std::future::ready(Some(Proposed::NotLeader)));
        };
        let (cluster, decision) = (self.clone(), admission.admits(asker, Target::of(command)));
        Box::pin(async move {
            match decision.await {
                Admitted::Yes if cluster.is_checked(moment) => None,
                Admitted::No if cluster.is_checked(moment) => Some(Proposed::Denied),
                Admitted::Yes | Admitted::No | Admitted::NotNow => Some(Proposed::NotLeader),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::stored::{Append, AppendAll, Command, Delete, NewEvent, command::Kind};

    use super::*;

    #[test]
    fn the_target_of_a_command_is_found_without_its_events() {
        let append = |stream: &str, events: usize| Append {
            stream: stream.into(),
            expected_version: 7,
            events: vec![
                NewEvent { data: Bytes::from_static(b"xyz"), event_type: "t".into(), ..NewEvent::default() };
                events
            ],
            write_id: Bytes::from_static(&[9; 16]),
        };
        let delete = Delete { stream: "b".into(), hard: true, ..Delete::default() };
        let all = AppendAll { appends: vec![append("c", 1), append("d", 0), append("e", 2)] };
        for (kind, expected) in [
            (Some(Kind::Append(append("a", 3))), Target::Append("a".into())),
            (Some(Kind::Delete(delete)), Target::Delete("b".into())),
            (Some(Kind::AppendAll(all)), Target::Users(vec!["c".into(), "e".into()])),
            (None, Target::Nothing),
        ] {
            assert_eq!(Target::of(&Command { kind }.encode_to_vec().into()), expected);
        }
        assert_eq!(Target::of(&Bytes::from_static(b"\xff\xff")), Target::Nothing);
    }
}
