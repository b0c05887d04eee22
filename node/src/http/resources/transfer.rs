//! Events on their way into and out of the store as lines of JSON (docs/http-api.md, "Export and
//! import").

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;

use crate::event::ImportRefusal;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::{delivery, extract, request_body, response};
use crate::http::limits::{MAX_BODY_BYTES, PARSED_AT_ONCE_BYTES};
use crate::http::resources::filter;
use crate::ndjson::{self, Line, NextNumber};
use crate::streams::{ExportPage, ExportedEnds, Import, ImportError, Imported, LargeAnswer, Links, Source};

/// One of these makes the query a filter; it is refused when others are missing.
const FILTER_PARTS: [&str; 4] = ["context", "type", "data", "exclude-system-events"];

/// POST /admin/import
pub(crate) async fn import(request: &Request<'_>, body: Incoming) -> Result<Response<Reply>, ApiError> {
    let budgets = &request.state.budgets;
    let body = request_body::read(body, budgets, request.connection).await?;
    let lines = body.bytes.clone();
    let import = if lines.len() <= PARSED_AT_ONCE_BYTES {
        parse(&lines)
    } else {
        let memory = budgets.lists.reserve(MAX_BODY_BYTES).await?;
        let parsing = tokio::task::spawn_blocking(move || {
            let import = parse(&lines);
            drop(memory);
            import
        });
        parsing.await.map_err(|error| {
            tracing::error!(%error, "reading lines failed");
            ApiError::Internal
        })?
    };
    let import = import.map_err(|reason| ApiError::BadRequest(reason.into()))?;
    match request.state.rooms.streams.import(request.client(), import).await {
        Ok(Imported { stored, present, position }) => {
            let mut answer = response::json(StatusCode::OK, |object| {
                object.number("stored", stored);
                object.number("present", present);
                object.number("refused", 0);
            });
            answer.headers_mut().insert(response::ES_POSITION, HeaderValue::from(position));
            Ok(answer)
        }
        Err(ImportError::Conflict(refusal)) => Ok(conflict(&refusal)),
        Err(ImportError::Commit(error)) => Err(ApiError::of_write(error, request)),
    }
}

/// The events in the lines; a sentence when one of them is not right.
fn parse(lines: &[u8]) -> Result<Import, String> {
    let mut import = Import::default();
    for (index, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let wrong = |error: &dyn std::fmt::Display| format!("Line {}: {error}", index + 1);
        match ndjson::parse(line).map_err(|error| wrong(&error))? {
            Line::Event(event) => import.push(event).map_err(|error| wrong(&error))?,
            Line::Progress(progress) => import.note(progress.stream, progress.document),
            Line::Next(NextNumber { stream, next }) => import.push_end(stream, next).map_err(|error| wrong(&error))?,
            Line::Header(_) | Line::Page(_) | Line::Ends(_) | Line::End(_) => {
                return Err(wrong(
                    &"it is about a file or a page; an import takes the lines of events, of `next` and of `progress`",
                ));
            }
        }
    }
    Ok(import)
}

fn conflict(refusal: &ImportRefusal) -> Response<Reply> {
    let mut answer = response::json(StatusCode::CONFLICT, |object| {
        object.number("stored", 0);
        object.number("present", 0);
        object.number("refused", 1);
        object.string("stream", &refusal.stream);
        object.number("number", refusal.number);
        object.string("reason", &refusal.to_string());
    });
    response::set_reason(&mut answer, &refusal.to_string());
    answer
}

/// GET /admin/export
pub(crate) async fn export(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let from = match request.query("from") {
        None => 0,
        Some(text) => text.parse().map_err(|_| ApiError::BadRequest("from is a position or a number".into()))?,
    };
    let links = Links::AsStored;
    let source = match request.query("stream") {
        Some(name) => Source::Stream { name: extract::stream(&name)?, links },
        None if FILTER_PARTS.iter().all(|part| request.query(part).is_none()) => Source::Log { filter: None, links },
        None => Source::Log { filter: Some(filter::parse(request.uri.query())?.into()), links },
    };
    if let Some(after) = request.query("ends-after") {
        let after = Some(after).filter(|after| !after.is_empty());
        let ends = request.state.rooms.streams.export_ends(request.client(), source, after).await;
        let ends = ends.map_err(|refusal| ApiError::of_refusal(refusal, request))?;
        return Ok(answer(request, lines_of_ends(&ends), ends.answer));
    }
    let page = request.state.rooms.streams.export(request.client(), source, from).await;
    let page = page.map_err(|refusal| ApiError::of_refusal(refusal, request))?;
    Ok(answer(request, lines(&page), page.answer))
}

fn answer(request: &Request<'_>, lines: Vec<u8>, large: LargeAnswer) -> Response<Reply> {
    let mut answer = Response::new(delivery::whole(request.connection, lines, large));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(ndjson::MEDIA_TYPE));
    answer
}

fn lines_of_ends(ends: &ExportedEnds) -> Vec<u8> {
    let mut lines = Vec::new();
    for (stream, next) in &ends.streams {
        ndjson::push_next(&mut lines, &NextNumber { stream: stream.clone(), next: *next });
    }
    ndjson::push_ends(&mut lines, &ndjson::Ends { after: ends.reached.clone() });
    lines
}

fn lines(page: &ExportPage) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in &page.events {
        ndjson::push_event(&mut lines, event.borrowed());
    }
    ndjson::push_page(&mut lines, ndjson::Page { next: page.next, end: page.end });
    lines
}
