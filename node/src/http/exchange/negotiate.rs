//! Which media type answers a request, and which one a body has (contract/streams 4).

use http::{HeaderMap, HeaderValue, header};

use crate::http::exchange::media_type::{ALL, MediaType};

/// The media type of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The type.
    pub(crate) media_type: MediaType,
    /// The request has neither a `format` nor an Accept header.
    pub(crate) is_default: bool,
    /// The Accept header has an item that is literally `*/*`.
    pub(crate) accepts_anything: bool,
    /// The request names the type by its alias, so the answer does, too.
    pub(crate) by_alias: bool,
}

impl Chosen {
    /// A type that the request did not ask for.
    pub(crate) const fn by_default(media_type: MediaType) -> Self {
        Self { media_type, is_default: true, accepts_anything: false, by_alias: false }
    }

    /// The Content-Type of the answer.
    pub(crate) fn header(&self) -> HeaderValue {
        let alias = if self.by_alias { self.media_type.alias_header() } else { None };
        alias.unwrap_or_else(|| self.media_type.header())
    }
}

/// Chooses among `set`; `None` is 406 (contract/streams 4.1).
pub(crate) fn choose(set: &[MediaType], format: Option<&str>, accept: Option<&[u8]>) -> Option<Chosen> {
    let exactly = |media_type: MediaType| {
        let chosen = Chosen { media_type, is_default: false, accepts_anything: false, by_alias: false };
        set.contains(&media_type).then_some(chosen)
    };
    if let Some(format) = format {
        return MediaType::of_word(format).and_then(exactly);
    }
    let accept = accept.unwrap_or_default().trim_ascii();
    if accept.is_empty() {
        return set.first().map(|first| Chosen::by_default(*first));
    }
    // An item with bytes that are not text covers no media type.
    let accept = String::from_utf8_lossy(accept);
    let mut best: Option<(f32, MediaType, &str)> = None;
    let mut accepts_anything = false;
    for item in accept.split(',') {
        let item = item.trim();
        accepts_anything |= item == "*/*";
        let Some((range, quality)) = parse_item(item) else { continue };
        let Some(covered) = set.iter().find(|media_type| is_covered(**media_type, range)) else { continue };
        // Among equals the first item wins.
        if best.is_none_or(|(best_quality, ..)| quality > best_quality) {
            best = Some((quality, *covered, range));
        }
    }
    best.map(|(_, media_type, range)| Chosen {
        media_type,
        is_default: false,
        accepts_anything,
        by_alias: media_type.is_alias(range),
    })
}

/// Whether a range of an Accept header covers the type.
fn is_covered(media_type: MediaType, range: &str) -> bool {
    let name = media_type.as_str();
    if range == "*/*" || range.eq_ignore_ascii_case(name) || media_type.is_alias(range) {
        return true;
    }
    let (Some(major), Some((own_major, _))) = (range.strip_suffix("/*"), name.split_once('/')) else {
        return false;
    };
    major.eq_ignore_ascii_case(own_major)
}

/// `None` for an item that cannot be read.
fn parse_item(item: &str) -> Option<(&str, f32)> {
    let mut parts = item.split(';');
    let range = parts.next()?.trim();
    let (major, minor) = range.split_once('/')?;
    if major.is_empty() || minor.is_empty() {
        return None;
    }
    let mut quality = 1.0;
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            quality = value.trim().parse::<f32>().ok().filter(|q| q.is_finite())?;
        }
    }
    Some((range, quality))
}

/// The type of a request body among `set`; `None` is 415 (contract/streams 4.2). Any case is
/// accepted; a blank before the `;` and quotes around the charset are not.
pub(crate) fn request_type(set: &[MediaType], content_type: Option<&[u8]>) -> Option<MediaType> {
    let content_type = content_type?;
    // Nearly all bodies have this type.
    if content_type == MediaType::EventsJson.as_str().as_bytes() {
        return set.contains(&MediaType::EventsJson).then_some(MediaType::EventsJson);
    }
    let text = std::str::from_utf8(content_type).ok()?;
    let mut parts = text.split(';');
    let name = parts.next()?;
    let is_named = |media_type: &MediaType| media_type.as_str().eq_ignore_ascii_case(name) || media_type.is_alias(name);
    let media_type = ALL.iter().copied().find(is_named)?;
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("charset")
            && (media_type == MediaType::OctetStream || !value.trim().eq_ignore_ascii_case("utf-8"))
        {
            return None;
        }
    }
    set.contains(&media_type).then_some(media_type)
}

