//! The users in the state: a single one, all of them, and whether there are any.

use std::collections::BTreeSet;

use tokio::sync::watch;

use super::user::{USERS, User, metastream_of, stream_of};
use crate::event::{EventNumber, Ticks};
use crate::store::{ReadError, ReadView, Store};

/// Creations that are read for a list of users, newest first. The oldest users beyond that are
/// missing in lists.
pub(crate) const MAX_LISTED: u64 = 10_000;

/// Creations read in one step.
const LIST_STEP: u64 = 500;

/// A user in the state.
#[derive(Debug, Clone)]
pub(crate) struct StoredUser {
    /// The user.
    pub(crate) user: User,
    /// Number of the event that stores it.
    pub(crate) number: EventNumber,
    /// When the event was written.
    pub(crate) time: Ticks,
    /// Last number of the metadata of its stream, which is written when the user is deleted.
    pub(crate) metadata_number: Option<EventNumber>,
}

/// What the streams of one name hold, all as of the same moment: what is decided on it is stored
/// only if it is still so.
pub(crate) struct UserPlace {
    /// The user, unless there is none or it was deleted.
    pub(super) found: Option<StoredUser>,
    /// Number of the last event of its stream, those of deleted users included.
    pub(super) last: Option<EventNumber>,
    /// Number of the last event of the metadata of its stream.
    pub(super) metadata_last: Option<EventNumber>,
}

/// The streams of users in the state.
pub(super) struct Users {
    store: Store,
    /// Whether there are any users; without them no caller can log in.
    exist: watch::Sender<bool>,
}

impl Users {
    pub(super) fn new(store: Store) -> Self {
        Self { store, exist: watch::Sender::new(false) }
    }

    /// Whether there are users, as recorded by [`Self::set_exist`].
    pub(super) fn exist(&self) -> bool {
        *self.exist.borrow()
    }

    /// Waits until there are users.
    pub(super) fn existence(&self) -> watch::Receiver<bool> {
        self.exist.subscribe()
    }

    pub(super) fn set_exist(&self) {
        self.exist.send_replace(true);
    }

    /// Whether the state contains users.
    #[expect(clippy::disallowed_methods, reason = "runs at the start and on the apply thread")]
    pub(super) fn are_stored(&self) -> bool {
        self.store.read_blocking(|view| Ok(view.stream(USERS)?.last_number.is_some()))
    }

    /// The user of this name, unless there is none or it was deleted.
    pub(super) async fn find(&self, login: &str) -> Result<Option<StoredUser>, ReadError> {
        Ok(self.place(login).await?.found)
    }

    /// The streams of this name.
    pub(super) async fn place(&self, login: &str) -> Result<UserPlace, ReadError> {
        let stream = stream_of(login);
        let read = move |view: &ReadView<'_>| {
            let event = view.last_visible_event(&stream)?;
            Ok((event, view.stream(&stream)?.last_number, view.stream(&metastream_of(&stream))?.last_number))
        };
        let (event, last, metadata_last) = self.store.read(read).await?;
        let found = event.and_then(|event| {
            let user = User::from_data(&event.data).filter(|user| user.login == login)?;
            Some(StoredUser { user, number: event.number, time: event.time, metadata_number: metadata_last })
        });
        Ok(UserPlace { found, last, metadata_last })
    }

    /// All users, sorted by name.
    pub(super) async fn list(&self) -> Result<Vec<User>, ReadError> {
        self.store.read(read_users).await
    }

    /// Number of the last event of a stream.
    pub(super) async fn last_number(&self, stream: String) -> Result<Option<EventNumber>, ReadError> {
        self.store.read(move |view| Ok(view.stream(&stream)?.last_number)).await
    }
}

fn read_users(view: &ReadView<'_>) -> Result<Vec<User>, ReadError> {
    let info = view.stream(USERS)?;
    let (Some(id), Some(last)) = (info.id, info.last_number) else { return Ok(Vec::new()) };
    let mut logins = BTreeSet::new();
    let oldest = (last + 1).saturating_sub(MAX_LISTED);
    let mut end = Some(last);
    while let Some(to) = end.filter(|to| *to >= oldest) {
        let from = (to + 1).saturating_sub(LIST_STEP).max(oldest);
        for row in view.rows(&view.places(id, from..=to)?)? {
            logins.insert(String::from_utf8_lossy(row.event()?.data).into_owned());
        }
        end = from.checked_sub(1);
    }
    let mut users = Vec::with_capacity(logins.len());
    for login in logins {
        let event = view.last_visible_event(&stream_of(&login))?;
        users.extend(event.and_then(|event| User::from_data(&event.data)));
    }
    Ok(users)
}
