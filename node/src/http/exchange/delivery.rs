//! Large answers on their way: sent piece by piece, and made part by part.

use bytes::Bytes;

use crate::budget::Reservation;
use crate::http::exchange::reply::{PieceSender, Reply};
use crate::http::limits::{PIECE_BYTES, SEND_TIMEOUT};
use crate::streams::limits::SMALL_PAGE_BYTES;
use crate::streams::{Document, PageFormat, PageParts, PartError};

/// The body with the document of a page.
pub(crate) fn document<F: PageFormat>(document: Document<F>) -> Reply {
    match document {
        Document::Small(body) => Reply::new(body),
        Document::Large(body, memory) => whole(memory, body),
        Document::InParts(parts) => {
            let (reply, sender) = Reply::in_pieces(None);
            tokio::spawn(send_parts(parts, sender));
            reply
        }
    }
}

/// Sends a body that is in memory: a small one as it is, else piece by piece with its length.
pub(crate) fn whole(mut memory: Reservation, body: Vec<u8>) -> Reply {
    if body.len() as u64 <= SMALL_PAGE_BYTES {
        return Reply::new(Bytes::from(body));
    }
    memory.shrink_to(body.capacity());
    let (reply, sender) = Reply::in_pieces(Some(body.len() as u64));
    tokio::spawn(async move {
        let _memory = memory;
        if send(&sender, body).await {
            sender.end().await;
        }
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
            Err(PartError::Busy(error)) => {
                return tracing::warn!("a large answer was given up before its next part: {error}");
            }
            Err(PartError::Store(error)) => return tracing::error!(%error, "a large answer was given up"),
        };
        if !send(&sender, part).await {
            return;
        }
    }
}

/// Sends one part in copied pieces: a piece that is stuck in a connection must not keep the part.
/// False when the client left or did not take a piece in time.
async fn send(sender: &PieceSender, part: Vec<u8>) -> bool {
    for piece in part.chunks(PIECE_BYTES) {
        let sent = tokio::time::timeout(SEND_TIMEOUT, sender.send(Bytes::copy_from_slice(piece))).await;
        if !matches!(sent, Ok(true)) {
            return false;
        }
    }
    true
}
