//! Faults on purpose: each shows that the fault suite finds a fault of its kind
//! (docs/correctness.md).
//!
//! They exist only in a program that was built with the cargo feature `deliberate-faults`, which no
//! release can have, and then only the one that the variable `DELIBERATE_FAULT` names. Without the
//! feature every question here is `false` at compile time, and the lines that ask leave no code.
//! Unit tests are the exception: a simulation switches a fault on for its own thread.

#[cfg(all(feature = "deliberate-faults", not(debug_assertions)))]
compile_error!("a release has no deliberate faults: build without the feature `deliberate-faults`");

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    ApplyTwice,
    SkipApplyAfterRestart,
    ForgetIds,
    ForgetIdsInSnapshots,
    AcceptStaleVersion,
    RefuseAndStore,
    SkipNumber,
    LoseEvent,
    ChangeData,
    ApplyDifferently,
    WrongPosition,
    CreatedOnStepDown,
    UnknownAsRefused,
    AnswerBeforeApplying,
    IgnoreMinPosition,
    StaleLeaderReads,
    LeaseTooLong,
    AcceptDeposedLeader,
    ReplyToAnother,
    LoseWakeUp,
    DropLastChunk,
    PurgeAboveSnapshot,
    ChangeKeptPage,
    HideNewest,
    PanicInTask,
    VoteNotStored,
    TimeGoesBack,
    VoteNotSynced,
    AckBeforeSync,
    SkipSync,
    SyncWrongFile,
    FollowerAckBeforeSync,
    StaleAccess,
    ScavengeTooMuch,
    ReadyWhileLagging,
    CheckpointAhead,
    PhantomMessage,
    LoseIndexRow,
    LoseIdRow,
}

/// Whether this program has the fault.
#[cfg(not(any(feature = "deliberate-faults", test)))]
pub(crate) const fn is(_: Fault) -> bool {
    false
}

/// Whether it has the fault, and its turn has come: once in a while.
#[cfg(not(any(feature = "deliberate-faults", test)))]
pub(crate) const fn now_and_then(_: Fault) -> bool {
    false
}

/// Whether it has the fault, and its turn has come: every other time.
#[cfg(not(feature = "deliberate-faults"))]
pub(crate) const fn every_other_time(_: Fault) -> bool {
    false
}

/// Whether it has the fault, and this is the first time that it is asked.
#[cfg(not(any(feature = "deliberate-faults", test)))]
pub(crate) const fn first_time(_: Fault) -> bool {
    false
}

/// From now on [`is_armed`], for half a minute, if it has the fault.
#[cfg(not(any(feature = "deliberate-faults", test)))]
pub(crate) const fn arm(_: Fault) {}

/// Whether it has the fault, and was armed.
#[cfg(not(any(feature = "deliberate-faults", test)))]
pub(crate) const fn is_armed(_: Fault) -> bool {
    false
}

/// Whether it has the fault, and this is the number of another server.
#[cfg(not(feature = "deliberate-faults"))]
pub(crate) const fn is_other_server(_: Fault, _: u16) -> bool {
    false
}

/// Keeps bytes in a file that is never synced.
#[cfg(not(feature = "deliberate-faults"))]
pub(crate) const fn keep_unsynced(_: &[u8]) {}

/// What [`keep_unsynced`] has kept.
#[cfg(not(feature = "deliberate-faults"))]
pub(crate) const fn kept_unsynced() -> Option<Vec<u8>> {
    None
}

/// Waits for a fifth of a second: what a fault has acknowledged is not durable before that.
#[cfg(not(feature = "deliberate-faults"))]
pub(crate) const fn dawdle() {}

/// What `--version` says of them.
#[cfg(not(any(feature = "deliberate-faults", test)))]
pub(crate) const fn sign() -> &'static str {
    ""
}

#[cfg(all(test, not(feature = "deliberate-faults")))]
pub(crate) use switched::{arm, first_time, is, is_armed, now_and_then, sign, switch};

