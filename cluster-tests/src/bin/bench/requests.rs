//! Requests as bytes: built once, patched in place for each use.

use std::ops::Range;

use headwater_cluster_tests::client;

/// The bytes of a request, with marked places that change.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Decimal digits (a stream's number) replaced for each request, with the number of different
    /// values.
    stream: Option<(Range<usize>, u64)>,
    /// The same for the number at which a page begins: it changes after every round over all
    /// streams.
    page: Option<(Range<usize>, u64)>,
    /// Hexadecimal digits that make the request unique.
    unique: Vec<Range<usize>>,
}

/// Stands for the number of the stream.
const STREAM_MARK: &str = "SSSSSSSS";

/// Stands for the number at which a page begins.
const PAGE_MARK: &str = "PPPPPPPP";

/// Stands for the 12 last digits of an event id, or a part of a key.
const UNIQUE_MARK: &str = "UUUUUUUUUUUU";

impl Template {
    /// GET of `suffix` of one of the first `streams` streams that [`Self::append`] writes.
    pub(crate) fn get_of_streams(run: u32, suffix: &str, streams: u64, headers: &[(&str, &str)]) -> Self {
        let mut template = Self::get(&format!("/streams/bench-{run:08x}-{STREAM_MARK}{suffix}"), headers);
        let text = String::from_utf8_lossy(&template.bytes);
        template.stream = text.find(STREAM_MARK).map(|at| (at..at + STREAM_MARK.len(), streams));
        template
    }

    /// The same, with [`PAGE_MARK`] in `suffix` standing for numbers below `pages`: this many pages
    /// of each stream are requested in turn.
    pub(crate) fn get_of_pages(run: u32, suffix: &str, streams: u64, pages: u64, headers: &[(&str, &str)]) -> Self {
        let mut template = Self::get_of_streams(run, suffix, streams, headers);
        let text = String::from_utf8_lossy(&template.bytes);
        template.page = text.find(PAGE_MARK).map(|at| (at..at + PAGE_MARK.len(), pages));
        template
    }

    /// A request that is always the same.
    pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Self {
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Self { bytes: text.into_bytes(), stream: None, page: None, unique: Vec::new() }
    }

    /// A POST whose path and body may contain marks.
    fn post(path: &str, headers: &str, body: &str, streams: u64) -> Self {
        let text =
            format!("POST {path} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        let stream = text.find(STREAM_MARK).map(|at| (at..at + STREAM_MARK.len(), streams));
        let unique = text.match_indices(UNIQUE_MARK).map(|(at, mark)| at..at + mark.len()).collect();
        Self { bytes: text.into_bytes(), stream, page: None, unique }
    }

    /// The same request with a user's login.
    pub(crate) fn authenticated(mut self) -> Self {
        const BEFORE: &[u8] = b"Host: bench\r\n";
        let line = format!("Authorization: {}\r\n", client::basic(client::ADMIN)).into_bytes();
        let found = self.bytes.windows(BEFORE.len()).position(|window| window == BEFORE);
        let Some(at) = found.map(|at| at + BEFORE.len()) else { return self };
        self.bytes.splice(at..at, line.iter().copied());
        let digits = self.stream.as_mut().into_iter().chain(&mut self.page).map(|(place, _)| place);
        let places = self.unique.iter_mut().chain(digits);
        for place in places.filter(|place| place.start >= at) {
            *place = place.start + line.len()..place.end + line.len();
        }
        self
    }

    /// One event per POST to one of `streams` streams; `data_bytes` of data in each
    /// (contract/streams 6.3).
    pub(crate) fn append(run: u32, streams: u64, data_bytes: usize) -> Self {
        Self::append_batch(run, streams, data_bytes, 1)
    }

    /// `events` events per POST.
    pub(crate) fn append_batch(run: u32, streams: u64, data_bytes: usize, events: usize) -> Self {
        let frame = r#"{"payload":""}"#.len();
        let payload = "x".repeat(data_bytes.saturating_sub(frame));
        // All events of a request share the patched digits; their ids differ in the third group.
        let items: Vec<String> = (0..events)
            .map(|index| {
                format!(
                    r#"{{"eventId":"{run:08x}-4a4a-{index:04x}-8a8a-{UNIQUE_MARK}","eventType":"bench","data":{{"payload":"{payload}"}}}}"#
                )
            })
            .collect();
        Self::post(
            &format!("/streams/bench-{run:08x}-{STREAM_MARK}"),
            "Content-Type: application/vnd.eventstore.events+json\r\n",
            &format!("[{}]", items.join(",")),
            streams,
        )
    }

    /// A put of etcd's JSON gateway: the key is unique, the value has `value_bytes` bytes.
    pub(crate) fn etcd_put(run: u32, value_bytes: usize) -> Self {
        // Any text of base64 digits whose length is a multiple of 4 is valid base64; these decode
        // to 15 bytes of key.
        let key = format!("{run:08x}{UNIQUE_MARK}");
        let value = "eHh4".repeat(value_bytes.div_ceil(3));
        Self::post(
            "/v3/kv/put",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"key":"{key}","value":"{value}"}}"#),
            1,
        )
    }

    /// Bytes of the `number`-th request.
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        if let Some((place, streams)) = &self.stream {
            write_decimal(&mut self.bytes[place.clone()], number % streams);
            if let Some((place, pages)) = &self.page {
                write_decimal(&mut self.bytes[place.clone()], number / streams % pages);
            }
        }
        for place in &self.unique {
            write_hexadecimal(&mut self.bytes[place.clone()], number);
        }
        &self.bytes
    }
}

/// Name of a stream that [`Template::append`] writes.
pub(crate) fn stream_name(run: u32, stream: u64) -> String {
    format!("bench-{run:08x}-{stream:08}")
}

fn write_decimal(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn write_hexadecimal(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_own_ids_and_the_announced_length() {
        let mut template = Template::append_batch(7, 10, 256, 2);
        let one = String::from_utf8(template.numbered(1).to_vec()).unwrap();
        let two = String::from_utf8(template.numbered(0x1b).to_vec()).unwrap();
        assert_ne!(one, two);
        assert!(one.contains("POST /streams/bench-00000007-00000001 "), "{one}");
        assert!(two.contains("POST /streams/bench-00000007-00000007 "), "{two}");
        assert!(two.contains("\"00000007-4a4a-0001-8a8a-00000000001b\""), "{two}");
        let (head, body) = two.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        let events: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(events[0]["data"].to_string().len(), 256);
        assert_ne!(events[0]["eventId"], events[1]["eventId"]);
    }

    #[test]
    fn all_streams_have_their_turn_before_the_next_page() {
        let mut template = Template::get_of_pages(7, "/PPPPPPPP/forward/20", 3, 2, &[]).authenticated();
        let mut target = |number| {
            let text = String::from_utf8(template.numbered(number).to_vec()).unwrap();
            text.lines().next().unwrap().replace("GET /streams/bench-00000007-", "")
        };
        assert_eq!(target(2), "00000002/00000000/forward/20 HTTP/1.1");
        assert_eq!(target(3), "00000000/00000001/forward/20 HTTP/1.1");
        assert_eq!(target(6), "00000000/00000000/forward/20 HTTP/1.1");
    }

    #[test]
    fn an_etcd_key_is_base64() {
        let mut template = Template::etcd_put(1, 200);
        let text = String::from_utf8(template.numbered(2).to_vec()).unwrap();
        let body: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["key"].as_str().unwrap().len() % 4, 0);
        assert_eq!(body["value"].as_str().unwrap().len() % 4, 0);
    }
}
