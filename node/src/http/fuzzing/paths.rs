//! Targets of requests: paths, and what stands in them and in their queries.

use http::{Method, Uri};

use super::heads::ROUTER;
use crate::event::stream_name::ALL;
use crate::event::{MAX_NUMBER, StreamName};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::params::Params;
use crate::http::format::links::Base;
use crate::http::resources::{filter, page};
use crate::streams::Pattern;

/// A path and a query.
pub(crate) fn paths(input: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(input).ok()?;
    leads_back(text);
    let uri: Uri = text.parse().ok()?;
    let mut is_served = false;
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
        let Some(found) = ROUTER.find(&method, uri.path()) else { continue };
        assert!(found.allowed.to_str().is_ok_and(|methods| methods.ends_with("OPTIONS")));
        let Some((route, params)) = found.served_by else { continue };
        assert_eq!(route.method, method);
        is_served = true;
        if let Err(error) = read(&params, &uri) {
            let _ = error.into_response();
        }
    }
    is_served.then_some(())
}

/// What is in the path, and numbers of pages in the query.
fn read(params: &Params<'_>, uri: &Uri) -> Result<(), ApiError> {
    if let Some(text) = &params.count {
        assert!(extract::count(text).is_none_or(|count| (1..=i32::MAX as u64).contains(&count)));
    }
    if let Some(text) = &params.number {
        if let Ok(position) = extract::position(text) {
            assert!(position <= MAX_NUMBER);
            assert_eq!(extract::position(&page::printed(position)), Ok(position));
        }
        assert!(extract::number(text)? <= MAX_NUMBER);
    }
    let _ = ["embed", "format", "offset", "count", "ids"].map(|name| extract::query(uri.query(), name));
    let stream = extract::stream(&params.stream)?;
    leads_back(stream.as_str());
    let metastream = extract::metastream(stream.as_str(), || ApiError::NotFound)?;
    assert_eq!(metastream.borrowed().described(), Some(stream.borrowed()));
    extract::appended_stream(&params.stream)?;
    extract::appended_metastream(&params.stream).map(drop)
}

/// A link to a page of a stream leads to this page of this stream, whatever the name.
fn leads_back(name: &str) {
    let Ok(stream) = StreamName::parse(name) else { return };
    let base = Base::of_request(&http::HeaderMap::new(), "http", None, "localhost:2113");
    let link = format!("{}/7/forward/20", base.stream(stream.as_str()));
    let Ok(uri) = link.parse::<Uri>() else { panic!("{link}") };
    let found = ROUTER.find(&Method::GET, uri.path()).and_then(|found| found.served_by);
    let Some((route, params)) = found else { panic!("nothing serves {link}") };
    let expected = if name == ALL { ("all_forward", "") } else { ("feed_forward", name) };
    assert_eq!((route.name, &*params.stream), expected, "{link}");
    assert_eq!((params.number.as_deref(), params.count.as_deref()), (Some("7"), Some("20")));
}

/// A query with a filter, which is the same filter in the links of its pages.
pub(crate) fn filters(input: &[u8]) -> Option<()> {
    let query = std::str::from_utf8(input).ok()?;
    let parsed = filter::parse(Some(query)).ok()?;
    let written = filter::query(&parsed);
    assert!(written.is_ascii() && !written.contains([' ', '#']), "{written}");
    let again = match filter::parse(Some(&written)) {
        Ok(again) => again,
        Err(error) => panic!("{written}: {error}"),
    };
    assert_eq!(filter::query(&again), written);
    assert_eq!(again.without_system_events, parsed.without_system_events);
    if let Some((by, Pattern::Prefixes(prefixes))) = &parsed.pattern {
        let is_same =
            matches!(&again.pattern, Some((same, Pattern::Prefixes(again))) if same == by && again == prefixes);
        assert!(is_same && !prefixes.is_empty(), "{written}");
    }
    Some(())
}
