//! Pages of the log of all events (contract/streams 10), and of what a filter leaves of it
//! (contract/streams 17).
//!
//! There is no index of types or prefixes, so a filtered page is found by looking at one event
//! after the other. A read looks at a bounded number of them; a page that ends there is shorter
//! than asked for, and its links lead on from there.

use std::sync::Arc;

use bytes::Bytes;

use super::Streams;
use super::document::{Content, Document, PageRead};
use super::filter::Filter;
use super::limits::{MAX_SCANNED_BYTES, MAX_SCANNED_EVENTS, SCAN_STEP_EVENTS, SMALL_PAGE_BYTES};
use super::links::{LinkAccess, LinkResolver, Links};
use super::page::{Beginning, PageEnds, PageEvents, PagePlan};
use super::page_format::{PageFormat, PageHead, PageKind, PageWriter};
use super::page_request::PageRequest;
use super::refusal::Refusal;
use super::walk::{self, Step, StepLimits};
use crate::access::Caller;
use crate::event::log_paging::{LogPage, LogStart};
use crate::event::paging::{Direction, PageSize};
use crate::event::stream_name::ALL;
use crate::event::{Position, ResolvedEvent, Ticks};
use crate::store::ReadView;

/// A read of one page of the log of all events.
#[derive(Debug, Clone)]
pub(crate) struct ReadAll {
    /// Where the page begins, and which way it goes.
    pub(crate) start: LogStart,
    /// Which events it has; all of them without a filter.
    pub(crate) filter: Option<Arc<Filter>>,
    /// What every page is asked for with.
    pub(crate) page: PageRequest,
}

/// Why a page of the log is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadAllError {
    /// What any operation can be refused for. A page is denied, too, where the caller may not read
    /// what a link on it leads to.
    #[error(transparent)]
    Refused(Refusal),
    /// The log is at a version that the caller knows.
    #[error("the caller knows this version of the log")]
    Unchanged,
}

impl<E: Into<Refusal>> From<E> for ReadAllError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Streams {
    /// Reads a page of the log and writes it in `format`.
    ///
    /// # Errors
    /// See [`ReadAllError`]. A denial comes before anything else that is known of the log.
    pub(crate) async fn read_all<F: PageFormat>(
        &self,
        caller: &Caller,
        read: ReadAll,
        format: F,
    ) -> Result<PageRead<F>, ReadAllError> {
        self.read_barrier(read.page.barrier).await?;
        match read.filter.clone() {
            None => self.read_whole_log(caller, read, Arc::new(format)).await,
            Some(filter) => self.read_filtered_log(caller, read, &filter, &format).await,
        }
    }

    async fn read_whole_log<F: PageFormat>(
        &self,
        caller: &Caller,
        read: ReadAll,
        format: Arc<F>,
    ) -> Result<PageRead<F>, ReadAllError> {
        let read = Arc::new(read);
        let mut look = self.look_at_log(caller, &read, &format).await?;
        if let (Some(wait), LogStart::From(position)) = (read.page.long_poll, read.start)
            && position >= look.page.next_position
            && !matches!(look.content, Err(ReadAllError::Refused(Refusal::Denied)))
        {
            self.waiters.log_grows(self.cluster.store(), look.page.next_position, wait).await?;
            look = self.look_at_log(caller, &read, &format).await?;
        }
        let LogLook { page, content, cache_control_s, is_public } = look;
        let document = self.document(content?).await?;
        Ok(PageRead {
            document,
            version: version(page.next_position),
            is_immutable: page.is_immutable(),
            cache_control_s,
            is_public,
        })
    }

