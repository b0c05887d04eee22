//! Merges command line, environment and file: for each option, the source with the highest
//! precedence wins.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use serde_json::Value;

use super::backup::{BackupFlags, RestoreFlags, VerifyFlags};
use super::certs::CertsCommand;
use super::cluster::ClusterCommand;
use super::flags::{self, CommandLine, ENV_PREFIX, Flags};
use super::health::HealthFlags;
use super::transfer::{ExportFlags, ImportFlags};
use super::upkeep::{RedactFlags, ScavengeFlags, TopFlags};
use super::{Config, exposure, print};

/// Why there is no configuration. Each message says how to correct it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Refused by the parser of the command line; also how `--help` and `--version` arrive.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// A variable that is not an option; if it is misspelt, its default would silently stay in
    /// force.
    #[error("the environment variable {name} is not an option of Headwater; unset it or correct its name{hint}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// `: did you mean X?` or nothing.
        hint: String,
    },
    /// A variable with a value that its option does not accept.
    #[error("the environment variable {name} is not valid: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// The problem.
        reason: String,
    },
    /// The file cannot be read or is not YAML.
    #[error("the configuration file {} cannot be used: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A key of the file that is not an option.
    #[error("the configuration file {} has an unknown key '{key}'; remove it or correct its name{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// `: did you mean X?` or nothing.
        hint: String,
    },
    /// A key of the file with a value that its option does not accept.
    #[error("'{key}' in the configuration file {} is not valid: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The problem with its value.
        reason: String,
    },
    /// Options that are valid alone but contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// Several of these at once, so that they can be corrected together.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ConfigError>),
}

impl ConfigError {
    /// Each problem alone.
    pub fn problems(self) -> Vec<Self> {
        match self {
            Self::Several(all) => all.into_iter().flat_map(Self::problems).collect(),
            one => vec![one],
        }
    }

    /// The same in words.
    fn sentences(self) -> Vec<String> {
        self.problems().iter().map(ToString::to_string).collect()
    }

    /// What was found, if anything.
    pub(super) fn refuse(mut found: Vec<Self>) -> Result<(), Self> {
        match found.len() {
            0 => Ok(()),
            1 => Err(found.remove(0)),
            _ => Err(Self::Several(found)),
        }
    }
}

/// The source of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// No source sets it.
    Default,
    /// The YAML file.
    File,
    /// A `HEADWATER_*` variable.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// The purpose for which the process was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Run a node.
    Run(Box<Config>),
    /// Print this text, the effective configuration.
    Print(String),
    /// Look whether a node would start.
    Check(Box<Checked>),
    /// Say as JSON that no node would start with these options: a sentence for each problem.
    Refuse(Vec<String>),
    /// Make or renew certificates.
    Certs(CertsCommand),
    /// Ask a node how it is.
    Health(Box<HealthFlags>),
    /// Look at the members of a cluster, or change them.
    Cluster(Box<ClusterCommand>),
    /// Start or stop the removal of what nobody can see.
    Scavenge(Box<ScavengeFlags>),
    /// Blank an event.
    Redact(Box<RedactFlags>),
    /// Show all nodes of a cluster.
    Top(Box<TopFlags>),
    /// Copy all that a node has.
    Backup(Box<BackupFlags>),
    /// Make a data directory from a backup.
    Restore(Box<RestoreFlags>),
    /// Look for damage.
    Verify(Box<VerifyFlags>),
    /// Copy events of another server, or of a file, into a node.
    Import(Box<ImportFlags>),
    /// Copy events of a server to a file.
    Export(Box<ExportFlags>),
}

/// A configuration that is to be checked, and not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What its sources show to others: a sentence each.
    pub in_sight: Vec<String>,
    /// Whether the findings are for programs.
    pub json: bool,
}

/// What a node that is started with these options does with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Run,
    Print,
    Check { json: bool },
}

