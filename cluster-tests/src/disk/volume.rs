//! Files and directories: what programs see, and what a power cut would leave.
//!
//! A directory is known twice, as it is and as it was last made durable. What lies between is a
//! list of operations, in order: each takes effect on disk as a whole, when one of its directories
//! is synced. A sync of a file makes its bytes durable and not its name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fuser::Errno;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::content::Content;

/// Number of the directory that is mounted.
pub(super) const ROOT: u64 = 1;

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Synced,
    /// By this seed: some of it, as a journalling file system may. Operations on names in the order
    /// in which they were made, up to one of them. Of each file, its changes in their order up to
    /// one of them, which may be torn between two sectors of 512 bytes; and perhaps single sectors
    /// of later ones where a file is overwritten.
    Some(u64),
}

/// What a power cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Files that lost changes.
    pub files: usize,
    /// Bytes of these changes.
    pub bytes: u64,
    /// Files of which a change was kept in part.
    pub torn: usize,
    /// Creations, renames and removals.
    pub names: usize,
}

impl Lost {
    /// The sum over several cuts.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.torn += other.torn;
        self.names += other.names;
    }
}

/// A file or directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Permissions. Like the time, they are durable at once.
    pub(super) mode: u16,
    pub(super) modified: SystemTime,
    /// Names that programs see.
    pub(super) links: u32,
    /// Handles that programs hold.
    opens: u32,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Directory(Directory),
}

/// The names in a directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    current: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// One name gets another meaning, or none.
#[derive(Debug)]
struct Effect {
    directory: u64,
    name: OsString,
    node: Option<u64>,
}

impl Effect {
    fn key(&self) -> (u64, &OsStr) {
        (self.directory, &self.name)
    }
}

/// What one creation, rename or removal changes, all at once.
#[derive(Debug)]
struct Operation(Vec<Effect>);

/// All files of a disk.
#[derive(Debug)]
pub(super) struct Volume {
    nodes: HashMap<u64, Node>,
    /// Operations on names that are not durable.
    unsynced: Vec<Operation>,
    next_number: u64,
    /// Durable bytes of each file, under its number.
    backing: PathBuf,
    used_bytes: u64,
    capacity_bytes: u64,
}

type Result<T> = std::result::Result<T, Errno>;

impl Volume {
    /// An empty disk that keeps durable bytes in the directory `backing`.
    pub(super) fn new(backing: PathBuf, capacity_bytes: u64) -> Self {
        let root = Node::new(Kind::Directory(Directory::default()), 0o755);
        let nodes = HashMap::from([(ROOT, root)]);
        Self { nodes, unsynced: Vec::new(), next_number: ROOT + 1, backing, used_bytes: 0, capacity_bytes }
    }

    /// Bytes in use, and how many there can be.
    pub(super) fn space(&self) -> (u64, u64) {
        (self.used_bytes, self.capacity_bytes)
    }

    /// Leaves so many bytes for what is written from now on.
    pub(super) fn leave_free(&mut self, bytes: u64) {
        self.capacity_bytes = self.used_bytes.saturating_add(bytes);
    }

