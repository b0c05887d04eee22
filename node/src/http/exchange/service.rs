//! One request from head to answer, in the order of contract/streams 1.1.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::access::Caller;
use crate::access::rules::OPERATORS;
use crate::http::exchange::authentication;
use crate::http::exchange::compress::{Compression, compress};
use crate::http::exchange::extract;
use crate::http::exchange::negotiate::{self, Chosen, MediaType};
use crate::http::exchange::request::{Connection, Request};
use crate::http::exchange::response::{add_challenge, add_common_headers, status_only};
use crate::http::exchange::router::{self, Endpoint, Routes};
use crate::http::resources::append::{self, Source};
use crate::http::resources::feed::{self, Of};
use crate::http::resources::{all, event, filtered, live, node, openapi, stats, streams, users};
use crate::http::{AppState, Reply};

/// Answers a request. Always answers, never panics.
pub async fn answer<B>(state: &AppState, connection: Connection, mut request: http::Request<B>) -> Response<Reply>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    extract::rename_later_headers(request.headers_mut());
    let compression = Compression::of_request(request.headers(), request.version());
    let method = match request.method() {
        // What is answered is a GET; the connection leaves the body out and says how long it would have been.
        &Method::HEAD if state.config.head_requests => &Method::GET,
        method => method,
    };
    let routes = router::find(method, request.uri().path());
    let route = routes.as_ref().and_then(|routes| routes.served_by.as_ref()).map_or("none", |(found, _)| found.name());
    let mut answer = dispatch(state, connection, routes, request).await;
    if answer.status() == StatusCode::UNAUTHORIZED {
        add_challenge(&mut answer, state.config.challenge);
    }
    let answer = compress(answer, compression).await;
    state.http_metrics.answered(route, answer.status().as_u16());
    answer
}

/// Steps 5 and 6 fail with an empty Access-Control-Allow-Methods (contract/streams 1.2).
fn refused(status: StatusCode, reason: &str) -> Response<Reply> {
    let mut answer = status_only(status, reason);
    add_common_headers(&mut answer, HeaderValue::from_static(""));
    answer
}

async fn dispatch<B>(
    state: &AppState,
    connection: Connection,
    routes: Option<Routes>,
    request: http::Request<B>,
) -> Response<Reply>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let caller = match authentication::identify(state, request.headers(), connection.peer.ip()).await {
        Ok(caller) => caller,
        Err(error) => {
            let mut answer = error.into_response();
            add_common_headers(&mut answer, HeaderValue::from_static(""));
            return answer;
        }
    };
    let Some(routes) = routes else { return refused(StatusCode::NOT_FOUND, "Not Found") };
    let mut answer = if request.method() == Method::OPTIONS {
        status_only(StatusCode::OK, "OK")
    } else {
        let Some((endpoint, params)) = routes.served_by else {
            let mut answer = status_only(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            add_common_headers(&mut answer, routes.allowed);
            return answer;
        };
        let (head, body) = request.into_parts();
        let Some(content_type) = content_type(endpoint, &head) else {
            return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Invalid or missing Content-Type");
        };
        let Some(chosen) = choose(endpoint, &head) else {
            return refused(StatusCode::NOT_ACCEPTABLE, "Requested URI is not available in requested format");
        };
        if !may_enter(state, endpoint, &caller) {
            let mut answer = status_only(StatusCode::UNAUTHORIZED, "Unauthorized");
            add_common_headers(&mut answer, routes.allowed);
            return answer;
        }
        let (headers, uri, params) = (&head.headers, &head.uri, &params);
        let request = Request { state, connection, caller, headers, uri, params, chosen };
        handle(&request, endpoint, content_type, body).await
    };
    add_common_headers(&mut answer, routes.allowed);
    answer
}

/// What a route asks of everybody who calls it, before anything else about it is looked at (contract/services 1.3).
enum Level {
    Anybody,
    User,
    Operator,
    Admin,
}

/// Step 7: with both switches on, their default, nothing is asked here.
fn may_enter(state: &AppState, endpoint: Endpoint, caller: &Caller) -> bool {
    use Endpoint::*;
    let (is_open, level) = match endpoint {
        Append | Delete | Incoming | Event | FeedHead | FeedBackward | FeedForward | MetadataWrite | MetadataEvent
        | MetadataBackward | MetadataForward | AllHead | AllBackward | AllForward | FilteredHead | FilteredBackward
        | FilteredForward | StreamSlash | MetadataSlash | AllSlash => {
            (state.config.allow_anonymous_stream_access, Level::User)
        }
        Users | User | UserCreate | UserUpdate | UserDelete | UserEnable | UserDisable | UserResetPassword => {
            (state.config.allow_anonymous_endpoint_access, Level::Admin)
        }
        CurrentUser | UserChangePassword | Metrics => (state.config.allow_anonymous_endpoint_access, Level::User),
        Ping | Info | Gossip | HealthLive | HealthReady | HealthLeader | Stats | StatsPart | StatsTcp
        | StatsReplication | OpenApi | Root | WebIndex => (true, Level::Anybody),
        // They tell how the node is run, so they are no matter of the switch.
        Options | Subsystems => (false, Level::Operator),
    };
    is_open
        || match level {
            Level::Anybody => true,
            Level::User => caller.principal().is_some(),
            Level::Operator => caller.is_admin() || caller.has_role(OPERATORS),
            Level::Admin => caller.is_admin(),
        }
}

