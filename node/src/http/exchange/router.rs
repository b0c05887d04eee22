//! The table of routes over the raw path: split at `/` first, then percent-decoded (contract/streams 2).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::LazyLock;

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Endpoint {
    Append,
    Delete,
    Incoming,
    Event,
    FeedHead,
    FeedBackward,
    FeedForward,
    MetadataWrite,
    MetadataEvent,
    MetadataBackward,
    MetadataForward,
    AllHead,
    AllBackward,
    AllForward,
    FilteredHead,
    FilteredBackward,
    FilteredForward,
    /// A stream's URI with a slash behind it; so the next two.
    StreamSlash,
    MetadataSlash,
    AllSlash,
    Users,
    User,
    CurrentUser,
    UserCreate,
    UserUpdate,
    UserDelete,
    UserEnable,
    UserDisable,
    UserResetPassword,
    UserChangePassword,
    Ping,
    Info,
    Gossip,
    HealthLive,
    HealthReady,
    HealthLeader,
    Metrics,
    Stats,
    StatsPart,
    StatsTcp,
    StatsReplication,
    OpenApi,
    Options,
    Subsystems,
    Root,
    WebIndex,
}

impl Endpoint {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Delete => "delete",
            Self::Incoming => "incoming",
            Self::Event => "event",
            Self::FeedHead => "feed_head",
            Self::FeedBackward => "feed_backward",
            Self::FeedForward => "feed_forward",
            Self::MetadataWrite => "metadata_write",
            Self::MetadataEvent => "metadata_event",
            Self::MetadataBackward => "metadata_backward",
            Self::MetadataForward => "metadata_forward",
            Self::AllHead => "all_head",
            Self::AllBackward => "all_backward",
            Self::AllForward => "all_forward",
            Self::FilteredHead => "filtered_head",
            Self::FilteredBackward => "filtered_backward",
            Self::FilteredForward => "filtered_forward",
            Self::StreamSlash | Self::MetadataSlash | Self::AllSlash => "trailing_slash",
            Self::Users => "users",
            Self::User => "user",
            Self::CurrentUser => "current_user",
            Self::UserCreate => "user_create",
            Self::UserUpdate => "user_update",
            Self::UserDelete => "user_delete",
            Self::UserEnable => "user_enable",
            Self::UserDisable => "user_disable",
            Self::UserResetPassword => "user_reset_password",
            Self::UserChangePassword => "user_change_password",
            Self::Ping => "ping",
            Self::Info => "info",
            Self::Gossip => "gossip",
            Self::HealthLive => "health_live",
            Self::HealthReady => "health_ready",
            Self::HealthLeader => "health_leader",
            Self::Metrics => "metrics",
            Self::Stats => "stats",
            Self::StatsPart => "stats_part",
            Self::StatsTcp => "stats_tcp",
            Self::StatsReplication => "stats_replication",
            Self::OpenApi => "openapi",
            Self::Options => "options",
            Self::Subsystems => "subsystems",
            Self::Root => "root",
            Self::WebIndex => "web_index",
        }
    }
}

