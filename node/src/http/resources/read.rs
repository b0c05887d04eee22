//! Reading events under one view: visibility and links. Runs inside [`crate::store::Store::read`].

use std::collections::HashMap;

use crate::access::{Caller, Policy, rules};
use crate::event::visibility::VisibleEvents;
use crate::event::{EventNumber, EventRef, RecordedEvent, Ticks, Visibility};
use crate::http::format::atom::{OwnedEntry, Target};
use crate::store::{EventPlace, ReadError, ReadView, StreamInfo};

/// Follows links; remembers the streams they lead to.
pub struct Resolver<'view, 'db> {
    view: &'view ReadView<'db>,
    now: Ticks,
    policy: &'view Policy,
    streams: HashMap<String, (StreamInfo, Targets)>,
    targets: Targets,
    has_met_links: bool,
}

/// What the targets of the links of a page mean for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Targets {
    /// Everybody may read all of them.
    Public,
    /// Not everybody may: shared caches must not keep the page.
    Private,
    /// The caller may not read all of them, and so not the page (contract/services 1.6).
    Denied,
}

impl Targets {
    /// Of links that were not looked at yet. What is shown to somebody who did not log in may be shown to everybody.
    pub fn unknown(policy: &Policy, follows_links: bool) -> Self {
        if follows_links && policy.caller != Caller::Anonymous { Self::Private } else { Self::Public }
    }
}

impl<'view, 'db> Resolver<'view, 'db> {
    /// Nothing followed yet.
    pub fn new(view: &'view ReadView<'db>, now: Ticks, policy: &'view Policy) -> Self {
        Self { view, now, policy, streams: HashMap::new(), targets: Targets::Public, has_met_links: false }
    }

    /// What the links followed so far lead to.
    pub fn targets(&self) -> Targets {
        self.targets
    }

    /// Whether any of the events was a link.
    pub fn has_met_links(&self) -> bool {
        self.has_met_links
    }

    /// Where a stored event leads, if it is a link: one level is followed (contract/streams 11). To what the caller may not read it leads
    /// nowhere: where an answer can still be refused, [`Self::targets`] says that it has to be.
    pub fn target(&mut self, event: EventRef<'_>) -> Result<Target, ReadError> {
        let Some((number, stream)) = event.link_target() else { return Ok(Target::None) };
        self.has_met_links = true;
        let access = self.access_to(stream)?;
        self.targets = self.targets.max(access);
        if access == Targets::Denied {
            return Ok(Target::None);
        }
        let unreadable = || Target::Unreadable { number, stream: stream.to_owned() };
        let Some((place, oldest)) = self.place(number, stream)? else { return Ok(unreadable()) };
        let target = self.view.event_at(place)?;
        Ok(if target.time >= oldest { Target::Event(target) } else { unreadable() })
    }

    /// Notes what the target of a link means for the page, without reading the target.
    pub fn check(&mut self, event: EventRef<'_>) -> Result<(), ReadError> {
        if let Some((_, stream)) = event.link_target() {
            let access = self.access_to(stream)?;
            self.targets = self.targets.max(access);
        }
        Ok(())
    }

    /// The entry for a stored event.
    pub fn entry(&mut self, event: RecordedEvent) -> Result<OwnedEntry, ReadError> {
        let target = self.target(event.borrowed())?;
        Ok(OwnedEntry { event, target })
    }

    /// How many stored bytes [`Self::target`] reads.
    pub fn target_bytes(&mut self, event: EventRef<'_>) -> Result<u64, ReadError> {
        let Some((number, stream)) = event.link_target() else { return Ok(0) };
        Ok(self.place(number, stream)?.map_or(0, |(place, _)| place.bytes.into()))
    }

    /// Where the target is, and how old it may be.
    fn place(&mut self, number: EventNumber, stream: &str) -> Result<Option<(EventPlace, Ticks)>, ReadError> {
        if self.access_to(stream)? == Targets::Denied {
            return Ok(None);
        }
        let Some((info, _)) = self.streams.get(stream).filter(|_| !rules::is_sealed(stream)) else { return Ok(None) };
        match (info.visibility(self.now), info.id) {
            (Visibility::Readable(VisibleEvents { bounds, oldest }), Some(id)) if bounds.contains(number) => {
                Ok(self.view.place(id, number)?.map(|place| (place, oldest)))
            }
            _ => Ok(None),
        }
    }

    fn access_to(&mut self, stream: &str) -> Result<Targets, ReadError> {
        if let Some((_, access)) = self.streams.get(stream) {
            return Ok(*access);
        }
        let info = self.view.stream(stream)?;
        let access = match () {
            // What nobody may ever read is no more than what does not exist. Else one event of anybody would close the log of all events,
            // and every stream it is written to, for administrators, too.
            () if rules::is_sealed(stream) => Targets::Public,
            () if !self.policy.may_read(stream, &info) => Targets::Denied,
            () if !self.policy.is_public(stream, &info) => Targets::Private,
            () => Targets::Public,
        };
        self.streams.insert(stream.to_owned(), (info, access));
        Ok(access)
    }
}

/// The clock that `$maxAge` is judged by.
pub fn now() -> Ticks {
    Ticks::from_system_time(std::time::SystemTime::now())
}