fn content_type(endpoint: Endpoint, head: &http::request::Parts) -> Option<MediaType> {
    let set = match endpoint {
        Endpoint::Append | Endpoint::MetadataWrite => negotiate::WRITE,
        // They demand what the URI without the slash does (contract/streams 2.2).
        Endpoint::StreamSlash | Endpoint::MetadataSlash if head.method == Method::POST => negotiate::WRITE,
        Endpoint::Incoming => negotiate::INCOMING_BODY,
        Endpoint::UserCreate | Endpoint::UserUpdate | Endpoint::UserResetPassword | Endpoint::UserChangePassword => {
            negotiate::USERS
        }
        _ => return Some(MediaType::OctetStream),
    };
    let header = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    negotiate::request_type(set, header)
}

fn choose(endpoint: Endpoint, head: &http::request::Parts) -> Option<Chosen> {
    use Endpoint::*;
    let set = match endpoint {
        Append | Delete | MetadataWrite | StreamSlash => negotiate::WRITE,
        MetadataSlash if head.method == Method::POST => negotiate::WRITE,
        Incoming => negotiate::INCOMING,
        Event | MetadataEvent | MetadataSlash => negotiate::EVENT,
        FeedHead | AllHead | FilteredHead => negotiate::LIVE_FEED,
        FeedBackward | FeedForward | MetadataBackward | MetadataForward | AllBackward | AllForward | AllSlash
        | FilteredBackward | FilteredForward => negotiate::FEED,
        Users | User | CurrentUser | UserCreate | UserUpdate | UserDelete | UserEnable | UserDisable
        | UserResetPassword | UserChangePassword => negotiate::USERS,
        Ping => negotiate::PING,
        Gossip | Stats | StatsPart | StatsTcp | StatsReplication | Options | Subsystems => negotiate::NODE,
        // One form for everybody (contract/services 4.1).
        Info | HealthLive | HealthReady | HealthLeader | Metrics | OpenApi | Root | WebIndex => {
            return Some(Chosen::by_default(MediaType::Json));
        }
    };
    let format = extract::query(head.uri.query(), "format");
    negotiate::choose(set, format.as_deref(), accept(&head.headers).as_deref())
}

/// The list that all Accept headers make together (RFC 9110 5.3).
fn accept(headers: &http::HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut lines = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
    let mut list = Cow::Borrowed(lines.next()?);
    for line in lines {
        list.to_mut().push(b',');
        list.to_mut().extend_from_slice(line);
    }
    Some(list)
}

async fn handle<B>(request: &Request<'_>, endpoint: Endpoint, content_type: MediaType, body: B) -> Response<Reply>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let is_live = request.chosen.media_type == MediaType::EventStream;
    // The future of a request is as large as its largest branch, and is moved several times before it runs: what is rare and large
    // has a place of its own on the heap.
    let result = match endpoint {
        Endpoint::FeedHead if is_live => Box::pin(live::stream(request)).await,
        Endpoint::AllHead if is_live => Box::pin(live::log(request, None)).await,
        Endpoint::Append => append::append(request, Source::Stream, content_type, body).await,
        Endpoint::Incoming => append::append(request, Source::Incoming, content_type, body).await,
        Endpoint::MetadataWrite => append::append(request, Source::Metadata, content_type, body).await,
        Endpoint::Delete => Box::pin(streams::delete(request)).await,
        Endpoint::Event => Ok(event::event(request, Of::Stream).await),
        Endpoint::MetadataEvent => Ok(event::event(request, Of::Metadata).await),
        Endpoint::FeedHead | Endpoint::FeedBackward => match streams::description(request) {
            Some(answer) => Ok(answer),
            None => feed::page(request, Of::Stream, false).await,
        },
        Endpoint::FeedForward => feed::page(request, Of::Stream, true).await,
        Endpoint::MetadataBackward => feed::page(request, Of::Metadata, false).await,
        Endpoint::MetadataForward => feed::page(request, Of::Metadata, true).await,
        Endpoint::AllHead | Endpoint::AllBackward => Box::pin(all::page(request, false)).await,
        Endpoint::AllForward => Box::pin(all::page(request, true)).await,
        Endpoint::FilteredHead if is_live => Box::pin(filtered::live(request)).await,
        Endpoint::FilteredHead | Endpoint::FilteredBackward => Box::pin(filtered::page(request, false)).await,
        Endpoint::FilteredForward => Box::pin(filtered::page(request, true)).await,
        Endpoint::Users
        | Endpoint::User
        | Endpoint::CurrentUser
        | Endpoint::UserCreate
        | Endpoint::UserUpdate
        | Endpoint::UserDelete
        | Endpoint::UserEnable
        | Endpoint::UserDisable
        | Endpoint::UserResetPassword
        | Endpoint::UserChangePassword => Box::pin(users::serve(request, endpoint, body)).await,
        Endpoint::Stats | Endpoint::StatsPart | Endpoint::StatsTcp | Endpoint::StatsReplication => {
            Ok(Box::pin(stats::serve(request, endpoint)).await)
        }
        Endpoint::OpenApi => Ok(openapi::document()),
        Endpoint::StreamSlash | Endpoint::MetadataSlash | Endpoint::AllSlash => Ok(streams::without_slash(request)),
        Endpoint::Ping
        | Endpoint::Info
        | Endpoint::Gossip
        | Endpoint::HealthLive
        | Endpoint::HealthReady
        | Endpoint::HealthLeader
        | Endpoint::Metrics
        | Endpoint::Options
        | Endpoint::Subsystems
        | Endpoint::WebIndex
        | Endpoint::Root => Ok(node::serve(request, endpoint)),
    };
    result.unwrap_or_else(crate::http::exchange::error::ApiError::into_response)
}
