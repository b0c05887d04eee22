//! What listed servers answer when all of them are asked at the same moment.

use futures::future::join_all;
use headwater_proto::cluster as wire;

use crate::cluster::status::peers::{Peers, reason_of};
use crate::config::MemberConfig;

/// A listed server and its answer.
pub(super) type Answer<'a> = (&'a MemberConfig, wire::StatusResponse);

/// The answers of servers.
pub(super) struct Asked<'a> {
    /// Those that answered.
    pub(super) heard: Vec<Answer<'a>>,
    /// Those that did not, and why: for the operator.
    pub(super) silent: Vec<String>,
    /// Where another server answers than the listed one: a sentence for the operator.
    pub(super) misplaced: Option<String>,
}

impl<'a> Asked<'a> {
    /// Asks all of these servers.
    pub(super) async fn all(peers: &Peers, servers: &[&'a MemberConfig]) -> Self {
        let answers = join_all(servers.iter().map(|server| peers.ask(server))).await;
        let mut asked = Self { heard: Vec::new(), silent: Vec::new(), misplaced: None };
        for (server, answer) in servers.iter().zip(answers) {
            match answer {
                Ok(status) => asked.heard.push((*server, status)),
                Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                    asked.misplaced.get_or_insert_with(|| status.message().to_owned());
                }
                Err(status) => {
                    let reason = reason_of(&status);
                    asked.silent.push(format!("server {} at {} ({reason})", server.id, server.raft_address));
                }
            }
        }
        asked
    }
}
