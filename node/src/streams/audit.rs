//! Who changed access lists, and from where, has to be traceable: one line each, on the target
//! `audit`.

use super::Client;
use crate::event::metadata::Acl;

/// The access list of a stream was replaced. `None` is no list of its own.
pub(super) fn list(client: Client<'_>, stream: &str, before: Option<&Acl>, after: Option<&Acl>) {
    if before == after {
        return;
    }
    let (who, from) = (client.login(), client.address);
    tracing::info!(target: "audit", ?stream, before = %Shown(before), after = %Shown(after), ?who, %from, "audit: access list");
}

/// The lists for streams without their own were replaced.
pub(super) fn settings(client: Client<'_>) {
    let (who, from) = (client.login(), client.address);
    tracing::info!(target: "audit", ?who, %from, "audit: $settings, the access lists of streams without their own, were replaced");
}

/// A list as its document has it.
struct Shown<'a>(Option<&'a Acl>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(acl) = self.0 else { return f.write_str("none") };
        let rights = [
            ("$r", &acl.read),
            ("$w", &acl.write),
            ("$d", &acl.delete),
            ("$mr", &acl.meta_read),
            ("$mw", &acl.meta_write),
        ];
        let mut map = f.debug_map();
        map.entries(rights.iter().filter_map(|(key, roles)| roles.as_ref().map(|roles| (key, roles)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_shown_on_one_line_with_any_names_of_roles() {
        let acl = Acl { read: Some(vec!["a\nb".into()]), write: Some(vec![]), ..Acl::default() };
        assert_eq!(Shown(Some(&acl)).to_string(), r#"{"$r": ["a\nb"], "$w": []}"#);
        assert_eq!(Shown(None).to_string(), "none");
    }
}
