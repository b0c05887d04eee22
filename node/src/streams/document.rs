//! What a read of a page returns: the document at once where it is small, else part by part, within
//! a bound on what all large documents hold in memory.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Streams;
use super::limits::{PART_BYTES, PART_MEMORY_BYTES, PART_MEMORY_WAIT};
use super::links::LinkAccess;
use super::page::PagePlan;
use super::page_format::PageFormat;
use super::page_parts::PartCursor;
use super::page_request::Version;
use super::refusal::Refusal;
use super::source::Source;
use super::still_readable::{CutShort, Shown, StillReadable};
use crate::access::{Caller, Policy};
use crate::budget::{Exhausted, MemoryBudget, Reservation};
use crate::store::Store;
use crate::timing::{self, Phase};

/// A page that was read.
pub(crate) struct PageRead<F> {
    /// What it shows.
    pub(crate) document: Document<F>,
    /// What else is known of it.
    pub(crate) facts: PageFacts,
}

/// What is known of a page beside its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageFacts {
    /// The version of what was read.
    pub(crate) version: Version,
    /// Whether the page will never show anything else.
    pub(crate) is_immutable: bool,
    /// How long a page that may change may be cached all the same, where its stream says so.
    pub(crate) cache_control_s: Option<u64>,
    /// Whether everybody may read it.
    pub(crate) is_public: bool,
}

impl PageFacts {
    /// Whether they cannot be told before the links on the page are looked at: a cache may keep it,
    /// for everybody only if everybody may read what they lead to. What is shown to a caller who
    /// did not log in may be shown to everybody.
    pub(super) fn depend_on_links(&self, policy: &Policy) -> bool {
        let may_be_kept = self.is_immutable || self.cache_control_s.is_some();
        may_be_kept && self.is_public && LinkAccess::of_unseen(policy) != LinkAccess::Public
    }
}

/// Why a page is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadPageError {
    /// What any operation can be refused for. A page is denied, too, where the caller may not read
    /// what a link on it leads to.
    #[error(transparent)]
    Refused(Refusal),
    /// The stream or log is at a version that the caller knows; what stands beside the document.
    #[error("the caller knows this version")]
    Unchanged(PageFacts),
    /// The stream never had an event, or is soft-deleted. The log always exists.
    #[error("there is no such stream")]
    NotFound,
    /// The stream is hard-deleted. The log never is.
    #[error("the stream is deleted")]
    Deleted,
}

impl<E: Into<Refusal>> From<E> for ReadPageError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl From<CutShort> for ReadPageError {
    fn from(error: CutShort) -> Self {
        match error {
            CutShort::Refused(refusal) => Self::Refused(refusal),
            CutShort::NotFound => Self::NotFound,
            CutShort::Deleted => Self::Deleted,
        }
    }
}

/// The document of a page.
pub(crate) enum Document<F> {
    /// All of it, and it is small.
    Small(Bytes),
    /// All of it.
    Large(Vec<u8>, LargeAnswer),
    /// To be taken part by part.
    InParts(PageParts<F>),
}

/// What a large answer has until it is sent.
pub(crate) struct LargeAnswer {
    /// The memory for it.
    pub(crate) memory: Reservation,
    /// The reader, to be asked whether it may still read.
    pub(crate) reader: StillReadable,
}

/// What a look at the store wrote of a page.
pub(super) enum Content<F> {
    /// All of the document, and it is small.
    Small(Bytes),
    /// The beginning of a large one.
    Large(LargePage<F>),
}

/// A large page before any of its events is written.
pub(super) struct LargePage<F> {
    /// What stands before the first event.
    pub(super) head: Vec<u8>,
    /// What follows.
    pub(super) plan: PagePlan<F>,
}

