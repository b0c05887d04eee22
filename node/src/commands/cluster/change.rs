//! The commands that change the members.

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::waiting::{Becoming, wait_for};
use crate::client::{Call, Client, Repeat};
use crate::commands::{CommandError, parsed};
use crate::config::{AddFlags, MemberConfig, PromoteFlags, ReplaceFlags, ServerFlags, TransferFlags};

const MEMBERS: &str = "/admin/cluster/members";
const JSON: &str = "application/json";

/// A new server, as a node wants to hear of it.
#[derive(Serialize)]
struct NewServer<'a> {
    server: u16,
    raft: &'a str,
    http: &'a str,
    replica: bool,
}

/// What a node says of a change that it made.
#[derive(Deserialize)]
struct Done {
    done: String,
}

fn described(member: &MemberConfig, replica: bool) -> Vec<u8> {
    let MemberConfig { id, raft_address, http_address } = member;
    // Numbers and texts are always written.
    serde_json::to_vec(&NewServer { server: *id, raft: raft_address, http: http_address, replica }).unwrap_or_default()
}

/// Has a change made, and prints what the node says. A repetition of a change that was made would
/// be refused.
async fn make(client: &Client, call: Call) -> Result<(), CommandError> {
    let answer = client.send(&call.accept(JSON)).await?;
    let Done { done } = parsed(client, &answer)?;
    say!("{done}");
    Ok(())
}

fn post(path: impl Into<String>) -> Call {
    Call::post(path, Repeat::IfNotDone)
}

/// `headwater cluster add`.
pub(super) async fn add(flags: &AddFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node)?;
    make(&client, post(MEMBERS).body(JSON, described(&flags.member, flags.replica))).await?;
    let becoming = if flags.replica { Becoming::Replica } else { Becoming::Voter };
    wait_for(&client, flags.member.id, becoming, flags.wait).await
}

/// `headwater cluster remove`.
pub(super) async fn remove(flags: &ServerFlags) -> Result<(), CommandError> {
    let call = Call::new(Method::DELETE, format!("{MEMBERS}/{}", flags.server), Repeat::IfNotDone);
    make(&Client::new(&flags.node)?, call).await
}

/// `headwater cluster promote`.
pub(super) async fn promote(flags: &PromoteFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node)?;
    make(&client, post(format!("{MEMBERS}/{}/promote", flags.server))).await?;
    wait_for(&client, flags.server, Becoming::Voter, flags.wait).await
}

/// `headwater cluster demote`.
pub(super) async fn demote(flags: &ServerFlags) -> Result<(), CommandError> {
    make(&Client::new(&flags.node)?, post(format!("{MEMBERS}/{}/demote", flags.server))).await
}

/// `headwater cluster replace`.
pub(super) async fn replace(flags: &ReplaceFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node)?;
    let call = post(format!("{MEMBERS}/{}/replace", flags.server));
    make(&client, call.body(JSON, described(&flags.member, false))).await?;
    wait_for(&client, flags.member.id, Becoming::Successor, flags.wait).await
}

/// `headwater cluster transfer`.
pub(super) async fn transfer(flags: &TransferFlags) -> Result<(), CommandError> {
    let to = flags.to.map_or_else(String::new, |to| format!("?to={to}"));
    make(&Client::new(&flags.node)?, post(format!("/admin/cluster/transfer{to}"))).await
}
