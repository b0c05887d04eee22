//! What is written is read again, byte for byte.

use proptest::prelude::*;

use super::*;

fn event(data: &[u8], metadata: &[u8], is_json: bool) -> RecordedEvent {
    RecordedEvent {
        position: 7,
        stream: "größe \"1\"\n".to_owned(),
        number: crate::event::MAX_NUMBER,
        event_id: Uuid::from_u128(9),
        event_type: "t".to_owned(),
        is_json,
        time: Ticks(17_000_000_001_234_567),
        data: Bytes::copy_from_slice(data),
        metadata: Bytes::copy_from_slice(metadata),
    }
}

fn line_of(event: &RecordedEvent) -> String {
    let mut line = Vec::new();
    push_event(&mut line, event.borrowed());
    String::from_utf8(line).unwrap()
}

fn assert_round_trip(event: &RecordedEvent) {
    let line = line_of(event);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    match parse(line.as_bytes()) {
        Ok(Line::Event(read)) => assert_eq!(&read, event, "{line}"),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_json_would_not_keep_stands_there_in_another_form() {
    for (data, field) in [
        (&b"{\"a\":1.0,\"a\":1e400,\"b\": [ 1 ,2]}"[..], "\"data\":{\"a\":1.0,\"a\":1e400,\"b\": [ 1 ,2]}"),
        (b"\"\\u00e9\"", "\"data\":\"\\u00e9\""),
        (b"0.10", "\"data\":0.10"),
        (b"null", "\"dataText\":\"null\""),
        (b" {}", "\"dataText\":\" {}\""),
        (b"{\n  \"a\": 1\n}", "\"dataText\":\"{\\n  \\\"a\\\": 1\\n}\""),
        (b"{\"a\":", "\"dataText\":\"{\\\"a\\\":\""),
        (b"{} {}", "\"dataText\":\"{} {}\""),
        (b"\xff", "\"dataBase64\":\"/w==\""),
        (b"\xef\xbb\xbf{}", "\"dataText\":\"\u{feff}{}\""),
    ] {
        let event = event(data, b"", true);
        let line = line_of(&event);
        assert!(line.contains(&format!("{field}}}")), "{line}");
        assert_round_trip(&event);
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert_round_trip(&event(&deep, &deep, false));
}

proptest! {
    #[test]
    fn events_of_any_bytes_are_read_as_they_were(
        data: Vec<u8>, metadata: Vec<u8>, is_json: bool, stream in "\\PC*", kind in ".*", ticks in 0..u64::MAX / 1_000, id: u128,
    ) {
        let id = Uuid::from_u128(id);
        let event = event(&data, &metadata, is_json);
        assert_round_trip(&RecordedEvent { stream, event_type: kind, time: Ticks(ticks), event_id: id, ..event });
    }

    #[test]
    fn events_of_almost_json_are_read_as_they_were(data in "[ \\[\\]{}\":,0-9.eE+\\-a-fnul\\\\\n\r\t]{0,12}") {
        assert_round_trip(&event(data.as_bytes(), data.as_bytes(), true));
    }

    #[test]
    fn no_line_makes_the_reader_panic(line: Vec<u8>) {
        let _ = parse(&line);
    }
}

#[test]
fn the_other_lines_are_read_again() {
    let mut lines = Vec::new();
    let header = Header { headwater_export: VERSION, source: "http://h".into(), selection: "$all".into() };
    push_header(&mut lines, &header);
    push_page(&mut lines, Page { next: 3, end: 9 });
    push_end(&mut lines, End { events: 4 });
    let next = NextNumber { stream: "größe \"1\"".into(), next: 10 };
    push_next(&mut lines, &next);
    let ends = [Ends { after: Some("s".into()) }, Ends { after: None }];
    ends.iter().for_each(|ends| push_ends(&mut lines, ends));
    let progress = Progress { stream: "$import-x".into(), document: Bytes::from_static(b"{\"next\":3}") };
    push_progress(&mut lines, &progress);
    let read: Vec<Line> =
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| parse(line).unwrap()).collect();
    let expected = [
        Line::Header(header),
        Line::Page(Page { next: 3, end: 9 }),
        Line::End(End { events: 4 }),
        Line::Next(next),
        Line::Ends(ends[0].clone()),
        Line::Ends(ends[1].clone()),
        Line::Progress(progress),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_line_that_is_none_says_why() {
    let good = r#""stream":"s","number":0,"id":"00000000-0000-0000-0000-000000000009","type":"t","time":"2026-01-01T00:00:00Z""#;
    for (line, reason) in [
        ("{}".to_owned(), "it lacks an id"),
        (format!("{{{good},\"data\":1,\"dataText\":\"\"}}"), "its data is not valid"),
        (format!("{{{good},\"metadataBase64\":\"!\"}}"), "its metadata is not valid"),
        (format!("{{{good},\"datum\":1}}"), "unknown field `datum`"),
        (good.replace("2026", "x").replace("\"stream\"", "{\"stream\"") + "}", "its time is not valid"),
        (format!("{{{good},\"next\":1}}"), "`next` beside an event is not valid"),
        ("{\"next\":1}".to_owned(), "it lacks a stream"),
        ("{\"headwaterExport\":2}".to_owned(), "it is of version 2 of the format"),
        ("{\"headwaterExport\":2,\"parts\":[1]}".to_owned(), "it is of version 2 of the format"),
        ("{\"headwaterExport\":1,\"parts\":[1]}".to_owned(), "unknown field `parts`"),
        ("[1".to_owned(), "it is not a line of an export"),
    ] {
        let error = parse(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{line}: {error}");
    }
}
