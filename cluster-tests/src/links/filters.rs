//! Links of nodes that have a network namespace each: packets are dropped where they arrive, by
//! rules of nft.
//!
//! A rule holds for everything that the namespace of one node gets from the address of another,
//! whichever of them has opened the connection. Clients have another address and are let through.
//!
//! Possible: a link cut one way or both ways, packets lost at random, packets dropped beyond a
//! rate. What would need every byte of a connection (delay, resets, half-open connections, bytes
//! that come again) is for proxies only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use serde_json::Value;

use super::rule::{self, Link, Rule, Rules};
use super::table::Seen;
use crate::command;
use crate::namespaces::path_with_sbin;

/// Name of the table in each namespace. Nothing else has it.
const TABLE: &str = "inet headwater_chaos";

/// So many packets pass at once although a link is slow: a few of the largest.
const BURST_BYTES: u32 = 16 << 10;

/// A node as packets see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where its packets come from.
    pub address: IpAddr,
    /// A file that stands for its network namespace.
    pub namespace: PathBuf,
}

/// The links of one cluster.
#[derive(Debug, Default)]
pub struct Filters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    places: BTreeMap<u16, Place>,
    rules: Rules,
}

impl Filters {
    /// A node is here from now on, perhaps in another namespace than before, which has no rules
    /// yet.
    pub fn put(&self, node: u16, place: Place) -> anyhow::Result<()> {
        let mut state = self.lock();
        state.places.insert(node, place);
        // Others may know it by another address.
        state.apply(|_| true)
    }

    /// A node has ended, and its namespace with it.
    pub fn remove(&self, node: u16) {
        self.lock().places.remove(&node);
    }

    /// Changes the rules of some links.
    pub fn change(&self, links: &[Link], change: impl Fn(&mut Rule)) -> anyhow::Result<()> {
        let mut state = self.lock();
        for link in links {
            change(state.rules.entry(*link).or_default());
        }
        state.apply(|node| links.iter().any(|link| link.to == node))
    }

    /// Takes every rule away.
    pub fn heal(&self) -> anyhow::Result<()> {
        let mut state = self.lock();
        state.rules.clear();
        state.apply(|_| true)
    }

    /// What links have done so far, counted by nft.
    pub fn seen(&self, links: &[Link]) -> anyhow::Result<Vec<Seen>> {
        let state = self.lock();
        let mut counters = BTreeMap::new();
        for link in links {
            if let (false, Some(place)) = (counters.contains_key(&link.to), state.places.get(&link.to)) {
                counters.insert(link.to, packets_by_counter(&place.namespace)?);
            }
        }
        let seen = |link: &Link| {
            let of = |what: &str| Some(*counters.get(&link.to)?.get(&format!("{what}-{}", link.from))?);
            Seen {
                dropped_packets: of("cut").unwrap_or_default(),
                lost_packets: of("lost").unwrap_or_default(),
                excess_packets: of("excess").unwrap_or_default(),
                ..Seen::default()
            }
        };
        Ok(links.iter().map(seen).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the chosen nodes their rules.
    fn apply(&self, chosen: impl Fn(u16) -> bool) -> anyhow::Result<()> {
        for (node, place) in self.places.iter().filter(|(node, _)| chosen(**node)) {
            nft(&place.namespace, &["--file", "-"], &self.script(*node))
                .with_context(|| format!("the packet filter of node {node}"))?;
        }
        Ok(())
    }

    /// All rules for what a node gets. Counters go on; nft takes all of it or nothing.
    fn script(&self, to: u16) -> String {
        let mut script = format!("add table {TABLE}\n");
        let chain = "in { type filter hook input priority 0; policy accept; }";
        script += &format!("add chain {TABLE} {chain}\nflush chain {TABLE} in\n");
        for (from, Place { address, .. }) in self.places.iter().filter(|(from, _)| **from != to) {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            let rule = rule::of(&self.rules, Link::new(*from, to));
            let mut add = |what: &str, when: &str, wanted: bool| {
                // Writing to a string cannot fail.
                let _ = writeln!(script, "add counter {TABLE} {what}-{from}");
                if wanted {
                    let counted = format!("counter name \"{what}-{from}\" drop");
                    let _ = writeln!(script, "add rule {TABLE} in {family} saddr {address} {when} {counted}");
                }
            };
            add("cut", "", rule.cut);
            add("lost", &format!("numgen random mod 100 < {}", rule.lost_percent), rule.lost_percent > 0);
            let rate = rule.bytes_per_second.map_or(1, |rate| rate.get());
            let over = format!("limit rate over {rate} bytes/second burst {BURST_BYTES} bytes");
            add("excess", &over, rule.bytes_per_second.is_some());
        }
        script
    }
}

fn packets_by_counter(namespace: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut command = vec!["--json", "list", "counters", "table"];
    command.extend(TABLE.split(' '));
    let output = nft(namespace, &command, "")?;
    let listed: Value = serde_json::from_slice(&output.stdout).context("nft lists no JSON")?;
    let items = listed["nftables"].as_array().context("nft lists nothing")?.iter();
    let packets = |item: &Value| {
        let counter = item.get("counter")?;
        Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
    };
    Ok(items.filter_map(packets).collect())
}

/// Runs nft in a namespace, whose owner needs no such program.
fn nft(namespace: &Path, arguments: &[&str], script: &str) -> anyhow::Result<Output> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg("nft").args(arguments);
    command::run(command.env("PATH", path_with_sbin()), script).with_context(|| script.to_owned())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn state() -> State {
        let place = |node: u8| (node.into(), Place { address: [10, 0, 0, node].into(), namespace: PathBuf::new() });
        State { places: [1, 2, 3].map(place).into(), rules: Rules::default() }
    }

    #[test]
    fn a_rule_is_for_what_one_node_gets_from_another() {
        let mut state = state();
        let dropping = |state: &State, to| state.script(to).lines().filter(|line| line.ends_with("drop")).count();
        assert_eq!([1, 2, 3].map(|to| dropping(&state, to)), [0, 0, 0]);
        state.rules.entry(Link::new(1, 2)).or_default().cut = true;
        assert_eq!([1, 2, 3].map(|to| dropping(&state, to)), [0, 1, 0]);
        let script = state.script(2);
        assert!(script.contains("in ip saddr 10.0.0.1  counter name \"cut-1\" drop"), "{script}");
        state.rules.entry(Link::new(3, 2)).or_default().lost_percent = 30;
        state.rules.entry(Link::new(3, 2)).or_default().bytes_per_second = NonZeroU32::new(1_000);
        assert_eq!(dropping(&state, 2), 3);
    }
}
