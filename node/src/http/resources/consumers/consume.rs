//! Taking messages of a group, and settling them (contract/services 3.1, 3.4 and 3.6).

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use uuid::Uuid;

use super::live;
use crate::consumers::{ConsumeError, Delivery, GroupName, MAX_TAKEN, Settlement, Take};
use crate::deliberate::{self, Fault};
use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::Form;
use crate::http::exchange::request::Request;
use crate::http::exchange::{delivery, extract, response};
use crate::http::format::atom::{Embed, Format, Notation};
use crate::http::format::body::parse_guid;
use crate::http::format::competing;
use crate::timing::{self, Phase};

/// GET /subscriptions/{stream}/{group}: one message, or all that come as server-sent events.
pub(crate) async fn next(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if request.is_live() {
        return Box::pin(live::stream(request)).await;
    }
    messages(request, 1).await
}

/// GET /subscriptions/{stream}/{group}/{count}
pub(crate) async fn next_ones(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let text = request.params.count.as_deref().unwrap_or_default();
    let count = text.parse().ok().filter(|count| (1..=MAX_TAKEN).contains(count)).ok_or_else(|| {
        let most = MAX_TAKEN;
        ApiError::BadRequest(format!("Message count must be an integer between 1 and {most} 'count' ='{text}'").into())
    })?;
    messages(request, count).await
}

async fn messages(request: &Request<'_>, count: usize) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let wait = extract::long_poll(request.headers)?;
    let mut taken = take(request, &name, count, wait).await.map_err(|error| ApiError::of_consume(error, request))?;
    if deliberate::now_and_then(Fault::PhantomMessage) {
        taken.iter_mut().for_each(|message| message.event.original.number += 1_000_000);
    }
    let notation = match request.chosen.media_type.form() {
        Form::Json => Notation::Json,
        // No answer to this request has one of the last four.
        Form::Xml | Form::Html | Form::Bytes | Form::Events | Form::Text => Notation::Xml,
    };
    let embed = Embed::parse(request.query("embed").as_deref());
    let format = Format { notation, embed, base: request.base() };
    let body = competing::feed(&format, &name, &taken, count);
    let memory = taken.into_iter().filter_map(|message| message.memory).collect();
    let reply = delivery::keeping(request.connection, body, memory);
    let mut answer = response::with_reply(StatusCode::OK, request.chosen.header(), reply);
    // A kept answer would hand its messages out to everybody.
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    caching::add_vary(answer.headers_mut(), Varies::Linked, request);
    Ok(answer)
}

/// Takes messages, and waits for the first one if the client wants that.
async fn take(
    request: &Request<'_>,
    name: &GroupName,
    count: usize,
    wait: Option<Duration>,
) -> Result<Vec<Delivery>, ConsumeError> {
    let consumers = &request.state.rooms.consumers;
    if wait.is_some() {
        let _news = timing::phase(Phase::News);
        let taking = consumers.take(request.client(), name, Take { count, wait });
        tokio::select! {
            biased;
            taken = taking => return taken,
            // The client waits for nothing but this answer.
            () = request.connection.closed.cancelled() => {}
        }
    }
    consumers.take(request.client(), name, Take { count, wait: None }).await
}

/// POST /subscriptions/{stream}/{group}/ack/{guid}
pub(crate) async fn acknowledge_one(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    settle(request, &[id_in_path(request)?], Settlement::Acknowledge).await
}

/// POST /subscriptions/{stream}/{group}/ack?ids=
pub(crate) async fn acknowledge(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    settle(request, &ids_in_query(request)?, Settlement::Acknowledge).await
}

/// POST /subscriptions/{stream}/{group}/nack/{guid}?action=
pub(crate) async fn give_back_one(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    settle(request, &[id_in_path(request)?], action(request)).await
}

/// POST /subscriptions/{stream}/{group}/nack?ids=&action=
pub(crate) async fn give_back(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    settle(request, &ids_in_query(request)?, action(request)).await
}

/// 202, whether or not there is anything to settle: but never where it was not heard of.
async fn settle(request: &Request<'_>, ids: &[Uuid], settlement: Settlement) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    match request.state.rooms.consumers.settle(request.client(), &name, ids, settlement).await {
        Ok(()) | Err(ConsumeError::DoesNotExist) => Ok(response::status_only(StatusCode::ACCEPTED, "")),
        Err(error) => Err(ApiError::of_consume(error, request)),
    }
}

fn id_in_path(request: &Request<'_>) -> Result<Uuid, ApiError> {
    id(request.params.guid.as_deref().unwrap_or_default())
}

/// As many as the head of a request can hold.
fn ids_in_query(request: &Request<'_>) -> Result<Vec<Uuid>, ApiError> {
    request.query("ids").unwrap_or_default().split(',').map(id).collect()
}

fn id(text: &str) -> Result<Uuid, ApiError> {
    parse_guid(text).ok_or(ApiError::BadRequest("messageid should be a properly formed guid".into()))
}

/// What is to be done with messages that are given back; what is no action means another try.
fn action(request: &Request<'_>) -> Settlement {
    match request.query("action").unwrap_or_default().to_ascii_lowercase().as_str() {
        "park" => Settlement::Park,
        "skip" | "stop" => Settlement::Skip,
        _ => Settlement::Retry,
    }
}
