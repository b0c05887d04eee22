//! The callers that are let in at all, before any access list is asked. What anonymous callers may
//! use is configured.

use crate::config::Config;
use crate::event::Caller;

/// Which callers may use which resources of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Anonymous callers may use streams, as far as access lists let them.
    anonymous_streams: bool,
    /// Anonymous callers may use the resources beside streams.
    anonymous_endpoints: bool,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            anonymous_streams: config.allow_anonymous_stream_access,
            anonymous_endpoints: config.allow_anonymous_endpoint_access,
        }
    }

    /// Whether the caller may use streams, as far as access lists let it.
    pub(crate) fn to_streams(self, caller: &Caller) -> bool {
        self.anonymous_streams || *caller != Caller::Anonymous
    }

    /// Whether the caller may use resources beside streams that are for every user.
    pub(crate) fn to_endpoints(self, caller: &Caller) -> bool {
        self.anonymous_endpoints || *caller != Caller::Anonymous
    }

    /// Whether the caller may see users.
    pub(crate) fn to_users(self, caller: &Caller) -> bool {
        self.anonymous_endpoints || caller.is_admin()
    }
}
