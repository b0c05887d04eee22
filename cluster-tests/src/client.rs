//! The HTTP client of the harness: one request, one [`Answer`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::history::{Answer, SentEvent};

/// Longer than any deadline of a node (writes: 10 s, contract/streams 1.1), so that a request that
/// reaches this limit reveals a node that hangs.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(12);

/// For requests that a healthy node answers at once.
const QUICK_LIMIT: Duration = Duration::from_secs(1);

/// Media type of feeds.
pub const ATOM_JSON: &str = "application/vnd.eventstore.atom+json";

/// Login and password of the administrator. All nodes start with the passwords of these two users.
pub const ADMIN: (&str, &str) = ("admin", "only-the-fault-suite-knows-1");

/// Login and password of the operator.
pub const OPERATOR: (&str, &str) = ("ops", "only-the-fault-suite-knows-2");

/// Value of `Authorization` for a user.
pub fn basic((login, password): (&str, &str)) -> String {
    format!("Basic {}", STANDARD.encode(format!("{login}:{password}")))
}

/// Media type of event arrays.
pub const EVENTS_JSON: &str = "application/vnd.eventstore.events+json";

/// Sends requests to any node; follows no redirect. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// A client with its own connections.
    pub fn new() -> anyhow::Result<Self> {
        Self::trusting(&[])
    }

    /// A client that trusts these CAs, each in PEM.
    pub fn trusting(authorities: &[String]) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(authorities)?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_LIMIT)
            .connect_timeout(QUICK_LIMIT)
            .no_proxy()
            .tcp_nodelay(true)
            .build()
            .context("cannot build the HTTP client")?;
        Ok(Self { http })
    }

    /// Appends `events` and returns the answer.
    pub async fn append(&self, base: &str, stream: &str, expected_version: i64, events: &[SentEvent]) -> Answer {
        self.append_as(base, stream, expected_version, events, &[]).await
    }

    /// The same with extra headers.
    pub async fn append_as(
        &self,
        base: &str,
        stream: &str,
        expected_version: i64,
        events: &[SentEvent],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self
            .http
            .post(format!("{base}/streams/{stream}"))
            .header("Content-Type", EVENTS_JSON)
            .header("ES-ExpectedVersion", expected_version.to_string())
            .body(events_body(events));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer_of(request.send().await).await
    }

    /// Any request with extra headers.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Response> {
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.with_context(|| format!("no answer from {url}"))
    }

    /// GET with extra headers.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
        self.request(Method::GET, url, headers, Vec::new()).await
    }

    /// GET of a feed as JSON; any status but 200 is an error.
    pub async fn get_feed(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut all = vec![("Accept", ATOM_JSON)];
        all.extend_from_slice(headers);
        // The administrator may read the log of all events.
        let credentials = basic(ADMIN);
        all.push(("Authorization", &credentials));
        let response = self.get(url, &all).await?;
        let status = response.status();
        anyhow::ensure!(status == StatusCode::OK, "GET {url} answered {status}");
        response.json().await.with_context(|| format!("GET {url}: not JSON"))
    }

    /// A page of the export of the whole log, line by line.
    pub async fn export(&self, base: &str, from: u64) -> anyhow::Result<Vec<Value>> {
        let credentials = basic(ADMIN);
        let url = format!("{base}/admin/export?from={from}");
        let response = self.get(&url, &[("Authorization", &credentials)]).await?;
        let status = response.status();
        anyhow::ensure!(status == StatusCode::OK, "GET {url} answered {status}");
        let text = response.text().await?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("GET {url}: {line}"))).collect()
    }

    /// Whether `/health/ready` reports readiness.
    pub async fn is_ready(&self, base: &str) -> bool {
        let answer = self.http.get(format!("{base}/health/ready")).timeout(QUICK_LIMIT).send().await;
        answer.is_ok_and(|response| response.status().is_success())
    }

    /// `state` of `/info` (contract/services 4.1), in lower case.
    pub async fn state(&self, base: &str) -> anyhow::Result<String> {
        let response = self
            .http
            .get(format!("{base}/info"))
            .timeout(QUICK_LIMIT)
            .send()
            .await
            .with_context(|| format!("no answer from {base}/info"))?;
        let info: Value = response.json().await.context("/info is not JSON")?;
        let state = info.get("state").and_then(Value::as_str).context("/info has no state")?;
        Ok(state.to_lowercase())
    }

    /// What a node says of itself in `/gossip` (contract/services 4.3).
    async fn own_gossip(&self, base: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{base}/gossip")).timeout(QUICK_LIMIT).send().await;
        let gossip: Value = answer.with_context(|| format!("no answer from {base}/gossip"))?.json().await?;
        let is_it = |member: &&Value| {
            let address =
                format!("{}:{}", member["internalHttpIp"].as_str().unwrap_or_default(), member["internalHttpPort"]);
            base.ends_with(&format!("//{address}"))
        };
        let member = gossip["members"].as_array().and_then(|members| members.iter().find(is_it));
        member.cloned().with_context(|| format!("{base} does not list itself"))
    }

    /// The time by the clock of a node: when it has last heard of itself.
    pub async fn time(&self, base: &str) -> anyhow::Result<Timestamp> {
        let member = self.own_gossip(base).await?;
        let time = member["timeStamp"].as_str().context("the node has no time")?;
        time.parse().with_context(|| format!("not a time: {time}"))
    }

    /// The term in which a node leads; `None` if it does not.
    pub async fn term_led(&self, base: &str) -> anyhow::Result<Option<u64>> {
        let member = self.own_gossip(base).await?;
        let leads = matches!(member["state"].as_str(), Some("Master" | "Leader"));
        let term = member["epochNumber"].as_u64().context("the node has no term")?;
        Ok(leads.then_some(term))
    }

    /// Value of an unlabelled metric, or the sum over all its labels.
    pub async fn metric(&self, base: &str, name: &str) -> anyhow::Result<f64> {
        let response = self.http.get(format!("{base}/metrics")).timeout(QUICK_LIMIT).send().await?;
        let text = response.text().await?;
        metric_in(&text, name).with_context(|| format!("{base}/metrics has no {name}"))
    }
}

