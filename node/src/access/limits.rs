//! The limits of users and passwords. What is longer is refused, with a sentence for the caller.

/// Bytes of a user's name. It is a part of stream names.
pub(crate) const MAX_LOGIN_BYTES: usize = 256;

/// Bytes of a password: hashing looks at all of them.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1024;

/// Bytes of a user's full name and of the name of each group.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// Groups of a user.
pub(crate) const MAX_GROUPS: usize = 256;
