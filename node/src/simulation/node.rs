//! One simulated node: the real log, state, consensus and service, on a runtime whose time only the
//! simulation moves.
//!
//! A node has a runtime of its own, so that its death takes all of its tasks at once, wherever they
//! wait, and so that its clock may be fast, slow, or stand still.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::raft::raft_server::RaftServer;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::disk::{Cut, SyncedLog};
use super::network::{self, Arrival, Network, Part};
use crate::config::{Config, LiveOptions, MemberConfig};
use crate::descriptors::OpenFiles;
use crate::event::Ticks;
use crate::metrics::Metrics;
use crate::raft::service::RaftService;
use crate::raft::{self, Founding, LogProgress, Parts};
use crate::threads::simulated::{self, Surroundings, Turn};
use crate::trace::Traces;
use crate::transport::{LocalIdentity, Member, NodeId, Resolve};

const CLUSTER_ID: [u8; 16] = [7; 16];

/// The time of day at which simulations begin: 2026 in ticks.
const EPOCH: u64 = 1_767_225_600 * Ticks::PER_SECOND;

/// What all nodes of a simulation have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) heartbeat_ms: u64,
    pub(super) election_ms: (u64, u64),
    pub(super) snapshot_log_bytes: u64,
    pub(super) keep_log_bytes: u64,
    /// How long syncs take, of a disk in order.
    pub(super) sync_ms: (u64, u64),
    /// Whether the disks report syncs that they do not make.
    pub(super) disks_lie: bool,
}

/// What surrounds a node, while it runs and across its restarts.
struct Ground {
    rng: RefCell<StdRng>,
    sync_ms: Cell<(u64, u64)>,
    is_lying: bool,
    synced: SyncedLog,
    progress: RefCell<Option<LogProgress>>,
    failure: RefCell<Option<String>>,
}

impl Surroundings for Ground {
    fn sync_takes(&self) -> Duration {
        let (low, high) = self.sync_ms.get();
        Duration::from_millis(self.rng.borrow_mut().random_range(low..=high))
    }

    fn apply_takes(&self) -> Duration {
        Duration::from_millis(self.rng.borrow_mut().random_range(0..=2))
    }

    fn is_durable(&self, end: u64) -> bool {
        self.progress.borrow().as_ref().is_none_or(|progress| progress.durable() >= end)
    }

    fn synced(&self, log: &Path) {
        if !self.is_lying {
            self.synced.note(log);
        }
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    fn failed(&self, why: String) {
        self.failure.borrow_mut().get_or_insert(why);
    }
}

/// The running part of a node.
struct Running {
    // Dropped in this order.
    service: RaftServer<RaftService>,
    parts: Arc<Parts>,
    runtime: Runtime,
    ground: Rc<Ground>,
}

/// One node, running or not.
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) id: NodeId,
    network: Network,
    settings: Settings,
    members: BTreeMap<NodeId, Member>,
    root: PathBuf,
    /// How often it was started; its directory has this number.
    starts: u64,
    rng: StdRng,
    running: Option<Running>,
    /// It gets no turn before this time.
    pub(super) paused_until: u64,
    /// What its own clock has to catch up with after a pause.
    behind_ms: u64,
    /// Its monotonic clock gains so many milliseconds in a thousand.
    pub(super) drift: i64,
    drifted: i64,
    /// Its time of day is wrong by so much.
    pub(super) clock_ms: i64,
    pub(super) slow_disk_until: u64,
    /// How far the checks have looked at what it has applied: entries and events.
    pub(super) checked: (u64, u64),
    /// The newest term in which it was found to lead.
    pub(super) led_term: u64,
}

/// All members; the address of a node is its number.
pub(super) fn members(nodes: usize) -> BTreeMap<NodeId, Member> {
    let member = |server: u16| {
        // With the mark a node does not compare them with the list of its configuration.
        let member = Member { changed: true, ..Member::at(format!("node-{server}:1"), "") };
        (id(server), member)
    };
    (1..=nodes as u16).map(member).collect()
}

