//! Extensions that need more than the table: options, live answers.

use crate::client::{self, Answer};
use crate::nodes;

const ATOM_JSON: &str = "application/vnd.eventstore.atom+json";

fn get(base: &str, method: &str, path: &str, accept: &str) -> Answer {
    client::send(base, method, path, &[("Accept", accept.to_owned())], b"")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_like_get_when_the_option_is_set() {
    let nodes = nodes::start_with_options(1, &["--head-requests"]).await;
    let base = nodes.leader();
    let compare = move || {
        assert_eq!(crate::append_bytes(&base, "headed", b"x").status, 201);
        for (path, accept, status) in [
            ("/streams/headed", ATOM_JSON, 200),
            ("/streams/headed/0", "application/json", 200),
            ("/streams/headed/metadata", "application/json", 200),
            ("/streams/headed/0/forward/5", ATOM_JSON, 200),
            ("/streams/missing", ATOM_JSON, 404),
            ("/streams/headed", "image/png", 406),
            ("/ping", "*/*", 200),
        ] {
            let full = get(&base, "GET", path, accept);
            let head = get(&base, "HEAD", path, accept);
            assert_eq!((full.status, head.status), (status, status), "{path}");
            let described = ["Content-Type", "ETag", "Cache-Control"];
            // An answer without a body need not say so.
            for name in described.into_iter().chain((status == 200).then_some("Content-Length")) {
                assert_eq!(head.header(name), full.header(name), "{name} of {path}");
            }
            assert_eq!(head.text(), "", "{path}");
        }
        assert_eq!(get(&base, "HEAD", "/streams/headed/incoming/x", ATOM_JSON).status, 400);
    };
    tokio::task::spawn_blocking(compare).await.unwrap();
    nodes.stop().await;
}
