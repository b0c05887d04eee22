//! `headwater import`: from a source into a node, page by page.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::error::TransferError;
use super::file::FileSource;
use super::log_file::{LeftOut, count_of};
use super::skip::{Fate, fate, takes_end};
use super::source::{Batch, Own, Selection, Source};
use super::target::{Counts, Note, Target};
use crate::client::{Client, PASSWORD_VARIABLE, Progress};
use crate::config::{ImportFlags, ImportSource};
use crate::event::{MAX_EVENT_BYTES, RecordedEvent};
use crate::ndjson::NextNumber;

/// The environment variable with the password for the target.
const TARGET_PASSWORD_VARIABLE: &str = "HEADWATER_TO_PASSWORD";

/// Pages that are read ahead of the target.
const PAGES_AHEAD: usize = 2;

/// Time between two looks at a source that had nothing new.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// What the command line asks an import to do at the head of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Wait for more.
    Follow,
    /// End.
    End,
}

/// Copies the events of a source into a node.
///
/// # Errors
/// See [`TransferError`]. Everything stored until then stays, and a further run goes on from there.
pub(crate) async fn import(flags: &ImportFlags) -> Result<(), TransferError> {
    let mut source = source(flags).await?;
    let name = name_of_import(flags);
    let target = Client::of(&flags.to, &flags.target().client, TARGET_PASSWORD_VARIABLE)?;
    let target = Target::new(target, name.as_deref());
    let mut totals = Totals::default();
    let source_name = name_of_source(&flags.from);
    if let Some(note) = target.note().await? {
        let name = name.clone().unwrap_or_default();
        totals.before = note.events;
        if note.source != source_name || !source.resume(note.next) {
            return Err(TransferError::OtherSource { name, former: note.source, source_name });
        }
    }
    let left_out = LeftOut::new(flags.log.clone())?;
    let progress = Progress::new("imported", source.unit(), None);
    if totals.before > 0 {
        progress.say(&format!("going on behind {} that an earlier run has copied", count_of(totals.before, "event")));
    }
    let wishes = wishes(flags.follow)?;
    let (pages, received) = mpsc::channel(PAGES_AHEAD);
    let reading = tokio::spawn(read(source, wishes, pages));
    let mut import = Import {
        target,
        left_out,
        progress,
        totals,
        source_name,
        without_users: flags.without_users,
        leave_out_large: flags.leave_out_large,
    };
    let copied = import.copy(received).await;
    // It has ended, or ends with the page that it is reading: nobody takes pages any more.
    let read = reading.await.map_err(|error| TransferError::System(std::io::Error::other(error)))?;
    let done = copied.and(read);
    if done.is_ok() || import.has_done_something() {
        import.tell()?;
    } else {
        import.progress.clear();
    }
    done
}

async fn source(flags: &ImportFlags) -> Result<Source, TransferError> {
    match &flags.from {
        ImportSource::Server(url) => {
            let client = Client::of(url, &flags.client, PASSWORD_VARIABLE)?;
            Source::of_server(client, Selection::All, Own::Named).await
        }
        _ if flags.follow => {
            Err(TransferError::Usage("--follow needs a server as --from: a file does not grow".to_owned()))
        }
        ImportSource::File(path) => Ok(Source::File(FileSource::open(path.clone()).await?)),
        ImportSource::StandardInput => Ok(Source::File(FileSource::standard_input()?)),
    }
}

fn name_of_source(source: &ImportSource) -> String {
    match source {
        ImportSource::Server(url) => url.as_str().trim_end_matches('/').to_owned(),
        ImportSource::File(path) => path.display().to_string(),
        ImportSource::StandardInput => "-".to_owned(),
    }
}

/// A file is read again from its beginning: what is there already is passed over.
fn name_of_import(flags: &ImportFlags) -> Option<String> {
    let ImportSource::Server(url) = &flags.from else { return None };
    let of_url = || {
        let host = url.host_str().unwrap_or_default();
        url.port_or_known_default().map_or(host.to_owned(), |port| format!("{host}:{port}"))
    };
    Some(flags.name.clone().unwrap_or_else(of_url))
}

/// What to do at the head: changes once a signal tells to cut over. A second signal ends the
/// process as usual.
fn wishes(follow: bool) -> Result<watch::Receiver<Wish>, TransferError> {
    use tokio::signal::unix::{SignalKind, signal};
    let (wish, wishes) = watch::channel(if follow { Wish::Follow } else { Wish::End });
    if !follow {
        return Ok(wishes);
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tell!("cutting over: the import ends with the last event that is there; a further signal ends it at once");
        // The import may have ended by itself.
        let _ = wish.send(Wish::End);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        crate::fatal::leave(crate::client::EXIT_INTERRUPTED);
    });
    Ok(wishes)
}

