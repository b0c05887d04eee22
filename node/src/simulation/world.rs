//! The world of a simulation: all nodes, their network and their clients, moved forward together.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tempfile::TempDir;

use super::clients::Clients;
use super::disk::Cut;
use super::facts::{Checked, Facts};
use super::flaw::Flaw;
use super::network::Network;
use super::node::Node;
use super::schedule::{Plan, Strike, Whom};
use super::trace::Trace;
use crate::raft::ServerState;
use crate::transport::NodeId;

/// After healing, a write is acknowledged and all members are equal within this time.
const RECOVERY_MS: u64 = 20_000;

/// How often it is looked at who leads.
const ROLES_EVERY_MS: u64 = 10;

/// How long a change of members or of the leader is waited for.
const CHANGE_DEADLINE: Duration = Duration::from_secs(3);

/// One simulated cluster.
pub(super) struct World {
    plan: Plan,
    rng: StdRng,
    now: u64,
    network: Network,
    nodes: Vec<Node>,
    clients: Clients,
    facts: Facts,
    pub(super) trace: Trace,
    /// Nodes that are down, and when they start again.
    down: BTreeMap<usize, u64>,
    next_operation: u64,
    strikes: u64,
    _root: TempDir,
}

impl World {
    pub(super) fn new(seed: u64, flaw: Option<Flaw>, trace_file: Option<&Path>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Plan::new(&mut rng, flaw == Some(Flaw::DisksLie));
        let root = tempfile::tempdir().unwrap();
        let network = Network::new(plan.nodes, plan.latency_ms, StdRng::seed_from_u64(rng.next_u64()));
        let nodes = (0..plan.nodes)
            .map(|number| Node::new(number, plan.nodes, root.path(), network.clone(), plan.settings, rng.next_u64()))
            .collect();
        let clients = Clients::new(StdRng::seed_from_u64(rng.next_u64()), flaw);
        let trace = Trace::new(trace_file);
        let facts = Facts::default();
        let (now, down, next_operation, strikes) = (0, BTreeMap::new(), 1_000, 0);
        Self { plan, rng, now, network, nodes, clients, facts, trace, down, next_operation, strikes, _root: root }
    }

    /// Hash and length of the trace, simulated milliseconds, messages, operations, acknowledged
    /// writes, misfortunes, and terms with a leader.
    pub(super) fn figures(&self) -> [u64; 8] {
        let (trace, clients) = (&self.trace, &self.clients);
        let (messages, terms) = (self.network.sent(), self.facts.terms());
        let acknowledged = clients.succeeded.0;
        [trace.hash(), trace.len(), self.now, messages, clients.operations(), acknowledged, self.strikes, terms]
    }

    /// Runs it to its end. The error is the rule that was broken.
    pub(super) fn run(&mut self) -> Checked {
        for node in &mut self.nodes {
            node.start()?;
        }
        let founders: BTreeMap<NodeId, _> =
            self.nodes.iter().take(self.plan.founders).map(|node| (node.id, node.member())).collect();
        if let Some(parts) = self.nodes[0].parts() {
            let consensus = parts.consensus();
            self.nodes[0].spawn(async move {
                // A misfortune may come first; then the cluster is founded at the healing.
                let _ = consensus.initialize(founders).await;
            });
        }
        let strikes = std::mem::take(&mut self.plan.strikes);
        let mut strikes = strikes.into_iter().peekable();
        while self.now < self.plan.active_ms {
            while let Some((_, strike)) = strikes.next_if(|(at, _)| *at <= self.now) {
                self.strike(strike)?;
            }
            if self.now >= self.next_operation {
                self.begin_operation();
                self.next_operation = self.now + self.rng.random_range(1..2 * self.plan.pace_ms);
            }
            self.step()?;
        }
        self.heal();
        self.recover()?;
        for node in self.members() {
            self.facts.see_end(&self.nodes[node])?;
        }
        // The databases are closed in order.
        (0..self.nodes.len()).try_for_each(|node| self.stop(node))
    }

