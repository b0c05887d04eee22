//! Compression of answers (contract/streams 1.5).

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::{DeflateEncoder, GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};

use crate::http::Reply;
use crate::http::exchange::caching;
use crate::http::limits::COMPRESS_APART_BYTES;

/// Pages are texts that repeat themselves: the fastest level already makes them ten times smaller.
const LEVEL: flate2::Compression = flate2::Compression::fast();

/// How a body can be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// gzip
    Gzip,
    /// Raw deflate, without the zlib frame (contract/streams 1.5).
    Deflate,
}

impl Coding {
    /// The first item of Accept-Encoding that is exactly `gzip` or `deflate`, without a `q`.
    pub(crate) fn choose(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|item| match item.trim() {
            "gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        })
    }

    fn add_header(self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_ENCODING, self.name());
        // A shared cache must not hand it to clients that did not ask for it.
        caching::vary_by_form(headers);
    }

    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    fn encoder(self) -> Encoder {
        match self {
            Self::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), LEVEL)),
            Self::Deflate => Encoder::Deflate(DeflateEncoder::new(Vec::new(), LEVEL)),
        }
    }

    fn encode(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut encoder = self.encoder();
        encoder.out().reserve(body.len() / 4);
        encoder.write(body)?;
        encoder.end()
    }
}

/// Compresses a body.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// See [`Coding::Gzip`].
    Gzip(GzEncoder<Vec<u8>>),
    /// See [`Coding::Deflate`].
    Deflate(DeflateEncoder<Vec<u8>>),
}

impl Encoder {
    /// Takes a piece; returns the bytes that are ready, perhaps none yet.
    pub(crate) fn push(&mut self, piece: &[u8]) -> std::io::Result<Bytes> {
        self.write(piece)?;
        Ok(std::mem::take(self.out()).into())
    }

    /// The bytes that are left after the last piece.
    pub(crate) fn finish(self) -> std::io::Result<Bytes> {
        self.end().map(Bytes::from)
    }

    fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(piece),
            Self::Deflate(encoder) => encoder.write_all(piece),
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
        }
    }

    fn end(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
    }
}

/// Compresses the body, if there is one and the client asks for it.
pub(crate) async fn compress(answer: Response<Reply>, coding: Option<Coding>) -> Response<Reply> {
    let Some(coding) = coding else { return answer };
    if answer.body().is_live() {
        // An encoder would keep events back until it has enough of them.
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let plain = match body.into_whole() {
        Ok(plain) if plain.is_empty() => return Response::from_parts(head, Reply::new(plain)),
        Ok(plain) => plain,
        // A large body is compressed piece by piece as it comes.
        Err(pieces) => {
            coding.add_header(&mut head.headers);
            return Response::from_parts(head, pieces.encoded(coding.encoder()));
        }
    };
    let encoded = if plain.len() < COMPRESS_APART_BYTES {
        coding.encode(&plain).ok()
    } else {
        let plain = plain.clone();
        tokio::task::spawn_blocking(move || coding.encode(&plain).ok()).await.ok().flatten()
    };
    let Some(encoded) = encoded else {
        return Response::from_parts(head, Reply::new(plain));
    };
    coding.add_header(&mut head.headers);
    Response::from_parts(head, Reply::new(Bytes::from(encoded)))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn chosen(value: &'static str) -> Option<Coding> {
        Coding::choose(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_first_exact_item_wins() {
        for (value, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("deflate, gzip", Some(Coding::Deflate)),
            ("br,gzip,deflate", Some(Coding::Gzip)),
            ("gzip;q=1.0, deflate", Some(Coding::Deflate)),
            ("gzip;q=0.5", None),
            ("GZIP", None),
            ("identity", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(chosen(value), expected, "{value}");
        }
        assert_eq!(Coding::choose(&HeaderMap::new()), None);
    }

    async fn answer(body: Vec<u8>, coding: Coding) -> (HeaderMap, Bytes) {
        let plain = Response::new(Reply::new(Bytes::from(body)));
        let (head, body) = compress(plain, Some(coding)).await.into_parts();
        let body = body.collect().await.unwrap();
        (head.headers, body.to_bytes())
    }

    #[tokio::test]
    async fn compressed_data_reads_back() {
        for size in [1, 1024, COMPRESS_APART_BYTES] {
            let body: Vec<u8> = b"event ".iter().copied().cycle().take(size).collect();
            let mut plain = Vec::new();
            let (headers, gzip) = answer(body.clone(), Coding::Gzip).await;
            assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
            assert_eq!(headers[header::VARY], "Accept, Accept-Encoding");
            flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, body);
            plain.clear();
            let (headers, deflate) = answer(body.clone(), Coding::Deflate).await;
            assert_eq!(headers[header::CONTENT_ENCODING], "deflate");
            flate2::read::DeflateDecoder::new(&deflate[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, body);
        }
    }

    #[tokio::test]
    async fn empty_bodies_stay_as_they_are() {
        let (headers, body) = answer(Vec::new(), Coding::Gzip).await;
        assert!(headers.is_empty() && body.is_empty());
    }
}
