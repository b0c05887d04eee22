//! The memory of a head that comes slowly over HTTP/1.1.
//!
//! hyper keeps what it has read of a head until it is complete. A head that comes in one piece, as
//! usual ones do, is gone soon and not counted; one that does not is counted among what its
//! connection holds.

use std::io;
use std::sync::Arc;

use crate::budget::{Account, Held};

/// hyper makes its buffer twice as large when it is full.
const BUFFERED_PER_BYTE: usize = 2;

/// The memory of the next head of a connection, until its request is answered.
#[derive(Debug)]
pub(super) struct HeadMemory {
    held: Held,
    /// Bytes of the first piece, which is counted when a second one comes.
    first: usize,
}

impl HeadMemory {
    pub(super) fn new(account: &Arc<Account>) -> Self {
        Self { held: account.holds_nothing(), first: 0 }
    }

    /// So many bytes have come of a head.
    ///
    /// # Errors
    /// There is no room for them.
    pub(super) fn read(&mut self, bytes: usize) -> io::Result<()> {
        if self.first == 0 {
            self.first = bytes;
            return Ok(());
        }
        let uncounted = if self.held.is_empty() { self.first + bytes } else { bytes };
        if self.held.try_grow(BUFFERED_PER_BYTE * uncounted) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "there is no memory for the head of a request"))
    }

    /// The request is answered, and the next head begins.
    pub(super) fn clear(&mut self) {
        self.first = 0;
        self.held.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{FLOOR_BYTES, Pool};

    #[test]
    fn a_head_in_pieces_is_held_until_it_is_answered() {
        let account = Account::new(&Pool::new(0), [127, 0, 0, 1].into());
        let mut memory = HeadMemory::new(&account);
        memory.read(FLOOR_BYTES).unwrap();
        assert_eq!(account.held(), 0, "all of it may be there");
        memory.clear();
        memory.read(100).unwrap();
        memory.read(10).unwrap();
        memory.read(1).unwrap();
        assert_eq!(account.held(), 111 * BUFFERED_PER_BYTE);
        assert_eq!(memory.read(FLOOR_BYTES).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        memory.clear();
        assert_eq!(account.held(), 0);
    }
}
