//! `headwater restore` and `headwater verify`: from their options to what they say, and to whether
//! something is wrong.

use std::time::{Duration, Instant};

use reqwest::Url;

use super::compare::{self, CompareError, Copy};
use super::restore::{self, Restore, RestoreError, Restored, Scratch, ServerSet, Until};
use super::source::{self, BackupSource};
use super::verify::{self, VerifyError};
use crate::client::{Client, ClientError, PASSWORD_VARIABLE};
use crate::config::{ConfigError, MemberList, RestoreFlags, VerifyFlags, canonical_list};
use crate::event::Ticks;
use crate::store::{OfflineState, OpenError, offline};
use crate::transport::Member;

/// Time between two lines of progress.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of the mark by which people recognise one backup on several servers.
const MARK_BYTES: usize = 8;

/// The environment variable with the password for the second of two nodes.
const AGAINST_PASSWORD_VARIABLE: &str = "HEADWATER_AGAINST_PASSWORD";

/// How a verification ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// Something is damaged or differs; it was told.
    Damaged,
}

/// Why a subcommand did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Nothing was restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Nothing can be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Nothing can be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// A node.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The files to compare.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The options do not go together.
    #[error("{0}")]
    Usage(String),
    /// The list of members.
    #[error(transparent)]
    Members(#[from] ConfigError),
    /// The system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl CommandError {
    /// Whether the options are the reason.
    pub(crate) fn is_of_usage(&self) -> bool {
        matches!(
            self,
            Self::Usage(_) | Self::Members(_) | Self::Verify(VerifyError::Unknown(_) | VerifyError::InUse(_))
        )
    }
}

/// Restores as the flags say.
///
/// # Errors
/// See [`CommandError`].
pub(crate) fn restore(flags: &RestoreFlags) -> Result<Verdict, CommandError> {
    let until = match (flags.until_position, flags.until_time) {
        (Some(position), _) => Until::Position(position),
        (None, Some(time)) => Until::Time(ticks(time)?),
        (None, None) => Until::End,
    };
    let local = |port: u16| format!("127.0.0.1:{port}");
    let (addresses, set) = match &flags.members {
        Some(list) => {
            let own = list.entry(flags.server_id)?;
            (Member::at(own.raft_address.as_str(), own.http_address.as_str()), Some(server_set(list)?))
        }
        // The node corrects them by its configuration.
        None => (Member::at(local(1113), local(2113)), None),
    };
    let wanted = Restore {
        sources: flags.from.iter().map(|from| BackupSource::of(from)).collect(),
        data_dir: flags.data_dir.clone().unwrap_or_default(),
        server_id: flags.server_id,
        addresses,
        set,
        until,
    };
    if flags.check {
        let (restored, report) = restore::check(&wanted, &std::env::temp_dir(), &mut progress_lines())?;
        tell(&restored, "it would hold");
        say!("{report}");
        return Ok(if report.damages() == 0 { Verdict::Sound } else { Verdict::Damaged });
    }
    let restored = restore::restore(&wanted)?;
    tell(&restored, &format!("{} holds", wanted.data_dir.display()));
    tell_next(flags.server_id, &restored);
    Ok(Verdict::Sound)
}

fn server_set(list: &MemberList) -> Result<ServerSet, CommandError> {
    let members = list.ascending()?;
    // A list has one entry at least.
    let founder = members.first().map_or(0, |member| member.id);
    Ok(ServerSet { members: canonical_list(&members), founder })
}

/// What to do with a restored directory.
fn tell_next(server: u16, restored: &Restored) {
    match (&restored.restored_for, restored.cluster_id) {
        (Some(set), _) => {
            let mark: String = set.backup.iter().take(MARK_BYTES).map(|byte| format!("{byte:02x}")).collect();
            say!("restored the same on each server of the list, every one of them says: {mark}");
            say!("then start all of them, server {server} on this directory, with --members {}", set.members);
        }
        (None, Some(cluster_id)) => say!("start server {server} on it: it is the cluster {cluster_id} now"),
        // Only a server of a list waits for another.
        (None, None) => {}
    }
}

fn tell(restored: &Restored, what: &str) {
    let Restored { manifest, next_position, truncated, .. } = restored;
    say!("a backup of cluster {}, taken at {}", manifest.cluster_id, manifest.taken_at);
    if manifest.may_lack_newest {
        say!("the node had no leader when it was taken: events that others had acknowledged may be missing");
    }
    say!("{what} every event before position {next_position}");
    if truncated.events > 0 {
        say!("left out: {} positions, which concern {} streams", truncated.events, truncated.streams);
    }
    for stream in &truncated.keep_later_metadata {
        say!(
            "stream '{stream}' keeps the metadata it had when the backup was taken: those of the wanted moment had been \
             removed by a scavenge"
        );
    }
}

fn ticks(time: jiff::Timestamp) -> Result<Ticks, CommandError> {
    let ticks = u64::try_from(time.as_nanosecond() / 100);
    ticks.map(Ticks).map_err(|_| CommandError::Usage("--until-time is before 1970".to_owned()))
}

