//! One request to a node, repeated where that is safe.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::error::innermost;
use super::{Client, ClientError};

/// Pause before the first repetition; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between repetitions.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// What is read of the body of a refusal.
const MAX_REASON_BYTES: usize = 4_096;

/// Whether a request whose outcome is unknown may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or doing it twice is the same as doing it once.
    Safe,
    /// Only where it has certainly not been carried out.
    IfNotDone,
}

/// A request, ready to be made several times.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    /// Path and query, percent-encoded.
    path: String,
    headers: HeaderMap,
    body: Bytes,
    repeat: Repeat,
}

impl Call {
    /// Reads something.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Repeat::Safe)
    }

    /// Has something done.
    pub(crate) fn post(path: impl Into<String>, repeat: Repeat) -> Self {
        Self::new(Method::POST, path, repeat)
    }

    /// Any request; `path` begins with a slash, and is percent-encoded.
    pub(crate) fn new(method: Method, path: impl Into<String>, repeat: Repeat) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new(), repeat }
    }

    /// With this media type of the answer.
    #[must_use]
    pub(crate) fn accept(self, media_type: &'static str) -> Self {
        self.header(ACCEPT, HeaderValue::from_static(media_type))
    }

    /// With a header.
    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a body.
    #[must_use]
    pub(crate) fn body(mut self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, HeaderValue::from_static(media_type))
    }

    /// As messages name it.
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// One attempt that gave no answer.
struct Failed {
    error: ClientError,
    /// The request was certainly not carried out, and may be later.
    is_not_done: bool,
    /// The request may have been carried out, and the answer is lost.
    is_unknown: bool,
}

/// Whether and when a request is made again.
struct Repetition<'a> {
    client: &'a Client,
    repeat: Repeat,
    /// Not beyond this moment.
    end: Instant,
    pause: Duration,
}

impl Repetition<'_> {
    /// Returns when it is time to try again.
    ///
    /// # Errors
    /// The request must not, or need not, be made again.
    async fn pause_after(&mut self, failed: Failed) -> Result<(), ClientError> {
        let may_repeat = failed.is_not_done || (failed.is_unknown && self.repeat == Repeat::Safe);
        if !may_repeat || Instant::now() + self.pause > self.end {
            return Err(failed.error);
        }
        if self.client.has_told.as_ref().is_some_and(|has_told| !has_told.swap(true, Ordering::Relaxed)) {
            let seconds = self.client.retry.as_secs();
            tell!("headwater: {}; trying again for {seconds} s (--retry-s, 0 ends at once)", failed.error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

impl Client {
    /// Makes the request and reads the whole body of the answer.
    ///
    /// # Errors
    /// No answer, or one with a status other than success.
    pub(crate) async fn send(&self, call: &Call) -> Result<Bytes, ClientError> {
        let mut again = self.repetition(call);
        loop {
            let failed = match self.attempt(call).await {
                Ok(response) => match self.read_whole(call, response).await {
                    Ok(body) => return Ok(body),
                    Err(failed) => failed,
                },
                Err(failed) => failed,
            };
            again.pause_after(failed).await?;
        }
    }

    /// Makes the request and returns once the answer begins, for answers that are read as they
    /// come.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) async fn open(&self, call: &Call) -> Result<Response, ClientError> {
        let mut again = self.repetition(call);
        loop {
            match self.attempt(call).await {
                Ok(response) => return Ok(response),
                Err(failed) => again.pause_after(failed).await?,
            }
        }
    }

    fn repetition(&self, call: &Call) -> Repetition<'_> {
        Repetition { client: self, repeat: call.repeat, end: Instant::now() + self.retry, pause: FIRST_PAUSE }
    }

    async fn read_whole(&self, call: &Call, response: Response) -> Result<Bytes, Failed> {
        response.bytes().await.map_err(|error| self.broken(call, &error))
    }

    async fn attempt(&self, call: &Call) -> Result<Response, Failed> {
        let url = format!("{}{}", self.name(), call.path);
        let mut request = self.http.request(call.method.clone(), url).headers(call.headers.clone());
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(login.password.expose()));
        }
        if !call.body.is_empty() || call.method == Method::POST {
            request = request.body(call.body.clone());
        }
        let response = request.send().await.map_err(|error| self.not_sent(call, &error))?;
        if response.status().is_success() {
            if let Some(has_told) = &self.has_told {
                has_told.store(false, Ordering::Relaxed);
            }
            return Ok(response);
        }
        Err(self.refused(call, response).await)
    }

    fn not_sent(&self, call: &Call, error: &reqwest::Error) -> Failed {
        if !error.is_connect() {
            return self.broken(call, error);
        }
        let (node, reason) = (self.name().to_owned(), innermost(error));
        let is_of_tls = self.base.scheme() == "https" && !is_of_system(error);
        let error =
            if is_of_tls { ClientError::Tls { node, reason } } else { ClientError::Unreachable { node, reason } };
        // Another certificate does not appear by waiting.
        Failed { error, is_not_done: !is_of_tls, is_unknown: false }
    }

    fn broken(&self, call: &Call, error: &reqwest::Error) -> Failed {
        let reason = if error.is_timeout() { "it was silent for too long".to_owned() } else { innermost(error) };
        let error = ClientError::Broken { node: self.name().to_owned(), request: call.name(), reason };
        Failed { error, is_not_done: false, is_unknown: true }
    }

    async fn refused(&self, call: &Call, response: Response) -> Failed {
        let status = response.status();
        let reason = reason_of(response).await;
        let error = ClientError::Refused { node: self.name().to_owned(), request: call.name(), status, reason };
        let is_not_done = status == StatusCode::SERVICE_UNAVAILABLE;
        let is_unknown = status.is_server_error() && !is_not_done && status != StatusCode::NOT_IMPLEMENTED;
        Failed { error, is_not_done, is_unknown }
    }
}

/// Whether the system refused the connection, in contrast to what came over it.
fn is_of_system(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(at) = cause {
        if let Some(io) = at.downcast_ref::<std::io::Error>() {
            return io.raw_os_error().is_some();
        }
        cause = at.source();
    }
    // A name that has no address, or a deadline.
    true
}

/// What the node says about a refusal: the body, if it is a line of text, or else the reason
/// phrase.
async fn reason_of(mut response: Response) -> String {
    let phrase = response.extensions().get::<ReasonPhrase>();
    let phrase = phrase.and_then(|phrase| std::str::from_utf8(phrase.as_bytes()).ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > MAX_REASON_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('<'));
    let known = response.status().canonical_reason().unwrap_or_default();
    match (phrase, line) {
        (Some(phrase), _) if phrase != known => phrase,
        (_, Some(line)) => line.to_owned(),
        (phrase, None) => phrase.unwrap_or_else(|| known.to_owned()),
    }
}
