//! Large answers on their way: made and sent part by part, within a bound on what all of them hold
//! in memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{MemoryBudget, Reservation};
use crate::http::exchange::reply::{PieceSender, Reply};
use crate::http::limits::{PART_BYTES, PART_MEMORY_BYTES, PIECE_BYTES, SEND_TIMEOUT, SMALL_PAGE_BYTES};
use crate::http::resources::page::{Cursor, Page};
use crate::store::{ReadError, Store};

/// Sends a body that is in memory: a small one as it is, else piece by piece with its length.
pub fn whole(mut memory: Reservation, body: Vec<u8>) -> Reply {
    if body.len() as u64 <= SMALL_PAGE_BYTES {
        return Reply::new(Bytes::from(body));
    }
    let (reply, sender) = Reply::in_pieces(Some(body.len() as u64));
    tokio::spawn(async move {
        if send(&sender, &mut memory, body).await {
            sender.end().await;
        }
    });
    reply
}

/// Sends a page of which `head` is written: as one body when it turns out to be no longer than a
/// part, else part by part. `None` when the caller may not read what one of its links leads to, and
/// so not the page.
pub async fn page(
    store: &Store,
    answers: &MemoryBudget,
    memory: Reservation,
    page: Page,
    head: Vec<u8>,
) -> Result<Option<Reply>, ReadError> {
    let mut parts = Parts { store: store.clone(), cursor: page.first_part(), page: Arc::new(page) };
    if !parts.may_be_sent().await? {
        return Ok(None);
    }
    let first = parts.next(head).await?;
    if parts.cursor.is_at_end() {
        return Ok(Some(whole(memory, first)));
    }
    let (reply, sender) = Reply::in_pieces(None);
    tokio::spawn(send_parts(parts, first, memory, answers.with_patience(SEND_TIMEOUT), sender));
    Ok(Some(reply))
}

/// A page being written.
struct Parts {
    store: Store,
    page: Arc<Page>,
    cursor: Cursor,
}

impl Parts {
    /// Whether the caller may read what the links lead to, as far as they are looked at before
    /// anything is sent.
    async fn may_be_sent(&self) -> Result<bool, ReadError> {
        let mut check = self.page.first_check();
        while !check.is_done() {
            let page = self.page.clone();
            check = self.store.read_apart(move |view| page.check(view, check)).await?;
        }
        Ok(!check.is_denied())
    }

    /// Appends entries to `out` until it has the size of a part or the document is complete.
    async fn next(&mut self, mut out: Vec<u8>) -> Result<Vec<u8>, ReadError> {
        while !self.cursor.is_at_end() && out.len() < PART_BYTES {
            let (page, cursor) = (self.page.clone(), self.cursor);
            let read = self.store.read_apart(move |view| {
                let cursor = page.part(view, cursor, &mut out)?;
                Ok((out, cursor))
            });
            (out, self.cursor) = read.await?;
        }
        Ok(out)
    }
}

/// Sends all parts. Between two of them nothing is held, so that an answer which waits for memory
/// waits for clients and never for another answer that waits.
async fn send_parts(
    mut parts: Parts,
    first: Vec<u8>,
    mut memory: Reservation,
    answers: MemoryBudget,
    sender: PieceSender,
) {
    let mut part = first;
    while send(&sender, &mut memory, part).await {
        if parts.cursor.is_at_end() {
            sender.end().await;
            return;
        }
        drop(memory);
        memory = match answers.reserve(PART_MEMORY_BYTES).await {
            Ok(memory) => memory,
            Err(error) => return tracing::warn!("a large answer was given up before its next part: {error}"),
        };
        let next = tokio::select! {
            next = parts.next(Vec::new()) => next,
            // A part may take many reads, of events that are not shown.
            () = sender.unwanted() => return,
        };
        part = match next {
            Ok(part) => part,
            Err(error) => return tracing::error!(%error, "a large answer was given up"),
        };
    }
}

/// Sends one part in copied pieces: a piece that is stuck in a connection must not keep the part.
/// False when the client left or did not take a piece in time.
async fn send(sender: &PieceSender, memory: &mut Reservation, part: Vec<u8>) -> bool {
    memory.shrink_to(part.capacity());
    for piece in part.chunks(PIECE_BYTES) {
        let sent = tokio::time::timeout(SEND_TIMEOUT, sender.send(Bytes::copy_from_slice(piece))).await;
        if !matches!(sent, Ok(true)) {
            return false;
        }
    }
    true
}
