//! Finds the route of a request by its raw path: split at `/` first, then percent-decoded
//! (contract/streams 2).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::pin::Pin;

use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::http::Reply;
use crate::http::exchange::audience::Audience;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::params::Params;
use crate::http::exchange::request::Request;

/// Something that can be asked for, and what the steps before its handler have to know of it.
pub(crate) struct Route {
    /// The method. HEAD has rows of its own only where the answer to HEAD does not depend on the
    /// configuration.
    pub(crate) method: Method,
    /// The path; a segment in braces stands for any text, and for the part of [`Params`] of that
    /// name.
    pub(crate) path: &'static str,
    /// Its name in metrics.
    pub(crate) name: &'static str,
    /// The callers that may use it.
    pub(crate) audience: Audience,
    /// Media types that a body may have; `None` where its type is not looked at.
    pub(crate) accepts: Option<&'static [MediaType]>,
    /// Whether a body is read.
    pub(crate) reads_body: bool,
    /// Media types of answers, in order of preference; `None` where there is one form for
    /// everybody.
    pub(crate) produces: Option<&'static [MediaType]>,
    /// Answers.
    pub(crate) handler: Handler,
}

impl Route {
    /// Whether a GET of it changes something: messages go to whoever asks.
    pub(crate) fn hands_out_messages(&self) -> bool {
        self.produces.is_some_and(|types| types.contains(&MediaType::MessagesXml))
    }
}

/// Handlers have one type, so that a table can hold them; their futures live on the heap, each as
/// large as it needs to be.
pub(crate) type Handler = for<'r> fn(&'r Request<'r>, Incoming) -> Answering<'r>;

/// A handler at work.
pub(crate) type Answering<'r> = Pin<Box<dyn Future<Output = Result<Response<Reply>, ApiError>> + Send + 'r>>;

/// What the table says about a path.
pub(crate) struct Found<'path> {
    /// Value of Access-Control-Allow-Methods.
    pub(crate) allowed: HeaderValue,
    /// The route that serves the method, if one does: 405.
    pub(crate) served_by: Option<(&'static Route, Params<'path>)>,
}

impl Found<'_> {
    /// Name of the route in metrics.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.served_by.as_ref().map(|(route, _)| route.name)
    }
}

/// A table of routes, made ready to look paths up.
pub(crate) struct Router {
    /// The templates that can match a path of so many segments, in the order of the table: most are
    /// of another length.
    by_length: [Vec<Template>; MAX_SEGMENTS + 1],
}

impl Router {
    /// The router of the table.
    pub(crate) fn new(routes: &'static [Route]) -> Self {
        let templates =
            |length| routes.iter().map(Template::of).filter(|template| template.fits(length)).collect::<Vec<_>>();
        Self { by_length: std::array::from_fn(templates) }
    }

    /// Looks the raw path up; `None` when no route has it: 404.
    pub(crate) fn find<'path>(&self, method: &Method, path: &'path str) -> Option<Found<'path>> {
        let segments = Segments::of(path.strip_prefix('/')?)?;
        let mut methods: Vec<&Method> = Vec::with_capacity(4);
        let mut best: Option<&Template> = None;
        for template in self.by_length[segments.count].iter().filter(|of| of.matches(segments.as_slice())) {
            methods.push(&template.route.method);
            if template.route.method == *method && best.is_none_or(|best| template.wins_over(best)) {
                best = Some(template);
            }
        }
        if methods.is_empty() {
            return None;
        }
        let allowed = allowed(&methods);
        let served_by = best.map(|template| (template.route, template.params(segments)));
        Some(Found { allowed, served_by })
    }
}

/// Longest path that any template matches, in segments.
const MAX_SEGMENTS: usize = 7;

/// The segments of a path, decoded.
struct Segments<'path> {
    decoded: [Cow<'path, str>; MAX_SEGMENTS],
    count: usize,
}

impl<'path> Segments<'path> {
    /// `None` when there are more than any template has, or when one is not UTF-8.
    fn of(raw: &'path str) -> Option<Self> {
        let mut segments = Self { decoded: [const { Cow::Borrowed("") }; MAX_SEGMENTS], count: 0 };
        let (mut begin, mut is_encoded) = (0, false);
        for (at, byte) in raw.bytes().enumerate() {
            match byte {
                b'/' => {
                    segments.push(&raw[begin..at], is_encoded)?;
                    (begin, is_encoded) = (at + 1, false);
                }
                b'%' => is_encoded = true,
                _ => {}
            }
        }
        segments.push(&raw[begin..], is_encoded)?;
        Some(segments)
    }

