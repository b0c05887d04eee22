//! What happens to the bytes that one node sends to another.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// The way from one node to another, by their server ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The node that sends.
    pub from: u16,
    /// The node that receives.
    pub to: u16,
}

impl Link {
    /// From one node to another.
    pub fn new(from: u16, to: u16) -> Self {
        Self { from, to }
    }

    /// The other way.
    pub fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}->{}", self.from, self.to)
    }
}

/// How much later bytes arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delay {
    /// Every byte is at least this late.
    pub least: Duration,
    /// And by up to this much more, at random. Bytes of one connection stay in order.
    pub jitter: Duration,
}

/// The rule of a link; the default lets everything through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// Nothing arrives: what is sent waits until the link is whole again. Connections that were
    /// opened meanwhile are reset then: no real network would have let them come to be.
    pub cut: bool,
    /// Connections that the sender has opened to the receiver are dead, and it does not know: the
    /// receiver's side is reset, the sender's stays open, takes everything and answers nothing.
    pub half_open: bool,
    /// Time on the way.
    pub delay: Delay,
    /// The most that goes through in a second, per connection with proxies.
    pub bytes_per_second: Option<NonZeroU32>,
    /// Of a hundred packets so many are lost; not with proxies.
    pub lost_percent: u8,
    /// Connections from before the last change of this number are reset.
    pub(super) resets: u64,
}

impl Rule {
    /// Lets everything through. Connections that were reset stay so.
    pub(super) fn heal(&mut self) {
        *self = Self { resets: self.resets, ..Self::default() };
    }
}

/// The rules of all links; a link without one lets everything through.
pub(super) type Rules = BTreeMap<Link, Rule>;

/// The rule of a link.
pub(super) fn of(rules: &Rules, link: Link) -> Rule {
    rules.get(&link).copied().unwrap_or_default()
}