/// Reads all sources.
///
/// `arguments` begins with the name of the program; in `environment` only names with [`ENV_PREFIX`]
/// are considered.
///
/// # Errors
/// Unknown options, values of the wrong kind, and contradictory combinations, from any source.
pub fn resolve(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, ConfigError> {
    let matches = flags::command().try_get_matches_from(arguments)?;
    let (purpose, options) = match matches.subcommand() {
        Some(("certs", options)) => return Ok(Invocation::Certs(CertsCommand::from_arg_matches(options)?)),
        Some(("health", options)) => return Ok(Invocation::Health(Box::new(HealthFlags::from_arg_matches(options)?))),
        Some(("cluster", options)) => {
            return Ok(Invocation::Cluster(Box::new(ClusterCommand::from_arg_matches(options)?)));
        }
        Some(("scavenge", options)) => {
            return Ok(Invocation::Scavenge(Box::new(ScavengeFlags::from_arg_matches(options)?)));
        }
        Some(("redact", options)) => return Ok(Invocation::Redact(Box::new(RedactFlags::from_arg_matches(options)?))),
        Some(("top", options)) => return Ok(Invocation::Top(Box::new(TopFlags::from_arg_matches(options)?))),
        Some(("backup", options)) => return Ok(Invocation::Backup(Box::new(BackupFlags::from_arg_matches(options)?))),
        Some(("restore", options)) => {
            return Ok(Invocation::Restore(Box::new(RestoreFlags::from_arg_matches(options)?)));
        }
        Some(("verify", options)) => return Ok(Invocation::Verify(Box::new(VerifyFlags::from_arg_matches(options)?))),
        Some(("import", options)) => return Ok(Invocation::Import(Box::new(ImportFlags::from_arg_matches(options)?))),
        Some(("export", options)) => return Ok(Invocation::Export(Box::new(ExportFlags::from_arg_matches(options)?))),
        Some((_, options)) if options.get_flag("check") => (Purpose::Check { json: options.get_flag("json") }, options),
        Some((_, options)) => (Purpose::Print, options),
        None => (Purpose::Run, &matches),
    };
    match (merge(from_command_line(options), environment, purpose), purpose) {
        (Err(error), Purpose::Check { json: true }) => Ok(Invocation::Refuse(error.sentences())),
        (merged, _) => merged,
    }
}

/// Merges the options of a node from all sources.
fn merge(
    given: Values,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    purpose: Purpose,
) -> Result<Invocation, ConfigError> {
    let mut problems = Vec::new();
    let environment = from_environment(environment, &mut problems);
    let path = given.get("config").or_else(|| environment.get("config")).map(PathBuf::from);
    let file = match &path {
        Some(path) => from_file(path, &mut problems),
        None => Values::new(),
    };
    ConfigError::refuse(problems)?;

    let mut values = Values::new();
    let mut origins = BTreeMap::new();
    for (origin, source) in [(Origin::File, file), (Origin::Environment, environment), (Origin::Flag, given)] {
        for (key, value) in source {
            origins.insert(key.clone(), origin);
            values.insert(key, value);
        }
    }
    let config = Config::from_flags(parse(&values)?)?;
    Ok(match purpose {
        Purpose::Run => Invocation::Run(Box::new(config)),
        Purpose::Print => Invocation::Print(print::yaml(&config, &origins)),
        Purpose::Check { json } => {
            let in_sight = exposure::secrets_in_sight(&origins, path.as_deref());
            Invocation::Check(Box::new(Checked { config, in_sight, json }))
        }
    })
}

/// Values by key, still as text.
type Values = BTreeMap<String, OsString>;

/// Parses values of any source with the parsers of the flags.
fn parse(values: &Values) -> Result<Flags, clap::Error> {
    let arguments = values.iter().map(|(key, value)| {
        let mut argument = OsString::from(flags::flag_name(key));
        argument.push("=");
        argument.push(value);
        argument
    });
    let matches =
        flags::command().try_get_matches_from(std::iter::once(OsString::from("headwater")).chain(arguments))?;
    Ok(CommandLine::from_arg_matches(&matches)?.flags)
}

/// Parses one value alone, for a message that names its source. The first paragraph of clap's
/// message is sufficient.
fn check_value(key: &str, value: &OsStr) -> Result<(), String> {
    let values = Values::from([(key.to_owned(), value.to_owned())]);
    match parse(&values) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").to_owned())
        }
    }
}

