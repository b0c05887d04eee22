//! The version that a writer expects of its stream (contract/streams 6.7).

/// The condition of an append or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedVersion {
    /// -2: no condition.
    Any,
    /// -1: the stream has no events, or is soft-deleted.
    NoStream,
    /// -4: the stream or its metadata exists.
    Exists,
    /// 0 and up: number of the last event.
    Exactly(u64),
}

impl ExpectedVersion {
    /// Converts the number that clients send; `None` for -3 and anything below -4.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        match number {
            -2 => Some(Self::Any),
            -1 => Some(Self::NoStream),
            -4 => Some(Self::Exists),
            n => u64::try_from(n).ok().map(Self::Exactly),
        }
    }

    /// The number that clients send, -4 to 2^63-1.
    pub(crate) fn to_number(self) -> i64 {
        match self {
            Self::Any => -2,
            Self::NoStream => -1,
            Self::Exists => -4,
            Self::Exactly(n) => n as i64,
        }
    }
}
