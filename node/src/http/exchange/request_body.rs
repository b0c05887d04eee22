//! The body of a request.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::budget::{MemoryBudget, Reservation};
use crate::http::exchange::error::ApiError;
use crate::http::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, SMALL_BODY_BYTES};

/// A request body, and the memory that it takes for as long as this value lives.
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    _memory: Option<Reservation>,
}

/// Reads the whole body, within its limits of size and time. A large one first waits for memory in `budget`.
pub async fn read<B>(mut body: B, budget: &MemoryBudget) -> Result<Body, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let size = body.size_hint();
    if size.lower() > MAX_BODY_BYTES as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let most = size.upper().map(|most| usize::try_from(most).unwrap_or(usize::MAX).min(MAX_BODY_BYTES));
    let mut read = Collected::default();
    let memory = match most {
        Some(most) if most <= SMALL_BODY_BYTES => None,
        Some(most) => Some(budget.reserve(most).await?),
        // Most of those that do not tell their size are small. The others may become the largest.
        None if read.up_to(SMALL_BODY_BYTES, &mut body).await? => {
            return Ok(Body { bytes: read.bytes(), _memory: None });
        }
        None => Some(budget.reserve(MAX_BODY_BYTES).await?),
    };
    if read.up_to(MAX_BODY_BYTES, &mut body).await? {
        Ok(Body { bytes: read.bytes(), _memory: memory })
    } else {
        Err(ApiError::BodyTooLarge)
    }
}

/// What was read of a body.
#[derive(Default)]
struct Collected {
    /// A small body comes in one piece and is not copied.
    first: Bytes,
    all: BytesMut,
}

impl Collected {
    /// Reads on to the end of the body; false when it has more than so many bytes, of which it then holds a little more.
    async fn up_to<B>(&mut self, most: usize, body: &mut B) -> Result<bool, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| ApiError::BadRequest("Write request body invalid.".into()))?;
                let Ok(data) = frame.into_data() else { continue };
                self.add(data);
                if self.first.len() + self.all.len() > most {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ApiError::BodyTimeout))
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// A body in pieces that does not tell its size.
    fn pieces(sizes: &[usize]) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin + use<> {
        let frames: Vec<_> = sizes.iter().map(|size| Ok(http_body::Frame::data(vec![7; *size].into()))).collect();
        http_body_util::StreamBody::new(futures::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_of_unknown_size_reserves_memory_only_when_it_turns_out_to_be_large() {
        let budget = MemoryBudget::new(MAX_BODY_BYTES, BODY_TIMEOUT);
        let is_free = |bytes| budget.reserve(bytes).now_or_never().is_some_and(|reserved| reserved.is_ok());
        let small = read(pieces(&[1, SMALL_BODY_BYTES - 1]), &budget).await.unwrap();
        assert_eq!((small.bytes.len(), is_free(MAX_BODY_BYTES)), (SMALL_BODY_BYTES, true));
        let large = read(pieces(&[1, SMALL_BODY_BYTES, 1]), &budget).await.unwrap();
        assert_eq!((large.bytes.len(), is_free(1)), (SMALL_BODY_BYTES + 2, false));
        // There is no memory for another one, and still some for those that reserve none.
        assert!(read(pieces(&[SMALL_BODY_BYTES]), &budget).await.is_ok());
        let waiting = read(pieces(&[SMALL_BODY_BYTES + 1]), &budget);
        assert!(waiting.now_or_never().is_none());
        drop(large);
        let too_large = read(pieces(&[MAX_BODY_BYTES, 1]), &budget).await;
        assert!(matches!(too_large, Err(ApiError::BodyTooLarge)));
        assert!(is_free(MAX_BODY_BYTES));
    }
}