    /// Looks for a page of all events under one view of the store.
    async fn look_at_log<F: PageFormat>(
        &self,
        caller: &Caller,
        read: &Arc<ReadAll>,
        format: &Arc<F>,
    ) -> Result<LogLook<F>, ReadAllError> {
        let (read, format, policy, now) = (read.clone(), format.clone(), self.policy(caller).await?, super::now());
        let look = move |view: &ReadView<'_>| {
            let (info, next_position) = (view.stream(ALL)?, view.next_position()?);
            let positions = read.start.positions(read.page.size, next_position);
            let page = LogPage::of_all(read.start, read.page.size, next_position, &positions);
            let cache_control_s = info.metadata.cache_control_s;
            let no_page = |error| LogLook { page, content: Err(error), cache_control_s, is_public: false };
            if !policy.may_read(ALL, &info) {
                return Ok(no_page(Refusal::Denied.into()));
            }
            if read.page.known_versions.contains(&version(next_position)) {
                return Ok(no_page(ReadAllError::Unchanged));
            }
            let plan = PagePlan {
                events: PageEvents::Positions(positions),
                format: format.clone(),
                links: LINKS,
                may_have_links: true,
                oldest: Ticks(0),
                now,
                policy: policy.clone(),
            };
            let head = |ends: PageEnds| PageHead { page: PageKind::Log(page), updated: ends.updated };
            let (beginning, access) = plan.begin(view, Direction::Backward, head)?;
            if access == LinkAccess::Denied {
                return Ok(no_page(Refusal::Denied.into()));
            }
            let content = match beginning {
                Beginning::Whole { document, .. } => Content::Small(document.into()),
                Beginning::Head(head) => Content::Large { head, plan },
            };
            let is_public = access == LinkAccess::Public && policy.is_public(ALL, &info);
            Ok(LogLook { page, content: Ok(content), cache_control_s, is_public })
        };
        Ok(self.cluster.store().read(look).await?)
    }

    async fn read_filtered_log<F: PageFormat>(
        &self,
        caller: &Caller,
        read: ReadAll,
        filter: &Arc<Filter>,
        format: &F,
    ) -> Result<PageRead<F>, ReadAllError> {
        let mut scan = self.scan(caller, &read, filter).await?;
        if let Some(wait) = read.page.long_poll
            && scan.events.is_empty()
            && scan.is_at_the_end()
        {
            self.waiters.log_grows(self.cluster.store(), scan.log.next_position, wait).await?;
            scan = self.scan(caller, &read, filter).await?;
        }
        if scan.log.access == LinkAccess::Denied {
            return Err(Refusal::Denied.into());
        }
        let page = scan.page(read.start, read.page.size);
        let body = write(format, page, scan.events);
        let document = if body.len() as u64 > SMALL_PAGE_BYTES {
            Document::Large(body, self.answer_memory().await?)
        } else {
            Document::Small(Bytes::from(body))
        };
        Ok(PageRead {
            document,
            version: version(page.next_position),
            is_immutable: page.is_immutable(),
            cache_control_s: scan.log.cache_control_s,
            is_public: scan.log.access == LinkAccess::Public && scan.log.is_public,
        })
    }

    /// Walks until the page is full, the log ends or enough was looked at.
    async fn scan(&self, caller: &Caller, read: &ReadAll, filter: &Arc<Filter>) -> Result<Scan, ReadAllError> {
        let count = read.page.size.get();
        let (first, log) = self.scan_step(caller, read.start, count, filter, &read.page.known_versions).await?;
        let direction = read.start.direction();
        let mut scan = Scan { direction, events: first.events, reached: first.reached, log };
        let (mut examined, mut examined_bytes) = (first.examined, first.examined_bytes);
        let mut shown_bytes = first.payload_bytes;
        while !scan.is_at_the_end()
            && (scan.events.len() as u64) < count
            && examined < MAX_SCANNED_EVENTS
            && examined_bytes < MAX_SCANNED_BYTES
            && shown_bytes < STEP_BYTES
        {
            tokio::task::yield_now().await;
            let start = match direction {
                Direction::Backward => LogStart::Before(scan.reached),
                Direction::Forward => LogStart::From(scan.reached),
            };
            let left = count - scan.events.len() as u64;
            let (step, log) = self.scan_step(caller, start, left, filter, &[]).await?;
            examined += step.examined;
            examined_bytes += step.examined_bytes;
            shown_bytes += step.payload_bytes;
            scan.events.extend(step.events);
            scan.reached = step.reached;
            scan.log = LogState { access: scan.log.access.max(log.access), ..log };
        }
        Ok(scan)
    }

    /// One step of a walk, under a view of its own, for a caller that does not know the version of
    /// the log.
    async fn scan_step(
        &self,
        caller: &Caller,
        start: LogStart,
        taken: u64,
        filter: &Arc<Filter>,
        known_versions: &[i64],
    ) -> Result<(Step, LogState), ReadAllError> {
        let (filter, known_versions) = (filter.clone(), known_versions.to_vec());
        let (policy, now) = (self.policy(caller).await?, super::now());
        let limits = StepLimits {
            examined: SCAN_STEP_EVENTS,
            examined_bytes: STEP_BYTES,
            taken,
            enough_bytes: STEP_BYTES,
            most_bytes: usize::MAX,
        };
        let step = move |view: &ReadView<'_>| {
            let (info, next_position) = (view.stream(ALL)?, view.next_position()?);
            if !policy.may_read(ALL, &info) {
                return Ok(Err(Refusal::Denied.into()));
            }
            if known_versions.contains(&version(next_position)) {
                return Ok(Err(ReadAllError::Unchanged));
            }
            let mut resolver = LinkResolver::new(view, LINKS, now, &policy);
            let (direction, position) = (start.direction(), start.position(next_position));
            let step = walk::along_log(view, &mut resolver, direction, position, Some(&filter), limits)?;
            let log = LogState {
                next_position,
                access: resolver.access(),
                is_public: policy.is_public(ALL, &info),
                cache_control_s: info.metadata.cache_control_s,
            };
            Ok(Ok((step, log)))
        };
        self.cluster.store().read(step).await?
    }
}