fn id(server: u16) -> NodeId {
    NodeId(u64::from(server) << 48 | u64::from(server))
}

impl Node {
    pub(super) fn new(
        number: usize,
        nodes: usize,
        root: &Path,
        network: Network,
        settings: Settings,
        seed: u64,
    ) -> Self {
        Self {
            number,
            id: id(number as u16 + 1),
            network,
            settings,
            members: members(nodes),
            root: root.join(format!("node-{number}")),
            starts: 0,
            rng: StdRng::seed_from_u64(seed),
            running: None,
            paused_until: 0,
            behind_ms: 0,
            drift: 0,
            drifted: 0,
            clock_ms: 0,
            slow_disk_until: 0,
            checked: (0, 0),
            led_term: 0,
        }
    }

    fn directory(&self) -> PathBuf {
        self.root.join(self.starts.to_string())
    }

    /// The member as others know it.
    pub(super) fn member(&self) -> Member {
        self.members[&self.id].clone()
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Consensus and state, if it runs.
    pub(super) fn parts(&self) -> Option<&Arc<Parts>> {
        self.running.as_ref().map(|running| &running.parts)
    }

    /// The time of day by its own clock.
    pub(super) fn time_of_day(&self, now: u64) -> Ticks {
        let ms = now as i64 + self.clock_ms;
        Ticks(EPOCH.saturating_add_signed(ms * (Ticks::PER_SECOND as i64 / 1_000)))
    }

    /// Starts it on what its directory holds.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let ground = Rc::new(Ground {
            rng: RefCell::new(StdRng::seed_from_u64(self.rng.next_u64())),
            sync_ms: Cell::new(self.settings.sync_ms),
            is_lying: self.settings.disks_lie,
            synced: SyncedLog::default(),
            progress: RefCell::new(None),
            failure: RefCell::new(None),
        });
        let _turn = simulated::enter(ground.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let config = self.config();
        std::fs::create_dir_all(&config.data_dir).map_err(|error| error.to_string())?;
        let identity = Arc::new(LocalIdentity::new(self.id, Some(CLUSTER_ID)));
        let resolve: Resolve = Arc::new(|_, member: &Member| member.clone());
        let dialer = self.network.dialer(self.number);
        let started = runtime.block_on(async {
            let metrics = Metrics::new();
            let open_files = OpenFiles::AMPLE;
            let built =
                raft::build(&config, identity.clone(), dialer, resolve, metrics, open_files, Founding::Complete);
            let parts = built.await.map_err(|error| format!("{} does not start: {error}", self.number))?;
            *ground.progress.borrow_mut() = Some(parts.log_progress());
            let service = parts.service(identity, Traces::default());
            parts.run(&config, &CancellationToken::new()).await;
            Ok::<_, String>((Arc::new(parts), service))
        });
        if let Some(failure) = ground.failure.borrow_mut().take() {
            return Err(format!("{} does not start: {failure}", self.number));
        }
        let (parts, service) = started?;
        self.running = Some(Running { service, parts, runtime, ground });
        (self.checked, self.behind_ms, self.paused_until) = ((0, 0), 0, 0);
        self.network.up(self.number);
        Ok(())
    }

    fn config(&self) -> Config {
        let Settings { heartbeat_ms, election_ms, snapshot_log_bytes, keep_log_bytes, .. } = self.settings;
        let servers = 1..=self.members.len() as u16;
        let config = Config {
            server_id: self.id.server(),
            members: servers
                .map(|id| MemberConfig { id, raft_address: String::new(), http_address: String::new() })
                .collect(),
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            election_timeout_min: Duration::from_millis(election_ms.0),
            election_timeout_max: Duration::from_millis(election_ms.1),
            snapshot_log_bytes,
            keep_log_bytes,
            block_cache_bytes: 1 << 20,
            ..Config::single_node(self.directory()).unwrap()
        };
        let options = LiveOptions { snapshot_bytes_per_second: 1 << 30, ..LiveOptions::clone(&config.live.now()) };
        config.live.replace(options);
        config
    }

    /// Lets it run for a while, if it is not paused. The error says why it has ended itself.
    pub(super) fn turn(&mut self, now: u64, turn_ms: u64) -> Result<(), String> {
        if self.paused_until > now {
            return Ok(());
        }
        let Some(running) = &self.running else { return Ok(()) };
        let ground = &running.ground;
        ground.sync_ms.set(if self.slow_disk_until > now { (50, 400) } else { self.settings.sync_ms });
        self.drifted += self.drift * turn_ms as i64;
        let gained = self.drifted / 1_000;
        self.drifted -= gained * 1_000;
        let length = turn_ms.saturating_add_signed(gained);
        let jump = std::mem::take(&mut self.behind_ms);
        let _turn = simulated::enter(ground.clone());
        running.runtime.block_on(async {
            if jump > 0 {
                tokio::time::advance(Duration::from_millis(jump)).await;
            }
            if length > 0 {
                tokio::time::sleep(Duration::from_millis(length)).await;
            } else {
                tokio::task::yield_now().await;
            }
        });
        match ground.failure.borrow_mut().take() {
            Some(failure) => Err(format!("node {} has ended itself: {failure}", self.number)),
            None => Ok(()),
        }
    }

    /// It stands still for so long. Whether its monotonic clock stands still as well depends on
    /// what was stopped: the machine, or the process.
    pub(super) fn pause(&mut self, now: u64, for_ms: u64, clock_goes_on: bool) {
        if self.running.is_some() && self.paused_until <= now {
            self.paused_until = now + for_ms;
            self.behind_ms = if clock_goes_on { for_ms } else { 0 };
        }
    }

    /// Makes a part of a call arrive, and serves a call that begins.
    pub(super) fn receive(&self, arrival: Arrival) {
        let Some(running) = &self.running else {
            if matches!(arrival.part, Part::Open(..)) {
                self.network.refuse(arrival.call);
            }
            return;
        };
        let _turn = self.enter();
        let call = arrival.call;
        let Part::Open(path, headers) = arrival.part else { return self.network.hand_over(arrival) };
        let (way_in, task) = network::serve(&self.network, call, &path, headers, running.service.clone());
        let task = running.runtime.spawn(task).abort_handle();
        self.network.serve(call, way_in, task);
    }

    /// Starts a task on it.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(running) = &self.running {
            running.runtime.spawn(task);
        }
    }

    /// What this thread does meanwhile, it does as this node.
    pub(super) fn enter(&self) -> Option<Turn> {
        self.running.as_ref().map(|running| simulated::enter(running.ground.clone()))
    }

    /// Ends it in the middle of whatever it does; returns the bytes of its log that are lost.
    pub(super) fn end(&mut self, cut: Cut) -> Result<u64, String> {
        let Some(running) = self.running.take() else { return Ok(0) };
        self.network.down(self.number, cut == Cut::Kill);
        let _turn = simulated::enter(running.ground.clone());
        running.parts.settle();
        let from = self.directory();
        self.starts += 1;
        let lost = running.ground.synced.survive(&from, &self.directory(), cut, &mut self.rng);
        running.ground.progress.take();
        drop(running);
        // Threads of the old life may still use files there; what they leave goes at the end.
        let _ = std::fs::remove_dir_all(from);
        lost.map_err(|error| format!("the disk of node {} cannot be copied: {error}", self.number))
    }

    /// Stops it in order. Call [`Self::leave`] after a look at what it has applied meanwhile.
    pub(super) fn stop(&self) {
        let Some(running) = &self.running else { return };
        let _turn = simulated::enter(running.ground.clone());
        running.runtime.block_on(running.parts.stop());
        self.network.down(self.number, true);
    }

    /// Takes away what has stopped.
    pub(super) fn leave(&mut self) {
        let turn = self.enter();
        let running = self.running.take();
        if let Some(running) = &running {
            running.ground.progress.take();
        }
        drop((running, turn));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leave();
    }
}
