//! Documents of groups of consumers, of users and of new members.

use crate::config::MemberConfig;
use crate::consumers::settings::Settings;
use crate::http::resources::consumers::settings::Wanted;
use crate::http::resources::member_changes::NewServer;
use crate::http::resources::users::document::UserDocument;

/// The settings of a group, in XML if they begin with `<`. As they are stored and shown they are
/// the same settings.
pub(crate) fn group_settings(input: &[u8]) -> Option<()> {
    let is_json = input.trim_ascii_start().first() != Some(&b'<');
    let Ok(Wanted::Settings(settings)) = Wanted::of(input, is_json) else { return None };
    assert_eq!(settings.check(), Ok(()));
    assert!(settings.buffered() > 0);
    assert!(settings.start().is_some() || settings.start_from == -1);
    let written = serde_json::to_vec(&settings).unwrap_or_default();
    assert_eq!(serde_json::from_slice::<Settings>(&written).ok().as_ref(), Some(&settings));
    // A zero in JSON means the default.
    let numbers = [
        settings.start_from,
        settings.message_timeout_milliseconds,
        settings.max_retry_count,
        settings.checkpoint_after_milliseconds,
        settings.min_checkpoint_count,
        settings.max_checkpoint_count,
        settings.max_subscriber_count,
    ];
    if !numbers.contains(&0) {
        assert_eq!(Wanted::of(&written, true), Ok(Wanted::Settings(settings)));
    }
    Some(())
}

/// A user, or a new member of the cluster.
pub(crate) fn users_and_members(input: &[u8]) -> Option<()> {
    let member = NewServer::parse(input).map(|new| {
        let places = new.places();
        let text = format!("1={}/{}", places.raft_address, places.http_address);
        let again = text.parse::<MemberConfig>().map(|member| (member.raft_address, member.http_address));
        assert_eq!(again, Ok((places.raft_address, places.http_address)));
    });
    member.or_else(|_| UserDocument::parse(input).map(drop)).ok()
}