/// One segment of a template.
enum Part {
    /// Exactly this.
    Is(&'static str),
    Stream,
    User,
    Number,
    Count,
    Guid,
    /// Everything that is left, also nothing; the last part of its template.
    Rest,
}

struct Template {
    method: Method,
    parts: &'static [Part],
    endpoint: Endpoint,
}

use Part::{Count, Guid, Is, Number, Rest, Stream, User};

const S: Part = Is("streams");
const ALL: Part = Is("$all");
const META: Part = Is("metadata");
const FILTERED: Part = Is("filtered");
const U: Part = Is("users");
const COMMAND: Part = Is("command");
const STATS: Part = Is("stats");

const fn route(method: Method, parts: &'static [Part], endpoint: Endpoint) -> Template {
    Template { method, parts, endpoint }
}

/// In the order in which Access-Control-Allow-Methods lists them (contract/streams 2.3). Where several match, a literal segment wins over
/// a placeholder, from left to right (contract/streams 2.2).
static TEMPLATES: &[Template] = &[
    route(Method::POST, &[S, Stream], Endpoint::Append),
    route(Method::DELETE, &[S, Stream], Endpoint::Delete),
    route(Method::GET, &[S, Stream], Endpoint::FeedHead),
    route(Method::POST, &[S, Stream, Is("")], Endpoint::StreamSlash),
    route(Method::DELETE, &[S, Stream, Is("")], Endpoint::StreamSlash),
    route(Method::GET, &[S, Stream, Is("")], Endpoint::StreamSlash),
    route(Method::GET, &[S, Stream, Number], Endpoint::Event),
    route(Method::GET, &[S, Stream, Number, Count], Endpoint::FeedBackward),
    route(Method::GET, &[S, Stream, Number, Is("backward"), Count], Endpoint::FeedBackward),
    route(Method::GET, &[S, Stream, Number, Is("forward"), Count], Endpoint::FeedForward),
    route(Method::POST, &[S, Stream, Is("incoming"), Guid], Endpoint::Incoming),
    route(Method::POST, &[S, Stream, META], Endpoint::MetadataWrite),
    route(Method::GET, &[S, Stream, META], Endpoint::MetadataEvent),
    route(Method::GET, &[S, Stream, META, Is("")], Endpoint::MetadataSlash),
    route(Method::POST, &[S, Stream, META, Is("")], Endpoint::MetadataSlash),
    route(Method::GET, &[S, Stream, META, Number], Endpoint::MetadataEvent),
    route(Method::GET, &[S, Stream, META, Number, Count], Endpoint::MetadataBackward),
    route(Method::GET, &[S, Stream, META, Number, Is("backward"), Count], Endpoint::MetadataBackward),
    route(Method::GET, &[S, Stream, META, Number, Is("forward"), Count], Endpoint::MetadataForward),
    route(Method::GET, &[S, ALL], Endpoint::AllHead),
    route(Method::GET, &[S, ALL, Is("")], Endpoint::AllSlash),
    route(Method::GET, &[S, ALL, Number, Count], Endpoint::AllBackward),
    route(Method::GET, &[S, ALL, Number, Is("backward"), Count], Endpoint::AllBackward),
    route(Method::GET, &[S, ALL, Number, Is("forward"), Count], Endpoint::AllForward),
    route(Method::GET, &[S, ALL, FILTERED], Endpoint::FilteredHead),
    route(Method::GET, &[S, ALL, FILTERED, Number, Count], Endpoint::FilteredBackward),
    route(Method::GET, &[S, ALL, FILTERED, Number, Is("backward"), Count], Endpoint::FilteredBackward),
    route(Method::GET, &[S, ALL, FILTERED, Number, Is("forward"), Count], Endpoint::FilteredForward),
    route(Method::GET, &[U], Endpoint::Users),
    route(Method::GET, &[U, Is("")], Endpoint::Users),
    route(Method::GET, &[U, User], Endpoint::User),
    route(Method::POST, &[U], Endpoint::UserCreate),
    route(Method::POST, &[U, Is("")], Endpoint::UserCreate),
    route(Method::PUT, &[U, User], Endpoint::UserUpdate),
    route(Method::DELETE, &[U, User], Endpoint::UserDelete),
    route(Method::GET, &[U, Is("$current")], Endpoint::CurrentUser),
    route(Method::POST, &[U, User, COMMAND, Is("enable")], Endpoint::UserEnable),
    route(Method::POST, &[U, User, COMMAND, Is("disable")], Endpoint::UserDisable),
    route(Method::POST, &[U, User, COMMAND, Is("reset-password")], Endpoint::UserResetPassword),
    route(Method::POST, &[U, User, COMMAND, Is("change-password")], Endpoint::UserChangePassword),
    route(Method::GET, &[Is("ping")], Endpoint::Ping),
    route(Method::GET, &[Is("info")], Endpoint::Info),
    route(Method::GET, &[Is("info"), Is("options")], Endpoint::Options),
    route(Method::GET, &[Is("sys"), Is("subsystems")], Endpoint::Subsystems),
    route(Method::GET, &[Is("gossip")], Endpoint::Gossip),
    route(Method::GET, &[Is("health"), Is("live")], Endpoint::HealthLive),
    route(Method::HEAD, &[Is("health"), Is("live")], Endpoint::HealthLive),
    route(Method::GET, &[Is("health"), Is("ready")], Endpoint::HealthReady),
    route(Method::HEAD, &[Is("health"), Is("ready")], Endpoint::HealthReady),
    route(Method::GET, &[Is("health"), Is("leader")], Endpoint::HealthLeader),
    route(Method::HEAD, &[Is("health"), Is("leader")], Endpoint::HealthLeader),
    route(Method::GET, &[Is("metrics")], Endpoint::Metrics),
    route(Method::GET, &[STATS], Endpoint::Stats),
    route(Method::GET, &[STATS, Is("tcp")], Endpoint::StatsTcp),
    route(Method::GET, &[STATS, Is("replication")], Endpoint::StatsReplication),
    route(Method::GET, &[STATS, Rest], Endpoint::StatsPart),
    route(Method::GET, &[Is("openapi.json")], Endpoint::OpenApi),
    route(Method::HEAD, &[Is("openapi.json")], Endpoint::OpenApi),
    route(Method::GET, &[Is("")], Endpoint::Root),
    route(Method::GET, &[Is("web")], Endpoint::Root),
    route(Method::GET, &[Is("web"), Is("")], Endpoint::Root),
    route(Method::GET, &[Is("web"), Is("index.html")], Endpoint::WebIndex),
];

/// Longest path that any template matches, in segments.
const MAX_SEGMENTS: usize = 6;

/// The parts of a path that templates name, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// Name of the stream, or of the user on routes of users.
    pub stream: String,
    /// Event number, position or `head`.
    pub number: Option<String>,
    /// Size of a page.
    pub count: Option<String>,
    /// Event id.
    pub guid: Option<String>,
    /// Names of groups, one inside the other; empty segments are left out.
    pub rest: Vec<String>,
}

