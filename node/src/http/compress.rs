//! Compression of answers (contract/streams 1.5).

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};

use super::Reply;
use super::limits::{COMPRESS_APART_BYTES, MIN_COMPRESSED_BYTES};

/// Pages are texts that repeat themselves: the fastest level already makes them ten times smaller.
const LEVEL: Compression = Compression::fast();

/// How a body can be coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// gzip
    Gzip,
    /// Raw deflate, without the zlib frame (contract/streams 1.5).
    Deflate,
}

impl Coding {
    /// The first item of Accept-Encoding that is exactly `gzip` or `deflate`; one with a `q` is not.
    pub fn choose(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).find_map(|item| match item.trim() {
            "gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        })
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

/// Codes a body.
#[derive(Debug)]
pub enum Encoder {
    /// See [`Coding::Gzip`].
    Gzip(GzEncoder<Vec<u8>>),
    /// See [`Coding::Deflate`].
    Deflate(DeflateEncoder<Vec<u8>>),
}

impl Encoder {
    /// Codes a piece; what comes of it at once, perhaps nothing yet.
    pub fn push(&mut self, piece: &[u8]) -> std::io::Result<Bytes> {
        self.write(piece)?;
        Ok(std::mem::take(self.out()).into())
    }

    /// What is left after the last piece.
    pub fn finish(self) -> std::io::Result<Bytes> {
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

/// Compresses the body if that is asked for and worth it.
pub async fn compress(answer: Response<Reply>, coding: Option<Coding>) -> Response<Reply> {
    let Some(coding) = coding else { return answer };
    if answer.body().is_live() {
        // An encoder would keep events back until it has enough of them.
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let plain = match body.into_whole() {
        Ok(plain) if plain.len() < MIN_COMPRESSED_BYTES => return Response::from_parts(head, Reply::new(plain)),
        Ok(plain) => plain,
        // A large one, piece by piece as it comes.
        Err(pieces) => {
            add_headers(&mut head.headers, coding);
            return Response::from_parts(head, pieces.encoded(coding.encoder()));
        }
    };
    let encoded = if plain.len() < COMPRESS_APART_BYTES {
        coding.encode(&plain).ok()
    } else {
        let plain = plain.clone();
        tokio::task::spawn_blocking(move || coding.encode(&plain).ok()).await.ok().flatten()
    };
    let Some(encoded) = encoded.filter(|encoded| encoded.len() < plain.len()) else {
        return Response::from_parts(head, Reply::new(plain));
    };
    add_headers(&mut head.headers, coding);
    Response::from_parts(head, Reply::new(Bytes::from(encoded)))
}

fn add_headers(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(header::CONTENT_ENCODING, coding.name());
    // A shared cache must not hand this form to clients that did not ask for it. The plain form suits everybody.
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
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
    async fn what_is_compressed_reads_back() {
        for size in [MIN_COMPRESSED_BYTES, COMPRESS_APART_BYTES] {
            let body: Vec<u8> = b"event ".iter().copied().cycle().take(size).collect();
            let mut plain = Vec::new();
            let (headers, gzip) = answer(body.clone(), Coding::Gzip).await;
            assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
            assert_eq!(headers[header::VARY], "Accept-Encoding");
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
    async fn small_and_empty_bodies_stay_as_they_are() {
        for size in [0, 1, MIN_COMPRESSED_BYTES - 1] {
            let (headers, body) = answer(vec![b'x'; size], Coding::Gzip).await;
            assert!(headers.is_empty());
            assert_eq!(body.len(), size);
        }
    }
}
