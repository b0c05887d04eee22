//! The page that browsers get: it carries the document and leads to the web interface
//! (contract/streams 8.9).

use crate::http::format::json::push_string;
use crate::http::format::links::encode;

/// `document` is JSON.
pub(crate) fn page(document: &[u8], stream: &str, number: Option<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + document.len());
    start(&mut out);
    push_for_script(&mut out, document);
    end(&mut out, stream, number);
    out
}

/// What stands before the document.
pub(crate) fn start(out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>Headwater</title>\n<script>\nvar data = ",
    );
}

/// What stands behind the document.
pub(crate) fn end(out: &mut Vec<u8>, stream: &str, number: Option<u64>) {
    let number = number.map(|number| format!("/{number}")).unwrap_or_default();
    let mut script = Vec::new();
    push_string(&mut script, &format!("/web/index.html#/streams/{}{number}", encode(stream)));
    out.extend_from_slice(b";\nwindow.location = ");
    push_for_script(out, &script);
    out.extend_from_slice(b";\n</script>\n</head>\n<body></body>\n</html>\n");
}

/// Appends a piece of JSON. No text in it may end the script.
pub(crate) fn push_for_script(out: &mut Vec<u8>, json: &[u8]) {
    for byte in json {
        match byte {
            b'<' => out.extend_from_slice(b"\\u003c"),
            b'>' => out.extend_from_slice(b"\\u003e"),
            b'&' => out.extend_from_slice(b"\\u0026"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stored_text_cannot_leave_the_script() {
        let html = String::from_utf8(super::page(b"{\"a\": \"</script><b>\"}", "s", Some(3))).unwrap();
        assert_eq!(html.matches("</script>").count(), 1);
        assert!(html.contains("#/streams/s/3"));
    }
}
