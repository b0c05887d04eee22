//! Large answers on their way: sent piece by piece, and made part by part.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Account, FLOOR_BYTES, Held};
use crate::http::exchange::reply::{PieceSender, Reply};
use crate::http::exchange::request::Connection;
use crate::http::limits::{PIECE_BYTES, PIECE_WAIT};
use crate::streams::limits::SMALL_PAGE_BYTES;
use crate::streams::{CutShort, Document, LargeAnswer, PageFormat, PageParts, Refusal, StillReadable};

/// The body with the document of a page.
pub(crate) fn document<F: PageFormat>(connection: &Connection, document: Document<F>) -> Reply {
    match document {
        Document::Small(body) => Reply::new(body),
        Document::Large(body, answer) => whole(connection, body, answer),
        Document::InParts(parts) => {
            let (reply, sender) = Reply::in_pieces(None);
            tokio::spawn(send_parts(parts, sender, connection.answers.clone()));
            reply
        }
    }
}

/// Sends a body that is in memory: a small one as it is, else piece by piece with its length.
pub(crate) fn whole(connection: &Connection, body: Vec<u8>, answer: LargeAnswer) -> Reply {
    let LargeAnswer { mut memory, mut reader } = answer;
    if body.len() as u64 <= SMALL_PAGE_BYTES {
        return Reply::new(Bytes::from(body));
    }
    memory.shrink_to(body.capacity());
    let (reply, sender) = Reply::in_pieces(Some(body.len() as u64));
    let answers = connection.answers.clone();
    tokio::spawn(async move {
        let _memory = memory;
        if send(&sender, &answers, &body, &mut reader).await {
            sender.end().await;
        }
    });
    reply
}

/// Sends a body that others may share the memory of: that is kept until the last piece is on its
/// way.
pub(crate) fn keeping<M: Send + 'static>(connection: &Connection, body: Vec<u8>, memory: Vec<M>) -> Reply {
    if memory.is_empty() {
        return Reply::new(Bytes::from(body));
    }
    let (reply, sender) = Reply::in_pieces(Some(body.len() as u64));
    let answers = connection.answers.clone();
    tokio::spawn(async move {
        let _memory = memory;
        let mut left = &body[..];
        while !left.is_empty() {
            let Some((held, piece, rest)) = next_piece(&sender, &answers, left).await else { return };
            if !sender.send(held.own(Bytes::copy_from_slice(piece))).await {
                return;
            }
            left = rest;
        }
        sender.end().await;
    });
    reply
}

async fn send_parts<F: PageFormat>(mut parts: PageParts<F>, sender: PieceSender, answers: Arc<Account>) {
    loop {
        let part = tokio::select! {
            part = parts.next() => part,
            // A part may take many reads, of events that are not shown.
            () = sender.unwanted() => return,
        };
        let part = match part {
            Ok(Some(part)) => part,
            Ok(None) => return sender.end().await,
            Err(error) => return log(error),
        };
        if !send(&sender, &answers, &part, parts.reader()).await {
            return;
        }
    }
}

/// Sends one part in copied pieces: a piece that is stuck in a connection must not keep the part,
/// and is counted among what the connection holds. False when the client left, or may not have the
/// next piece; how long it may take for one is the business of its connection.
pub(crate) async fn send(
    sender: &PieceSender,
    answers: &Arc<Account>,
    part: &[u8],
    reader: &mut StillReadable,
) -> bool {
    let mut left = part;
    while !left.is_empty() {
        let Some((held, piece, rest)) = next_piece(sender, answers, left).await else { return false };
        // As late as possible: the wait for room may have been long.
        if let Err(error) = reader.ask().await {
            log(error);
            return false;
        }
        if !sender.send(held.own(Bytes::copy_from_slice(piece))).await {
            return false;
        }
        left = rest;
    }
    true
}

/// The next piece of what is left, what is left behind it, and the room for it. `None` when the
/// client left, or there was no room in time.
async fn next_piece<'a>(
    sender: &PieceSender,
    answers: &Arc<Account>,
    left: &'a [u8],
) -> Option<(Held, &'a [u8], &'a [u8])> {
    // Two of the smaller ones always have room.
    let most = if answers.is_wanted() { FLOOR_BYTES / 2 } else { PIECE_BYTES };
    let (piece, rest) = left.split_at(left.len().min(most));
    let held = tokio::select! {
        held = answers.hold(piece.len(), PIECE_WAIT) => held,
        () = sender.unwanted() => return None,
    };
    held.ok().map(|held| (held, piece, rest))
}

/// An answer ends before its end. That a right was withdrawn is logged where it was withdrawn.
pub(crate) fn log(error: CutShort) {
    match error {
        CutShort::Refused(Refusal::Busy) => {
            tracing::warn!("a large answer was given up before its next part: there was no memory for it in time");
        }
        CutShort::Refused(Refusal::Store(error)) => tracing::error!(%error, "a large answer was given up"),
        CutShort::Refused(Refusal::Denied | Refusal::NotLeader(_) | Refusal::NotReady)
        | CutShort::NotFound
        | CutShort::Deleted => tracing::debug!(%error, "a large answer was cut off"),
    }
}
