//! Wall clocks of nodes that jump and drift, by Debian's package libfaketime.
//!
//! A node is started with the library before its C library (`LD_PRELOAD`). It adds to the wall
//! clock what a file says, which is written here while the node runs. The monotonic clock, by which
//! a node measures how long things take, is left alone, as on a machine whose clock is set.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Debian has a directory per architecture below this one.
const LIBRARIES: &str = "/usr/lib";

/// Where the library lies in it: the variant for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Where the C library keeps what has a name and is shared between processes.
const SHARED_MEMORY: &str = "/dev/shm";

/// How often the file of a drifting clock is written: a clock that gains three seconds a second
/// moves by steps of a tenth.
const DRIFT_PERIOD: Duration = Duration::from_millis(50);

/// What a wall clock shows beside the right time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Seconds that it was ahead at `since`.
    ahead_s: f64,
    /// Seconds that it gains in a second.
    gains: f64,
    since: Instant,
}

impl Clock {
    fn right() -> Self {
        Self { ahead_s: 0.0, gains: 0.0, since: Instant::now() }
    }

    fn ahead_s(&self) -> f64 {
        self.ahead_s + self.gains * self.since.elapsed().as_secs_f64()
    }
}

/// The wall clocks of the nodes of one cluster. Changes take effect at once.
#[derive(Debug)]
pub struct Clocks {
    library: PathBuf,
    directory: PathBuf,
    clocks: Arc<Mutex<BTreeMap<u16, Clock>>>,
    /// Its end ends the thread that moves drifting clocks.
    stop: Option<mpsc::Sender<()>>,
    mover: Option<JoinHandle<()>>,
}

impl Clocks {
    /// Right clocks, whose files are kept in `directory`. Fails where the library is missing.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        let library = library().context("libfaketime is missing; Debian has a package of that name")?;
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let (stop, stopped) = mpsc::channel();
        let clocks = Arc::<Mutex<BTreeMap<u16, Clock>>>::default();
        let (moved, files) = (Arc::clone(&clocks), directory.to_owned());
        let mover = std::thread::Builder::new()
            .name("clocks".to_owned())
            .spawn(move || move_drifting(&moved, &files, &stopped))
            .context("no thread for the clocks")?;
        Ok(Self { library, directory: directory.to_owned(), clocks, stop: Some(stop), mover: Some(mover) })
    }

    /// Variables of the environment with which a node gets its clock.
    pub fn environment(&self, node: u16) -> anyhow::Result<Vec<(String, String)>> {
        let clock = *self.lock().entry(node).or_insert_with(Clock::right);
        let file = file(&self.directory, node);
        write(&file, clock.ahead_s())?;
        let variables = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            // Otherwise it looks at the file every ten seconds only.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Files keep the times that they have when a clock is set.
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    /// The clock of a node jumps by so many seconds.
    pub fn jump(&self, node: u16, seconds: f64) -> anyhow::Result<()> {
        self.change(node, |clock| clock.ahead_s += seconds)
    }

    /// From now on the clock of a node gains so many seconds in a second; it loses time if that is
    /// negative, and goes backwards below -1.
    pub fn drift(&self, node: u16, gains: f64) -> anyhow::Result<()> {
        self.change(node, |clock| clock.gains = gains)
    }

    /// Sets all clocks right.
    pub fn heal(&self) -> anyhow::Result<()> {
        let mut clocks = self.lock();
        for (node, clock) in clocks.iter_mut() {
            *clock = Clock::right();
            write(&file(&self.directory, *node), 0.0)?;
        }
        Ok(())
    }

    /// Seconds that the clock of a node is ahead of the right time.
    pub fn ahead_s(&self, node: u16) -> f64 {
        self.lock().get(&node).map_or(0.0, Clock::ahead_s)
    }

    /// Removes what the library leaves when its process is killed; a later process with the same id
    /// would not start.
    pub(crate) fn forget(&self, pid: u32) {
        for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
            // There is nothing after an end in order.
            let _ = fs::remove_file(Path::new(SHARED_MEMORY).join(name));
        }
    }

    fn change(&self, node: u16, change: impl FnOnce(&mut Clock)) -> anyhow::Result<()> {
        let mut clocks = self.lock();
        let clock = clocks.entry(node).or_insert_with(Clock::right);
        *clock = Clock { ahead_s: clock.ahead_s(), gains: clock.gains, since: Instant::now() };
        change(clock);
        write(&file(&self.directory, node), clock.ahead_s())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Clock>> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(mover) = self.mover.take() {
            // It waits for nothing but the time between two steps.
            let _ = mover.join();
        }
    }
}

/// Whether nodes can be given clocks on this machine.
pub fn is_available() -> bool {
    library().is_some()
}

fn library() -> Option<PathBuf> {
    let directories = fs::read_dir(LIBRARIES).ok()?.flatten();
    directories.map(|directory| directory.path().join(LIBRARY)).find(|path| path.is_file())
}

fn file(directory: &Path, node: u16) -> PathBuf {
    directory.join(format!("clock-{node}"))
}

/// A node reads its file at any moment, so it is replaced as a whole.
fn write(file: &Path, ahead_s: f64) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, format!("{ahead_s:+.6}\n")).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("cannot replace {}", file.display()))
}

fn move_drifting(clocks: &Mutex<BTreeMap<u16, Clock>>, directory: &Path, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(DRIFT_PERIOD) == Err(mpsc::RecvTimeoutError::Timeout) {
        let clocks = clocks.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, clock) in clocks.iter().filter(|(_, clock)| clock.gains != 0.0) {
            // A step that cannot be written shows as a clock without the effect that was asked for.
            let _ = write(&file(directory, *node), clock.ahead_s());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// Seconds by which a program that is started with this clock is ahead.
    fn shown(clocks: &Clocks, node: u16) -> f64 {
        let output = Command::new("date").arg("+%s.%N").envs(clocks.environment(node).unwrap()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let right = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        text.trim().parse::<f64>().unwrap() - right
    }

    #[test]
    fn a_clock_jumps_drifts_and_is_set_right() {
        if !is_available() {
            println!("SKIPPED: libfaketime is not installed");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let clocks = Clocks::new(directory.path()).unwrap();
        let near = |seconds: f64, expected: f64| (seconds - expected).abs() < 5.0;
        assert!(near(shown(&clocks, 1), 0.0));
        clocks.jump(1, 3_600.0).unwrap();
        clocks.jump(2, -600.0).unwrap();
        assert!(near(shown(&clocks, 1), 3_600.0) && near(shown(&clocks, 2), -600.0));
        clocks.drift(2, -1_000.0).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(clocks.ahead_s(2) < -650.0 && shown(&clocks, 2) < -650.0);
        clocks.heal().unwrap();
        assert!(near(shown(&clocks, 1), 0.0) && near(shown(&clocks, 2), 0.0));
        assert_eq!(clocks.ahead_s(2), 0.0);
    }
}
