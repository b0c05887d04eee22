//! The rule of changes of members: what is asked for, what is known of the members, and what
//! follows from both. No clock, no network, no lock.

use std::collections::BTreeSet;

use crate::cluster::servers::precedence;
use crate::cluster::status::overview::Quorum;
use crate::config::MAX_MEMBERS;
use crate::transport::{Member, NodeId};

/// A server may be given a vote, or the leadership, if it lacks no more log entries than this: it
/// has them within moments.
pub(crate) const MAX_LAG: u64 = 1_000;

/// A change that an administrator asks for. Servers are named by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new server becomes a member: a voter when it has caught up, or a replica for good.
    Add {
        /// The server.
        server: u16,
        /// Where it is.
        places: Member,
        /// Whether it never votes.
        replica: bool,
    },
    /// A server is a member no more.
    Remove {
        /// The server.
        server: u16,
    },
    /// A replica becomes a voter.
    Promote {
        /// The server.
        server: u16,
    },
    /// A voter becomes a replica.
    Demote {
        /// The server.
        server: u16,
    },
    /// A new server, or a new disk of the same one, takes the place of a server that is gone.
    Replace {
        /// The server that is gone.
        server: u16,
        /// The new server.
        by: u16,
        /// Where it is.
        places: Member,
    },
    /// Another voter becomes the leader.
    Transfer {
        /// The server; the voter that is furthest if absent.
        to: Option<u16>,
    },
}

/// What the leader knows of a member.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The member.
    pub(crate) id: NodeId,
    /// Its places, as the leader uses them, and its marks.
    pub(crate) member: Member,
    /// Whether it is in the newest list of voters.
    pub(crate) votes: bool,
    /// Whether it answered lately.
    pub(crate) is_alive: bool,
    /// Entries of the log that it has not confirmed; `None` if it confirmed none.
    pub(crate) lag: Option<u64>,
    /// Whether it has said that it knows changes of members.
    pub(crate) knows_changes: bool,
}

/// What the leader knows of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    /// The leader, which is one of the members.
    pub(crate) leader: NodeId,
    /// All members.
    pub(crate) members: Vec<Known>,
    /// Whether one list of voters is being exchanged for another.
    pub(crate) is_exchanging: bool,
    /// Whether the members were changed before, which no older member would have let happen, or the
    /// cluster version in force says that there is none.
    pub(crate) is_changed: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Ask the server to join, and add it with these places and marks.
    Add {
        /// The server.
        server: u16,
        /// As it will be described.
        member: Member,
    },
    /// Take its vote if it has one, and remove it.
    Remove {
        /// The member.
        id: NodeId,
        /// Whether it votes.
        votes: bool,
    },
    /// Let it vote when it has caught up.
    Promote {
        /// The member.
        id: NodeId,
    },
    /// Take its vote.
    Demote {
        /// The member.
        id: NodeId,
    },
    /// Make this voter the leader, and then ask the new leader again: the change concerns this one.
    HandOverFirst {
        /// The voter.
        to: NodeId,
    },
    /// Make this voter the leader.
    HandOver {
        /// The voter.
        to: NodeId,
    },
}

/// Why a change is not made. Each says what is in its way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("servers {0} have not answered with a version that knows changes of members; upgrade or start them first")]
    OlderVersion(String),
    #[error("another change is under way: voters are being exchanged; try again in a moment")]
    Exchanging,
    #[error("another change is under way: server {0} is catching up; wait until it votes, or remove it first")]
    CatchingUp(u16),
    #[error("no majority answers: {alive} of {voters} voters, and {needed} are needed", alive = .0.alive, voters = .0.voters, needed = .0.needed)]
    NoMajority(Quorum),
    #[error(
        "without it {alive} of {voters} voters would answer, and {needed} are needed: no write would be taken; start the others first",
        alive = .0.alive, voters = .0.voters, needed = .0.needed
    )]
    LosesMajority(Quorum),
    #[error("server {0} is the last voter")]
    LastVoter(u16),
    #[error("server {0} is a member already; to give it a new disk, use replace")]
    IdInUse(u16),
    #[error("the address {0} is that of server {1}")]
    AddressInUse(String, u16),
    #[error("the address {0} is given twice")]
    SameAddress(String),
    #[error(
        "server {0} is on loopback, and server {1} is not: they would not reach each other; give both addresses of the network"
    )]
    Loopback(u16, u16),
    #[error("a cluster has at most {MAX_MEMBERS} members")]
    TooMany,
    #[error("server {0} is no member")]
    NotAMember(u16),
    #[error("server {0} votes already")]
    VotesAlready(u16),
    #[error("server {0} is a replica already")]
    IsReplica(u16),
    #[error("server {0} does not answer")]
    Silent(u16),
    #[error("server {0} answers: remove it instead, or stop it first")]
    Answers(u16),
    #[error("server {0} lacks {1} entries of the log, and may lack {MAX_LAG}; wait until it has caught up")]
    Lags(u16, u64),
    #[error("server {0} does not vote, so it cannot lead")]
    NoVoter(u16),
    #[error("server {0} leads already")]
    Leads(u16),
    #[error("server {0} leads, and no other voter can take over at the moment")]
    NoSuccessor(u16),
}