/// Whether the body is as its Content-Type says, and not compressed or encoded besides
/// (contract/streams 1.5).
pub(crate) fn is_uncoded(headers: &HeaderMap) -> bool {
    let mut codings =
        headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    codings.all(|coding| {
        let coding = coding.trim_ascii();
        // A list may have empty items (RFC 9110 5.6.1).
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use MediaType::*;

    use super::*;
    use crate::http::exchange::media_type::{EVENT, FEED, INCOMING, LIVE_FEED, WRITE};

    fn chosen(set: &[MediaType], accept: &str) -> Option<MediaType> {
        choose(set, None, Some(accept.as_bytes())).map(|chosen| chosen.media_type)
    }

    #[test]
    fn the_first_type_of_the_set_answers_when_nothing_is_asked() {
        assert_eq!(choose(FEED, None, None).unwrap().media_type, StreamDescription);
        assert!(choose(FEED, None, Some(b"")).unwrap().is_default);
        assert_eq!(choose(EVENT, None, None).unwrap().media_type, AtomXml);
    }

    fn coded(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
        lines.iter().map(|line| (header::CONTENT_ENCODING, value(line))).collect()
    }

    #[test]
    fn a_body_is_uncoded_when_no_line_and_no_item_names_a_coding() {
        for lines in [&[][..], &[""], &["identity"], &[" Identity\t, ,IDENTITY"], &["identity", "identity"]] {
            assert!(is_uncoded(&coded(lines)), "{lines:?}");
        }
        for lines in [
            &["gzip"][..],
            &["GZip"],
            &["identity, gzip"],
            &["identity", "br"],
            &["x-gzip"],
            &["identity;q=1"],
            &["identity deflate"],
            &["\u{e9}"],
        ] {
            assert!(!is_uncoded(&coded(lines)), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_list_with_another_coding_than_identity_is_coded(
            items in proptest::collection::vec("[ \t]?(identity|IDENTITY|)[ \t]?", 0..4),
            coding in "[a-z*;=\u{e9}]{1,9}",
            at in 0..4_usize,
        ) {
            proptest::prop_assume!(coding != "identity");
            prop_assert!(is_uncoded(&coded(&[&items.join(",")])));
            let mut with_coding = items;
            with_coding.insert(at.min(with_coding.len()), coding);
            prop_assert!(!is_uncoded(&coded(&[&with_coding.join(",")])));
            let lines: Vec<&str> = with_coding.iter().map(String::as_str).collect();
            prop_assert!(!is_uncoded(&coded(&lines)));
        }
    }

    #[test]
    fn accept_items_are_taken_by_quality_then_by_order() {
        for (accept, expected) in [
            ("application/json;q=0.1,application/atom+xml;q=0.2", Some(AtomXml)),
            ("application/json;q=0.5, text/xml;q=0.9", Some(TextXml)),
            ("image/png, application/json;q=0.1", Some(Json)),
            ("text/*", Some(TextXml)),
            ("application/*", Some(StreamDescription)),
            ("*/*", Some(StreamDescription)),
            ("APPLICATION/JSON", Some(Json)),
            ("application/vnd.eventstore.atom+json;q=0", Some(AtomJson)),
            ("application/vnd.eventstore.atom+json;charset=utf-8", Some(AtomJson)),
            ("application/vnd.eventstore.atom+json, application/atom+xml", Some(AtomJson)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(Html)),
            ("image/png", None),
            ("text/plain", None),
            ("bogus", None),
            ("foo/bar", None),
        ] {
            assert_eq!(chosen(FEED, accept), expected, "{accept}");
        }
        assert_eq!(chosen(LIVE_FEED, "text/event-stream"), Some(EventStream));
        assert_eq!((chosen(LIVE_FEED, "text/*"), chosen(FEED, "text/event-stream")), (Some(TextXml), None));
        assert_eq!(chosen(EVENT, "application/vnd.eventstore.events+json"), None);
        assert_eq!(chosen(WRITE, "text/html"), None);
        assert!(choose(FEED, None, Some(b"*/*")).unwrap().accepts_anything);
        assert!(!choose(FEED, None, Some(b"*/*;q=0.5")).unwrap().accepts_anything);
        assert_eq!(choose(FEED, None, Some(b"\xff/\xff")), None);
        assert_eq!(choose(FEED, None, Some(b"\xff/\xff,text/xml")).unwrap().media_type, TextXml);
    }

    #[test]
    fn later_names_are_answered_by_the_name_that_was_asked_for() {
        for (accept, expected) in [
            ("application/vnd.kurrent.atom+json", Some("application/vnd.kurrent.atom+json; charset=utf-8")),
            ("APPLICATION/VND.KURRENT.EVENTS+JSON;q=0.5", Some("application/vnd.kurrent.events+json; charset=utf-8")),
            ("application/vnd.kurrent.event+json", Some("application/vnd.kurrent.event+json; charset=utf-8")),
            ("application/vnd.kurrent.streamdesc+json", Some("application/vnd.kurrent.streamdesc+json; charset=utf-8")),
            ("application/vnd.kurrent.atom+json;q=0.1, text/xml", Some("text/xml; charset=utf-8")),
            ("application/vnd.eventstore.atom+json", Some("application/vnd.eventstore.atom+json; charset=utf-8")),
            ("application/vnd.kurrent.atom+xml", None),
        ] {
            let chosen = choose(FEED, None, Some(accept.as_bytes())).map(|chosen| chosen.header());
            assert_eq!(chosen.as_ref().map(|header| header.to_str().unwrap()), expected, "{accept}");
        }
        let types = ["events", "event", "atom", "streamdesc"].map(|kind| {
            request_type(WRITE, Some(format!("application/vnd.kurrent.{kind}+json; charset=utf-8").as_bytes()))
        });
        assert_eq!(types, [Some(EventsJson), Some(EventJson), Some(AtomJson), Some(StreamDescription)]);
    }

    #[test]
    fn format_decides_alone() {
        for (format, expected) in [
            ("json", Some(Json)),
            ("XML", Some(TextXml)),
            ("atom", Some(AtomXml)),
            ("atomxj", Some(AtomJson)),
            ("text", None),
            ("", None),
        ] {
            let found = choose(FEED, Some(format), Some(b"text/html")).map(|chosen| chosen.media_type);
            assert_eq!(found, expected, "{format}");
        }
    }

    #[test]
    fn request_types_need_utf_8() {
        for (content_type, expected) in [
            ("application/json", Some(Json)),
            ("application/json;charset=UTF-8", Some(Json)),
            ("application/json; charset=iso-8859-1", None),
            ("application/json; charset=bogus", None),
            ("application/json; charset=\"utf-8\"", None),
            ("application/json ; charset=utf-8", None),
            ("application/octet-stream", Some(OctetStream)),
            ("application/octet-stream; charset=utf-8", None),
            ("application/json; boundary=x", Some(Json)),
            ("text/plain", None),
            ("text/html", None),
            ("*/*", None),
            ("application/*", None),
            ("bogus", None),
            ("", None),
        ] {
            assert_eq!(request_type(WRITE, Some(content_type.as_bytes())), expected, "{content_type}");
        }
        assert_eq!(request_type(WRITE, None), None);
        assert_eq!(request_type(INCOMING, Some(b"application/vnd.eventstore.events+json")), None);
    }

    /// Items of an Accept header: range, quality in tenths, blank before it.
    fn any_items() -> impl Strategy<Value = Vec<(&'static str, Option<u8>, bool)>> {
        let ranges = [
            "*/*",
            "text/*",
            "application/*",
            "image/png",
            "nonsense",
            "TEXT/XML",
            "application/octet-stream",
            "text/html",
        ];
        let ranges: Vec<&str> = ALL.iter().map(|media_type| media_type.as_str()).chain(ranges).collect();
        let item = (proptest::sample::select(ranges), proptest::option::of(0..=10u8), any::<bool>());
        proptest::collection::vec(item, 1..6)
    }

    /// What contract/streams 4.1 says, word by word: sort by quality, take the first type that the
    /// first fitting item covers.
    fn naive(set: &[MediaType], mut items: Vec<(&str, Option<u8>, bool)>) -> Option<MediaType> {
        items.sort_by_key(|(_, quality, _)| std::cmp::Reverse(quality.unwrap_or(10)));
        let covers = |range: &str, name: &str| {
            let range = range.to_ascii_lowercase();
            range == name || range == "*/*" || range.strip_suffix('*').is_some_and(|start| name.starts_with(start))
        };
        items.iter().find_map(|(range, ..)| set.iter().copied().find(|media_type| covers(range, media_type.as_str())))
    }

    proptest! {
        #[test]
        fn choice_is_that_of_the_naive_model(items in any_items(), set in proptest::sample::select(vec![FEED, EVENT, WRITE, INCOMING])) {
            let written = items.iter().map(|(range, quality, blank)| {
                let blank = if *blank { " " } else { "" };
                let quality = quality.map(|tenths| format!(";{blank}q={}", f32::from(tenths) / 10.0)).unwrap_or_default();
                format!("{blank}{range}{quality}")
            });
            let accept = written.collect::<Vec<_>>().join(",");
            prop_assert_eq!(chosen(set, &accept), naive(set, items), "{}", accept);
        }
    }
}
