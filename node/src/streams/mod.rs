//! What a node does with streams, whichever door a request came through.
//!
//! A door (HTTP today) parses a request, calls one operation here, and renders what it returns.
//! Every rule of the product that is not one of a protocol is kept here or below: what callers may
//! do, how streams may be called, how large events and commands may be, what readers see, and which
//! node may answer. So a second door cannot forget a check.
//!
//! An operation takes the caller and plain values, and returns values. Each has one error enum,
//! which stands beside it and lists what can go wrong in words of the product. Steps that
//! operations share (authorization, barriers) have small errors of their own, which convert into
//! those enums; the operations use `?`. A door matches an enum in full, so that the compiler names
//! every door that has to learn a new error. Nothing here is logged that the door is told.

mod append;
mod audit;
mod authorize;
mod commit;
mod delete;
pub mod events;
pub mod limits;
mod metadata;

use std::net::IpAddr;
use std::sync::Arc;

pub use append::{Append, AppendError, Appended};
pub use authorize::AuthorizeError;
pub use delete::{Delete, DeleteError, DeleteKind, Deleted};

use crate::access::{Access, Caller};
use crate::cluster::Cluster;
use crate::subscribe::Waiters;

/// The operations on streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    /// Takes writes, and knows which node leads.
    cluster: Cluster,
    /// Knows what callers may do.
    access: Access,
    /// Readers that wait for events.
    waiters: Arc<Waiters>,
}

/// Where a request for a write comes from.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Has proved who it is, as far as the request says.
    pub caller: &'a Caller,
    /// Where it called from, for the audit log.
    pub address: IpAddr,
}

impl Client<'_> {
    /// What the audit log calls it.
    fn login(&self) -> &str {
        self.caller.login().unwrap_or("(anonymous)")
    }
}

impl Streams {
    /// The operations of the node behind `cluster`.
    pub fn new(cluster: Cluster, access: Access) -> Self {
        Self { cluster, access, waiters: Arc::default() }
    }

    /// Ends the waits of all readers, present and future: the node shuts down.
    pub fn close(&self) {
        self.waiters.close();
    }

    /// Readers that wait for events.
    pub fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }
}
