//! Where the nodes of a run live, and which faults can strike them there.

use std::fmt;
use std::str::FromStr;

use super::nemesis::Nemesis;
use crate::namespaces::Group;

/// A way to run nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// Processes on loopback, with a proxy per link.
    #[default]
    Process,
    /// Processes in network namespaces, with packet filters. They have been made; this process runs
    /// beside their bridge.
    Netns(Group),
    /// The containers of a project of docker compose, with packet filters. They run.
    Compose,
}

/// Names of the modes, as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModeName {
    /// [`Mode::Process`].
    #[default]
    Process,
    /// [`Mode::Netns`].
    Netns,
    /// [`Mode::Compose`].
    Compose,
}

impl ModeName {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Process, Self::Netns, Self::Compose];

    /// All faults that there are in this mode, the default.
    pub fn nemeses(self) -> Vec<Nemesis> {
        Nemesis::ALL.into_iter().filter(|nemesis| self.lacks(*nemesis).is_none()).collect()
    }

    /// Why a fault cannot be in this mode.
    pub fn lacks(self, nemesis: Nemesis) -> Option<&'static str> {
        let needs_proxy = matches!(nemesis, Nemesis::Delay | Nemesis::HalfOpen | Nemesis::Reset | Nemesis::Replay);
        match self {
            Self::Process if nemesis == Nemesis::Loss => Some("proxies lose no packets; mode netns does"),
            Self::Netns | Self::Compose if needs_proxy => Some("it needs the proxies of mode process"),
            Self::Compose if matches!(nemesis, Nemesis::Lag | Nemesis::Wipe | Nemesis::Grow) => {
                Some("it starts nodes with options of its own")
            }
            Self::Compose if matches!(nemesis, Nemesis::Upgrade | Nemesis::BitRot) => {
                Some("it changes what is in a container")
            }
            Self::Netns | Self::Compose if nemesis.needs_disks() => Some("only mode process has disks that lose bytes"),
            Self::Compose if nemesis.moves_clocks() => Some("the images have no libfaketime"),
            Self::Process | Self::Netns | Self::Compose => None,
        }
    }

    /// An error that names the first fault that cannot be in this mode.
    pub fn ensure_has(self, nemeses: &[Nemesis]) -> anyhow::Result<()> {
        match nemeses.iter().find_map(|nemesis| Some((nemesis, self.lacks(*nemesis)?))) {
            Some((nemesis, reason)) => anyhow::bail!("mode {self} has no {}: {reason}", nemesis.name()),
            None => Ok(()),
        }
    }
}

impl Mode {
    /// The namespaces, if it is one of them.
    pub(super) fn group(&self) -> Option<&Group> {
        match self {
            Self::Process | Self::Compose => None,
            Self::Netns(group) => Some(group),
        }
    }

    /// Its name.
    pub fn name(&self) -> ModeName {
        match self {
            Self::Process => ModeName::Process,
            Self::Netns(_) => ModeName::Netns,
            Self::Compose => ModeName::Compose,
        }
    }
}

impl fmt::Display for ModeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Process => "process",
            Self::Netns => "netns",
            Self::Compose => "compose",
        })
    }
}

impl FromStr for ModeName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
        let found = Self::ALL.into_iter().find(|mode| mode.to_string() == name);
        found.ok_or_else(|| format!("there is no mode {name}; there are {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_a_mode_lacks_is_refused_by_its_name() {
        let refused = ModeName::Netns.ensure_has(&[Nemesis::Kill, Nemesis::Replay]).unwrap_err().to_string();
        assert!(refused.contains("netns") && refused.contains("replay"), "{refused}");
        for mode in ModeName::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            mode.ensure_has(&mode.nemeses()).unwrap();
        }
    }

    #[test]
    fn every_fault_is_in_some_mode() {
        for nemesis in Nemesis::ALL {
            assert!(ModeName::ALL.iter().any(|mode| mode.lacks(nemesis).is_none()), "{}", nemesis.name());
        }
    }
}
