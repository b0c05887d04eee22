//! The load generator: raw HTTP/1.1 over keep-alive connections on one thread.
//!
//! It parses only enough to know where a response ends and whether it was a success, which leaves
//! most of the machine to the servers under measurement.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::requests::Template;

/// A request without an answer for this long is an error and closes its connection.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Headers of a response; a node sends fewer than half as many.
const MAX_HEADERS: usize = 64;

/// Highest latency that is recorded: the answer limit with a margin, in nanoseconds.
const HIGHEST_LATENCY_NS: u64 = 20_000_000_000;

/// How requests are released.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each connection sends its next request when it has the answer.
    Closed,
    /// This many requests per second, however fast the answers come. Latency counts from the
    /// intended time of sending, so a stall is charged to every request that it delayed.
    Open(f64),
}

/// One load.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The address of the server.
    pub(crate) address: SocketAddr,
    /// Keep-alive connections.
    pub(crate) connections: usize,
    /// The requests to send.
    pub(crate) template: Template,
    /// Number of the first request; numbers of earlier loads must not be used again.
    pub(crate) first_number: u64,
    /// Status that counts as success.
    pub(crate) expected_status: u16,
    /// How long it lasts, or
    pub(crate) duration: Duration,
    /// how many requests it sends, whichever limit is reached first.
    pub(crate) requests: u64,
    /// When requests are sent.
    pub(crate) pace: Pace,
}

/// The result of a load.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Latencies of successes, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Time from the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Requests that failed: wrong status, broken connection, no answer.
    pub(crate) errors: u64,
    /// The first failure, for people.
    pub(crate) first_error: Option<String>,
    /// Body length of the last success.
    pub(crate) body_bytes: usize,
    /// Requests begun.
    pub(crate) sent: u64,
}

impl Measured {
    /// Successes per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Shared by the connections; all on one thread.
struct Shared {
    load: Load,
    started: Instant,
    next_number: Cell<u64>,
    /// Intended send times that no connection has taken yet (open loop).
    due: RefCell<VecDeque<Instant>>,
    /// As many permits as `due` has entries.
    released: Semaphore,
    latencies: RefCell<Histogram<u64>>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    body_bytes: Cell<usize>,
}

/// Runs a load to its end.
pub(crate) async fn run(load: Load) -> anyhow::Result<Measured> {
    let mut streams = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        streams.push(connect(load.address).await?);
    }
    let shared = Rc::new(Shared {
        next_number: Cell::new(load.first_number),
        started: Instant::now(),
        due: RefCell::default(),
        released: Semaphore::new(0),
        latencies: RefCell::new(Histogram::new_with_max(HIGHEST_LATENCY_NS, 3).context("no histogram")?),
        errors: Cell::new(0),
        first_error: RefCell::default(),
        body_bytes: Cell::new(0),
        load,
    });
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for stream in streams {
        tasks.push(local.spawn_local(connection(Rc::clone(&shared), stream)));
    }
    let pacer = match shared.load.pace {
        Pace::Open(rate) => Some(local.spawn_local(pace(Rc::clone(&shared), rate))),
        Pace::Closed => None,
    };
    local
        .run_until(async {
            for task in tasks {
                task.await.context("a connection's task failed")?;
            }
            if let Some(pacer) = pacer {
                pacer.await.context("the pacer failed")??;
            }
            anyhow::Ok(())
        })
        .await?;
    let elapsed = shared.started.elapsed();
    let latencies = shared.latencies.borrow().clone();
    let first_error = shared.first_error.borrow().clone();
    Ok(Measured {
        latencies,
        elapsed,
        errors: shared.errors.get(),
        first_error,
        body_bytes: shared.body_bytes.get(),
        sent: shared.next_number.get() - shared.load.first_number,
    })
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true).context("no TCP_NODELAY")?;
    Ok(stream)
}

/// One connection: sends, awaits, counts, until the load is over.
async fn connection(shared: Rc<Shared>, mut stream: TcpStream) {
    let mut template = shared.load.template.clone();
    let mut input = Vec::with_capacity(16 << 10);
    loop {
        let Some(intended) = shared.next_send_time().await else { return };
        let Some(number) = shared.take_number() else { return };
        let exchange = exchange(&mut stream, template.numbered(number), &mut input);
        let failure = match tokio::time::timeout(ANSWER_LIMIT, exchange).await {
            Ok(Ok(response)) if response.status == shared.load.expected_status => {
                let nanoseconds = u64::try_from(intended.elapsed().as_nanos()).unwrap_or(HIGHEST_LATENCY_NS);
                shared.latencies.borrow_mut().saturating_record(nanoseconds);
                shared.body_bytes.set(response.body_bytes);
                if response.keep_alive {
                    continue;
                }
                None
            }
            // The answer is complete, so the connection can be used again.
            Ok(Ok(response)) => {
                shared.fail(format!("status {}: {}", response.status, String::from_utf8_lossy(&response.head)));
                if response.keep_alive {
                    continue;
                }
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {ANSWER_LIMIT:?}")),
        };
        if let Some(failure) = failure {
            shared.fail(failure);
        }
        match connect(shared.load.address).await {
            Ok(fresh) => stream = fresh,
            Err(error) => {
                shared.fail(format!("{error:#}"));
                return;
            }
        }
        input.clear();
    }
}

impl Shared {
    /// The time at which the next request is (or was) due; `None` at the end.
    async fn next_send_time(&self) -> Option<Instant> {
        match self.load.pace {
            Pace::Closed => {
                let now = Instant::now();
                (now.duration_since(self.started) < self.load.duration).then_some(now)
            }
            Pace::Open(_) => {
                // The pacer closes the semaphore at the end; requests that are still due are served
                // first.
                if let Ok(permit) = self.released.acquire().await {
                    permit.forget();
                }
                self.due.borrow_mut().pop_front()
            }
        }
    }

    fn take_number(&self) -> Option<u64> {
        let number = self.next_number.get();
        if number - self.load.first_number >= self.load.requests {
            return None;
        }
        self.next_number.set(number + 1);
        Some(number)
    }

    fn fail(&self, reason: String) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert(reason);
    }
}

