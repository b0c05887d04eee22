//! What rules the links between the nodes of a cluster.

use anyhow::Context;

use super::filters::Filters;
use super::{Link, Links, Rule, Seen};

/// Proxies or packet filters.
#[derive(Debug)]
pub enum Ruler {
    /// Nodes on loopback, behind a TCP proxy each.
    Proxies(Links),
    /// Nodes with a network namespace each.
    Filters(Filters),
}

impl Ruler {
    /// Changes the rules of some links.
    pub fn change(&self, links: &[Link], change: impl Fn(&mut Rule)) -> anyhow::Result<()> {
        match self {
            Self::Proxies(proxies) => links.iter().for_each(|link| proxies.change(*link, &change)),
            Self::Filters(filters) => return filters.change(links, change),
        }
        Ok(())
    }

    /// Nothing arrives on these links any more.
    pub fn cut(&self, links: &[Link]) -> anyhow::Result<()> {
        self.change(links, |rule| rule.cut = true)
    }

    /// Takes every rule away.
    pub fn heal(&self) -> anyhow::Result<()> {
        match self {
            Self::Proxies(proxies) => proxies.heal(),
            Self::Filters(filters) => return filters.heal(),
        }
        Ok(())
    }

    /// What links have done so far.
    pub fn seen(&self, links: &[Link]) -> anyhow::Result<Vec<Seen>> {
        match self {
            Self::Proxies(proxies) => Ok(links.iter().map(|link| proxies.seen(*link)).collect()),
            Self::Filters(filters) => filters.seen(links),
        }
    }

    /// The proxies, for what only they can do.
    pub fn proxies(&self) -> anyhow::Result<&Links> {
        match self {
            Self::Proxies(proxies) => Some(proxies),
            Self::Filters(_) => None,
        }
        .context("these links are no proxies")
    }

    /// The packet filters, for what only they need.
    pub fn filters(&self) -> Option<&Filters> {
        match self {
            Self::Proxies(_) => None,
            Self::Filters(filters) => Some(filters),
        }
    }
}
