//! The media types this API knows, one row each, and the sets of them that routes take and give
//! (contract/streams 4).

use http::HeaderValue;

/// What a document of a media type looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON
    Json,
    /// XML
    Xml,
    /// A page for browsers.
    Html,
    /// Bytes as they are.
    Bytes,
    /// Server-sent events.
    Events,
    /// Plain text.
    Text,
}

/// What is known of a media type.
struct Row {
    /// `type/subtype`
    name: &'static str,
    /// The Content-Type of an answer.
    header: &'static str,
    /// The name that later versions have for it (contract/streams 17).
    alias: Option<&'static str>,
    /// The Content-Type of an answer to a request that says the alias.
    alias_header: Option<&'static str>,
    form: Form,
    /// What `?format=` calls it.
    word: Option<&'static str>,
}

/// Makes the type and its rows. `-` in a column is none.
macro_rules! media_types {
    (@header $name:literal utf8) => { concat!($name, "; charset=utf-8") };
    (@header $name:literal -) => { $name };
    (@text -) => { None };
    (@text $text:literal) => { Some($text) };
    (@alias_header -) => { None };
    (@alias_header $alias:literal) => { Some(concat!($alias, "; charset=utf-8")) };
    ($($variant:ident $name:literal $charset:tt $form:ident $word:tt $alias:tt;)*) => {
        /// A media type this API knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum MediaType {
            $(#[doc = $name] $variant),*
        }

        /// All of them.
        pub(crate) const ALL: &[MediaType] = &[$(MediaType::$variant),*];

        impl MediaType {
            const fn row(self) -> &'static Row {
                match self {
                    $(Self::$variant => &Row {
                        name: $name,
                        header: media_types!(@header $name $charset),
                        alias: media_types!(@text $alias),
                        alias_header: media_types!(@alias_header $alias),
                        form: Form::$form,
                        word: media_types!(@text $word),
                    },)*
                }
            }
        }
    };
}

media_types! {
//  type              name                                           charset form   word     alias
    StreamDescription "application/vnd.eventstore.streamdesc+json"   utf8    Json   -        "application/vnd.kurrent.streamdesc+json";
    AtomXml           "application/atom+xml"                         utf8    Xml    "atom"   -;
    AtomJson          "application/vnd.eventstore.atom+json"         utf8    Json   "atomxj" "application/vnd.kurrent.atom+json";
    TextXml           "text/xml"                                     utf8    Xml    "xml"    -;
    Xml               "application/xml"                              utf8    Xml    -        -;
    Json              "application/json"                             utf8    Json   "json"   -;
    EventXml          "application/vnd.eventstore.event+xml"         utf8    Xml    -        -;
    EventJson         "application/vnd.eventstore.event+json"        utf8    Json   -        "application/vnd.kurrent.event+json";
    EventsXml         "application/vnd.eventstore.events+xml"        utf8    Xml    -        -;
    EventsJson        "application/vnd.eventstore.events+json"       utf8    Json   -        "application/vnd.kurrent.events+json";
    MessagesXml       "application/vnd.eventstore.competingatom+xml" utf8    Xml    -        -;
    MessagesJson      "application/vnd.eventstore.competingatom+json" utf8   Json   -        "application/vnd.kurrent.competingatom+json";
    Html              "text/html"                                    utf8    Html   -        -;
    OctetStream       "application/octet-stream"                     -       Bytes  -        -;
    EventStream       "text/event-stream"                            utf8    Events -        -;
    Text              "text/plain"                                   utf8    Text   "text"   -;
}

impl MediaType {
    /// `type/subtype`
    pub(crate) const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The Content-Type of an answer.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.row().header)
    }

    /// The Content-Type of an answer that goes by the alias.
    pub(super) fn alias_header(self) -> Option<HeaderValue> {
        self.row().alias_header.map(HeaderValue::from_static)
    }

    /// Whether this is the alias of the type, in any case.
    pub(super) fn is_alias(self, name: &str) -> bool {
        self.row().alias.is_some_and(|alias| name.eq_ignore_ascii_case(alias))
    }

    /// What its documents look like.
    pub(crate) const fn form(self) -> Form {
        self.row().form
    }

    /// Whether answers of this type are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.form() == Form::Json
    }

    /// The type that `?format=` calls so.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        ALL.iter().copied().find(|media_type| media_type.row().word.is_some_and(|own| own.eq_ignore_ascii_case(word)))
    }

    /// The number after the `;` in ETags (contract/streams 8.7).
    pub(crate) const fn hash(self) -> i32 {
        let text = self.as_str().as_bytes();
        let (mut even, mut odd) = (5381i32, 5381i32);
        let mut at = 0;
        while at < text.len() {
            even = even.wrapping_mul(33) ^ text[at] as i32;
            if at + 1 < text.len() {
                odd = odd.wrapping_mul(33) ^ text[at + 1] as i32;
            }
            at += 2;
        }
        even.wrapping_add(odd.wrapping_mul(1_566_083_941))
    }
}

