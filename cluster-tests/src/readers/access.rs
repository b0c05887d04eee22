//! A user that joins and leaves a group, and a stream whose access list changes, and what the user
//! may do after each change: a read and a write on the node that answered, and on another one that
//! has applied it.

use std::time::Instant;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Reader;
use super::twins::unique_write;
use crate::check::access::PREFIX;
use crate::client::{ADMIN, ATOM_JSON, basic};
use crate::history::{Answer, Attempt, Write};
use crate::observations::AccessTry;
use crate::workload::GIVE_UP;

/// The group that the list admits.
const GROUP: &str = "readers";

/// Of all the users.
const PASSWORD: &str = "only-the-fault-suite-knows-3";

/// What is in force.
struct State {
    /// The user; another one when it is not certain what the last one may do.
    login: String,
    /// Users so far.
    users: u32,
    is_member: bool,
    /// The list names the group.
    is_listed: bool,
}

pub(super) async fn run(reader: Reader) {
    let mut state = State { login: String::new(), users: 0, is_member: false, is_listed: true };
    let mut guard = Guard { stream: format!("{PREFIX}{}", reader.node), turn: usize::from(reader.node), reader };
    // The stream exists before anybody asks for it.
    let mut first = unique_write(&guard.stream, "guarded");
    guard.until_answered(&mut first, &basic(ADMIN)).await;
    guard.reader.recorder.write(first);
    let mut is_certain = false;
    while guard.reader.goes_on().await {
        if !is_certain {
            is_certain = guard.set_list(state.is_listed).await.is_some() && guard.new_user(&mut state).await;
            continue;
        }
        let changed = if rand::random_bool(0.5) {
            state.is_listed = !state.is_listed;
            guard.set_list(state.is_listed).await
        } else {
            state.is_member = !state.is_member;
            guard.set_member(&state.login, state.is_member).await
        };
        match changed {
            Some(node) => guard.look(&state, node).await,
            None => is_certain = false,
        }
    }
}

/// One stream and who looks at it.
struct Guard {
    reader: Reader,
    stream: String,
    turn: usize,
}

impl Guard {
    /// The next node that should answer.
    fn next(&mut self) -> Option<(u16, String)> {
        self.turn += 1;
        let nodes = &self.reader.nodes;
        let mut order = (0..nodes.len()).map(|step| &nodes[(self.turn + step) % nodes.len()]);
        order.find(|(node, _)| self.reader.liveness.is_up(*node)).cloned()
    }

    /// What the user may do must be what the change says: at once on the node that answered it and
    /// for writes, and for reads on others when they have applied it.
    async fn look(&mut self, state: &State, answered: u16) {
        let may = state.is_listed && state.is_member;
        let user = basic((state.login.as_str(), PASSWORD));
        self.read(answered, may, &user).await;
        let mut write = unique_write(&self.stream, "guarded");
        if let Some((node, did)) = self.until_answered(&mut write, &user).await {
            self.saw(node, "a write", may, did);
        }
        self.reader.recorder.write(write);
        let mut mark = unique_write(&format!("marks-{}", self.reader.node), "mark");
        self.until_answered(&mut mark, &basic(ADMIN)).await;
        let position = mark.acknowledgements().next().map(|(_, _, position)| position.to_string());
        let (stream, other) = (mark.stream.clone(), self.next());
        self.reader.recorder.write(mark);
        if let (Some(position), Some((other, _))) = (position, other) {
            let headers = [("ES-MinPosition", position.as_str())];
            if self.reader.newest(other, &stream, &headers).await.is_ok() {
                self.read(other, may, &user).await;
            }
        }
    }

    async fn read(&self, node: u16, may: bool, user: &str) {
        let url = format!("{}/streams/{}/head/backward/1", self.reader.base_of(node), self.stream);
        let headers = [("Authorization", user), ("Accept", ATOM_JSON)];
        let Ok(answer) = self.reader.client.get(&url, &headers).await else { return };
        match answer.status() {
            StatusCode::OK => self.saw(node, "a read", may, true),
            StatusCode::UNAUTHORIZED => self.saw(node, "a read", may, false),
            _ => {}
        }
    }