/// Whether the change may be made, and how.
pub(crate) fn decide(situation: &Situation, change: &Change) -> Result<Plan, Refusal> {
    let now = situation.quorum_without(None);
    if !now.is_there() {
        return Err(Refusal::NoMajority(now));
    }
    if situation.is_exchanging {
        return Err(Refusal::Exchanging);
    }
    if let Change::Transfer { to } = change {
        return situation.transfer(*to);
    }
    let leaving = match change {
        Change::Remove { server } | Change::Replace { server, .. } => Some(*server),
        _ => None,
    };
    situation.check_versions(leaving)?;
    situation.check_catching_up(change)?;
    match change {
        Change::Add { server, places, replica } => situation.add(*server, places, *replica),
        Change::Remove { server } => situation.remove(*server),
        Change::Promote { server } => situation.promote(*server),
        Change::Demote { server } => situation.demote(*server),
        Change::Replace { server, by, places } => situation.replace(*server, *by, places),
        Change::Transfer { to } => situation.transfer(*to),
    }
}

impl Situation {
    fn check_versions(&self, leaving: Option<u16>) -> Result<(), Refusal> {
        if self.is_changed {
            return Ok(());
        }
        let is_older = |known: &&Known| !known.knows_changes && Some(known.id.server()) != leaving;
        let older: Vec<String> =
            self.members.iter().filter(is_older).map(|known| known.id.server().to_string()).collect();
        if older.is_empty() { Ok(()) } else { Err(Refusal::OlderVersion(older.join(", "))) }
    }

    /// One server catches up at a time. Only its removal is possible meanwhile.
    fn check_catching_up(&self, change: &Change) -> Result<(), Refusal> {
        let catching_up = self.members.iter().find(|known| !known.votes && !known.member.replica);
        match (catching_up, change) {
            (Some(known), Change::Remove { server }) if known.id.server() == *server => Ok(()),
            (Some(known), _) => Err(Refusal::CatchingUp(known.id.server())),
            (None, _) => Ok(()),
        }
    }

    /// The voters, without one of them.
    fn quorum_without(&self, left_out: Option<NodeId>) -> Quorum {
        let voters: BTreeSet<NodeId> = self
            .members
            .iter()
            .filter(|known| known.votes && Some(known.id) != left_out)
            .map(|known| known.id)
            .collect();
        Quorum::of(&voters, |id| self.members.iter().any(|known| known.id == id && known.is_alive))
    }

    /// A member by its server id. While a new disk of a server catches up it is that one, so that
    /// its coming can be undone.
    fn member(&self, server: u16) -> Result<&Known, Refusal> {
        let of_server = self.members.iter().filter(|known| known.id.server() == server);
        let rank = |known: &&Known| precedence(known.votes, known.member.replica);
        of_server.max_by_key(rank).ok_or(Refusal::NotAMember(server))
    }

    /// The voter that is furthest and could lead.
    fn successor(&self) -> Result<NodeId, Refusal> {
        let may_lead = |known: &&Known| known.votes && known.is_alive && known.id != self.leader;
        let candidates = self.members.iter().filter(may_lead).filter_map(|known| Some((known.lag?, known.id)));
        let (lag, id) = candidates.min().ok_or(Refusal::NoSuccessor(self.leader.server()))?;
        if lag > MAX_LAG { Err(Refusal::NoSuccessor(self.leader.server())) } else { Ok(id) }
    }