    fn push(&mut self, raw: &'path str, is_encoded: bool) -> Option<()> {
        let place = self.decoded.get_mut(self.count)?;
        *place = if is_encoded { percent_decode_str(raw).decode_utf8().ok()? } else { Cow::Borrowed(raw) };
        self.count += 1;
        Some(())
    }

    fn as_slice(&self) -> &[Cow<'path, str>] {
        &self.decoded[..self.count]
    }
}

/// One segment of the path of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Exactly this.
    Is(&'static str),
    Stream,
    Group,
    User,
    Number,
    Count,
    Guid,
    /// A name that no handler needs.
    Name,
    /// Everything that is left, even nothing; the last part of its template.
    Path,
}

impl Part {
    fn of(segment: &'static str) -> Self {
        match segment {
            "{stream}" => Self::Stream,
            "{group}" => Self::Group,
            "{user}" => Self::User,
            "{number}" => Self::Number,
            "{count}" => Self::Count,
            "{guid}" => Self::Guid,
            "{name}" => Self::Name,
            "{path}" => Self::Path,
            literal => Self::Is(literal),
        }
    }

    fn is_literal(self) -> bool {
        matches!(self, Self::Is(_))
    }
}

/// The path of a route, cut into segments.
struct Template {
    route: &'static Route,
    parts: Vec<Part>,
}

impl Template {
    fn of(route: &'static Route) -> Self {
        Self { route, parts: route.path.split('/').skip(1).map(Part::of).collect() }
    }

    /// Whether a path of so many segments can match.
    fn fits(&self, length: usize) -> bool {
        match self.parts.len().cmp(&length) {
            Ordering::Equal => true,
            Ordering::Less => self.parts.last() == Some(&Part::Path),
            Ordering::Greater => false,
        }
    }

    /// Whether a path of a length that fits matches.
    fn matches(&self, segments: &[Cow<'_, str>]) -> bool {
        self.parts.iter().zip(segments).all(|(part, segment)| match part {
            Part::Is(literal) => segment == literal,
            Part::Path => true,
            Part::Stream | Part::Group | Part::User | Part::Number | Part::Count | Part::Guid | Part::Name => {
                !segment.is_empty()
            }
        })
    }

    /// Whether the first segment that is a literal in only one of two templates is a literal in
    /// this one.
    fn wins_over(&self, other: &Self) -> bool {
        let mut pairs = self.parts.iter().zip(&other.parts).map(|(own, other)| (own.is_literal(), other.is_literal()));
        pairs.find(|(own, other)| own != other).is_some_and(|(own, _)| own)
    }

    fn params<'path>(&self, segments: Segments<'path>) -> Params<'path> {
        let mut params = Params::default();
        let mut segments = segments.decoded.into_iter().take(segments.count);
        for (part, segment) in self.parts.iter().zip(&mut segments) {
            match part {
                Part::Is(_) | Part::Name => {}
                Part::Stream => params.stream = segment,
                Part::Group => params.group = segment,
                Part::User => params.user = segment,
                Part::Number => params.number = Some(segment),
                Part::Count => params.count = Some(segment),
                Part::Guid => params.guid = Some(segment),
                Part::Path => params.path.push(segment),
            }
        }
        // Only a template that ends with `{path}` matches paths that are longer than itself.
        params.path.extend(segments);
        params.path.retain(|segment| !segment.is_empty());
        params
    }
}

