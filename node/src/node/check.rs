//! What a start would refuse, found without a start: `headwater config --check`.
//!
//! Everything is asked of the code that a start asks. Only files are read, and no database is
//! opened, so a node may run on the same directory.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::clock::check_clock;
use super::founding_of;
use super::open_files::check_open_files;
use super::taken_port::{TakenPort, bind};
use crate::cluster::identity::Identity;
use crate::config::{Checked, Config, canonical_list};
use crate::{files, log, raft, tls};

/// How long the names of other servers may take to be resolved, all together.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// What a check has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Each would keep a node from starting, in the order of a start.
    pub(crate) refusals: Vec<anyhow::Error>,
    /// A node would start, and perhaps not do what was meant.
    pub(crate) warnings: Vec<String>,
    /// What was taken for granted.
    pub(crate) notes: Vec<String>,
}

/// [`Findings`] for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    would_start: bool,
    /// Of the command, and of a node that is started with the same options.
    exit_code: u8,
    errors: Vec<String>,
    warnings: &'a [String],
    notes: &'a [String],
}

impl Findings {
    /// Options that no node takes: a sentence for each problem.
    pub(crate) fn of_options(problems: Vec<String>) -> Self {
        Self { refusals: problems.into_iter().map(anyhow::Error::msg).collect(), ..Self::default() }
    }

    /// The findings as a JSON object.
    pub(crate) fn json(&self, exit_code: u8) -> String {
        let document = Document {
            would_start: self.refusals.is_empty(),
            exit_code,
            errors: self.refusals.iter().map(|refusal| format!("{refusal:#}")).collect(),
            warnings: &self.warnings,
            notes: &self.notes,
        };
        // Numbers and texts are always written.
        let json = serde_json::to_string_pretty(&document).unwrap_or_default();
        format!("{json}\n")
    }