    /// One turn of everything.
    fn step(&mut self) -> Checked {
        self.now += self.plan.turn_ms;
        let now = self.now;
        self.trace.set_time(now);
        let due: Vec<usize> = self.down.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in due {
            self.down.remove(&node);
            self.trace.note(format_args!("{node} starts"));
            self.nodes[node].start()?;
        }
        self.network.begin_copies();
        for arrival in self.network.advance(now) {
            self.facts.see_message(&arrival, &self.trace)?;
            self.nodes[arrival.to].receive(arrival);
        }
        for node in &mut self.nodes {
            node.turn(now, self.plan.turn_ms)?;
        }
        for node in &mut self.nodes {
            self.facts.see_node(node, &self.trace)?;
            if now % ROLES_EVERY_MS < self.plan.turn_ms {
                self.facts.see_role(node, &self.trace)?;
            }
        }
        self.clients.take_answers(now, &mut self.facts, &self.trace)
    }

    /// The running nodes that take themselves for the leader, and their terms.
    fn leaders(&self) -> Vec<(u64, usize)> {
        let leads = |node: &Node| {
            let seen = node.parts()?.consensus().seen();
            (seen.leader == Some(node.id) && seen.state == ServerState::Leader).then_some((seen.term, node.number))
        };
        self.nodes.iter().filter_map(leads).collect()
    }

    /// The one that leads in the newest term.
    fn leader(&self) -> Option<usize> {
        self.leaders().into_iter().max().map(|(_, number)| number)
    }

    /// The nodes that vote, as the leader knows them.
    fn members(&self) -> Vec<usize> {
        let Some(parts) = self.leader().and_then(|leader| self.nodes[leader].parts()) else { return Vec::new() };
        let voters = parts.consensus().seen().members.voters();
        self.nodes.iter().filter(|node| voters.contains(&node.id)).map(|node| node.number).collect()
    }

    fn begin_operation(&mut self) {
        let any = self.rng.random_range(0..self.nodes.len());
        let wants_leader = self.rng.random_range(0..10) < 8;
        // A client may still know a leader that is deposed, and asks it.
        let leaders = self.leaders();
        let node = if wants_leader && !leaders.is_empty() { leaders[any % leaders.len()].1 } else { any };
        self.clients.begin(&self.nodes[node], self.now, &self.facts, &self.trace);
    }

    fn whom(&self, whom: Whom) -> usize {
        match whom {
            Whom::Node(node) => node,
            Whom::Leader => self.leader().unwrap_or(0),
        }
    }

    fn strike(&mut self, strike: Strike) -> Checked {
        self.trace.note(format_args!("{strike:?}"));
        self.strikes += 1;
        let now = self.now;
        match strike {
            Strike::Kill { node, for_ms } => self.end(self.whom(node), Cut::Kill, for_ms)?,
            Strike::Power { node, for_ms } => self.end(self.whom(node), Cut::Power, for_ms)?,
            Strike::PowerOfAll { for_ms } => {
                for node in 0..self.nodes.len() {
                    self.end(node, Cut::Power, for_ms)?;
                }
            }
            Strike::Stop { node, for_ms } => {
                let node = self.whom(node);
                self.stop(node)?;
                self.down.entry(node).or_insert(now + for_ms);
            }
            Strike::Pause { node, for_ms, clock_goes_on } => {
                let node = self.whom(node);
                self.nodes[node].pause(now, for_ms, clock_goes_on);
            }
            Strike::CutOff { node, sends, receives, for_ms } => self.cut_off(self.whom(node), sends, receives, for_ms),
            Strike::Partition { below, for_ms } => {
                for (one, other) in (0..below).flat_map(|one| (below..self.nodes.len()).map(move |other| (one, other)))
                {
                    self.network.cut(one, other, for_ms);
                    self.network.cut(other, one, for_ms);
                }
            }
            Strike::Reset { one, other } => self.network.reset(one, other),
            Strike::Slow { from, to, for_ms, slow_ms } => self.network.slow(from, to, for_ms, slow_ms),
            Strike::SlowDisk { node, for_ms } => {
                let node = self.whom(node);
                self.nodes[node].slow_disk_until = now + for_ms;
            }
            Strike::ClockJumps { node, by_ms } => self.nodes[node].clock_ms += by_ms,
            Strike::ClockDrifts { node, by } => self.nodes[node].drift = by,
            Strike::Flush { node } => self.flush(node),
            Strike::HandOver { to } => self.hand_over(to),
            Strike::SwapMember => self.swap_member(),
        }
        Ok(())
    }

    /// Stops a node in order. It still applies and answers meanwhile.
    fn stop(&mut self, node: usize) -> Checked {
        self.nodes[node].stop();
        self.facts.see_node(&mut self.nodes[node], &self.trace)?;
        self.nodes[node].leave();
        Ok(())
    }