/// The forms of events and of lists of them, in the order of preference of all sets that have them.
const DOCUMENTS: &[MediaType] = &[
    MediaType::StreamDescription,
    MediaType::AtomXml,
    MediaType::AtomJson,
    MediaType::TextXml,
    MediaType::Xml,
    MediaType::Json,
    MediaType::EventXml,
    MediaType::EventJson,
    MediaType::EventsXml,
    MediaType::EventsJson,
];

/// A set and one more type, the least preferred; `N` is one more than the set has.
const fn with<const N: usize>(set: &[MediaType], last: MediaType) -> [MediaType; N] {
    assert!(N == set.len() + 1);
    let mut all = [last; N];
    let mut at = 0;
    while at < set.len() {
        all[at] = set[at];
        at += 1;
    }
    all
}

/// Answers of pages, in order of preference.
pub(crate) const FEED: &[MediaType] = &with::<{ DOCUMENTS.len() + 1 }>(DOCUMENTS, MediaType::Html);

/// Answers of the newest pages, which have a live form, too.
pub(crate) const LIVE_FEED: &[MediaType] = &with::<{ FEED.len() + 1 }>(FEED, MediaType::EventStream);

/// Answers of single events.
pub(crate) const EVENT: &[MediaType] = &[
    MediaType::AtomXml,
    MediaType::AtomJson,
    MediaType::TextXml,
    MediaType::Xml,
    MediaType::Json,
    MediaType::EventXml,
    MediaType::EventJson,
    MediaType::OctetStream,
    MediaType::Html,
];

/// Bodies and answers of writes.
pub(crate) const WRITE: &[MediaType] = &with::<{ DOCUMENTS.len() + 1 }>(DOCUMENTS, MediaType::OctetStream);

/// Answers of `/incoming` (contract/streams 2.2).
pub(crate) const INCOMING: &[MediaType] =
    &[MediaType::AtomXml, MediaType::AtomJson, MediaType::TextXml, MediaType::Xml, MediaType::Json];

/// Bodies of `/incoming`; octet-stream is an extension that makes its 307 useful
/// (contract/streams 6.6).
pub(crate) const INCOMING_BODY: &[MediaType] = &with::<{ INCOMING.len() + 1 }>(INCOMING, MediaType::OctetStream);

/// Bodies and answers of the users API (contract/services 2).
pub(crate) const USERS: &[MediaType] = &[MediaType::Json];

/// Answers of the routes that describe the node in JSON only (contract/services 0.6 and 4).
pub(crate) const NODE: &[MediaType] = &[MediaType::Json];

/// Answers with messages of a group (contract/services 3.1). The last one is ours.
pub(crate) const MESSAGES: &[MediaType] = &[MediaType::MessagesXml, MediaType::MessagesJson, MediaType::Json];

/// The same where there is a live form, too.
pub(crate) const LIVE_MESSAGES: &[MediaType] = &with::<{ MESSAGES.len() + 1 }>(MESSAGES, MediaType::EventStream);

/// Settings of a group, and what is told of groups (contract/services 3.1).
pub(crate) const GROUPS: &[MediaType] = &[MediaType::Json, MediaType::TextXml, MediaType::Xml];

/// Answers of pages of parked messages: a stream of parked messages has no description document.
pub(crate) const PARKED: &[MediaType] = match FEED {
    [MediaType::StreamDescription, pages @ ..] => pages,
    all => all,
};

/// Answers of `/ping` and `/histogram/{name}` (contract/services 4.1 and 4.4).
pub(crate) const PING: &[MediaType] = &[MediaType::Json, MediaType::TextXml, MediaType::Xml, MediaType::Text];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_classic_string_hash() {
        assert_eq!(MediaType::AtomJson.hash(), -2_060_438_500);
        assert_eq!(MediaType::AtomXml.hash(), -1_359_611_486);
        assert_eq!(MediaType::Json.hash(), 1_391_431_453);
        assert_eq!(MediaType::TextXml.hash(), -650_849_973);
        assert_eq!(MediaType::Xml.hash(), 421_361_534);
    }
}