    fn refuse(&mut self, refused: Result<(), impl Into<anyhow::Error>>) {
        self.refusals.extend(refused.err().map(Into::into));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusals.iter().try_for_each(|refusal| writeln!(f, "error: {refusal:#}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        match (self.refusals.len(), self.warnings.len()) {
            (0, 0) => writeln!(f, "a node would start with these options"),
            (0, warnings) => writeln!(f, "a node would start with these options; warnings: {warnings}"),
            (errors, warnings) => {
                writeln!(f, "a node would not start with these options; errors: {errors}, warnings: {warnings}")
            }
        }
    }
}

/// Checks everything for which [`super::Node::start`] would refuse, as far as it is seen from
/// outside of the databases. Changes nothing. May take [`RESOLVE_DEADLINE`].
pub(crate) fn check(checked: &Checked) -> Findings {
    let Checked { config, in_sight, .. } = checked;
    let mut found = Findings { warnings: in_sight.clone(), ..Findings::default() };
    check_process(&mut found);
    check_files(config, &mut found);
    found.warnings.extend(config.exposures());
    let runs = check_running(config, &mut found);
    check_ports(config, runs, &mut found);
    check_directory(&config.data_dir, &mut found);
    check_identity(config, &mut found);
    check_names(config, &mut found);
    found
}

/// Clock and limits. The limits are those of this process; a service may have others.
fn check_process(found: &mut Findings) {
    found.refuse(check_clock(SystemTime::now()));
    match check_open_files() {
        Ok(shortage) => found.warnings.extend(shortage),
        Err(error) => found.refusals.push(error),
    }
}

/// Certificates and keys.
fn check_files(config: &Config, found: &mut Findings) {
    let (unusable, concerns) = tls::check(&config.tls, config.server_id);
    found.refusals.extend(unusable.into_iter().map(Into::into));
    found.warnings.extend(concerns.iter().map(ToString::to_string));
}

/// Whether a node runs on the data directory.
fn check_running(config: &Config, found: &mut Findings) -> bool {
    let lock = raft::log_directory(&config.data_dir).join(log::LOCK_FILE_NAME);
    let Some(process) = files::lock_holder(&lock) else { return false };
    found.notes.push(format!(
        "a node runs on {} (process {process}); that its ports are taken, and that no second one would start there, does \
         not count",
        config.data_dir.display()
    ));
    true
}

fn check_ports(config: &Config, runs: bool, found: &mut Findings) {
    for (address, option) in [(config.http_listen, "--http-listen"), (config.raft_listen, "--raft-listen")] {
        // Any port shows whether this machine has the address.
        let is_own = || bind(SocketAddr::new(address.ip(), 0)).is_ok();
        if let Err(error) = TakenPort::take(address, option)
            && !(runs && is_own())
        {
            found.refusals.push(error);
        }
    }
}

/// Whether the node may use what is in its data directory, or make it.
fn check_directory(data_dir: &Path, found: &mut Findings) {
    let Some(existing) = data_dir.ancestors().find(|path| path.exists() || path.as_os_str().is_empty()) else { return };
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let advice = "let the user of the node own its data directory, or change --data-dir";
    if !existing.is_dir() {
        let path = existing.display();
        return found.refusals.push(anyhow::anyhow!("{path} is not a directory: change --data-dir"));
    }
    if existing != data_dir {
        let usable = files::may_use(existing, true);
        return found.refuse(usable.map_err(|error| {
            let made = format!("{} cannot be made in {}: {advice}", data_dir.display(), existing.display());
            anyhow::Error::from(error).context(made)
        }));
    }
    let seen = files::look_through(data_dir);
    if let Some((path, error)) = seen.unusable {
        let unusable = format!("{} cannot be read and written: {advice}", path.display());
        found.refusals.push(anyhow::Error::from(error).context(unusable));
    }
    if let Some(path) = seen.stays_open {
        found.warnings.push(format!("{} stays open to other users: {advice}", path.display()));
    }
}

/// Whether the data are those of this server and of these members.
fn check_identity(config: &Config, found: &mut Findings) {
    let identity = match Identity::read(&config.data_dir, config.server_id) {
        Ok(Some(identity)) => identity,
        Ok(None) => return,
        Err(error) => return found.refusals.push(error.into()),
    };
    found.refuse(identity.require_list(&canonical_list(&config.members)));
    found.refuse(identity.require_log(raft::log_directory(&config.data_dir).join(log::MARK_FILE_NAME)));
    match raft::check_members_of_snapshot(config, founding_of(&identity)) {
        Ok(Some(())) => {}
        Ok(None) if identity.cluster_id().is_none() => {}
        Ok(None) => found.notes.push(
            "there is no snapshot yet, so the members of the data are not compared with --members; a start compares them"
                .to_owned(),
        ),
        Err(error) => {
            found.warnings.push(format!("unless the members were changed since the newest snapshot: {error}"));
        }
    }
}

/// Names of other servers that are not known here. A node starts, and asks again whenever it calls
/// them.
fn check_names(config: &Config, found: &mut Findings) {
    let others = config.members.iter().filter(|member| member.id != config.server_id);
    let addresses: BTreeSet<&str> = others.flat_map(|member| [&*member.raft_address, &*member.http_address]).collect();
    let (sender, resolved) = mpsc::channel();
    for address in &addresses {
        let (sender, address) = (sender.clone(), (*address).to_owned());
        let look = move || {
            let known = address.to_socket_addrs().is_ok_and(|mut found| found.next().is_some());
            let _ = sender.send((address, known));
        };
        // The process ends without waiting for names that take too long.
        if let Err(error) = std::thread::Builder::new().name("resolve".to_owned()).spawn(look) {
            found.warnings.push(format!("names cannot be resolved: {error}"));
        }
    }
    drop(sender);
    let deadline = Instant::now() + RESOLVE_DEADLINE;
    let mut unknown = addresses;
    while let Ok((address, known)) = resolved.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if known {
            unknown.remove(address.as_str());
        }
    }
    found.warnings.extend(unknown.iter().map(|address| {
        format!("the address {address} in --members cannot be resolved here; correct it, or the names of this machine")
    }));
}