    fn end(&mut self, node: usize, cut: Cut, for_ms: u64) -> Checked {
        if self.nodes[node].is_up() {
            let lost = self.nodes[node].end(cut)?;
            self.trace.note(format_args!("{node} ends and loses {lost} bytes"));
            self.down.insert(node, self.now + for_ms);
        }
        Ok(())
    }

    fn cut_off(&self, node: usize, sends: bool, receives: bool, for_ms: u64) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if sends {
                self.network.cut(node, other, for_ms);
            }
            if receives {
                self.network.cut(other, node, for_ms);
            }
        }
    }

    fn flush(&self, node: usize) {
        if let Some(parts) = self.nodes[node].parts() {
            let apply = parts.apply().clone();
            self.nodes[node].spawn(async move {
                // The node may be stopping.
                let _ = apply.flush().await;
            });
        }
    }

    fn hand_over(&self, to: usize) {
        let Some(leader) = self.leader().filter(|leader| *leader != to) else { return };
        let (Some(parts), to) = (self.nodes[leader].parts(), self.nodes[to].id) else { return };
        let consensus = parts.consensus();
        if !consensus.seen().members.voters().contains(&to) {
            return;
        }
        self.nodes[leader].spawn(async move {
            let _ = tokio::time::timeout(CHANGE_DEADLINE, consensus.transfer_leadership(to)).await;
        });
    }

    /// Adds a node without a vote, and exchanges it for a voter when that is committed.
    fn swap_member(&mut self) {
        let Some(leader) = self.leader() else { return };
        let members = self.members();
        let spare: Vec<usize> = (0..self.nodes.len()).filter(|node| !members.contains(node)).collect();
        let replaced: Vec<usize> = members.into_iter().filter(|node| *node != leader).collect();
        let draws = (self.rng.random_range(0..64), self.rng.random_range(0..64));
        if spare.is_empty() || replaced.is_empty() {
            return;
        }
        let (new, old) = (&self.nodes[spare[draws.0 % spare.len()]], self.nodes[replaced[draws.1 % replaced.len()]].id);
        let (new, member) = (new.id, new.member());
        let Some(parts) = self.nodes[leader].parts() else { return };
        let consensus = parts.consensus();
        self.nodes[leader].spawn(async move {
            let change = async {
                consensus.add_learner(new, member).await.ok()?;
                let members = consensus.seen().members;
                let mut voters = members.voters();
                voters.remove(&old);
                voters.insert(new);
                consensus.replace_voters(voters, &members).await.ok()
            };
            let _ = tokio::time::timeout(CHANGE_DEADLINE, change).await;
        });
    }

    fn heal(&mut self) {
        self.trace.note(format_args!("everything is healed"));
        self.network.heal();
        let now = self.now;
        for node in &mut self.nodes {
            (node.paused_until, node.drift, node.slow_disk_until) = (node.paused_until.min(now), 0, 0);
            if !node.is_up() {
                self.down.insert(node.number, now);
            }
        }
    }

    /// Waits until a write that began after the healing is acknowledged and all members have it.
    fn recover(&mut self) -> Checked {
        let healed = self.now;
        let acknowledged = self.clients.succeeded.0;
        let mut wrote = None;
        while self.now < healed + RECOVERY_MS {
            self.step()?;
            if self.now % 100 >= self.plan.turn_ms {
                continue;
            }
            if self.clients.succeeded.0 > acknowledged {
                wrote.get_or_insert(self.now - healed);
            }
            if wrote.is_some() {
                if !self.clients.are_waiting() && self.are_equal() {
                    return Ok(());
                }
            } else if let Some(leader) = self.leader() {
                self.clients.begin_write(&self.nodes[leader], self.now, &self.facts, &self.trace);
            }
        }
        let leader = self.leader();
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.checked).collect();
        Err(format!(
            "{RECOVERY_MS} ms after the healing: first write after {wrote:?} ms, leader {leader:?}, members {:?}, applied {nodes:?}",
            self.members()
        ))
    }

    fn are_equal(&self) -> bool {
        let members = self.members();
        let Some(leader) = self.leader() else { return false };
        let Some(parts) = self.nodes[leader].parts() else { return false };
        let entries = parts.log_extent().end;
        members.iter().all(|member| self.nodes[*member].checked.0 == entries)
    }
}
