//! What the bodies of requests say about the settings of a group (contract/services 3.2 and 0.8).

use http_body::Body as _;
use hyper::body::Incoming;

use crate::consumers::settings::{Settings, Strategy};
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;
use crate::http::exchange::request_body;
use crate::http::format::json::tree::{Members, Text};
use crate::http::format::xml::document::{Part, XmlDocument};
use crate::http::limits::MAX_GROUP_DOCUMENT_BYTES;

/// What a request wants a group to be.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Wanted {
    /// This.
    Settings(Settings),
    /// Nobody knows the strategy of this name.
    UnknownStrategy(String),
}

impl Wanted {
    /// Reads the body of a request. What is no document is as good as none: the defaults.
    ///
    /// # Errors
    /// The body did not come as a whole, or the settings make no sense.
    pub(super) async fn read(request: &Request<'_>, body: Incoming) -> Result<Self, ApiError> {
        if body.size_hint().lower() > MAX_GROUP_DOCUMENT_BYTES as u64 {
            return Err(ApiError::BodyTooLarge);
        }
        let body = request_body::read(body, &request.state.budgets, request.connection).await?;
        if body.bytes.len() > MAX_GROUP_DOCUMENT_BYTES {
            return Err(ApiError::BodyTooLarge);
        }
        Self::of(&body.bytes, request.body_type.is_json())
    }

    /// What a body asks for; one that is no document asks for the defaults.
    ///
    /// # Errors
    /// 400 for settings that no group can have.
    pub(in crate::http) fn of(body: &[u8], is_json: bool) -> Result<Self, ApiError> {
        let document = if is_json { of_json(body) } else { of_xml(body) };
        let document = document.unwrap_or_default();
        let wanted = document.settings.check();
        wanted.map_err(|error| ApiError::BadRequest(error.to_string().into()))?;
        Ok(document.wanted())
    }
}

/// A body, field by field.
#[derive(Debug, Default)]
struct Document {
    settings: Settings,
    strategy: Option<String>,
    /// Counts where the strategy is empty, as in the oldest clients.
    prefers_round_robin: bool,
}

/// What a number that is zero means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zero {
    /// Nothing: the default stays (contract/services 0.8).
    IsNothing,
    /// Zero.
    IsZero,
}

impl Document {
    /// Takes a field over. `None` if its value is of another kind.
    fn set(&mut self, name: &str, value: &str, zero: Zero) -> Option<()> {
        let settings = &mut self.settings;
        let number = match name {
            "resolvelinktos" => return set_flag(&mut settings.resolve_links, value),
            "extrastatistics" => return set_flag(&mut settings.extra_statistics, value),
            "preferroundrobin" => return set_flag(&mut self.prefers_round_robin, value),
            // Neither a list nor an object is a name.
            "namedconsumerstrategy" if value.starts_with(['[', '{']) => return None,
            "namedconsumerstrategy" => {
                self.strategy = Some(value.to_owned());
                return Some(());
            }
            "startfrom" => &mut settings.start_from,
            "messagetimeoutmilliseconds" => &mut settings.message_timeout_milliseconds,
            "maxretrycount" => &mut settings.max_retry_count,
            "livebuffersize" => &mut settings.live_buffer_size,
            "buffersize" => &mut settings.buffer_size,
            "readbatchsize" => &mut settings.read_batch_size,
            "checkpointaftermilliseconds" => &mut settings.checkpoint_after_milliseconds,
            "mincheckpointcount" => &mut settings.min_checkpoint_count,
            "maxcheckpointcount" => &mut settings.max_checkpoint_count,
            "maxsubscribercount" => &mut settings.max_subscriber_count,
            _ => return Some(()),
        };
        let parsed: i64 = value.trim().parse().ok()?;
        // All but the number of an event are of 32 bits in the original.
        if name != "startfrom" && i32::try_from(parsed).is_err() {
            return None;
        }
        if parsed != 0 || zero == Zero::IsZero {
            *number = parsed;
        }
        Some(())
    }

    fn wanted(self) -> Wanted {
        let strategy = match self.strategy.as_deref() {
            None => Some(Strategy::RoundRobin),
            Some("") if self.prefers_round_robin => Some(Strategy::RoundRobin),
            Some("") => Some(Strategy::DispatchToSingle),
            Some(name) => Strategy::named(name),
        };
        match (strategy, self.strategy) {
            (Some(strategy), _) => Wanted::Settings(Settings { strategy, ..self.settings }),
            (None, name) => Wanted::UnknownStrategy(name.unwrap_or_default()),
        }
    }
}

fn set_flag(flag: &mut bool, value: &str) -> Option<()> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("true") || value == "1" {
        *flag = true;
    } else if value.eq_ignore_ascii_case("false") || value == "0" {
        *flag = false;
    } else {
        return None;
    }
    Some(())
}