    /// Refuses places that other members have. `but` may have them.
    fn check_places(&self, server: u16, places: &Member, but: Option<NodeId>) -> Result<(), Refusal> {
        if places.raft_address == places.http_address {
            return Err(Refusal::SameAddress(places.raft_address.clone()));
        }
        for known in self.members.iter().filter(|known| Some(known.id) != but) {
            let theirs = [&known.member.raft_address, &known.member.http_address];
            if let Some(taken) =
                [&places.raft_address, &places.http_address].into_iter().find(|own| theirs.contains(own))
            {
                return Err(Refusal::AddressInUse(taken.clone(), known.id.server()));
            }
            match (is_loopback(&known.member.raft_address), is_loopback(&places.raft_address)) {
                (true, false) => return Err(Refusal::Loopback(known.id.server(), server)),
                (false, true) => return Err(Refusal::Loopback(server, known.id.server())),
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&self, server: u16, places: &Member, replica: bool) -> Result<Plan, Refusal> {
        if self.member(server).is_ok() {
            return Err(Refusal::IdInUse(server));
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(Refusal::TooMany);
        }
        self.check_places(server, places, None)?;
        Ok(Plan::Add {
            server,
            member: Member { joined: true, changed: true, replica, replaces: None, ..places.clone() },
        })
    }

    fn remove(&self, server: u16) -> Result<Plan, Refusal> {
        let known = self.member(server)?;
        if known.votes
            && let Some(first) = self.check_vote_is_dispensable(known)?
        {
            return Ok(first);
        }
        Ok(Plan::Remove { id: known.id, votes: known.votes })
    }

    fn demote(&self, server: u16) -> Result<Plan, Refusal> {
        let known = self.member(server)?;
        if !known.votes {
            return Err(Refusal::IsReplica(server));
        }
        let first = self.check_vote_is_dispensable(known)?;
        Ok(first.unwrap_or(Plan::Demote { id: known.id }))
    }

    /// Refuses to take a vote that is needed; what has to be done before it is taken.
    fn check_vote_is_dispensable(&self, known: &Known) -> Result<Option<Plan>, Refusal> {
        let server = known.id.server();
        let rest = self.quorum_without(Some(known.id));
        if rest.voters == 0 {
            return Err(Refusal::LastVoter(server));
        }
        if !rest.is_there() {
            return Err(Refusal::LosesMajority(rest));
        }
        if known.id == self.leader {
            return Ok(Some(Plan::HandOverFirst { to: self.successor()? }));
        }
        Ok(None)
    }

    fn promote(&self, server: u16) -> Result<Plan, Refusal> {
        let known = self.member(server)?;
        if known.votes {
            return Err(Refusal::VotesAlready(server));
        }
        check_is_near(known)?;
        Ok(Plan::Promote { id: known.id })
    }

    fn replace(&self, server: u16, by: u16, places: &Member) -> Result<Plan, Refusal> {
        let old = self.member(server)?;
        if old.is_alive {
            return Err(Refusal::Answers(server));
        }
        if by != server && self.member(by).is_ok() {
            return Err(Refusal::IdInUse(by));
        }
        self.check_places(by, places, Some(old.id))?;
        let replica = old.member.replica;
        let member = Member { joined: true, changed: true, replica, replaces: Some(old.id), ..places.clone() };
        Ok(Plan::Add { server: by, member })
    }

    fn transfer(&self, to: Option<u16>) -> Result<Plan, Refusal> {
        let Some(server) = to else { return Ok(Plan::HandOver { to: self.successor()? }) };
        let known = self.member(server)?;
        if known.id == self.leader {
            return Err(Refusal::Leads(server));
        }
        if !known.votes {
            return Err(Refusal::NoVoter(server));
        }
        check_is_near(known)?;
        Ok(Plan::HandOver { to: known.id })
    }
}

/// Refuses a member that is silent or far behind.
fn check_is_near(known: &Known) -> Result<(), Refusal> {
    match (known.is_alive, known.lag) {
        (true, Some(lag)) if lag <= MAX_LAG => Ok(()),
        (true, Some(lag)) => Err(Refusal::Lags(known.id.server(), lag)),
        (false, _) | (_, None) => Err(Refusal::Silent(known.id.server())),
    }
}

/// Whether an address is one that only the same machine reaches.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