/// Releases requests at a fixed rate. Timers of the runtime have a resolution of 1 ms, coarser than
/// the latencies measured here, so this waits for a timer of the kernel.
async fn pace(shared: Rc<Shared>, rate: f64) -> anyhow::Result<()> {
    let timer = Timer::new().context("cannot create a timer")?;
    let total = (rate * shared.load.duration.as_secs_f64()) as u64;
    let total = total.min(shared.load.requests);
    let mut released = 0;
    while released < total {
        let elapsed = shared.started.elapsed().as_secs_f64();
        let due_by_now = ((elapsed * rate) as u64 + 1).min(total);
        for number in released..due_by_now {
            let intended = shared.started + Duration::from_secs_f64(number as f64 / rate);
            shared.due.borrow_mut().push_back(intended);
            shared.released.add_permits(1);
        }
        released = released.max(due_by_now);
        let next = shared.started + Duration::from_secs_f64(released as f64 / rate);
        timer.wait_until(next).await.context("cannot wait for the timer")?;
    }
    shared.released.close();
    Ok(())
}

/// A `timerfd`.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> io::Result<Self> {
        let owned = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` always names the same open file, and it stays inside until the
        // `AsyncFd` is dropped.
        let registered = unsafe { AsyncFd::register(owned) };
        Ok(Self(registered?))
    }

    async fn wait_until(&self, time: Instant) -> io::Result<()> {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Already late: let the connections run before checking again.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let after = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        let setting = Itimerspec { it_interval: once, it_value: after };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &setting)?;
        loop {
            let mut ready = self.0.readable().await?;
            // A timer's read gives the number of expirations, in 8 bytes.
            if rustix::io::read(&self.0, &mut [0; 8]) == Ok(8) {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

/// A complete response.
struct Response {
    status: u16,
    body_bytes: usize,
    keep_alive: bool,
    /// Beginning of the response, kept for errors only.
    head: Vec<u8>,
}

/// Sends a request and reads its response to the last byte.
async fn exchange(stream: &mut TcpStream, request: &[u8], input: &mut Vec<u8>) -> io::Result<Response> {
    stream.write_all(request).await?;
    input.clear();
    loop {
        if stream.read_buf(input).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        if let Some(response) = parse(input)? {
            return Ok(response);
        }
    }
}

/// Parses the bytes so far; `None` while something is missing.
fn parse(input: &[u8]) -> io::Result<Option<Response>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let invalid = |error: httparse::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let httparse::Status::Complete(head_bytes) = response.parse(input).map_err(invalid)? else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    let mut length = None;
    let mut chunked = false;
    let mut keep_alive = true;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive = !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let body = &input[head_bytes..];
    let body_bytes = match (chunked, length, status) {
        // The servers measured here end a chunked body without trailers.
        (true, _, _) if body.ends_with(b"0\r\n\r\n") => body.len(),
        (true, _, _) => return Ok(None),
        (false, _, 204 | 304) => 0,
        (false, Some(length), _) if body.len() >= length => length,
        (false, Some(_), _) => return Ok(None),
        (false, None, _) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a response without a length"));
        }
    };
    let success = status < 400;
    let head = if success { Vec::new() } else { input[..input.len().min(300)].to_vec() };
    Ok(Some(Response { status, body_bytes, keep_alive, head }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_only_with_its_last_byte() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).unwrap().is_none(), "{end}");
        }
        let response = parse(whole).unwrap().unwrap();
        assert_eq!((response.status, response.body_bytes, response.keep_alive), (201, 3, true));
    }

    #[test]
    fn a_chunked_response_ends_with_the_empty_chunk() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert!(parse(&whole[..whole.len() - 2]).unwrap().is_none());
        assert_eq!(parse(whole).unwrap().unwrap().status, 200);
    }

    #[test]
    fn a_304_has_no_body() {
        let response = parse(b"HTTP/1.1 304 Not Modified\r\n\r\n").unwrap().unwrap();
        assert_eq!((response.status, response.body_bytes), (304, 0));
    }
}