impl Streams {
    /// The document of a large page of `source` that has its memory: its links are looked at, and
    /// its first part is written.
    ///
    /// # Errors
    /// Other pages have too many events; the caller may not read what one of the links leads to,
    /// and so not the page; the stream is not there any more; or the store did not answer.
    pub(super) async fn large_document<F: PageFormat>(
        &self,
        caller: &Caller,
        source: &Source,
        page: LargePage<F>,
        memory: Reservation,
    ) -> Result<Document<F>, CutShort> {
        let LargePage { head, plan } = page;
        let places = self.places.reserve(plan.events.memory_bytes()).await?;
        let shown = Shown::page_of(source.clone());
        let mut parts = PageParts {
            store: self.cluster.store().clone(),
            reader: StillReadable::new(self, caller, vec![shown.clone()], plan.now),
            shown,
            budget: self.answers.with_patience(PART_MEMORY_WAIT),
            cursor: plan.first_part(),
            plan: Arc::new(plan),
            written: None,
            memory: None,
            _places: places,
        };
        parts.check_links().await?;
        let first = parts.write(head).await?;
        if parts.cursor.is_at_end() {
            return Ok(Document::Large(first, LargeAnswer { memory, reader: parts.reader }));
        }
        parts.memory = Some(memory);
        parts.written = Some(first);
        Ok(Document::InParts(parts))
    }

    /// Memory for an answer beyond what is read at once, if that takes no wait.
    pub(super) fn try_answer_memory(&self) -> Option<Reservation> {
        self.answers.try_reserve(PART_MEMORY_BYTES)
    }

    /// The same, after a wait. Who waits should hold nothing: thousands may.
    ///
    /// # Errors
    /// Other answers have held the memory for too long.
    pub(super) async fn answer_memory(&self) -> Result<Reservation, Exhausted> {
        let _phase = timing::phase(Phase::Answer);
        self.answers.reserve(PART_MEMORY_BYTES).await
    }
}

/// A large page on its way. Each part is read and written when it is asked for.
pub(crate) struct PageParts<F> {
    store: Store,
    /// Asked again for each part.
    reader: StillReadable,
    shown: Shown,
    budget: MemoryBudget,
    plan: Arc<PagePlan<F>>,
    cursor: PartCursor,
    /// A part that is written already.
    written: Option<Vec<u8>>,
    /// The memory of the part that was taken last.
    memory: Option<Reservation>,
    /// The memory of where the events are.
    _places: Reservation,
}

impl<F: PageFormat> PageParts<F> {
    /// The next part; `None` behind the last one. The memory of the part before is given back
    /// first: between two parts nothing is held, so that a page which waits for memory waits for
    /// clients and never for another page that waits.
    ///
    /// # Errors
    /// Nothing more may be sent, or could be.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, CutShort> {
        let part = match self.written.take() {
            Some(first) => first,
            None if self.cursor.is_at_end() => {
                self.memory = None;
                return Ok(None);
            }
            None => {
                self.memory = None;
                self.memory = Some(self.budget.reserve(PART_MEMORY_BYTES).await?);
                self.write(Vec::new()).await?
            }
        };
        if let Some(memory) = &mut self.memory {
            memory.shrink_to(part.capacity());
        }
        Ok(Some(part))
    }

    /// The reader of the page, to be asked between two pieces of the part that was taken last.
    pub(crate) fn reader(&mut self) -> &mut StillReadable {
        &mut self.reader
    }

    /// Whether the caller may read what the links lead to, as far as they are looked at before
    /// anything is sent.
    async fn check_links(&self) -> Result<(), Refusal> {
        let mut check = self.plan.first_check();
        while !check.is_done() {
            let plan = self.plan.clone();
            check = self.store.read_apart(move |view| plan.check(view, check)).await?;
        }
        if check.is_denied() { Err(Refusal::Denied) } else { Ok(()) }
    }

    /// Appends events to `out` until it has the size of a part or the document is complete. The
    /// reader is asked under the view that the events are read from, so that nothing falls between;
    /// while the part is sent, it is asked about what the links in it lead to, too.
    async fn write(&mut self, mut out: Vec<u8>) -> Result<Vec<u8>, CutShort> {
        let (mut followed, looked) = (Vec::new(), Instant::now());
        while !self.cursor.is_at_end() && out.len() < PART_BYTES {
            let (plan, cursor, shown) = (self.plan.clone(), self.cursor, self.shown.clone());
            let policy = self.reader.policy().await?;
            let read = self.store.read_apart(move |view| {
                let sight = match shown.sight(view, policy, plan.now)? {
                    Ok(sight) => sight,
                    Err(cut_short) => return Ok(Err(cut_short)),
                };
                let written = plan.part(view, cursor, &sight, &mut out)?;
                Ok(Ok((out, written)))
            });
            let (text, written) = read.await??;
            (out, self.cursor) = (text, written.cursor);
            followed.extend(written.followed);
        }
        self.reader.follow(followed.iter().map(String::as_str), looked);
        Ok(out)
    }
}