/// Faults of one thread, which runs a simulation.
#[cfg(all(test, not(feature = "deliberate-faults")))]
mod switched {
    use std::cell::Cell;

    use super::Fault;

    /// One of so many times.
    const ONCE_IN: u64 = 50;

    thread_local! {
        static CHOSEN: Cell<Option<Fault>> = const { Cell::new(None) };
        static ARMED: Cell<bool> = const { Cell::new(false) };
        static TIMES: Cell<u64> = const { Cell::new(1) };
        static ASKED: Cell<bool> = const { Cell::new(false) };
    }

    /// From now on this thread has this fault, or none.
    pub(crate) fn switch(fault: Option<Fault>) {
        CHOSEN.set(fault);
        ARMED.set(false);
        TIMES.set(1);
        ASKED.set(false);
    }

    pub(crate) fn is(fault: Fault) -> bool {
        CHOSEN.get() == Some(fault)
    }

    pub(crate) fn arm(fault: Fault) {
        if is(fault) {
            ARMED.set(true);
        }
    }

    pub(crate) fn is_armed(fault: Fault) -> bool {
        is(fault) && ARMED.get()
    }

    pub(crate) fn now_and_then(fault: Fault) -> bool {
        is(fault) && TIMES.replace(TIMES.get() + 1).is_multiple_of(ONCE_IN)
    }

    pub(crate) fn first_time(fault: Fault) -> bool {
        is(fault) && !ASKED.replace(true)
    }

    pub(crate) const fn sign() -> &'static str {
        ""
    }
}

#[cfg(feature = "deliberate-faults")]
pub(crate) use chosen::{
    arm, dawdle, every_other_time, first_time, is, is_armed, is_other_server, keep_unsynced, kept_unsynced,
    now_and_then, sign,
};

#[cfg(feature = "deliberate-faults")]
mod chosen {
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use parking_lot::Mutex;

    use super::Fault;

    const ARMED_FOR: Duration = Duration::from_secs(30);

    /// One of so many times.
    const ONCE_IN: u64 = 50;

    impl Fault {
        /// For the variable of the environment.
        const NAMES: [(Self, &'static str); 39] = [
            (Self::ApplyTwice, "apply-twice"),
            (Self::SkipApplyAfterRestart, "skip-apply-after-restart"),
            (Self::ForgetIds, "forget-ids"),
            (Self::ForgetIdsInSnapshots, "forget-ids-in-snapshots"),
            (Self::AcceptStaleVersion, "accept-stale-version"),
            (Self::RefuseAndStore, "refuse-and-store"),
            (Self::SkipNumber, "skip-number"),
            (Self::LoseEvent, "lose-event"),
            (Self::ChangeData, "change-data"),
            (Self::ApplyDifferently, "apply-differently"),
            (Self::WrongPosition, "wrong-position"),
            (Self::CreatedOnStepDown, "created-on-step-down"),
            (Self::UnknownAsRefused, "unknown-as-refused"),
            (Self::AnswerBeforeApplying, "answer-before-applying"),
            (Self::IgnoreMinPosition, "ignore-min-position"),
            (Self::StaleLeaderReads, "stale-leader-reads"),
            (Self::LeaseTooLong, "lease-too-long"),
            (Self::AcceptDeposedLeader, "accept-deposed-leader"),
            (Self::ReplyToAnother, "reply-to-another"),
            (Self::LoseWakeUp, "lose-wake-up"),
            (Self::DropLastChunk, "drop-last-chunk"),
            (Self::PurgeAboveSnapshot, "purge-above-snapshot"),
            (Self::ChangeKeptPage, "change-kept-page"),
            (Self::HideNewest, "hide-newest"),
            (Self::PanicInTask, "panic-in-task"),
            (Self::VoteNotStored, "vote-not-stored"),
            (Self::TimeGoesBack, "time-goes-back"),
            (Self::VoteNotSynced, "vote-not-synced"),
            (Self::AckBeforeSync, "ack-before-sync"),
            (Self::SkipSync, "skip-sync"),
            (Self::SyncWrongFile, "sync-wrong-file"),
            (Self::FollowerAckBeforeSync, "follower-ack-before-sync"),
            (Self::StaleAccess, "stale-access"),
            (Self::ScavengeTooMuch, "scavenge-too-much"),
            (Self::ReadyWhileLagging, "ready-while-lagging"),
            (Self::CheckpointAhead, "checkpoint-ahead"),
            (Self::PhantomMessage, "phantom-message"),
            (Self::LoseIndexRow, "lose-index-row"),
            (Self::LoseIdRow, "lose-id-row"),
        ];
    }