/// Links are always followed in the log (contract/streams 10).
const LINKS: Links = Links::Followed;

/// Payload of a filtered page, and of a step to it, as far as that can be helped: one event may be
/// larger.
const STEP_BYTES: usize = SMALL_PAGE_BYTES as usize;

/// The position of the last event, -1 for none.
fn version(next_position: Position) -> i64 {
    next_position as i64 - 1
}

/// What one look at the log found.
struct LogLook<F> {
    page: LogPage,
    content: Result<Content<F>, ReadAllError>,
    cache_control_s: Option<u64>,
    is_public: bool,
}

/// What a step of a walk saw of the log as a whole.
struct LogState {
    next_position: Position,
    /// Who may read what the links met so far lead to.
    access: LinkAccess,
    /// Whether everybody may read the log.
    is_public: bool,
    cache_control_s: Option<u64>,
}

/// A walk along the log.
struct Scan {
    direction: Direction,
    /// What was found, in the order of the walk.
    events: Vec<ResolvedEvent>,
    /// All events between the beginning and this position were looked at.
    reached: Position,
    log: LogState,
}

impl Scan {
    /// Whether no event is left to look at.
    fn is_at_the_end(&self) -> bool {
        match self.direction {
            Direction::Backward => self.reached == 0,
            Direction::Forward => self.reached >= self.log.next_position,
        }
    }

    /// The page that the walk has found.
    fn page(&self, start: LogStart, size: PageSize) -> LogPage {
        let count = size.get();
        let has_more = !self.is_at_the_end();
        LogPage {
            start,
            count,
            reached: (start != LogStart::From(self.reached)).then_some(self.reached),
            is_full: match self.direction {
                Direction::Backward => has_more,
                Direction::Forward => has_more || self.events.len() as u64 == count,
            },
            next_position: self.log.next_position,
        }
    }
}

/// The document of a page with these events, which are in the order of its walk.
fn write<F: PageFormat>(format: &F, page: LogPage, mut events: Vec<ResolvedEvent>) -> Vec<u8> {
    match page.start.direction() {
        Direction::Backward => {}
        Direction::Forward => events.reverse(),
    }
    let updated = events.first().and_then(|newest| Some(newest.borrowed().shown()?.time));
    let mut body = Vec::with_capacity(1024 + 768 * events.len());
    let mut writer = format.writer(false);
    writer.start(&mut body, &PageHead { page: PageKind::Log(page), updated });
    events.iter().for_each(|event| writer.event(&mut body, &event.borrowed()));
    writer.end(&mut body);
    body
}