    /// A node by its number.
    pub(super) fn node(&self, number: u64) -> Result<&Node> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    /// The same, to change it.
    pub(super) fn node_mut(&mut self, number: u64) -> Result<&mut Node> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    /// The content of a file.
    pub(super) fn content(&self, number: u64) -> Result<&Content> {
        match &self.node(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    /// The same, to change it.
    pub(super) fn content_mut(&mut self, number: u64) -> Result<&mut Content> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn directory(&self, number: u64) -> Result<&Directory> {
        match &self.node(number)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, number: u64) -> Result<&mut Directory> {
        match &mut self.node_mut(number)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// What a name in a directory means.
    pub(super) fn lookup(&self, directory: u64, name: &OsStr) -> Result<u64> {
        self.directory(directory)?.current.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, directory: u64) -> Result<Vec<(OsString, u64)>> {
        Ok(self.directory(directory)?.current.iter().map(|(name, node)| (name.clone(), *node)).collect())
    }

    /// The path of a node below the mount point, for people and for faults by name; the first in
    /// the order of the alphabet if it has several, and its number if it has none.
    pub(super) fn path(&self, number: u64) -> PathBuf {
        let mut left = vec![(ROOT, PathBuf::new())];
        while let Some((at, path)) = left.pop() {
            if at == number {
                return path;
            }
            let names = self.list(at).unwrap_or_default();
            left.extend(names.into_iter().rev().map(|(name, node)| (node, path.join(name))));
        }
        PathBuf::from(format!("without-name-{number}"))
    }

    /// Creates an empty file.
    pub(super) fn create(&mut self, parent: u64, name: &OsStr, mode: u16) -> Result<u64> {
        self.require_free(parent, name)?;
        let content = Content::create(&self.backing.join(self.next_number.to_string())).map_err(Errno::from)?;
        self.add(parent, name, Node::new(Kind::File(content), mode))
    }

    /// Creates an empty directory.
    pub(super) fn create_directory(&mut self, parent: u64, name: &OsStr, mode: u16) -> Result<u64> {
        self.require_free(parent, name)?;
        self.add(parent, name, Node::new(Kind::Directory(Directory::default()), mode))
    }

    /// Gives a file one more name.
    pub(super) fn link(&mut self, number: u64, parent: u64, name: &OsStr) -> Result<()> {
        self.content(number)?;
        self.require_free(parent, name)?;
        self.operate(vec![Effect { directory: parent, name: name.to_owned(), node: Some(number) }])
    }

    /// Takes a name from a file.
    pub(super) fn unlink(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        self.content(self.lookup(parent, name)?)?;
        self.operate(vec![Effect { directory: parent, name: name.to_owned(), node: None }])
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        self.require_empty(self.lookup(parent, name)?)?;
        self.operate(vec![Effect { directory: parent, name: name.to_owned(), node: None }])
    }

    /// Moves a file or directory, in the place of what has the name there.
    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<()> {
        let moved = self.lookup(from.0, from.1)?;
        let is_directory = matches!(self.node(moved)?.kind, Kind::Directory(_));
        match self.lookup(to.0, to.1) {
            Ok(replaced) if replaced == moved => return Ok(()),
            Ok(replaced) if is_directory => self.require_empty(replaced)?,
            Ok(replaced) => drop(self.content(replaced)?),
            Err(_) => drop(self.directory(to.0)?),
        }
        self.operate(vec![
            Effect { directory: from.0, name: from.1.to_owned(), node: None },
            Effect { directory: to.0, name: to.1.to_owned(), node: Some(moved) },
        ])
    }

    fn require_free(&self, parent: u64, name: &OsStr) -> Result<()> {
        if self.directory(parent)?.current.contains_key(name) { Err(Errno::EEXIST) } else { Ok(()) }
    }

    fn require_empty(&self, number: u64) -> Result<()> {
        if self.directory(number)?.current.is_empty() { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    fn add(&mut self, parent: u64, name: &OsStr, node: Node) -> Result<u64> {
        let number = self.next_number;
        self.next_number += 1;
        self.nodes.insert(number, node);
        self.operate(vec![Effect { directory: parent, name: name.to_owned(), node: Some(number) }])?;
        Ok(number)
    }

    /// Does an operation where programs see it, and remembers it for the disk.
    fn operate(&mut self, effects: Vec<Effect>) -> Result<()> {
        for Effect { directory, name, node } in &effects {
            let names = &mut self.directory_mut(*directory)?.current;
            let before = match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
            if let Some(before) = before {
                self.node_mut(before)?.links -= 1;
            }
            if let Some(node) = node {
                self.node_mut(*node)?.links += 1;
            }
        }
        self.unsynced.push(Operation(effects));
        self.forget_unused();
        Ok(())
    }

    /// A program opens a file.
    pub(super) fn open(&mut self, number: u64) -> Result<()> {
        self.node_mut(number)?.opens += 1;
        Ok(())
    }

    /// It closes it.
    pub(super) fn close(&mut self, number: u64) {
        if let Ok(node) = self.node_mut(number) {
            node.opens -= 1;
        }
        self.forget_unused();
    }

    /// Writes to a file; all or nothing.
    pub(super) fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let growth = (offset + bytes.len() as u64).saturating_sub(self.content(number)?.length());
        if self.used_bytes.saturating_add(growth) > self.capacity_bytes && growth > 0 {
            return Err(Errno::ENOSPC);
        }
        self.used_bytes += growth;
        self.content_mut(number)?.write(offset, bytes);
        self.node_mut(number)?.modified = SystemTime::now();
        Ok(())
    }

    /// Changes the length of a file.
    pub(super) fn resize(&mut self, number: u64, length: u64) -> Result<()> {
        let before = self.content(number)?.length();
        self.content_mut(number)?.resize(length);
        // A file with holes counts as if it had none.
        self.used_bytes = self.used_bytes + length - before;
        self.node_mut(number)?.modified = SystemTime::now();
        Ok(())
    }

    /// Makes the names in a directory durable, with what they depend on: an operation that is part
    /// of it may have another directory, and earlier operations on the same names come first.
    pub(super) fn sync_names(&mut self, directory: u64) -> Result<()> {
        self.directory(directory)?;
        let mut needed: HashSet<(u64, OsString)> = HashSet::new();
        let mut durable = vec![false; self.unsynced.len()];
        for (index, Operation(effects)) in self.unsynced.iter().enumerate().rev() {
            let is_part = |effect: &Effect| {
                effect.directory == directory || needed.contains(&(effect.directory, effect.name.clone()))
            };
            if effects.iter().any(is_part) {
                durable[index] = true;
                needed.extend(effects.iter().map(|effect| (effect.key().0, effect.key().1.to_owned())));
            }
        }
        let all = std::mem::take(&mut self.unsynced);
        for (operation, durable) in all.into_iter().zip(durable) {
            if durable { self.make_durable(&operation) } else { self.unsynced.push(operation) }
        }
        self.forget_unused();
        Ok(())
    }

    fn make_durable(&mut self, Operation(effects): &Operation) {
        for Effect { directory, name, node } in effects {
            // A directory that is gone for good needs no names.
            let Ok(directory) = self.directory_mut(*directory) else { continue };
            match node {
                Some(node) => directory.durable.insert(name.clone(), *node),
                None => directory.durable.remove(name),
            };
        }
    }

    /// Removes what no program can reach and no power cut could bring back.
    fn forget_unused(&mut self) {
        let opened = self.nodes.iter().filter(|(_, node)| node.opens > 0).map(|(number, _)| *number);
        let pending = self.unsynced.iter().flat_map(|Operation(effects)| effects).filter_map(|effect| effect.node);
        let mut left: Vec<u64> = opened.chain(pending).chain([ROOT]).collect();
        let mut used = HashSet::new();
        while let Some(number) = left.pop() {
            if used.insert(number)
                && let Ok(directory) = self.directory(number)
            {
                left.extend(directory.current.values().chain(directory.durable.values()));
            }
        }
        self.keep(&used);
        self.unsynced.retain(|Operation(effects)| effects.iter().any(|effect| used.contains(&effect.directory)));
    }

    fn keep(&mut self, used: &HashSet<u64>) {
        let backing = &self.backing;
        let used_bytes = &mut self.used_bytes;
        self.nodes.retain(|number, node| {
            let keep = used.contains(number);
            if let (false, Kind::File(content)) = (keep, &node.kind) {
                *used_bytes -= content.length();
                // What is left behind goes with the directory.
                let _ = std::fs::remove_file(backing.join(number.to_string()));
            }
            keep
        });
    }

    /// The power is cut: nothing is open, and everything is as the disk has it.
    pub(super) fn lose(&mut self, left: Left) -> io::Result<Lost> {
        let mut random = match left {
            Left::Synced => None,
            Left::Some(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        let mut lost = Lost::default();
        let operations = std::mem::take(&mut self.unsynced);
        let kept = random.as_mut().map_or(0, |random| random.random_range(0..=operations.len()));
        operations[..kept].iter().for_each(|operation| self.make_durable(operation));
        lost.names = operations.len() - kept;
        // In order of their numbers, so that a seed means the same again.
        let numbers: BTreeMap<u64, &mut Node> = self.nodes.iter_mut().map(|(number, node)| (*number, node)).collect();
        for node in numbers.into_values() {
            (node.opens, node.links) = (0, 0);
            match &mut node.kind {
                Kind::Directory(directory) => directory.current.clone_from(&directory.durable),
                Kind::File(content) => {
                    let changes = content.lose(random.as_mut())?;
                    lost.files += usize::from(changes.changes > 0);
                    lost.bytes += changes.bytes;
                    lost.torn += usize::from(changes.torn);
                }
            }
        }
        self.used_bytes = self.lengths();
        self.forget_unused();
        self.count_links();
        Ok(lost)
    }

    fn lengths(&self) -> u64 {
        let length = |node: &Node| match &node.kind {
            Kind::File(content) => content.length(),
            Kind::Directory(_) => 0,
        };
        self.nodes.values().map(length).sum()
    }

    fn count_links(&mut self) {
        let directories: Vec<u64> = self.nodes.keys().copied().collect();
        for directory in directories {
            for (_, node) in self.list(directory).unwrap_or_default() {
                if let Ok(node) = self.node_mut(node) {
                    node.links += 1;
                }
            }
        }
    }

    /// Writes all that programs see to a directory outside.
    pub(super) fn copy_to(&self, target: &Path) -> io::Result<()> {
        let mut left = vec![(ROOT, target.to_owned())];
        while let Some((number, path)) = left.pop() {
            if let Ok(content) = self.content(number) {
                let length = usize::try_from(content.length()).unwrap_or(usize::MAX);
                std::fs::write(&path, content.read(0, length)?)?;
            } else {
                std::fs::create_dir_all(&path)?;
                left.extend(
                    self.list(number).unwrap_or_default().into_iter().map(|(name, node)| (node, path.join(name))),
                );
            }
        }
        Ok(())
    }
}

impl Node {
    fn new(kind: Kind, mode: u16) -> Self {
        Self { kind, mode, modified: SystemTime::now(), links: 0, opens: 0 }
    }
}

#[cfg(test)]
mod tests;