/// Sums the samples of `name` in Prometheus text format.
fn metric_in(text: &str, name: &str) -> Option<f64> {
    let samples: Vec<f64> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse().ok()
        })
        .collect();
    (!samples.is_empty()).then(|| samples.iter().sum())
}

/// The array body of contract/streams 6.3.
fn events_body(events: &[SentEvent]) -> String {
    let items: Vec<String> = events
        .iter()
        .map(|event| {
            format!(r#"{{"eventId":"{}","eventType":"{}","data":{}}}"#, event.id, event.event_type, event.stored_data)
        })
        .collect();
    format!("[{}]", items.join(","))
}

/// TLS that trusts only these CAs, each in PEM. The CAs of the machine are not used: there may be
/// none.
pub fn tls(authorities: &[String]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).context("not a certificate in PEM")?;
        roots.add(certificate).context("not a CA certificate")?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no version of TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

async fn answer_of(sent: Result<Response, reqwest::Error>) -> Answer {
    let response = match sent {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Answer::Refused { status: 0, reason: format!("{error:?}") },
        Err(error) => return Answer::Unknown { reason: format!("{error:?}") },
    };
    let status = response.status();
    let headers = response.headers().clone();
    // The status decides; the body only has to be complete.
    let reason = match response.text().await {
        Ok(body) => format!("{status} {body}"),
        Err(error) => format!("{status}, body cut: {error}"),
    };
    if status == StatusCode::CREATED {
        return acknowledgement(&headers);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE || status.is_client_error() || status.is_redirection() {
        // 408 is a client error by number only: no answer came in time (contract/streams 1.1).
        if status != StatusCode::REQUEST_TIMEOUT {
            return Answer::Refused { status: status.as_u16(), reason };
        }
    }
    if status.is_success() {
        return Answer::Malformed { reason: format!("a write was answered {reason}") };
    }
    Answer::Unknown { reason }
}

fn acknowledgement(headers: &HeaderMap) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let location = text("location");
    let first_number =
        location.as_deref().and_then(|location| location.rsplit('/').next()).and_then(|number| number.parse().ok());
    let position = text("es-position").and_then(|position| position.parse().ok());
    match (first_number, position) {
        (Some(first_number), Some(position)) => Answer::Acknowledged { first_number, position },
        _ => Answer::Malformed { reason: format!("201 with Location {location:?} and ES-Position {position:?}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels_and_not_over_longer_names() {
        let text = "# HELP a b\na_total 3\na_total_more 9\nb{x=\"1\"} 1\nb{x=\"2 }\"} 2.5\n";
        assert_eq!(metric_in(text, "a_total"), Some(3.0));
        assert_eq!(metric_in(text, "b"), Some(3.5));
        assert_eq!(metric_in(text, "c"), None);
    }

    #[test]
    fn a_created_without_position_is_malformed() {
        let mut headers = HeaderMap::new();
        headers.insert("location", "http://127.0.0.1:1/streams/a/17".parse().unwrap());
        assert!(matches!(acknowledgement(&headers), Answer::Malformed { .. }));
        headers.insert("es-position", "40".parse().unwrap());
        assert_eq!(acknowledgement(&headers), Answer::Acknowledged { first_number: 17, position: 40 });
    }
}
