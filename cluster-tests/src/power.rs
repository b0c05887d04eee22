//! Nodes on disks that lose what was not synced when the power is cut.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::cluster::{Cluster, Options};
use crate::disk::{Disk, Left, Lost};
use crate::wait;

/// Set it to 1 to skip the tests that need a file system of their own, where none can be mounted.
const WITHOUT_FUSE: &str = "FAULTS_WITHOUT_FUSE";

/// The disks of the nodes of a cluster, by server id.
#[derive(Debug)]
pub struct Disks {
    /// Unmounted before the directory goes.
    disks: BTreeMap<u16, Disk>,
    /// `Some` until dropped; kept unless the test has passed.
    root: Option<tempfile::TempDir>,
    passed: bool,
}

impl Disks {
    /// Mounts an empty disk for each of so many nodes.
    pub fn mount(nodes: u16) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("headwater-disks-").tempdir().context("no temporary directory")?;
        let mut all = Self { disks: BTreeMap::new(), root: Some(root), passed: false };
        for id in 1..=nodes {
            let directory = all.root.as_ref().map(|root| root.path().join(id.to_string())).unwrap_or_default();
            let disk = Disk::mount(&directory).with_context(|| {
                format!("this test needs it; {WITHOUT_FUSE}=1 leaves out the tests of power cuts and lying disks")
            })?;
            all.disks.insert(id, disk);
        }
        Ok(all)
    }

    /// The same for a test. Where nothing can be mounted the test fails, unless the caller has
    /// said that it may be left out: then there are none, and a message.
    pub fn mount_or_skip(nodes: u16) -> anyhow::Result<Option<Self>> {
        match Self::mount(nodes) {
            Err(error) if std::env::var(WITHOUT_FUSE).is_ok_and(|value| value == "1") => {
                // Not by `eprintln!`, whose lines are not shown when a test passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED, for {WITHOUT_FUSE}=1: NO POWER CUT IS TESTED: {error:#}");
                Ok(None)
            }
            disks => disks.map(Some),
        }
    }

    /// These options, with each node's data on its disk.
    pub fn options(&self, options: Options) -> Options {
        let data_dir = |(id, disk): (&u16, &Disk)| (*id, data_dir(disk));
        Options { data_dirs: self.disks.iter().map(data_dir).collect(), ..options }
    }

    /// The disk of a node.
    pub fn of(&self, id: u16) -> anyhow::Result<&Disk> {
        self.disks.get(&id).with_context(|| format!("node {id} has no disk"))
    }

    /// From now on no disk has a fault, and all have space.
    pub fn heal(&self) {
        for disk in self.disks.values() {
            disk.set_faults(Vec::new());
            disk.free_space();
        }
    }

    /// Cuts the power of these running nodes at one moment: kills them, drops what their disks had
    /// not made durable (`left` says what may stay of it), and gives the disks power again. The
    /// nodes are not started.
    pub async fn cut(
        &mut self,
        cluster: &mut Cluster,
        ids: &[u16],
        left: impl Fn(u16) -> Left,
    ) -> anyhow::Result<Lost> {
        for id in ids {
            self.of(*id)?.power_off();
        }
        let let_go = || ids.iter().filter_map(|id| self.disks.get(id)).for_each(Disk::let_go);
        cluster.kill_each(ids, let_go).await?;
        let mut lost = Lost::default();
        for id in ids {
            lost.add(self.restart(*id, left(*id))?);
        }
        Ok(lost)
    }

    /// The same for a node that has ended by itself: what it wrote and did not sync is dropped, and
    /// its disk is good again.
    pub fn restart(&mut self, id: u16, left: Left) -> anyhow::Result<Lost> {
        self.disks.get_mut(&id).with_context(|| format!("node {id} has no disk"))?.power_on(left)
    }

    /// Waits until the power of a node has failed by itself ([`Disk::power_off_after`]).
    pub async fn failed(&self, id: u16, limit: Duration) -> anyhow::Result<()> {
        let disk = self.of(id)?;
        wait::until("a power failure", limit, || async {
            anyhow::ensure!(disk.is_off(), "{:?}", disk.counts());
            Ok(())
        })
        .await
    }

    /// Marks the test as passed: the files are removed with this value.
    pub fn passed(&mut self) {
        self.passed = true;
        self.disks.values_mut().for_each(Disk::passed);
    }
}

fn data_dir(disk: &Disk) -> PathBuf {
    disk.path().join("data")
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.disks.clear();
        if !self.passed
            && let Some(root) = self.root.take()
        {
            let _ = root.keep();
        }
    }
}