/// Reads pages ahead of the target, to the head or as long as it is to follow. The channel closes
/// behind the last one.
async fn read(
    mut source: Source,
    mut wishes: watch::Receiver<Wish>,
    pages: mpsc::Sender<Batch>,
) -> Result<(), TransferError> {
    loop {
        // What it is by now, so that a page that is asked for after the wish to end has everything
        // that was there by then.
        let wish = *wishes.borrow_and_update();
        let page = source.next().await?;
        let is_at_head = page.is_at_head;
        if pages.send(page).await.is_err() {
            // The target has refused something, and says so itself.
            return Ok(());
        }
        match (is_at_head, wish) {
            (false, _) => {}
            (true, Wish::End) => break,
            (true, Wish::Follow) => tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                _ = wishes.changed() => {}
                () = pages.closed() => return Ok(()),
            },
        }
    }
    while let Some(page) = source.next_ends().await? {
        if pages.send(page).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What has been done.
#[derive(Debug, Default)]
struct Totals {
    /// Events that earlier runs have copied.
    before: u64,
    stored: u64,
    present: u64,
    listed: u64,
}

struct Import {
    target: Target,
    left_out: LeftOut,
    progress: Progress,
    totals: Totals,
    source_name: String,
    without_users: bool,
    leave_out_large: bool,
}

impl Import {
    /// Stores every page in order.
    async fn copy(&mut self, mut pages: mpsc::Receiver<Batch>) -> Result<(), TransferError> {
        let mut reached = None;
        while let Some(page) = pages.recv().await {
            let Batch { events, ends, next, reached: at, end, remarks, .. } = page;
            for remark in remarks {
                self.left_out.remark(remark)?;
            }
            if let Some(end) = end {
                self.progress.set_total(end);
            }
            match reached {
                // What lies before the first page was copied earlier.
                None if self.totals.before > 0 => self.progress.resume_at(at),
                None => self.progress.advance(at),
                Some(before) => self.progress.advance(at.saturating_sub(before)),
            }
            reached = Some(at.max(reached.unwrap_or_default()));
            let takes_end = |end: &NextNumber| takes_end(&end.stream, self.without_users);
            let ends: Vec<NextNumber> = ends.into_iter().filter(takes_end).collect();
            let is_empty = events.is_empty() && ends.is_empty();
            let wanted = self.wanted(events).await?;
            // Notes of pages without events would only fill the log while an import follows.
            if is_empty {
                continue;
            }
            let copied = self.totals.before + self.totals.stored + self.totals.present + wanted.len() as u64;
            let note = next.map(|next| Note { source: self.source_name.clone(), next, events: copied });
            // After the note of this page nobody would say again what was left out of it.
            self.left_out.flush()?;
            let Counts { stored, present } = self.target.store(&wanted, &ends, note.as_ref()).await?;
            self.totals.stored += stored;
            self.totals.present += present;
        }
        Ok(())
    }

    /// The events that are stored with their numbers.
    async fn wanted(&mut self, events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>, TransferError> {
        let mut wanted = Vec::with_capacity(events.len());
        for mut event in events {
            match fate(&event, self.without_users) {
                Fate::Copied if event.data.len() + event.metadata.len() > MAX_EVENT_BYTES => {
                    if !self.leave_out_large {
                        let RecordedEvent { stream, number, .. } = event;
                        return Err(TransferError::TooLarge { stream, number });
                    }
                    self.left_out
                        .skipped(&event, "more than 4 MiB of data and metadata, left out by --leave-out-large")?;
                }
                Fate::Copied => {
                    if event.event_id.is_nil() {
                        event.event_id = id_of_nameless(&event);
                        self.left_out.remark(format!(
                            "{}@{} has no id; it gets {}",
                            event.number, event.stream, event.event_id
                        ))?;
                    }
                    wanted.push(event);
                }
                Fate::Listed => {
                    self.target.list_user(&event).await?;
                    self.totals.listed += 1;
                }
                Fate::Skipped(reason) => self.left_out.skipped(&event, reason)?,
            }
        }
        Ok(wanted)
    }

    fn has_done_something(&self) -> bool {
        let Totals { stored, present, listed, .. } = self.totals;
        stored + present + listed > 0
    }

    /// Says what was done.
    fn tell(&mut self) -> Result<(), TransferError> {
        let Totals { stored, present, listed, .. } = self.totals;
        self.progress.finish();
        for line in self.left_out.lines() {
            self.progress.say(&line);
        }
        let skipped = self.left_out.count();
        let stored = count_of(stored, "event");
        let run = if self.totals.before > 0 { "in this run: " } else { "" };
        self.progress.say(&format!("{run}stored {stored}; {present} were there already; {skipped} were left out"));
        if listed > 0 {
            self.progress.say(&format!("added {} to the list of users", count_of(listed, "user")));
        }
        self.left_out.flush()
    }
}

/// An id for an event that has none: always the same one.
fn id_of_nameless(event: &RecordedEvent) -> Uuid {
    /// Any fixed number would do.
    const NAMELESS: Uuid = Uuid::from_u128(0x8d5e_4b7a_0c19_5f36_a2d4_7e60_1b3f_95c8);
    Uuid::new_v5(&NAMELESS, format!("{}@{}", event.number, event.stream).as_bytes())
}