/// Verifies or compares as the flags say.
///
/// # Errors
/// See [`CommandError`]; damage is no error.
pub(crate) async fn verify(flags: &VerifyFlags) -> Result<Verdict, CommandError> {
    let urls: Vec<Option<Url>> = flags.what.iter().map(|what| url_of(what)).collect();
    let Some(against) = &flags.against else {
        if urls.iter().any(Option::is_some) {
            return Err(CommandError::Usage("a node is compared with another: name it with --against".to_owned()));
        }
        return verify_files(&flags.what);
    };
    let scratch = verify::scratch(&std::env::temp_dir());
    let right = Copy::Node(Client::of(against, &flags.client, second_password(&urls))?);
    let left = match (&urls[..], &flags.what[..]) {
        ([Some(url)], _) => Copy::Node(Client::of(url, &flags.client, PASSWORD_VARIABLE)?),
        ([None], [directory]) if std::path::Path::new(directory).is_dir() => {
            Copy::Local(OfflineState::open(&database_of(directory)?)?)
        }
        _ if urls.iter().all(Option::is_none) => Copy::Local(OfflineState::open(&unpacked(&flags.what, &scratch)?)?),
        _ => {
            let reason = "--against compares one node, or a backup with those that it adds to, with another node";
            return Err(CommandError::Usage(reason.to_owned()));
        }
    };
    let compared = compare::compare(&left, &right).await?;
    for difference in &compared.named {
        say!("difference: {difference}");
    }
    if compared.removed_since > 0 {
        say!("removed since: {} events that one of the two still has", compared.removed_since);
    }
    if compared.redacted_since > 0 {
        say!("redacted since: {} events that one of the two still has as they were", compared.redacted_since);
    }
    if compared.differing_ranges > 0 {
        say!("and {} ranges of positions behind them differ, which were not looked at", compared.differing_ranges);
    }
    say!("compared the events before position {}: {} positions differ", compared.end, compared.differing);
    let is_same = compared.differing == 0 && compared.differing_ranges == 0;
    Ok(if is_same { Verdict::Sound } else { Verdict::Damaged })
}

/// Two nodes of one cluster have the same users.
fn second_password(urls: &[Option<Url>]) -> &'static str {
    let has_own = urls.iter().any(Option::is_some) && std::env::var_os(AGAINST_PASSWORD_VARIABLE).is_some();
    if has_own { AGAINST_PASSWORD_VARIABLE } else { PASSWORD_VARIABLE }
}

fn url_of(text: &str) -> Option<Url> {
    let is_address = text.starts_with("http://") || text.starts_with("https://");
    Url::parse(text).ok().filter(|_| is_address)
}

/// The directory of the database of a backup or of a stopped node.
fn database_of(directory: &str) -> Result<std::path::PathBuf, CommandError> {
    let state = std::path::Path::new(directory).join("state");
    match offline::current_database(&state)? {
        Some((_, database)) if offline::is_in_use(&database)? => Err(VerifyError::InUse(directory.to_owned()).into()),
        Some((_, database)) => Ok(database),
        None if state.join("CURRENT").exists() => Ok(state),
        None => Err(VerifyError::Unknown(directory.to_owned()).into()),
    }
}

/// Refuses what is not there: nothing can be said of it.
fn require(sources: &[BackupSource]) -> Result<(), VerifyError> {
    match sources.iter().find_map(BackupSource::missing) {
        Some(path) => Err(VerifyError::Unknown(path.display().to_string())),
        None => Ok(()),
    }
}

/// The database of backups in archives, or of several that add to each other.
fn unpacked(what: &[String], scratch: &Scratch) -> Result<std::path::PathBuf, CommandError> {
    let sources: Vec<BackupSource> = what.iter().map(|what| BackupSource::of(what)).collect();
    require(&sources)?;
    crate::files::create_directory(&scratch.0)?;
    source::unpack(&sources, &scratch.0).map_err(VerifyError::Source)?;
    Ok(scratch.0.clone())
}

fn verify_files(what: &[String]) -> Result<Verdict, CommandError> {
    let sources: Vec<BackupSource> = what.iter().map(|what| BackupSource::of(what)).collect();
    require(&sources)?;
    let report = match verify::verify(&sources, &std::env::temp_dir(), &mut progress_lines()) {
        Ok(report) => report,
        Err(VerifyError::Source(error)) if !error.is_of_system() => {
            say!("damage: {error}");
            return Ok(Verdict::Damaged);
        }
        Err(error) => return Err(error.into()),
    };
    say!("{report}");
    Ok(if report.damages() == 0 { Verdict::Sound } else { Verdict::Damaged })
}

/// A line on standard error every few seconds.
fn progress_lines() -> impl FnMut(&str, u64, u64) {
    let mut next = Instant::now() + LINE_INTERVAL;
    move |what, done, total| {
        let now = Instant::now();
        if now < next {
            return;
        }
        next = now + LINE_INTERVAL;
        match done.saturating_mul(100).checked_div(total) {
            Some(percent) => tell!("headwater: {what}: {done} of {total} ({percent} %)"),
            None => tell!("headwater: {what}: {done}"),
        }
    }
}
