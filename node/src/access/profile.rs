//! What is said of a user beside its name and password, within its limits.

use super::limits::{MAX_GROUPS, MAX_NAME_BYTES};

/// The full name and the groups of a user, none of them too long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    full_name: Option<String>,
    groups: Option<Vec<String>>,
}

/// The full name or a group is longer than [`MAX_NAME_BYTES`], or there are more groups than
/// [`MAX_GROUPS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The full name or a group is too long, or there are too many groups.")]
pub(crate) struct ProfileTooLarge;

impl Profile {
    /// # Errors
    /// It is beyond a limit.
    pub(crate) fn new(full_name: Option<String>, groups: Option<Vec<String>>) -> Result<Self, ProfileTooLarge> {
        let is_long = |name: &String| name.len() > MAX_NAME_BYTES;
        let listed = groups.as_deref().unwrap_or_default();
        if full_name.as_ref().is_some_and(is_long) || listed.len() > MAX_GROUPS || listed.iter().any(is_long) {
            return Err(ProfileTooLarge);
        }
        Ok(Self { full_name, groups })
    }

    /// The full name and the groups.
    pub(super) fn into_parts(self) -> (Option<String>, Option<Vec<String>>) {
        (self.full_name, self.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_beyond_a_limit_is_refused() {
        let name = |bytes: usize| "x".repeat(bytes);
        let profile = |name: &str, groups: Vec<String>| Profile::new(Some(name.to_owned()), Some(groups));
        assert!(profile(&name(MAX_NAME_BYTES), vec![name(MAX_NAME_BYTES); MAX_GROUPS]).is_ok());
        assert_eq!(profile(&name(MAX_NAME_BYTES + 1), Vec::new()), Err(ProfileTooLarge));
        assert_eq!(profile("", vec![name(MAX_NAME_BYTES + 1)]), Err(ProfileTooLarge));
        assert_eq!(profile("", vec![String::new(); MAX_GROUPS + 1]), Err(ProfileTooLarge));
    }
}