fn from_command_line(matches: &ArgMatches) -> Values {
    let given = |key: &String| matches.value_source(key) == Some(ValueSource::CommandLine);
    let value = |key: String| matches.get_raw(&key)?.next().map(|value| (key.clone(), value.to_owned()));
    flags::keys().into_iter().filter(given).filter_map(value).collect()
}

/// Variables of subcommands, which a shell may hold when it starts a node.
const OF_SUBCOMMANDS: [&str; 3] = ["HEADWATER_PASSWORD", "HEADWATER_TO_PASSWORD", "HEADWATER_AGAINST_PASSWORD"];

fn from_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    problems: &mut Vec<ConfigError>,
) -> Values {
    let known: BTreeMap<String, String> = flags::keys().into_iter().map(|key| (flags::env_name(&key), key)).collect();
    let mut values = Values::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(ENV_PREFIX) || OF_SUBCOMMANDS.contains(&name.as_str()) {
            continue;
        }
        let Some(key) = known.get(&name) else {
            let hint = hint(&name, known.keys());
            problems.push(ConfigError::UnknownVariable { name, hint });
            continue;
        };
        match check_value(key, &value) {
            Ok(()) => drop(values.insert(key.clone(), value)),
            Err(reason) => problems.push(ConfigError::Variable { name, reason }),
        }
    }
    values
}

fn from_file(path: &Path, problems: &mut Vec<ConfigError>) -> Values {
    let known: Vec<String> = flags::keys().into_iter().filter(|key| key != "config").collect();
    let mut values = Values::new();
    let document = document_of(path).unwrap_or_else(|reason| {
        problems.push(ConfigError::File { path: path.to_owned(), reason });
        BTreeMap::new()
    });
    for (key, value) in document {
        if !known.contains(&key) {
            let hint = hint(&key, known.iter());
            problems.push(ConfigError::UnknownKey { path: path.to_owned(), key, hint });
            continue;
        }
        let text = text_of(&key, &value).map(OsString::from);
        match text.and_then(|text| check_value(&key, &text).map(|()| text)) {
            Ok(text) => drop(values.insert(key, text)),
            Err(reason) => problems.push(ConfigError::Key { path: path.to_owned(), key, reason }),
        }
    }
    values
}

/// The keys and values of a file.
fn document_of(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let only_comments = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if only_comments {
        return Ok(BTreeMap::new());
    }
    let source = config::File::from_str(&text, config::FileFormat::Yaml);
    let read = config::Config::builder().add_source(source).build().and_then(config::Config::try_deserialize);
    read.map_err(|error| error.to_string())
}

/// A YAML value in the form of the command line.
fn text_of(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::String(value) => Ok(value.clone()),
        Value::Array(members) if key == "members" => {
            let members: Result<Vec<_>, _> = members.iter().map(member_text).collect();
            Ok(members?.join(","))
        }
        Value::Array(_) | Value::Object(_) => Err("expected one value, found a list or a map".to_owned()),
        Value::Null => Err("it has no value; write one or remove the key".to_owned()),
    }
}

fn member_text(member: &Value) -> Result<String, String> {
    let expected = || "each member is a map with the keys id, raft and http".to_owned();
    let fields = member.as_object().ok_or_else(expected)?;
    if let Some(unknown) = fields.keys().find(|key| !matches!(key.as_str(), "id" | "raft" | "http")) {
        return Err(format!("a member has an unknown key '{unknown}'; {}", expected()));
    }
    let field = |name: &str| text_of(name, fields.get(name).ok_or_else(expected)?);
    Ok(format!("{}={}/{}", field("id")?, field("raft")?, field("http")?))
}

/// The known name that a misspelt one most likely means.
fn hint<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    /// Typing errors up to which two names count as the same.
    const MAX_EDITS: usize = 3;
    let normal = |name: &str| name.to_lowercase().replace('-', "_");
    known
        .map(|candidate| (edits(&normal(name), &normal(candidate)), candidate))
        .min()
        .filter(|(edits, _)| *edits <= MAX_EDITS)
        .map(|(_, candidate)| format!(": did you mean {candidate}?"))
        .unwrap_or_default()
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