/// What the table says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// Value of Access-Control-Allow-Methods.
    pub allowed: HeaderValue,
    /// The route that serves the method, if one does.
    pub served_by: Option<(Endpoint, Params)>,
}

/// Looks the raw path up; `None` when no template matches: 404.
pub fn find(method: &Method, path: &str) -> Option<Routes> {
    let segments = Segments::of(path.strip_prefix('/')?)?;
    let segments = segments.as_slice();
    let mut methods: Vec<&Method> = Vec::with_capacity(4);
    let mut best: Option<&Template> = None;
    for template in BY_LENGTH[segments.len()].iter().filter(|template| matches(template, segments)) {
        methods.push(&template.method);
        if template.method == *method && best.is_none_or(|best| wins(template, best)) {
            best = Some(template);
        }
    }
    if methods.is_empty() {
        return None;
    }
    let served_by = best.map(|template| (template.endpoint, params(template, segments)));
    Some(Routes { allowed: allowed(&methods), served_by })
}

/// Whether the first segment that is a literal in only one of two templates is one in `template`.
fn wins(template: &Template, other: &Template) -> bool {
    let is_literal = |part: &Part| matches!(part, Is(_));
    let mut pairs = template.parts.iter().zip(other.parts).map(|(ours, theirs)| (is_literal(ours), is_literal(theirs)));
    pairs.find(|(ours, theirs)| ours != theirs).is_some_and(|(ours, _)| ours)
}

/// The segments of a path, decoded.
struct Segments<'path> {
    decoded: [Cow<'path, str>; MAX_SEGMENTS],
    count: usize,
}

