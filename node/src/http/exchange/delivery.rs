//! Large answers on their way: sent piece by piece, and made part by part.

use bytes::Bytes;

use crate::http::exchange::reply::{PieceSender, Reply};
use crate::http::limits::{PIECE_BYTES, SEND_TIMEOUT};
use crate::streams::limits::SMALL_PAGE_BYTES;
use crate::streams::{CutShort, Document, LargeAnswer, PageFormat, PageParts, Refusal, StillReadable};

/// The body with the document of a page.
pub(crate) fn document<F: PageFormat>(document: Document<F>) -> Reply {
    match document {
        Document::Small(body) => Reply::new(body),
        Document::Large(body, answer) => whole(body, answer),
        Document::InParts(parts) => {
            let (reply, sender) = Reply::in_pieces(None);
            tokio::spawn(send_parts(parts, sender));
            reply
        }
    }
}

/// Sends a body that is in memory: a small one as it is, else piece by piece with its length.
pub(crate) fn whole(body: Vec<u8>, answer: LargeAnswer) -> Reply {
    let LargeAnswer { mut memory, reader } = answer;
    if body.len() as u64 <= SMALL_PAGE_BYTES {
        return Reply::new(Bytes::from(body));
    }
    memory.shrink_to(body.capacity());
    let (reply, sender) = Reply::in_pieces(Some(body.len() as u64));
    tokio::spawn(async move {
        let _memory = memory;
        if send(&sender, body, &reader).await {
            sender.end().await;
        }
    });
    reply
}

/// Sends a body that is in memory, and holds `memory` until the client has taken it.
pub(crate) fn held(body: Vec<u8>, memory: impl Send + 'static) -> Reply {
    let (reply, sender) = Reply::in_pieces(Some(body.len() as u64));
    tokio::spawn(async move {
        let _memory = memory;
        for piece in body.chunks(PIECE_BYTES) {
            let sent = tokio::time::timeout(SEND_TIMEOUT, sender.send(Bytes::copy_from_slice(piece))).await;
            if !matches!(sent, Ok(true)) {
                return;
            }
        }
        sender.end().await;
    });
    reply
}

async fn send_parts<F: PageFormat>(mut parts: PageParts<F>, sender: PieceSender) {
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
        if !send(&sender, part, parts.reader()).await {
            return;
        }
    }
}

/// Sends one part in copied pieces: a piece that is stuck in a connection must not keep the part.
/// False when the client left or did not take a piece in time, or may not have the next one.
async fn send(sender: &PieceSender, part: Vec<u8>, reader: &StillReadable) -> bool {
    for piece in part.chunks(PIECE_BYTES) {
        if let Err(error) = reader.ask().await {
            log(error);
            return false;
        }
        let sent = tokio::time::timeout(SEND_TIMEOUT, sender.send(Bytes::copy_from_slice(piece))).await;
        if !matches!(sent, Ok(true)) {
            return false;
        }
    }
    true
}

/// An answer ends before its end. That a right was withdrawn is the business of who withdrew it.
fn log(error: CutShort) {
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
