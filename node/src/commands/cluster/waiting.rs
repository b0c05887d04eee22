//! Waiting for a server that catches up.

use std::time::{Duration, Instant};

use super::document::{Document, ask};
use crate::client::{Client, Progress, Unit};
use crate::commands::CommandError;
use crate::config::WaitFlags;

/// Time between two questions how far the server has come.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// Entries that a replica may lack and count as one that has caught up: what is under way.
const NEAR: u64 = 1_000;

/// What a server is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becoming {
    /// A voter, which may lead.
    Voter,
    /// A replica.
    Replica,
    /// What the server was whose place it takes.
    Successor,
}

/// What became of a server.
#[derive(Debug, PartialEq, Eq)]
enum Arrival {
    /// It is what it was to become.
    There,
    /// So many entries to go, if that is known.
    Coming(Option<u64>),
    /// It is no member.
    Gone,
}

/// Waits until the server has caught up and is what it was to become, and alone under its id.
pub(super) async fn wait_for(
    client: &Client,
    server: u16,
    becoming: Becoming,
    wait: WaitFlags,
) -> Result<(), CommandError> {
    let Some(limit) = wait.limit() else { return Ok(()) };
    let started = Instant::now();
    let progress = Progress::new("caught up", Unit::Things("entries"), None);
    let (mut most, mut shown) = (0, 0);
    loop {
        let (document, _) = ask(client).await?;
        match look(&document, server, becoming) {
            Arrival::There => {
                progress.finish();
                let role = document.members.iter().find(|member| member.server == server);
                say!("server {server} is a {}", role.map_or("member", |member| member.role.as_str()));
                return Ok(());
            }
            Arrival::Gone => return Err(CommandError::NotThere { server }),
            Arrival::Coming(lag) => {
                let lag = lag.unwrap_or(most);
                most = most.max(lag);
                progress.set_total(most);
                progress.advance((most - lag).saturating_sub(shown));
                shown = shown.max(most - lag);
            }
        }
        if started.elapsed() > limit {
            return Err(CommandError::StillComing { server });
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// What the document says of the server.
fn look(document: &Document, server: u16, becoming: Becoming) -> Arrival {
    let of_server: Vec<_> = document.members.iter().filter(|member| member.server == server).collect();
    // While a new disk takes the place of an old one, both have the id.
    let new = of_server.iter().find(|member| member.role == "learner").or(of_server.last());
    let Some(new) = new else { return Arrival::Gone };
    let is_settled = |role: &str| match becoming {
        Becoming::Voter => matches!(role, "voter" | "leader"),
        Becoming::Replica => role == "replica",
        Becoming::Successor => matches!(role, "voter" | "leader" | "replica"),
    };
    let has_caught_up = new.answers && new.lag.is_some_and(|lag| lag <= NEAR);
    if of_server.len() == 1 && is_settled(&new.role) && has_caught_up {
        return Arrival::There;
    }
    Arrival::Coming(new.lag)
}

#[cfg(test)]
mod tests {
    use super::super::document::{Condition, Member};
    use super::*;

    fn document(members: &[(u16, &str, Option<u64>)]) -> Document {
        let member = |(server, role, lag): &(u16, &str, Option<u64>)| Member {
            server: *server,
            raft: String::new(),
            http: String::new(),
            role: (*role).to_owned(),
            state: String::new(),
            answers: lag.is_some(),
            term: None,
            log_end: None,
            applied: None,
            lag: *lag,
            version: None,
            newest_cluster_version: None,
        };
        Document {
            cluster_id: None,
            asked: 1,
            leader: None,
            term: 1,
            condition: Condition::Healthy,
            problems: Vec::new(),
            voters: 1,
            voters_answering: 1,
            voters_needed: 1,
            cluster_version: None,
            gated: Vec::new(),
            members: members.iter().map(member).collect(),
        }
    }

    #[test]
    fn a_server_is_there_when_it_has_its_role_and_has_caught_up() {
        let look = |members: &[_], becoming| look(&document(members), 2, becoming);
        assert_eq!(look(&[(1, "leader", Some(0))], Becoming::Voter), Arrival::Gone);
        assert_eq!(look(&[(2, "learner", Some(70_000))], Becoming::Voter), Arrival::Coming(Some(70_000)));
        assert_eq!(look(&[(2, "learner", None)], Becoming::Voter), Arrival::Coming(None));
        assert_eq!(look(&[(2, "voter", Some(3))], Becoming::Voter), Arrival::There);
        assert_eq!(look(&[(2, "leader", Some(0))], Becoming::Voter), Arrival::There);
        assert_eq!(look(&[(2, "replica", Some(5_000))], Becoming::Replica), Arrival::Coming(Some(5_000)));
        assert_eq!(look(&[(2, "replica", Some(5))], Becoming::Replica), Arrival::There);
        assert_eq!(look(&[(2, "voter", None), (2, "learner", Some(9))], Becoming::Successor), Arrival::Coming(Some(9)));
        assert_eq!(
            look(&[(2, "replica", None), (2, "voter", Some(9))], Becoming::Successor),
            Arrival::Coming(Some(9)),
            "the old disk is there"
        );
    }
}
