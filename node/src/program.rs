//! From flags to a configuration, to a subcommand or [`Node::run`](node::Node::run), to an exit
//! code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use rustix::fs::Mode;

use crate::backup::command::{CommandError, Verdict};
use crate::cluster::identity::IdentityError;
use crate::commands::Condition;
use crate::config::{CertsCommand, Checked, Config, ConfigError, Invocation};
use crate::node::Findings;
use crate::raft::StartError;
use crate::{backup, client, commands, config, fatal, node, telemetry, tls, transfer};

/// The options are unknown, wrong or contradictory. The exit codes of a node are in `fatal`.
const EXIT_USAGE: u8 = 2;

/// A cluster takes writes, but something is wrong with it.
const EXIT_DEGRADED: u8 = 3;

/// A cluster takes no writes.
const EXIT_UNAVAILABLE: u8 = 4;

/// Does what the command line and the environment of this process say, to the end.
pub fn main() -> ExitCode {
    match config::resolve(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Run(config)) => run(*config),
        Ok(Invocation::Print(text)) => print(&text),
        Ok(Invocation::Check(checked)) => told(&checked),
        Ok(Invocation::Refuse(problems)) => {
            print(&Findings::of_options(problems).json(EXIT_USAGE));
            ExitCode::from(EXIT_USAGE)
        }
        Ok(Invocation::Certs(command)) => certs(&command),
        Ok(Invocation::Health(flags)) => ended(client::run(commands::health(&flags))),
        Ok(Invocation::Cluster(command)) => looked(client::run(commands::cluster(&command))),
        Ok(Invocation::Scavenge(flags)) => ended(client::run(commands::scavenge(&flags))),
        Ok(Invocation::Top(flags)) => ended(client::run(commands::top(&flags))),
        Ok(Invocation::Redact(flags)) => ended(client::run(commands::redact(&flags))),
        Ok(Invocation::Backup(flags)) => as_private(|| ended(client::run(backup::fetch::backup(&flags)))),
        Ok(Invocation::Restore(flags)) => as_private(|| judged(backup::command::restore(&flags))),
        Ok(Invocation::Verify(flags)) => as_private(|| judged(client::run(backup::command::verify(&flags)))),
        Ok(Invocation::Import(flags)) => ended(client::run(transfer::import(&flags))),
        Ok(Invocation::Export(flags)) => ended(client::run(transfer::export(&flags))),
        Err(ConfigError::CommandLine(error)) => {
            if error.kind() == ErrorKind::DisplayVersion {
                return print(&node::version());
            }
            let is_output = error.kind() == ErrorKind::DisplayHelp;
            match error.print() {
                Ok(()) if is_output => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_USAGE),
            }
        }
        Err(error) => {
            for problem in error.problems() {
                tell!("headwater: {problem}");
            }
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Says what a check finds, and ends with the code with which a node would end.
fn told(checked: &Checked) -> ExitCode {
    let findings = node::check(checked);
    let code = match findings.refusals.first() {
        Some(first) if is_of_storage(first) => fatal::EXIT_STORAGE as u8,
        Some(_) => fatal::EXIT_REFUSED as u8,
        None => 0,
    };
    let printed = print(&if checked.json { findings.json(code) } else { findings.to_string() });
    if code == 0 { printed } else { ExitCode::from(code) }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(fatal::EXIT_REFUSED as u8),
    }
}

fn certs(command: &CertsCommand) -> ExitCode {
    match tls::run_certs(command) {
        Ok(said) => print(&said),
        Err(error) => {
            tell!("headwater: {error}");
            ExitCode::from(fatal::EXIT_REFUSED as u8)
        }
    }
}

/// The end of a subcommand that has said on the way what it did.
fn ended<E: std::fmt::Display>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell!("headwater: {error}");
            ExitCode::from(fatal::EXIT_REFUSED as u8)
        }
    }
}

/// The end of a subcommand that looked at a cluster.
fn looked(done: Result<Condition, commands::CommandError>) -> ExitCode {
    match done {
        Ok(Condition::Healthy) => ExitCode::SUCCESS,
        Ok(Condition::Degraded) => ExitCode::from(EXIT_DEGRADED),
        Ok(Condition::Unavailable) => ExitCode::from(EXIT_UNAVAILABLE),
        Err(error) => ended(Err(error)),
    }
}

/// The end of a subcommand that looked for damage.
fn judged(done: Result<Verdict, CommandError>) -> ExitCode {
    match done {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::from(fatal::EXIT_REFUSED as u8),
        Err(error) if error.is_of_usage() => {
            tell!("headwater: {error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => ended(Err(error)),
    }
}

/// Whatever is created meanwhile is for the user of this process alone: events, hashes of
/// passwords, keys.
fn as_private<T>(work: impl FnOnce() -> T) -> T {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    work()
}

fn run(config: Config) -> ExitCode {
    match as_private(|| start(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fatal::tell(&format!("{error:#}"));
            fatal::leave(if is_of_storage(&error) { fatal::EXIT_STORAGE } else { fatal::EXIT_REFUSED })
        }
    }
}

/// Whether the disk fails or is full, or what is on it is damaged or does not fit together.
fn is_of_storage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StartError>().is_some_and(StartError::is_of_storage)
        || error.downcast_ref::<IdentityError>().is_some_and(IdentityError::is_of_storage)
}

/// The options as they are now: the command line and the environment of this process, and the file.
fn read_again() -> Result<Config, ConfigError> {
    match config::resolve(std::env::args_os(), std::env::vars_os())? {
        Invocation::Run(config) => Ok(*config),
        _ => Err(ConfigError::Contradiction("this process does not run a node".to_owned())),
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    telemetry::start(&config.live.now().log_filter, config.log_json)?;
    let open_files = node::raise_open_files()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name("headwater-worker")
        .enable_all()
        .build()?;
    runtime.block_on(node::Node::run(config, open_files, Box::new(read_again)))
}