    static CHOSEN: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let name = std::env::var("DELIBERATE_FAULT").ok()?;
        let found = Fault::NAMES.iter().find(|(_, known)| *known == name).map(|(fault, _)| *fault);
        if found.is_none() {
            crate::fatal::tell(&format!("there is no deliberate fault {name}"));
            crate::fatal::leave(crate::fatal::EXIT_REFUSED);
        }
        found
    });

    static ARMED: Mutex<Option<Instant>> = Mutex::new(None);

    /// The number of this server, as the suite gives it to each node.
    static SERVER: LazyLock<Option<u16>> = LazyLock::new(|| argument("--server-id")?.parse().ok());

    /// The value of an option of the command line.
    fn argument(option: &str) -> Option<String> {
        let arguments: Vec<String> = std::env::args().collect();
        arguments.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].clone())
    }

    pub(crate) fn is(fault: Fault) -> bool {
        // One node alone applies differently.
        *CHOSEN == Some(fault) && (fault != Fault::ApplyDifferently || *SERVER == Some(2))
    }

    pub(crate) fn is_other_server(fault: Fault, server: u16) -> bool {
        is(fault) && *SERVER != Some(server)
    }

    pub(crate) fn arm(fault: Fault) {
        if is(fault) {
            *ARMED.lock() = Some(Instant::now());
        }
    }

    pub(crate) fn is_armed(fault: Fault) -> bool {
        is(fault) && ARMED.lock().is_some_and(|since| since.elapsed() < ARMED_FOR)
    }

    pub(crate) fn now_and_then(fault: Fault) -> bool {
        static TIMES: AtomicU64 = AtomicU64::new(1);
        is(fault) && TIMES.fetch_add(1, Ordering::Relaxed) % ONCE_IN == 0
    }

    pub(crate) fn every_other_time(fault: Fault) -> bool {
        static TIMES: AtomicU64 = AtomicU64::new(0);
        is(fault) && TIMES.fetch_add(1, Ordering::Relaxed) % 2 == 0
    }

    #[expect(clippy::disallowed_methods, reason = "no simulation has these faults")]
    pub(crate) fn dawdle() {
        std::thread::sleep(Duration::from_millis(200));
    }

    /// The file of [`keep_unsynced`].
    fn unsynced_file() -> Option<PathBuf> {
        argument("--data-dir").map(|directory| Path::new(&directory).join("unsynced"))
    }

    pub(crate) fn keep_unsynced(bytes: &[u8]) {
        if let Some(Err(error)) = unsynced_file().map(|path| std::fs::write(path, bytes)) {
            crate::fatal::stop("writing what a deliberate fault does not sync", &error);
        }
    }

    pub(crate) fn kept_unsynced() -> Option<Vec<u8>> {
        // Of a file that was never synced a power cut may leave the name alone.
        std::fs::read(unsynced_file()?).ok().filter(|bytes| !bytes.is_empty())
    }

    pub(crate) fn first_time(fault: Fault) -> bool {
        static ASKED: AtomicBool = AtomicBool::new(false);
        is(fault) && !ASKED.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn sign() -> &'static str {
        "THIS PROGRAM HAS DELIBERATE FAULTS, for the fault suite only\n"
    }
}