    fn saw(&self, node: u16, what: &'static str, may: bool, did: bool) {
        let (at, stream) = (self.reader.recorder.now(), self.stream.clone());
        self.reader.observer.add(|seen| seen.access.push(AccessTry { node, at, what, stream, may, did }));
    }

    /// Sends a write until it is stored or denied; the node that said so, and whether it is stored.
    async fn until_answered(&mut self, write: &mut Write, authorization: &str) -> Option<(u16, bool)> {
        let started = Instant::now();
        // Also beyond the end of the run, so that its outcome is known.
        while started.elapsed() < GIVE_UP {
            if let Some((node, base)) = self.next() {
                let sent_at = self.reader.recorder.now();
                let headers = [("Authorization", authorization)];
                let (stream, version) = (&write.stream, write.expected_version);
                let answer = self.reader.client.append_as(&base, stream, version, &write.events, &headers).await;
                let answered_at = self.reader.recorder.now();
                write.attempts.push(Attempt { node, sent_at, answered_at, answer: answer.clone() });
                match answer {
                    Answer::Acknowledged { .. } => return Some((node, true)),
                    Answer::Refused { status: 401, .. } => return Some((node, false)),
                    _ => {}
                }
            }
            tokio::time::sleep(self.reader.period()).await;
        }
        None
    }

    /// Lets the list of the stream admit the group, or nobody. Returns the node that answered. A
    /// late copy changes nothing: the event has an id.
    async fn set_list(&mut self, admits: bool) -> Option<u16> {
        let roles = if admits { [GROUP] } else { ["$admins"] };
        let list = json!({ "$acl": { "$r": roles, "$w": roles } });
        let id = uuid::Uuid::new_v4().to_string();
        let path = format!("/streams/{}/metadata", self.stream);
        let headers = [("ES-EventType", "$metadata"), ("ES-EventId", id.as_str())];
        let started = Instant::now();
        while started.elapsed() < GIVE_UP {
            if let Some((node, Some(StatusCode::CREATED))) = self.ask(Method::POST, &path, &headers, &list).await {
                return Some(node);
            }
            tokio::time::sleep(self.reader.period()).await;
        }
        None
    }

    /// Takes the user into the group or out of it. `None` if there was no answer: a late copy could
    /// come after another change, so nobody knows any more what this user may do.
    async fn set_member(&mut self, login: &str, is_member: bool) -> Option<u16> {
        let groups = if is_member { vec![GROUP] } else { Vec::new() };
        let user = json!({ "fullName": login, "groups": groups });
        let answered = self.ask(Method::PUT, &format!("/users/{login}"), &[], &user).await;
        answered.filter(|(_, status)| *status == Some(StatusCode::OK)).map(|(node, _)| node)
    }

    /// Creates a user that is in the group; whether that was answered.
    async fn new_user(&mut self, state: &mut State) -> bool {
        state.users += 1;
        state.login = format!("guest-{}-{}", self.reader.node, state.users);
        state.is_member = true;
        let user = json!({
            "loginName": state.login, "fullName": state.login, "groups": [GROUP], "password": PASSWORD,
        });
        let answered = self.ask(Method::POST, "/users/", &[], &user).await;
        answered.is_some_and(|(_, status)| status == Some(StatusCode::CREATED))
    }

    /// The administrator asks for a change: the node that was asked, and what it said.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Option<(u16, Option<StatusCode>)> {
        let (node, base) = self.next()?;
        let administrator = basic(ADMIN);
        let mut all = vec![("Authorization", administrator.as_str()), ("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        let answer = self.reader.client.request(method, &format!("{base}{path}"), &all, body.to_string().into()).await;
        Some((node, answer.ok().map(|answer| answer.status())))
    }
}