/// `None` for what is no JSON object, or has a value of another kind in a field that is known.
fn of_json(body: &[u8]) -> Option<Document> {
    let Members(members) = serde_json::from_slice(body).ok()?;
    let mut document = Document::default();
    for (name, value) in members {
        let name = name.to_ascii_lowercase();
        let value = value.get();
        match value.as_bytes().first()? {
            b'n' => {}
            b'"' => document.set(&name, &serde_json::from_str::<Text<'_>>(value).ok()?.0, Zero::IsNothing)?,
            _ => document.set(&name, value, Zero::IsNothing)?,
        }
    }
    Some(document)
}

/// The elements inside of the root, whatever its name. A zero counts: this is how to say that a
/// message has no timeout, or a group any number of consumers.
fn of_xml(body: &[u8]) -> Option<Document> {
    let mut xml = XmlDocument::new(std::str::from_utf8(body).ok()?).ok()?;
    let mut fields: Vec<(String, String)> = Vec::new();
    while let Some(part) = xml.next_part().ok()? {
        match part {
            Part::Open(tag) if xml.depth() == 2 && !tag.is_self_closing => {
                let local = tag.name.rsplit(':').next().unwrap_or_default();
                fields.push((local.to_ascii_lowercase(), String::new()));
            }
            Part::Text(text) if xml.depth() == 2 => fields.last_mut()?.1.push_str(&text),
            Part::Open(_) | Part::Text(_) | Part::Close => {}
        }
    }
    let mut document = Document::default();
    for (name, value) in fields {
        document.set(&name, &value, Zero::IsZero)?;
    }
    Some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Settings {
        Settings::default()
    }

    fn json(body: &str) -> Wanted {
        of_json(body.as_bytes()).unwrap_or_default().wanted()
    }

    fn xml(body: &str) -> Wanted {
        of_xml(body.as_bytes()).unwrap_or_default().wanted()
    }

    #[test]
    fn names_match_in_any_case_and_zeros_and_unknown_names_say_nothing() {
        let body = r#"{"RESOLVELINKTOS":true,"startFrom":-1,"bufferSize":"50","maxSubscriberCount":0,
            "messageTimeoutMilliseconds":0,"readBatchSize":null,"other":{"bufferSize":1}}"#;
        let expected = Settings { resolve_links: true, start_from: -1, buffer_size: 50, ..defaults() };
        assert_eq!(json(body), Wanted::Settings(expected));
        let beyond = Settings { start_from: 4_294_967_296, ..defaults() };
        assert_eq!(json(r#"{"startFrom":4294967296}"#), Wanted::Settings(beyond));
    }

    #[test]
    fn what_is_no_document_means_the_defaults() {
        for body in [
            "",
            "garbage",
            "[]",
            "5",
            "null",
            r#"{"bufferSize":"x"}"#,
            r#"{"bufferSize":1.5}"#,
            r#"{"startFrom":{}}"#,
            r#"{"namedConsumerStrategy":["Pinned"]}"#,
        ] {
            assert_eq!(json(body), Wanted::Settings(defaults()), "{body}");
        }
        assert_eq!(json(r#"{"bufferSize":4294967296}"#), Wanted::Settings(defaults()));
        for body in ["", "garbage", "<a>", "<a><bufferSize>x</bufferSize></a>", "<a><b/></a>"] {
            assert_eq!(xml(body), Wanted::Settings(defaults()), "{body}");
        }
    }

    #[test]
    fn xml_can_say_zero() {
        let body = "<config xmlns:i='u'><MaxSubscriberCount>0</MaxSubscriberCount><i:bufferSize> 7 </i:bufferSize>
            <readBatchSize/><deep><bufferSize>1</bufferSize></deep></config>";
        assert_eq!(xml(body), Wanted::Settings(Settings { max_subscriber_count: 0, buffer_size: 7, ..defaults() }));
    }

    #[test]
    fn an_empty_strategy_is_that_of_the_oldest_clients() {
        for (body, expected) in [
            ("{}", Strategy::RoundRobin),
            (r#"{"namedConsumerStrategy":null}"#, Strategy::RoundRobin),
            (r#"{"namedConsumerStrategy":""}"#, Strategy::DispatchToSingle),
            (r#"{"namedConsumerStrategy":"","preferRoundRobin":true}"#, Strategy::RoundRobin),
            (r#"{"namedConsumerStrategy":"Pinned","preferRoundRobin":true}"#, Strategy::Pinned),
            (r#"{"namedConsumerStrategy":"OrderedByStream"}"#, Strategy::OrderedByStream),
        ] {
            assert_eq!(json(body), Wanted::Settings(Settings { strategy: expected, ..defaults() }), "{body}");
        }
        assert_eq!(json(r#"{"namedConsumerStrategy":"Nope"}"#), Wanted::UnknownStrategy("Nope".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_the_reader_fail(bytes: Vec<u8>, text: String) {
            let _ = (of_json(&bytes), of_xml(&bytes), of_json(text.as_bytes()), of_xml(text.as_bytes()));
        }
    }
}
