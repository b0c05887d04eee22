//! Links to other events: where they lead, and whether the caller may read what is there
//! (contract/streams 11).

use std::collections::HashMap;

use crate::access::{Caller, Policy, rules};
use crate::event::visibility::VisibleEvents;
use crate::event::{EventNumber, EventRef, LinkTarget, RecordedEvent, ResolvedEvent, Ticks, Visibility};
use crate::store::{EventPlace, ReadError, ReadView, StreamInfo};

/// What a read does with links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Links {
    /// It shows what they lead to, and is refused where the caller may not read that.
    Followed,
    /// It shows what they lead to, and as they are stored those whose targets the caller may not
    /// read. In the log of all events anybody can write one, and must not close the log by it.
    FollowedWhereAllowed,
    /// It shows them as they are stored.
    AsStored,
}

/// The right to read what the links met so far lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkAccess {
    /// Everybody may read all of it.
    Public,
    /// The caller may, but not everybody: shared caches must not keep the answer.
    Private,
    /// The caller may not read all of it, and is shown the links alone where that is so; others may
    /// be shown more.
    Withheld,
    /// The caller may not read all of it, and so not what shows the links (contract/services 1.6).
    Denied,
}

impl LinkAccess {
    /// The answer for links that were not looked at yet. What is shown to an anonymous caller may
    /// be shown to everybody.
    pub(super) fn of_unseen(policy: &Policy) -> Self {
        if policy.caller == Caller::Anonymous { Self::Public } else { Self::Private }
    }

    /// Whether the caller may not read the target.
    fn is_closed(self) -> bool {
        match self {
            Self::Public | Self::Private => false,
            Self::Withheld | Self::Denied => true,
        }
    }
}

/// A stream that links lead to.
struct Met {
    info: StreamInfo,
    access: LinkAccess,
    /// An event of it is shown.
    is_shown: bool,
}

/// Follows links under one view; remembers the streams they lead to.
pub(super) struct LinkResolver<'view, 'db> {
    view: &'view ReadView<'db>,
    links: Links,
    now: Ticks,
    policy: &'view Policy,
    streams: HashMap<String, Met>,
    access: LinkAccess,
    has_met_links: bool,
}

impl<'view, 'db> LinkResolver<'view, 'db> {
    /// Has followed nothing yet. `now` is the time by which the age of targets is judged.
    pub(super) fn new(view: &'view ReadView<'db>, links: Links, now: Ticks, policy: &'view Policy) -> Self {
        let streams = HashMap::new();
        Self { view, links, now, policy, streams, access: LinkAccess::Public, has_met_links: false }
    }

    /// The right to read what the links followed so far lead to.
    pub(super) fn access(&self) -> LinkAccess {
        self.access
    }

    /// Whether any of the events was a link that was to be followed.
    pub(super) fn has_met_links(&self) -> bool {
        self.has_met_links
    }

    /// The streams of the events that links led to.
    pub(super) fn into_shown(self) -> impl Iterator<Item = String> {
        self.streams.into_iter().filter(|(_, met)| met.is_shown).map(|(stream, _)| stream)
    }

    /// Where a stored event leads, if it is a link: one level is followed. A link to what the
    /// caller may not read is not followed: where the answer can still be refused, [`Self::access`]
    /// says that it has to be.
    pub(super) fn target(&mut self, event: EventRef<'_>) -> Result<LinkTarget, ReadError> {
        let Some((number, stream)) = self.link(event) else { return Ok(LinkTarget::NotFollowed) };
        self.has_met_links = true;
        let access = self.access_to(stream)?;
        self.access = self.access.max(access);
        if access.is_closed() {
            return Ok(LinkTarget::NotFollowed);
        }
        let dangling = || LinkTarget::Dangling { number, stream: stream.to_owned() };
        let Some((place, visible)) = self.place(number, stream)? else { return Ok(dangling()) };
        let Some(target) = self.view.event_at(place)? else { return Ok(dangling()) };
        if !visible.shows(target.number, target.time) {
            return Ok(dangling());
        }
        if let Some(met) = self.streams.get_mut(stream) {
            met.is_shown = true;
        }
        Ok(LinkTarget::Event(target))
    }

    /// Notes the right to read the target of a link, without reading it.
    pub(super) fn check(&mut self, event: EventRef<'_>) -> Result<(), ReadError> {
        if let Some((_, stream)) = self.link(event) {
            let access = self.access_to(stream)?;
            self.access = self.access.max(access);
        }
        Ok(())
    }

    /// A stored event with what it leads to.
    pub(super) fn resolve(&mut self, original: RecordedEvent) -> Result<ResolvedEvent, ReadError> {
        let target = self.target(original.borrowed())?;
        Ok(ResolvedEvent { original, target })
    }

    /// How many stored bytes [`Self::target`] reads.
    pub(super) fn target_bytes(&mut self, event: EventRef<'_>) -> Result<u64, ReadError> {
        let Some((number, stream)) = self.link(event) else { return Ok(0) };
        if self.access_to(stream)?.is_closed() {
            return Ok(0);
        }
        Ok(self.place(number, stream)?.map_or(0, |(place, _)| place.bytes.into()))
    }

    /// Number and stream of the target of a link that is to be followed.
    fn link<'a>(&self, event: EventRef<'a>) -> Option<(EventNumber, &'a str)> {
        match self.links {
            Links::Followed | Links::FollowedWhereAllowed => event.link_target(),
            Links::AsStored => None,
        }
    }

    /// Where a target is, and what of its stream is visible. The stream was looked at before.
    fn place(&self, number: EventNumber, stream: &str) -> Result<Option<(EventPlace, VisibleEvents)>, ReadError> {
        let Some(Met { info, .. }) = self.streams.get(stream).filter(|_| !rules::is_sealed(stream)) else {
            return Ok(None);
        };
        match (info.visibility(self.now), info.id) {
            (Visibility::Readable(visible), Some(id)) if visible.bounds.contains(number) => {
                Ok(self.view.place(id, number)?.map(|place| (place, visible)))
            }
            _ => Ok(None),
        }
    }

    fn access_to(&mut self, stream: &str) -> Result<LinkAccess, ReadError> {
        if let Some(met) = self.streams.get(stream) {
            return Ok(met.access);
        }
        let mut info = self.view.stream(stream)?;
        let access = match () {
            // What nobody may ever read is no more than what does not exist. Else one event of
            // anybody would close the log of all events, and every stream it is written to, for
            // administrators, too.
            () if rules::is_sealed(stream) => LinkAccess::Public,
            () if !self.policy.may_read(stream, &info) => match self.links {
                Links::FollowedWhereAllowed => LinkAccess::Withheld,
                Links::Followed | Links::AsStored => LinkAccess::Denied,
            },
            () if !self.policy.is_public(stream, &info) => LinkAccess::Private,
            () => LinkAccess::Public,
        };
        // Decided: lists of hundreds of targets would be much to hold.
        (info.metadata.acl, info.described) = (None, None);
        self.streams.insert(stream.to_owned(), Met { info, access, is_shown: false });
        Ok(access)
    }
}