impl<'path> Segments<'path> {
    /// `None` for more than any template has, and for what is no UTF-8.
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

/// The templates that match paths of so many segments, in their order: most are of another length.
static BY_LENGTH: LazyLock<[Vec<&Template>; MAX_SEGMENTS + 1]> = LazyLock::new(|| {
    std::array::from_fn(|length| {
        let fits = |template: &&Template| match template.parts.len().cmp(&length) {
            Ordering::Equal => true,
            Ordering::Less => matches!(template.parts.last(), Some(Rest)),
            Ordering::Greater => false,
        };
        TEMPLATES.iter().filter(fits).collect()
    })
});

/// Given a path of a length that fits.
fn matches(template: &Template, segments: &[Cow<'_, str>]) -> bool {
    template.parts.iter().zip(segments).all(|(part, segment)| match part {
        Is(literal) => segment == literal,
        Stream | User | Number | Count | Guid => !segment.is_empty(),
        Rest => true,
    })
}

fn params(template: &Template, segments: &[Cow<'_, str>]) -> Params {
    let mut params = Params::default();
    if let Some(Rest) = template.parts.last() {
        let rest = segments.iter().skip(template.parts.len() - 1).filter(|segment| !segment.is_empty());
        params.rest = rest.map(|segment| segment.to_string()).collect();
    }
    for (part, segment) in template.parts.iter().zip(segments) {
        match part {
            Is("$all") => params.stream = segment.to_string(),
            Is(_) | Rest => {}
            Stream | User => params.stream = segment.to_string(),
            Number => params.number = Some(segment.to_string()),
            Count => params.count = Some(segment.to_string()),
            Guid => params.guid = Some(segment.to_string()),
        }
    }
    params
}

/// Method and path of every route, for the test of the document that describes them.
#[cfg(test)]
pub fn routes() -> Vec<String> {
    let segment = |part: &Part| match part {
        Is(literal) => literal,
        Stream => "{stream}",
        User => "{user}",
        Number => "{number}",
        Count => "{count}",
        Guid => "{guid}",
        Rest => "{path}",
    };
    let path =
        |template: &Template| template.parts.iter().map(|part| format!("/{}", segment(part))).collect::<String>();
    TEMPLATES.iter().map(|template| format!("{} {}", template.method, path(template))).collect()
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
    use super::*;

    fn endpoint(method: &str, path: &str) -> Option<Endpoint> {
        find(&method.parse().unwrap(), path).and_then(|routes| routes.served_by).map(|(endpoint, _)| endpoint)
    }

    fn allowed(path: &str) -> String {
        find(&Method::OPTIONS, path).unwrap().allowed.to_str().unwrap().to_owned()
    }

    #[test]
    fn literals_win_over_placeholders() {
        for (method, path, expected) in [
            ("POST", "/streams/X", Some(Endpoint::Append)),
            ("GET", "/streams/X", Some(Endpoint::FeedHead)),
            ("GET", "/streams/X/", Some(Endpoint::StreamSlash)),
            ("POST", "/streams/X/metadata/", Some(Endpoint::MetadataSlash)),
            ("GET", "/streams/$all/", Some(Endpoint::AllSlash)),
            ("DELETE", "/streams/$all/", Some(Endpoint::StreamSlash)),
            ("GET", "/streams/X/5", Some(Endpoint::Event)),
            ("GET", "/streams/X/metadata", Some(Endpoint::MetadataEvent)),
            ("GET", "/streams/X/metadata/5", Some(Endpoint::MetadataEvent)),
            ("GET", "/streams/X/metadata/head/backward/5", Some(Endpoint::MetadataBackward)),
            ("GET", "/streams/X/metadata/backward/5", Some(Endpoint::MetadataBackward)),
            ("GET", "/streams/X/metadata/forward/5", Some(Endpoint::MetadataBackward)),
            ("GET", "/streams/X/0/forward", Some(Endpoint::FeedBackward)),
            ("GET", "/streams/X/0/forward/5", Some(Endpoint::FeedForward)),
            ("GET", "/streams/X/incoming/g", Some(Endpoint::FeedBackward)),
            ("POST", "/streams/X/incoming/g", Some(Endpoint::Incoming)),
            ("GET", "/streams/$all", Some(Endpoint::AllHead)),
            ("GET", "/streams/%24all", Some(Endpoint::AllHead)),
            ("POST", "/streams/$all", Some(Endpoint::Append)),
            ("GET", "/streams/$all/5", Some(Endpoint::Event)),
            ("GET", "/streams/$all/head/backward/5", Some(Endpoint::AllBackward)),
            ("GET", "/streams/$all/metadata", Some(Endpoint::MetadataEvent)),
            ("GET", "/streams/$all/metadata/5", Some(Endpoint::AllBackward)),
            ("GET", "/streams/$all/metadata/0/5", Some(Endpoint::MetadataBackward)),
            ("GET", "/streams/$all/filtered", Some(Endpoint::FilteredHead)),
            ("GET", "/streams/%24all/filtered/head/5", Some(Endpoint::FilteredBackward)),
            ("GET", "/streams/$all/filtered/head/backward/5", Some(Endpoint::FilteredBackward)),
            ("GET", "/streams/$all/filtered/0/forward/5", Some(Endpoint::FilteredForward)),
            ("GET", "/streams/X/filtered", Some(Endpoint::Event)),
            ("DELETE", "/streams/X/metadata", None),
            ("GET", "/users/", Some(Endpoint::Users)),
            ("GET", "/users/%24current", Some(Endpoint::CurrentUser)),
            ("PUT", "/users/$current", Some(Endpoint::UserUpdate)),
            ("POST", "/users/x/command/enable", Some(Endpoint::UserEnable)),
            ("POST", "/users/x/command/nope", None),
            ("PATCH", "/users/x", None),
            ("GET", "/stats", Some(Endpoint::Stats)),
            ("GET", "/stats/", Some(Endpoint::StatsPart)),
            ("GET", "/stats/proc/tcp", Some(Endpoint::StatsPart)),
            ("GET", "/stats/tcp", Some(Endpoint::StatsTcp)),
            ("GET", "/stats/tcp/x", Some(Endpoint::StatsPart)),
            ("GET", "/statsx", None),
            ("HEAD", "/streams/X", None),
            ("GET", "/streams/X//", None),
            ("GET", "/STREAMS/X", None),
        ] {
            assert_eq!(endpoint(method, path), expected, "{method} {path}");
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
            assert_eq!(find(&Method::GET, path), None, "{path}");
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
        assert_eq!(allowed("/users"), "GET, POST, OPTIONS");
        assert_eq!(allowed("/users/x"), "GET, PUT, DELETE, OPTIONS");
        assert_eq!(allowed("/users/$current"), "GET, PUT, DELETE, GET, OPTIONS");
    }

    #[test]
    fn encoded_slashes_are_data() {
        let (_, params) = find(&Method::GET, "/streams/a%2Fb%3F+%C3%A9/7/backward/3").unwrap().served_by.unwrap();
        assert_eq!(params.stream, "a/b?+é");
        assert_eq!((params.number.as_deref(), params.count.as_deref()), (Some("7"), Some("3")));
    }
}
