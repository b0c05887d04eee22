//! Reads of pages on a running node.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::limits::{MAX_LARGE_ANSWERS_BYTES, PART_BYTES};
use super::super::{Detail, PageHead, PageWriter, ReadBarrier};
use super::*;
use crate::event::ResolvedRef;
use crate::event::paging::{PageSize, PageStart};
use crate::node::support::nodes::Nodes;

/// Pages of which each event makes a part.
struct Long;

struct LongWriter(bool);

impl PageFormat for Long {
    type Writer<'a> = LongWriter;

    fn detail(&self) -> Detail {
        Detail::Payload
    }

    fn writer(&self, has_events: bool) -> LongWriter {
        LongWriter(has_events)
    }
}

impl PageWriter for LongWriter {
    fn start(&mut self, out: &mut Vec<u8>, _: &PageHead<'_>) {
        out.push(b'(');
    }

    fn event(&mut self, out: &mut Vec<u8>, _: &ResolvedRef<'_>) {
        self.0 = true;
        out.resize(out.len() + PART_BYTES, b'x');
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.push(b')');
    }

    fn has_events(&self) -> bool {
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_page_that_waits_for_memory_holds_nothing_and_is_found_anew() {
    let nodes = Nodes::start(1).await;
    let (cluster, access) = (nodes.node(0).cluster().clone(), nodes.node(0).access().clone());
    let login = access.login("admin", "changeit", Ipv4Addr::LOCALHOST.into()).await.unwrap();
    let streams = Streams::start(cluster, access, Duration::from_secs(60)).unwrap();
    let page = PageRequest {
        start: PageStart::Head,
        size: PageSize::new(20).unwrap(),
        barrier: ReadBarrier::default(),
        known_versions: Vec::new(),
        long_poll: None,
    };
    let source = Source::Log { filter: None, links: Links::AsStored };
    let (target, format) = (Arc::new(PageTarget { source, page }), Arc::new(Long));
    let caller = Caller::User(login);
    let found = streams.look_for_page(&caller, &target, &format).await.unwrap().page.unwrap();
    let Content::Large(page) = found.content else { panic!("the page is small") };
    assert!(page.head.len() < PART_BYTES && Arc::strong_count(&format) == 2);

    let all = streams.answers.reserve(MAX_LARGE_ANSWERS_BYTES).await.unwrap();
    let mut waiting = Box::pin(streams.read_large(&caller, &target, &format, page, found.facts));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    assert_eq!(Arc::strong_count(&format), 1, "what was found of the page is held");
    drop(all);
    let Document::InParts(mut parts) = waiting.await.unwrap().document else { panic!("the page has one part") };
    let mut document = Vec::new();
    while let Some(part) = parts.next().await.unwrap() {
        document.extend_from_slice(&part);
    }
    assert!(document.starts_with(b"(x") && document.ends_with(b"x)") && document.len() > 2 * PART_BYTES);
    nodes.stop().await;
}
