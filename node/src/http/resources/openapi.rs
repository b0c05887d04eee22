//! The OpenAPI document of this API, embedded in the binary.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use crate::http::Reply;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::request::Request;

const DOCUMENT: &[u8] = include_bytes!("openapi.json");

/// GET /openapi.json
pub(crate) async fn document(_request: &Request<'_>) -> Result<Response<Reply>, ApiError> {
    let mut answer = Response::new(Reply::new(Bytes::from_static(DOCUMENT)));
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes::ROUTES;

    #[test]
    fn the_document_names_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_slice(DOCUMENT).unwrap();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(operation["responses"].is_object(), "{method} {path}");
                documented.insert(format!("{} {path}", method.to_ascii_uppercase()));
            }
        }
        let served: BTreeSet<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        let undocumented: Vec<_> = served.difference(&documented).collect();
        let unserved: Vec<_> = documented.difference(&served).collect();
        assert!(
            undocumented.is_empty() && unserved.is_empty(),
            "undocumented: {undocumented:?}, unserved: {unserved:?}"
        );
    }
}
