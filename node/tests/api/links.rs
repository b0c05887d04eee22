//! Pages with links to streams that the caller may not read, where a page is too large to be
//! checked as a whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

/// Events between the link and the head of the page: together far more than is written at once.
const FILLING: usize = 3;
const FILLING_BYTES: usize = 1 << 20;

/// Small events behind the link: more than are written at once, too.
const SMALL: usize = 600;

fn append(base: &str, stream: &str, body: &str) {
    let headers = [
        ("Content-Type", "application/vnd.eventstore.events+json".to_owned()),
        ("Authorization", client::ADMIN.into()),
    ];
    let answer = client::send(base, "POST", &format!("/streams/{stream}"), &headers, body.as_bytes());
    assert_eq!(answer.status, 201, "{stream}: {}", answer.text());
}

fn event(event_type: &str, data: &str) -> String {
    format!(r#"{{"eventId":"{}","eventType":"{event_type}","data":{data}}}"#, uuid::Uuid::new_v4())
}

fn get(base: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let accept = ("Accept", "application/vnd.eventstore.atom+json");
    let headers: Vec<_> = headers.iter().chain([&accept]).map(|(name, value)| (*name, (*value).to_owned())).collect();
    client::send(base, "GET", path, &headers, b"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_page_with_an_unreadable_link_is_refused_as_a_whole() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        append(&base, "secret", &format!("[{}]", event("t", r#"{"pin":1234}"#)));
        append(&base, "open", &format!("[{}]", event("t", r#"{"pin":1}"#)));
        append(&base, "$$secret", &format!("[{}]", event("$metadata", r#"{"$acl":{"$r":"ann"}}"#)));
        // Every caller may read the log of all events, so that a caller without rights on the
        // secret meets the link.
        append(&base, "$$$all", &format!("[{}]", event("$metadata", r#"{"$acl":{"$r":"$all"}}"#)));
        let user = r#"{"loginName":"ann","password":"one"}"#;
        let headers = [("Content-Type", "application/json".to_owned()), ("Authorization", client::ADMIN.into())];
        assert_eq!(client::send(&base, "POST", "/users", &headers, user.as_bytes()).status, 201);

        let filling = format!("\"{}\"", "x".repeat(FILLING_BYTES));
        for (stream, target) in [("large", "0@secret"), ("harmless", "0@open")] {
            append(&base, stream, &format!("[{}]", event("$>", &format!("\"{target}\""))));
            for _ in 0..FILLING {
                append(&base, stream, &format!("[{}]", event("t", &filling)));
            }
        }
        for (stream, target) in [("many", "0@secret"), ("many-harmless", "0@open")] {
            let small: Vec<String> = (0..SMALL).map(|n| event("t", &n.to_string())).collect();
            append(&base, stream, &format!("[{},{}]", event("$>", &format!("\"{target}\"")), small.join(",")));
        }
        let ann = format!("Basic {}", STANDARD.encode("ann:one"));
        for (refused, fine) in [("large", "harmless"), ("many", "many-harmless")] {
            for page in ["head/backward/4096", "0/forward/4096"] {
                for query in ["", "?embed=body"] {
                    let of = |stream: &str, headers: &[(&str, &str)]| {
                        let answer = get(&base, &format!("/streams/{stream}/{page}{query}"), headers);
                        assert!(answer.status != 401 || answer.body.is_empty(), "{stream} {page} {query}");
                        answer.status
                    };
                    assert_eq!(of(refused, &[]), 401, "{refused} {page} {query}");
                    assert_eq!(of(refused, &[("Authorization", &ann)]), 200, "{refused} {page} {query}");
                    assert_eq!(of(refused, &[("Authorization", client::ADMIN)]), 200, "{refused} {page} {query}");
                    assert_eq!(of(refused, &[("ES-ResolveLinkTos", "false")]), 200, "{refused} {page} {query}");
                    assert_eq!(of(fine, &[]), 200, "{fine} {page} {query}");
                }
            }
        }
        // The log of all events is not refused for what anybody may write to it: the link alone is
        // shown, to those who may not read its target.
        // Beside the events themselves and the links to the open one, which both pages have.
        for (path, shown, of_secret) in
            [("/streams/%24all/head/backward/4096", 4, 2), ("/streams/$all/filtered/head/backward/4096", 1, 1)]
        {
            for query in ["?embed=body", "?embed=tryharder"]
                .map(|query| format!("{query}&context=streamid&type=prefix&data=many"))
            {
                let of = |headers: &[(&str, &str)]| {
                    let answer = get(&base, &format!("{path}{query}"), headers);
                    assert_eq!(answer.status, 200, "{path} {query}");
                    let caching = answer.header("Cache-Control").unwrap_or_default();
                    assert!(!caching.contains("public"), "{path} {query}: {caching}");
                    answer.text().matches("pin").count()
                };
                assert_eq!(of(&[]), shown, "{path} {query}");
                assert_eq!(of(&[("Authorization", &ann)]), shown + of_secret, "{path} {query}");
            }
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}
