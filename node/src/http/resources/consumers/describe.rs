//! What is told of groups (contract/services 3.5).

use http::{Response, StatusCode};

use super::answer;
use crate::consumers::settings::{Settings, Strategy};
use crate::consumers::{ConnectionInfo, GroupInfo, GroupName};
use crate::event::StreamName;
use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::request::Request;
use crate::http::format::competing::GroupUris;
use crate::http::format::json::Object;
use crate::http::format::links::Base;
use crate::http::limits::LISTED_AT_A_TIME;
use crate::streams::Refusal;

/// The names of a list and of its elements in XML.
const LIST: (&str, &str) = ("subscriptions", "subscription");

/// GET /subscriptions: all groups, or a page of them.
pub(crate) async fn list(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    if let Some(page) = Page::of_request(request)? {
        return paged(request, page).await;
    }
    match groups(request, None, Page::ALL).await {
        Ok((groups, _)) => Ok(summaries(request, StatusCode::OK, &groups)),
        Err(refusal) => not_listed(request, refusal),
    }
}

/// GET /subscriptions/{stream}: a stream without any is not found, and has an empty list.
pub(crate) async fn of_stream(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    match groups(request, Some(&stream), Page::ALL).await {
        Ok((groups, _)) if groups.is_empty() => Ok(summaries(request, StatusCode::NOT_FOUND, &groups)),
        Ok((groups, _)) => Ok(summaries(request, StatusCode::OK, &groups)),
        Err(refusal) => not_listed(request, refusal),
    }
}

/// GET /subscriptions/{stream}/{group}/info
pub(crate) async fn info(request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let name = super::group(request)?;
    let found = request.state.rooms.consumers.describe(request.client(), &name).await;
    let found = found.map_err(|refusal| ApiError::of_refusal(refusal, request))?;
    let group = found.ok_or(ApiError::NotFound)?;
    let base = request.base();
    Ok(answer::document(request, StatusCode::OK, "subscription", |object| details(object, &group, &base)))
}

/// Some of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    offset: usize,
    count: usize,
}

impl Page {
    /// There are as many groups as users made; each is a few hundred bytes here.
    const ALL: Self = Self { offset: 0, count: usize::MAX };

    /// The page that the query asks for, if it asks for one. Without a count it is all behind the
    /// offset.
    fn of_request(request: &Request<'_>) -> Result<Option<Self>, ApiError> {
        let number = |name: &str, least: usize| match request.query(name) {
            None => Ok(None),
            Some(text) => {
                let number = text.parse().ok().filter(|number| *number >= least);
                let refusal = || ApiError::BadRequest(format!("{name} must be an integer from {least} on").into());
                number.map(Some).ok_or_else(refusal)
            }
        };
        let (offset, count) = (number("offset", 0)?, number("count", 1)?);
        if offset.is_none() && count.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { offset: offset.unwrap_or(Self::ALL.offset), count: count.unwrap_or(Self::ALL.count) }))
    }

    /// Its links: relation and page.
    fn links(self, total: usize) -> Vec<(&'static str, Self)> {
        let mut links = vec![("self", self), ("first", Self { offset: 0, ..self })];
        if self.offset > 0 {
            links.push(("previous", Self { offset: self.offset.saturating_sub(self.count), ..self }));
        }
        let next = self.offset.saturating_add(self.count);
        if next < total {
            links.push(("next", Self { offset: next, ..self }));
        }
        links
    }
}

/// The groups of a page, and how many there are in all. The leader is asked for some at a time,
/// because what nodes tell each other has limits.
async fn groups(
    request: &Request<'_>,
    stream: Option<&StreamName>,
    page: Page,
) -> Result<(Vec<GroupInfo>, usize), Refusal> {
    let end = page.offset.saturating_add(page.count);
    let (mut groups, mut offset) = (Vec::new(), page.offset);
    loop {
        let count = (end - offset).min(LISTED_AT_A_TIME);
        let (more, total) = request.state.rooms.consumers.list(request.client(), stream, offset, count).await?;
        groups.extend(more);
        offset = offset.saturating_add(count);
        if offset >= end.min(total) {
            return Ok((groups, total));
        }
    }
}

fn summaries(request: &Request<'_>, status: StatusCode, groups: &[GroupInfo]) -> Response<Reply> {
    let base = request.base();
    answer::list(request, status, LIST, groups, |object, group| summary(object, group, &base))
}

/// While this node does not know the groups, a list is empty, and its status says why.
fn not_listed(request: &Request<'_>, refusal: Refusal) -> Result<Response<Reply>, ApiError> {
    let is_not_ready = matches!(refusal, Refusal::NotReady);
    let error = ApiError::of_refusal(refusal, request);
    if !is_not_ready {
        return Err(error);
    }
    let mut answer = error.into_response();
    let (head, list) = summaries(request, answer.status(), &[]).into_parts();
    answer.headers_mut().extend(head.headers);
    *answer.body_mut() = list;
    Ok(answer)
}

async fn paged(request: &Request<'_>, page: Page) -> Result<Response<Reply>, ApiError> {
    let found = groups(request, None, page).await;
    let (groups, total) = found.map_err(|refusal| ApiError::of_refusal(refusal, request))?;
    let base = request.base();
    Ok(answer::document(request, StatusCode::OK, LIST.0, |object| {
        object.objects("links", page.links(total), |link, (relation, Page { offset, count })| {
            let mut href = format!("{}/subscriptions?offset={offset}", base.as_str());
            if count != Page::ALL.count {
                href.push_str(&format!("&count={count}"));
            }
            link.string("href", &href);
            link.string("rel", relation);
        });
        object.integer("offset", page.offset);
        object.integer("count", groups.len());
        object.integer("total", total);
        object.objects("subscriptions", &groups, |object, group| summary(object, group, &base));
    }))
}

