//! The callers that may use a route. This is checked before anything else about the request is
//! looked at (contract/services 1.3).

use crate::access::rules::OPERATORS;
use crate::access::{Admission, Caller};

/// The callers that may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody, always.
    Anybody,
    /// Users, for streams; everybody where streams are open to anonymous callers, which is the
    /// default.
    Streams,
    /// Users, for what is not a stream: their own account and `/metrics`. Everybody where the
    /// other resources are open to anonymous callers, which is the default.
    Endpoints,
    /// Administrators, for the users of the cluster; everybody where the other resources are open
    /// to anonymous callers. Each operation then asks for the right that it needs itself.
    UserAdmins,
    /// Administrators only, whatever is configured: these routes pass by all access lists.
    AdministratorsOnly,
    /// Administrators and operators, whatever is configured: these routes tell how the node is run.
    Operators,
}

impl Audience {
    /// Whether the caller belongs to this audience.
    pub(crate) fn includes(self, caller: &Caller, admission: Admission) -> bool {
        match self {
            Self::Anybody => true,
            Self::Streams => admission.to_streams(caller),
            Self::Endpoints => admission.to_endpoints(caller),
            Self::UserAdmins => admission.to_users(caller),
            Self::AdministratorsOnly => caller.is_admin(),
            Self::Operators => caller.is_admin() || caller.has_role(OPERATORS),
        }
    }
}
