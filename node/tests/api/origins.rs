//! Browsers add credentials that they remember to what any page makes them send: a page of another
//! origin changes nothing with them (contract/services 1.2).

use crate::support::client::{self, Answer};
use crate::support::nodes::Nodes;

type Header = (&'static str, String);

const EVIL: &str = "https://evil.example";

fn admin() -> Header {
    ("Authorization", client::ADMIN.to_owned())
}

fn header(name: &'static str, value: &str) -> Header {
    (name, value.to_owned())
}

/// What browsers send for a page that is not one of this node; some of it only broken or hostile
/// ones.
fn foreign(host: &str) -> Vec<Vec<Header>> {
    vec![
        vec![header("Sec-Fetch-Site", "cross-site")],
        vec![header("Sec-Fetch-Site", "same-site")],
        vec![header("Sec-Fetch-Site", "")],
        vec![header("Sec-Fetch-Site", "same-origin"), header("Sec-Fetch-Site", "cross-site")],
        vec![header("Sec-Fetch-Site", "cross-site"), header("Origin", &format!("http://{host}"))],
        vec![header("Origin", EVIL)],
        vec![header("Origin", "null")],
        vec![header("Origin", "")],
        vec![header("Origin", "http://127.0.0.1:1")],
        vec![header("Origin", "http://127.0.0.1")],
        vec![header("Origin", &format!("http://{host}.evil.example"))],
        vec![header("Origin", &format!("http://{host}")), header("Origin", EVIL)],
    ]
}

/// What a form can send without a preflight, and no type at all.
const TYPES: &[Option<&str>] =
    &[Some("text/plain"), Some("multipart/form-data; boundary=x"), Some("application/x-www-form-urlencoded"), None];

/// Reads that change something all the same: messages go to whoever asks.
const CHANGING_READS: [&str; 2] = ["nextMessage", "nextMessages"];

/// Method and path of everything that may write, from the document of the API.
fn writing_routes(base: &str) -> Vec<(String, String)> {
    let document = client::send(base, "GET", "/openapi.json", &[], b"").json();
    let paths = document["paths"].as_object().unwrap().clone();
    let mut routes = Vec::new();
    for (path, operations) in paths {
        let filled = path.replace("{stream}", "target").replace("{user}", "victim").replace("{number}", "0");
        let filled = filled.replace("{guid}", "a1111111-1111-4111-8111-111111111111");
        let filled = filled.replace("{group}", "group").replace("{count}", "5");
        let writes = |(method, operation): &(&String, &serde_json::Value)| {
            let changes = operation["operationId"].as_str().is_some_and(|id| CHANGING_READS.contains(&id));
            changes || !["get", "head"].contains(&method.as_str())
        };
        for (method, _) in operations.as_object().unwrap().iter().filter(writes) {
            assert!(!filled.contains('{'), "{path}");
            routes.push((method.to_ascii_uppercase(), filled.clone()));
        }
    }
    assert!(routes.len() >= 15, "{routes:?}");
    routes
}

fn append(base: &str, stream: &str, headers: &[Header]) -> Answer {
    let event = [
        header("Content-Type", "application/json"),
        header("ES-EventType", "t"),
        header("ES-EventId", &uuid::Uuid::new_v4().to_string()),
    ];
    let headers: Vec<Header> = headers.iter().cloned().chain(event).collect();
    client::send(base, "POST", &format!("/streams/{stream}"), &headers, b"{}")
}

fn create_user(base: &str, login: &str) {
    let headers = [admin(), header("Content-Type", "application/json")];
    let document = serde_json::json!({"loginName": login, "fullName": "A B", "password": "secret"}).to_string();
    assert_eq!(client::send(base, "POST", "/users", &headers, document.as_bytes()).status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_changes_nothing_with_the_credentials_of_its_reader() {
    let nodes = Nodes::start(1).await;
    let base = nodes.leader();
    let talk = move || {
        let host = base.strip_prefix("http://").unwrap();
        create_user(&base, "victim");
        for (method, path) in writing_routes(&base) {
            for sent in foreign(host) {
                for content_type in TYPES {
                    let mut headers = [&[admin()], &sent[..]].concat();
                    headers.extend(content_type.map(|content_type| header("Content-Type", content_type)));
                    let refused = client::send(&base, &method, &path, &headers, b"{}");
                    let found = (refused.status, refused.reason.as_deref(), refused.header("WWW-Authenticate"));
                    assert_eq!(found, (403, Some("Forbidden"), None), "{method} {path} {sent:?} {content_type:?}");
                }
            }
        }
        let victim = client::send(&base, "GET", "/users/victim", &[admin()], b"").json();
        assert_eq!((&victim["data"]["disabled"], &victim["data"]["fullName"]), (&false.into(), &"A B".into()));
        for path in ["/streams/target", "/streams/target/metadata/0"] {
            assert_eq!(
                client::send(&base, "GET", &format!("{path}?format=json"), &[admin()], b"").status,
                404,
                "{path}"
            );
        }
        // Whether the password is right is looked at before.
        let wrong = header("Authorization", "Basic YWRtaW46d3Jvbmc=");
        assert_eq!(append(&base, "target", &[wrong, header("Origin", EVIL)]).status, 401);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_else_writes_as_before() {
    let nodes =
        Nodes::start_with_options(1, &["--trusted-origins=https://admin.example", "--advertise-http=node.example:80"])
            .await;
    let base = nodes.leader();
    let talk = move || {
        let host = base.strip_prefix("http://").unwrap();
        let forwarded = header("X-Forwarded-Host", "lb.example:8443");
        let own = [
            vec![],
            vec![header("Sec-Fetch-Site", "same-origin"), header("Origin", "null")],
            vec![header("Sec-Fetch-Site", "None")],
            vec![header("Origin", &format!("http://{host}"))],
            vec![header("Origin", &format!("HTTPS://{host}"))],
            vec![header("Origin", "http://node.example")],
            vec![header("Origin", "https://lb.example:8443"), forwarded.clone()],
            vec![header("Origin", "https://lb.example"), header("Forwarded", "host=lb.example;proto=https")],
            vec![header("Origin", "https://admin.example")],
            vec![header("Origin", "https://admin.example"), header("Sec-Fetch-Site", "cross-site")],
        ];
        for sent in own {
            assert_eq!(append(&base, "own", &[&[admin()], &sent[..]].concat()).status, 201, "{sent:?}");
        }
        for sent in [
            vec![header("Origin", "https://admin.example:8443")],
            vec![header("Origin", "http://admin.example")],
            vec![header("Origin", "https://lb.example"), forwarded],
        ] {
            assert_eq!(append(&base, "own", &[&[admin()], &sent[..]].concat()).status, 403, "{sent:?}");
        }
        for sent in foreign(host) {
            // Without credentials it is what anybody may do, and reading shows the page nothing.
            assert_eq!(append(&base, "open", &sent).status, 201, "{sent:?}");
            let headers = [&[admin()], &sent[..]].concat();
            for method in ["GET", "OPTIONS"] {
                assert_eq!(client::send(&base, method, "/info", &headers, b"").status, 200, "{method} {sent:?}");
            }
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    nodes.stop().await;
}
