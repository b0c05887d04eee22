//! Where a request comes from that changes something.

use std::net::IpAddr;

use super::rules::Caller;

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
    pub(crate) fn login(&self) -> &str {
        self.caller.login().unwrap_or("(anonymous)")
    }
}
