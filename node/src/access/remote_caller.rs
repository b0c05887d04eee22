//! Where a request comes from that changes something.

use std::net::IpAddr;

use super::rules::Caller;

/// Where a request for a write comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteCaller<'a> {
    /// The caller, as far as the request proves it.
    pub(crate) caller: &'a Caller,
    /// The address that it called from, for the audit log.
    pub(crate) address: IpAddr,
}

impl RemoteCaller<'_> {
    /// What the audit log calls it.
    pub(crate) fn login(&self) -> &str {
        self.caller.login().unwrap_or("(anonymous)")
    }
}