/// SUMMARY
fn summary(object: &mut Object<'_>, group: &GroupInfo, base: &Base) {
    let uris = GroupUris::new(base, &group.name);
    links(object, &[("detail", uris.info())]);
    names(object, &group.name);
    object.string("parkedMessageUri", &uris.parked_stream());
    object.string("getMessagesUri", &uris.messages(1));
    object.string("status", &group.status);
    rate(object, group.average_items_per_second);
    object.integer("totalItemsProcessed", group.total_items_processed);
    places(object, group);
    object.integer("connectionCount", group.connections.len());
    object.integer("totalInFlightMessages", group.in_flight);
}

/// INFO
fn details(object: &mut Object<'_>, group: &GroupInfo, base: &Base) {
    let uris = GroupUris::new(base, &group.name);
    links(object, &[("detail", uris.info()), ("replayParked", uris.replay_parked())]);
    object.object("config", |config| settings(config, &group.settings));
    names(object, &group.name);
    object.string("status", &group.status);
    rate(object, group.average_items_per_second);
    object.string("parkedMessageUri", &uris.parked_stream());
    object.string("getMessagesUri", &uris.messages(1));
    object.integer("totalItemsProcessed", group.total_items_processed);
    object.integer("countSinceLastMeasurement", group.count_since_last_measurement);
    places(object, group);
    object.integer("readBufferCount", group.read_buffer_count);
    // Live events come through the same buffer as older ones.
    object.integer("liveBufferCount", 0);
    object.integer("retryBufferCount", group.retry_buffer_count);
    object.integer("totalInFlightMessages", group.in_flight);
    object.integer("outstandingMessagesCount", group.outstanding);
    if let Some(age) = group.oldest_outstanding {
        object.integer("oldestOutstandingSeconds", age.as_secs());
    }
    if let Some(age) = group.oldest_parked {
        object.integer("oldestParkedMessage", age.as_secs());
    }
    let has_latencies = group.settings.extra_statistics;
    object.objects("connections", &group.connections, |object, consumer| connection(object, consumer, has_latencies));
}

fn links(object: &mut Object<'_>, links: &[(&str, String)]) {
    object.objects("links", links, |link, (relation, href)| {
        link.string("href", href);
        link.string("rel", relation);
    });
}

fn names(object: &mut Object<'_>, name: &GroupName) {
    object.string("eventStreamId", name.stream.as_str());
    object.string("groupName", &name.group);
}

/// How far the group has come, and what keeps it from going on. Positions are texts, as in later
/// versions of the original, and left out where there is none.
fn places(object: &mut Object<'_>, group: &GroupInfo) {
    object.integer("lastProcessedEventNumber", group.last_checkpointed);
    object.integer("lastKnownEventNumber", group.last_known);
    for (name, number) in
        [("lastCheckpointedEventPosition", group.last_checkpointed), ("lastKnownEventPosition", group.last_known)]
    {
        if number >= 0 {
            object.string(name, &number.to_string());
        }
    }
    object.integer("lastAckedEventNumber", group.last_acknowledged);
    object.integer("parkedMessageCount", group.parked);
    if let Some(since) = group.stalled_since {
        object.string("stalledSince", &since.to_string());
    }
    if let Some(failure) = &group.failure {
        object.string("failure", failure);
    }
}

fn rate(object: &mut Object<'_>, per_second: f64) {
    object.number("averageItemsPerSecond", if per_second.is_finite() { per_second } else { 0.0 });
}

/// The 14 fields of contract/services 3.2.
fn settings(object: &mut Object<'_>, settings: &Settings) {
    object.bool("resolveLinktos", settings.resolve_links);
    object.integer("startFrom", settings.start_from);
    object.integer("messageTimeoutMilliseconds", settings.message_timeout_milliseconds);
    object.bool("extraStatistics", settings.extra_statistics);
    object.integer("maxRetryCount", settings.max_retry_count);
    object.integer("liveBufferSize", settings.live_buffer_size);
    object.integer("bufferSize", settings.buffer_size);
    object.integer("readBatchSize", settings.read_batch_size);
    object.bool("preferRoundRobin", settings.strategy == Strategy::RoundRobin);
    object.integer("checkPointAfterMilliseconds", settings.checkpoint_after_milliseconds);
    object.integer("minCheckPointCount", settings.min_checkpoint_count);
    object.integer("maxCheckPointCount", settings.max_checkpoint_count);
    object.integer("maxSubscriberCount", settings.max_subscriber_count);
    object.string("namedConsumerStrategy", settings.strategy.name());
}

fn connection(object: &mut Object<'_>, consumer: &ConnectionInfo, has_latencies: bool) {
    object.string("from", &consumer.from);
    object.string("username", &consumer.username);
    rate(object, consumer.average_items_per_second);
    object.integer("totalItemsProcessed", consumer.total_items_processed);
    object.integer("countSinceLastMeasurement", consumer.count_since_last_measurement);
    if has_latencies {
        object.objects("extraStatistics", [(); 0], |_, ()| {});
    }
    object.integer("availableSlots", consumer.available_slots);
    object.integer("inFlightMessages", consumer.in_flight_messages);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_leads_to_the_pages_around_it() {
        let page = |offset, count| Page { offset, count };
        assert_eq!(page(0, 2).links(2), [("self", page(0, 2)), ("first", page(0, 2))]);
        assert_eq!(
            page(1, 2).links(4),
            [("self", page(1, 2)), ("first", page(0, 2)), ("previous", page(0, 2)), ("next", page(3, 2))]
        );
        assert_eq!(Page { offset: 3, ..Page::ALL }.links(9).len(), 3);
    }
}