fn allowed(methods: &[&Method]) -> HeaderValue {
    let is = |names: &[&str]| methods.iter().map(|method| method.as_str()).eq(names.iter().copied());
    // The lists that nearly all requests get need no allocation.
    if is(&["POST", "DELETE", "GET"]) {
        return HeaderValue::from_static("POST, DELETE, GET, OPTIONS");
    }
    if is(&["GET"]) {
        return HeaderValue::from_static("GET, OPTIONS");
    }
    let mut list = String::new();
    for method in methods {
        list.push_str(method.as_str());
        list.push_str(", ");
    }
    list.push_str("OPTIONS");
    HeaderValue::try_from(list).unwrap_or(HeaderValue::from_static("OPTIONS"))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::http::routes::ROUTES;

    static ROUTER: LazyLock<Router> = LazyLock::new(|| Router::new(ROUTES));

    fn find<'path>(method: &Method, path: &'path str) -> Option<Found<'path>> {
        ROUTER.find(method, path)
    }

    /// The path in the table that serves a request.
    fn serving(method: &str, path: &str) -> Option<&'static str> {
        find(&method.parse().unwrap(), path).and_then(|found| found.served_by).map(|(route, _)| route.path)
    }

    fn allowed(path: &str) -> String {
        find(&Method::OPTIONS, path).unwrap().allowed.to_str().unwrap().to_owned()
    }

    #[test]
    fn every_placeholder_of_the_table_has_a_name_that_handlers_can_use() {
        for route in ROUTES {
            for part in Template::of(route).parts {
                assert!(!matches!(part, Part::Is(literal) if literal.contains(['{', '}'])), "{}", route.path);
            }
            assert!(Template::of(route).parts.len() <= MAX_SEGMENTS, "{}", route.path);
        }
    }

    #[test]
    fn literals_win_over_placeholders() {
        for (method, path, expected) in [
            ("POST", "/streams/X", Some("/streams/{stream}")),
            ("GET", "/streams/X", Some("/streams/{stream}")),
            ("GET", "/streams/X/", Some("/streams/{stream}/")),
            ("POST", "/streams/X/metadata/", Some("/streams/{stream}/metadata/")),
            ("GET", "/streams/$all/", Some("/streams/$all/")),
            ("DELETE", "/streams/$all/", Some("/streams/{stream}/")),
            ("GET", "/streams/X/5", Some("/streams/{stream}/{number}")),
            ("GET", "/streams/X/metadata", Some("/streams/{stream}/metadata")),
            ("GET", "/streams/X/metadata/5", Some("/streams/{stream}/metadata/{number}")),
            (
                "GET",
                "/streams/X/metadata/head/backward/5",
                Some("/streams/{stream}/metadata/{number}/backward/{count}"),
            ),
            ("GET", "/streams/X/metadata/backward/5", Some("/streams/{stream}/metadata/{number}/{count}")),
            ("GET", "/streams/X/metadata/forward/5", Some("/streams/{stream}/metadata/{number}/{count}")),
            ("GET", "/streams/X/0/forward", Some("/streams/{stream}/{number}/{count}")),
            ("GET", "/streams/X/0/forward/5", Some("/streams/{stream}/{number}/forward/{count}")),
            ("GET", "/streams/X/incoming/g", Some("/streams/{stream}/{number}/{count}")),
            ("POST", "/streams/X/incoming/g", Some("/streams/{stream}/incoming/{guid}")),
            ("GET", "/streams/$all", Some("/streams/$all")),
            ("GET", "/streams/%24all", Some("/streams/$all")),
            ("POST", "/streams/$all", Some("/streams/{stream}")),
            ("GET", "/streams/$all/5", Some("/streams/{stream}/{number}")),
            ("GET", "/streams/$all/head/backward/5", Some("/streams/$all/{number}/backward/{count}")),
            ("GET", "/streams/$all/metadata", Some("/streams/{stream}/metadata")),
            ("GET", "/streams/$all/metadata/5", Some("/streams/$all/{number}/{count}")),
            ("GET", "/streams/$all/metadata/0/5", Some("/streams/{stream}/metadata/{number}/{count}")),
            ("GET", "/streams/$all/filtered", Some("/streams/$all/filtered")),
            ("GET", "/streams/%24all/filtered/head/5", Some("/streams/$all/filtered/{number}/{count}")),
            ("GET", "/streams/$all/filtered/head/backward/5", Some("/streams/$all/filtered/{number}/backward/{count}")),
            ("GET", "/streams/$all/filtered/0/forward/5", Some("/streams/$all/filtered/{number}/forward/{count}")),
            ("GET", "/streams/X/filtered", Some("/streams/{stream}/{number}")),
            ("DELETE", "/streams/X/metadata", None),
            ("GET", "/users/", Some("/users/")),
            ("GET", "/users/%24current", Some("/users/$current")),
            ("PUT", "/users/$current", Some("/users/{user}")),
            ("POST", "/users/x/command/enable", Some("/users/{user}/command/enable")),
            ("POST", "/users/x/command/nope", None),
            ("PATCH", "/users/x", None),
            ("GET", "/stats", Some("/stats")),
            ("GET", "/stats/", Some("/stats/{path}")),
            ("GET", "/stats/proc/tcp", Some("/stats/{path}")),
            ("GET", "/stats/tcp", Some("/stats/tcp")),
            ("GET", "/stats/tcp/x", Some("/stats/{path}")),
            ("GET", "/statsx", None),
            ("GET", "/subscriptions/restart", Some("/subscriptions/{stream}")),
            ("POST", "/subscriptions/restart", Some("/subscriptions/restart")),
            ("GET", "/subscriptions/S/info", Some("/subscriptions/{stream}/{group}")),
            ("POST", "/subscriptions/S/ack", Some("/subscriptions/{stream}/{group}")),
            ("GET", "/subscriptions/S/G/info", Some("/subscriptions/{stream}/{group}/info")),
            ("GET", "/subscriptions/S/G/5", Some("/subscriptions/{stream}/{group}/{count}")),
            ("POST", "/subscriptions/S/G/5", None),
            ("GET", "/subscriptions/viewparkedmessages/G", Some("/subscriptions/{stream}/{group}")),
            // Of a stream of this name, only single messages can be asked for.
            (
                "GET",
                "/subscriptions/viewparkedmessages/G/info",
                Some("/subscriptions/viewparkedmessages/{stream}/{group}"),
            ),
            (
                "GET",
                "/subscriptions/viewparkedmessages/S/G/head/backward/5",
                Some("/subscriptions/viewparkedmessages/{stream}/{group}/{number}/backward/{count}"),
            ),
            ("HEAD", "/streams/X", None),
            ("HEAD", "/health/live", Some("/health/live")),
            ("GET", "/streams/X//", None),
            ("GET", "/STREAMS/X", None),
        ] {
            assert_eq!(serving(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn unknown_paths_match_nothing() {
        for path in [
            "/streams",
            "/streams/",
            "/streams/X/0/",
            "/streams/X//",
            "/nope",
            "*",
            "",
            "/streams/%ff",
            "/a/b/c/d/e/f/g/h",
        ] {
            assert!(find(&Method::GET, path).is_none(), "{path}");
        }
    }

    #[test]
    fn allowed_methods_are_listed_in_match_order() {
        assert_eq!(allowed("/streams/X"), "POST, DELETE, GET, OPTIONS");
        assert_eq!(allowed("/streams/X/0"), "GET, OPTIONS");
        assert_eq!(allowed("/streams/X/0/forward/20"), "GET, OPTIONS");
        assert_eq!(allowed("/streams/X/incoming/G"), "GET, POST, OPTIONS");
        assert_eq!(allowed("/streams/X/metadata"), "GET, POST, GET, OPTIONS");
        assert_eq!(allowed("/streams/%24all"), "POST, DELETE, GET, GET, OPTIONS");
        assert_eq!(allowed("/streams/%24all/head/backward/5"), "GET, GET, OPTIONS");
        assert_eq!(allowed("/subscriptions"), "GET, OPTIONS");
        assert_eq!(allowed("/subscriptions/a/b"), "PUT, POST, DELETE, GET, GET, OPTIONS");
        assert_eq!(allowed("/users"), "GET, POST, OPTIONS");
        assert_eq!(allowed("/users/x"), "GET, PUT, DELETE, OPTIONS");
        assert_eq!(allowed("/users/$current"), "GET, PUT, DELETE, GET, OPTIONS");
    }

    fn params<'path>(path: &'path str) -> Params<'path> {
        find(&Method::GET, path).unwrap().served_by.unwrap().1
    }

    #[test]
    fn encoded_slashes_are_data() {
        let params = params("/streams/a%2Fb%3F+%C3%A9/7/backward/3");
        assert_eq!(params.stream, "a/b?+é");
        assert_eq!((params.number.as_deref(), params.count.as_deref()), (Some("7"), Some("3")));
    }

    #[test]
    fn the_rest_of_a_path_has_no_empty_segments() {
        assert_eq!(params("/stats/proc//tcp/").path, ["proc", "tcp"]);
        assert!(params("/stats/").path.is_empty());
    }

    #[test]
    fn names_of_users_and_streams_do_not_mix() {
        let user = params("/users/x");
        assert_eq!((&*user.user, &*user.stream), ("x", ""));
        let stream = params("/streams/x");
        assert_eq!((&*stream.user, &*stream.stream), ("", "x"));
    }
}
