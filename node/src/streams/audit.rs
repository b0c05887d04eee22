//! Changes of access lists and redactions have to be traceable to a caller and an address: one line
//! each, on the target `audit`.

use super::RemoteCaller;
use crate::event::EventNumber;
use crate::event::metadata::Acl;

/// Roles that a line shows of each right, the bytes it shows of each of them, and of the name of a
/// stream: clients write all of them, and a line is for people to read.
const SHOWN_ROLES: usize = 8;
const SHOWN_ROLE_BYTES: usize = 64;
const SHOWN_NAME_BYTES: usize = 256;

/// The access list of a stream was replaced. `None` is no list of its own.
pub(super) fn list(client: RemoteCaller<'_>, stream: &str, before: Option<&Acl>, after: Option<&Acl>) {
    if before == after {
        return;
    }
    let (who, from, stream) = (client.login(), client.address, beginning(stream, SHOWN_NAME_BYTES));
    tracing::info!(target: "audit", ?stream, before = %Shown(before), after = %Shown(after), ?who, %from, "audit: access list");
}

/// The lists for streams without their own were replaced.
pub(super) fn settings(client: RemoteCaller<'_>) {
    let (who, from) = (client.login(), client.address);
    tracing::info!(target: "audit", ?who, %from, "audit: $settings, the access lists of streams without their own, were replaced");
}

/// Data and metadata of an event were blanked.
pub(super) fn redaction(client: RemoteCaller<'_>, stream: &str, number: EventNumber) {
    let (who, from, stream) = (client.login(), client.address, beginning(stream, SHOWN_NAME_BYTES));
    tracing::info!(target: "audit", ?stream, number, ?who, %from, "audit: an event was redacted");
}

/// Events of another store were stored past every access list, and with them perhaps lists and
/// users.
pub(super) fn import(client: RemoteCaller<'_>, events: u64) {
    if events == 0 {
        return;
    }
    let (who, from) = (client.login(), client.address);
    tracing::info!(target: "audit", events, ?who, %from, "audit: events were imported");
}

/// The text, or as many bytes of it, down to the end of a character.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// A list as its document has it, but for what is too long.
struct Shown<'a>(Option<&'a Acl>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(acl) = self.0 else { return f.write_str("none") };
        let mut map = f.debug_map();
        map.entries(acl.rights().iter().filter_map(|(key, roles)| roles.as_ref().map(|roles| (key, Roles(roles)))))
            .finish()
    }
}

/// The first of these roles, and how many more there are.
struct Roles<'a>(&'a [String]);

impl std::fmt::Debug for Roles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = f.debug_list();
        list.entries(self.0.iter().take(SHOWN_ROLES).map(|role| beginning(role, SHOWN_ROLE_BYTES)));
        if self.0.len() > SHOWN_ROLES {
            list.entry(&format_args!("{} more", self.0.len() - SHOWN_ROLES));
        }
        list.finish()
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
        let acl = Acl {
            read: Some(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(String::from).into()),
            ..Acl::default()
        };
        let shown = r#"{"$r": ["a", "b", "c", "d", "e", "f", "g", "h", 2 more]}"#;
        assert_eq!(Shown(Some(&acl)).to_string(), shown);
    }

    #[test]
    fn no_list_makes_a_line_long() {
        let roles = Some(vec!["\u{1}".repeat(1_000); 100_000]);
        let acl = Acl {
            read: roles.clone(),
            write: roles.clone(),
            delete: roles.clone(),
            meta_read: roles.clone(),
            meta_write: roles,
        };
        let bytes = Shown(Some(&acl)).to_string().len();
        assert!(bytes < 20 << 10, "{bytes}");
        assert_eq!(beginning("a\u{e9}", 2), "a");
    }
}
