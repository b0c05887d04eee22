//! Sessions: a client writes and looks for what it wrote, on the same node and by position on
//! another. Beside it, every node is asked for the leader's view of each session: the one that
//! leads has to see everything acknowledged before, and one that was deposed has to refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::Reader;
use super::twins::unique_write;
use crate::history::{Answer, Attempt, Write};
use crate::observations::{Promise, StreamRead};
use crate::workload::GIVE_UP;

/// No write was acknowledged yet.
const NONE: u64 = u64::MAX;

/// Starts a session at the node of `reader`, and a reader of it at every node.
pub(super) fn start(tasks: &mut JoinSet<()>, reader: &Reader) {
    let session = Session { stream: format!("session-{}", reader.node), acknowledged: Arc::new(AtomicU64::new(NONE)) };
    tasks.spawn(write(reader.clone(), session.clone()));
    for (node, _) in &reader.nodes {
        tasks.spawn(ask_leader(Reader { node: *node, ..reader.clone() }, session.clone()));
    }
}

/// One stream and what is known of it.
#[derive(Clone)]
struct Session {
    stream: String,
    /// Highest number that was acknowledged.
    acknowledged: Arc<AtomicU64>,
}

async fn write(reader: Reader, session: Session) {
    let mut turn = usize::from(reader.node);
    while reader.goes_on().await {
        let mut write = unique_write(&session.stream, &format!("session-{}", reader.node));
        // Also beyond the end of the run, so that its outcome is known.
        let started = Instant::now();
        let acknowledged = loop {
            turn += 1;
            let (node, base) = &reader.nodes[turn % reader.nodes.len()];
            if reader.liveness.is_up(*node)
                && let Some((number, position)) = attempt(&reader, &mut write, *node, base).await
            {
                break Some((*node, number, position));
            }
            if started.elapsed() > GIVE_UP {
                break None;
            }
            tokio::time::sleep(reader.period()).await;
        };
        if let Some((node, number, position)) = acknowledged {
            session.acknowledged.store(number, Ordering::SeqCst);
            read(&reader, node, Promise::SameNode, &session.stream, number, &[]).await;
            let (other, _) = reader.nodes[(turn + 1) % reader.nodes.len()];
            if reader.liveness.is_up(other) {
                let position = position.to_string();
                let headers = [("ES-MinPosition", position.as_str())];
                read(&reader, other, Promise::Position, &session.stream, number, &headers).await;
            }
        }
        reader.recorder.write(write);
    }
}

/// Sends the write once; number and position if it is acknowledged.
pub(super) async fn attempt(reader: &Reader, write: &mut Write, node: u16, base: &str) -> Option<(u64, u64)> {
    let sent_at = reader.recorder.now();
    let answer = reader.client.append(base, &write.stream, write.expected_version, &write.events).await;
    let answered_at = reader.recorder.now();
    write.attempts.push(Attempt { node, sent_at, answered_at, answer: answer.clone() });
    match answer {
        Answer::Acknowledged { first_number, position } => Some((first_number, position)),
        _ => None,
    }
}

async fn ask_leader(reader: Reader, session: Session) {
    while reader.goes_on().await {
        // A reader of each session at each node: together they ask no more than those of other
        // kinds.
        tokio::time::sleep(reader.period() * (reader.nodes.len() as u32 - 1)).await;
        let number = session.acknowledged.load(Ordering::SeqCst);
        if number != NONE {
            let headers = [("ES-RequireMaster", "true")];
            read(&reader, reader.node, Promise::Leader, &session.stream, number, &headers).await;
        }
    }
}

/// An answer other than 200 promises nothing.
async fn read(reader: &Reader, node: u16, promise: Promise, stream: &str, at_least: u64, headers: &[(&str, &str)]) {
    let sent_at = reader.recorder.now();
    let Ok(seen) = reader.newest(node, stream, headers).await else { return };
    let answered_at = reader.recorder.now();
    let read = StreamRead { node, promise, stream: stream.to_owned(), sent_at, answered_at, at_least, seen };
    reader.observer.add(|all| all.reads.push(read));
}
