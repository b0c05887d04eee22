//! `headwater export`: from a server into a file, or to standard output.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::error::TransferError;
use super::log_file::count_of;
use super::pages::encode;
use super::source::{Batch, Own, Selection, Source};
use crate::client::{Call, Client, PASSWORD_VARIABLE, Progress};
use crate::config::ExportFlags;
use crate::event::stream_name::ALL;
use crate::files::{PartFile, Unusable};
use crate::ndjson::{self, End, Header};

/// Pages that are read ahead of the file.
const PAGES_AHEAD: usize = 2;

/// Copies events of a server to a file. The last line of the file counts them.
///
/// # Errors
/// See [`TransferError`]. Nothing is left then of a file that was begun.
pub(crate) async fn export(flags: &ExportFlags) -> Result<(), TransferError> {
    let client = Client::of(&flags.from, &flags.client, PASSWORD_VARIABLE)?;
    let selection = match (&flags.stream, &flags.filter) {
        (Some(all), _) if all == ALL => Selection::All,
        (Some(stream), _) => Selection::Stream(stream.clone()),
        (None, Some(filter)) => Selection::Filter(filter.trim_start_matches('?').to_owned()),
        (None, None) => Selection::All,
    };
    let header = Header {
        headwater_export: ndjson::VERSION,
        source: client.name().to_owned(),
        selection: match &selection {
            Selection::All => "$all".to_owned(),
            Selection::Stream(text) | Selection::Filter(text) => text.clone(),
        },
    };
    if let Selection::Stream(stream) = &selection {
        require_stream(&client, stream).await?;
    }
    let source = Source::of_server(client, selection, Own::Whole).await?;
    let mut file = Output::open(&flags.to).await?;
    let progress = Progress::new("exported", source.unit(), None);
    let (pages, received) = mpsc::channel(PAGES_AHEAD);
    let reading = tokio::spawn(read(source, pages));
    let copied = copy(&mut file, header, received, &progress).await;
    // The channel is closed: it has ended, or ends with the page that it is reading.
    reading.await.map_err(|error| TransferError::System(std::io::Error::other(error)))??;
    let events = copied?;
    file.end(End { events }).await?;
    progress.finish();
    progress.say(&format!("wrote {}", count_of(events, "event")));
    Ok(())
}

/// Refuses a stream that is not there: a misspelt name would give an empty file.
async fn require_stream(client: &Client, stream: &str) -> Result<(), TransferError> {
    let call = Call::get(format!("/streams/{}", encode(stream))).accept("application/vnd.eventstore.atom+json");
    match client.send(&call).await {
        Err(error) if matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::GONE)) => {
            Err(TransferError::NoStream { node: client.name().to_owned(), stream: stream.to_owned() })
        }
        answer => Ok(answer.map(drop)?),
    }
}

async fn read(mut source: Source, pages: mpsc::Sender<Batch>) -> Result<(), TransferError> {
    loop {
        let page = source.next().await?;
        let is_at_head = page.is_at_head;
        if pages.send(page).await.is_err() {
            return Ok(());
        }
        if is_at_head {
            break;
        }
    }
    while let Some(page) = source.next_ends().await? {
        if pages.send(page).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes the pages; returns how many events they had.
async fn copy(
    file: &mut Output,
    header: Header,
    mut pages: mpsc::Receiver<Batch>,
    progress: &Progress,
) -> Result<u64, TransferError> {
    let (mut events, mut reached) = (0, 0);
    let mut lines = Vec::new();
    ndjson::push_header(&mut lines, &header);
    while let Some(page) = pages.recv().await {
        if let Some(end) = page.end {
            progress.set_total(end);
        }
        progress.advance(page.reached.saturating_sub(reached));
        reached = page.reached.max(reached);
        page.remarks.iter().for_each(|remark| progress.say(remark));
        for event in &page.events {
            ndjson::push_event(&mut lines, event.borrowed());
        }
        for next in &page.ends {
            ndjson::push_next(&mut lines, next);
        }
        events += page.events.len() as u64;
        file.write(&lines).await?;
        lines.clear();
    }
    file.write(&lines).await?;
    Ok(events)
}

/// What is written.
struct Output {
    path: PathBuf,
    file: tokio::fs::File,
    /// Gives the file its name at the end; `None` for standard output.
    part: Option<PartFile>,
}

impl Output {
    async fn open(path: &Path) -> Result<Self, TransferError> {
        if path == Path::new("-") {
            let output = std::io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from)?;
            return Ok(Self { path: path.to_owned(), file: tokio::fs::File::from_std(output), part: None });
        }
        let target = path.to_owned();
        let mut part = blocking(move || PartFile::create(&target)).await?;
        let (path, file) = (part.path().to_owned(), part.file().try_clone()?);
        Ok(Self { path, file: tokio::fs::File::from_std(file), part: Some(part) })
    }

    async fn write(&mut self, lines: &[u8]) -> Result<(), TransferError> {
        self.file.write_all(lines).await.map_err(|error| TransferError::File { path: self.path.clone(), error })
    }

    async fn end(mut self, end: End) -> Result<(), TransferError> {
        let mut line = Vec::new();
        ndjson::push_end(&mut line, end);
        self.write(&line).await?;
        self.file.flush().await.map_err(|error| TransferError::File { path: self.path, error })?;
        match self.part {
            Some(part) => blocking(move || part.finish()).await,
            None => Ok(()),
        }
    }
}

/// Runs what the disk may keep waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Unusable> + Send + 'static,
) -> Result<T, TransferError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| TransferError::System(std::io::Error::other(error)))??)
}
