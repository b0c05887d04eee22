//! Documents about groups: written as JSON, and sent as that or as the same in XML.

use std::borrow::Cow;

use http::{Response, StatusCode};

use crate::http::Reply;
use crate::http::exchange::caching::{self, Varies};
use crate::http::exchange::media_type::Form;
use crate::http::exchange::request::Request;
use crate::http::exchange::response;
use crate::http::format::json::tree::{Json, parse};
use crate::http::format::json::{Object, push_indent};
use crate::http::format::xml::from_json::push_json;

/// A document with these members. `root` is the name of its element in XML.
pub(super) fn document(
    request: &Request<'_>,
    status: StatusCode,
    root: &str,
    members: impl FnOnce(&mut Object<'_>),
) -> Response<Reply> {
    let mut json = Vec::with_capacity(512);
    let mut object = Object::open(&mut json, 0);
    members(&mut object);
    object.close();
    answer(request, status, root, json)
}

/// A list of documents; in XML `root` is the element around them, and each is an `item`.
pub(super) fn list<T>(
    request: &Request<'_>,
    status: StatusCode,
    (root, item): (&str, &'static str),
    items: &[T],
    mut members: impl FnMut(&mut Object<'_>, &T),
) -> Response<Reply> {
    let mut json = Vec::with_capacity(1024 * items.len() + 2);
    json.push(b'[');
    for (at, element) in items.iter().enumerate() {
        json.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
        push_indent(&mut json, 2);
        let mut object = Object::open(&mut json, 2);
        members(&mut object, element);
        object.close();
    }
    json.extend_from_slice(if items.is_empty() { b"]" } else { b"\n]" });
    if request.chosen.media_type.form() == Form::Xml {
        let wrapped = [b"{\"", item.as_bytes(), b"\":", &json, b"}"].concat();
        return answer(request, status, root, wrapped);
    }
    answer(request, status, root, json)
}

fn answer(request: &Request<'_>, status: StatusCode, root: &str, json: Vec<u8>) -> Response<Reply> {
    let body = match request.chosen.media_type.form() {
        Form::Xml => as_xml(root, &json),
        // These documents have no other form.
        Form::Json | Form::Html | Form::Bytes | Form::Events | Form::Text => json,
    };
    let mut answer = response::with_body(status, request.chosen.header(), body);
    caching::add_vary(answer.headers_mut(), Varies::Linked, request);
    answer
}

/// A document that this API has written, as XML.
fn as_xml(root: &str, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * json.len());
    let text: Cow<'_, str> = String::from_utf8_lossy(json);
    let value = parse(&text).unwrap_or(Json::Null);
    // It grows by the names of its elements, which are ours and short: there is no other limit.
    let _ = push_json(&mut out, root, "", &value, usize::MAX);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_an_empty_element() {
        assert_eq!(as_xml("subscriptions", b"{\"subscription\":[]}"), b"<subscriptions></subscriptions>");
        let one = as_xml("subscriptions", br#"{"subscription":[{"a":"<","b":[{"c":1},{"c":2}]}]}"#);
        let expected =
            "<subscriptions><subscription><a>&lt;</a><b><c>1</c></b><b><c>2</c></b></subscription></subscriptions>";
        assert_eq!(String::from_utf8(one).unwrap(), expected);
    }
}
