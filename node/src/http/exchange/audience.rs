//! Who may ask for a route, before anything else about the request is looked at
//! (contract/services 1.3).

use crate::access::rules::OPERATORS;
use crate::access::{Admission, Caller};

/// Who may ask for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody, always.
    Anybody,
    /// Users; everybody where streams are open to anonymous callers, which is the default.
    Streams,
    /// Users; everybody where the other resources are open to anonymous callers, which is the
    /// default.
    Users,
    /// Administrators; everybody where the other resources are open to anonymous callers.
    Admins,
    /// Administrators alone, whatever is configured: these routes pass by all access lists.
    Administrators,
    /// Administrators and operators, whatever is configured: these routes tell how the node is run.
    Operators,
}

impl Audience {
    /// Whether the caller is among them.
    pub(crate) fn includes(self, caller: &Caller, admission: Admission) -> bool {
        match self {
            Self::Anybody => true,
            Self::Streams => admission.to_streams(caller),
            Self::Users => admission.to_endpoints(caller),
            Self::Admins => admission.to_users(caller),
            Self::Administrators => caller.is_admin(),
            Self::Operators => caller.is_admin() || caller.has_role(OPERATORS),
        }
    }
}
