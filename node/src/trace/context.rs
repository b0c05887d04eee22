//! Which span of which trace something belongs to, and how that travels.

use opentelemetry::trace::{SpanId, TraceId};

/// Length of a context between nodes: the trace, then the span.
const BYTES: usize = 24;

/// A span of a trace that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
}

impl Context {
    /// `None` for ids that are not valid: those of zeros.
    fn new(trace_id: TraceId, span_id: SpanId) -> Option<Self> {
        (trace_id != TraceId::INVALID && span_id != SpanId::INVALID).then_some(Self { trace_id, span_id })
    }

    /// The form in which it travels between nodes.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [&self.trace_id.to_bytes()[..], &self.span_id.to_bytes()].concat()
    }

    /// The reverse of [`Self::to_bytes`]; `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let (trace_id, span_id) = bytes.split_first_chunk::<16>()?;
        Self::new(TraceId::from_bytes(*trace_id), SpanId::from_bytes(span_id.try_into().ok()?))
    }
}

/// What a client says of the trace that its request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Nothing that can be understood.
    Unknown,
    /// The request is a part of this span, which is recorded.
    Recorded(Context),
    /// The request is a part of a trace that is not recorded.
    NotRecorded,
}

impl Parent {
    /// Reads the header `traceparent` (W3C Trace Context 3.2). Its versions to come may have
    /// further parts.
    pub(super) fn of(header: Option<&str>) -> Self {
        header.and_then(Self::parse).unwrap_or(Self::Unknown)
    }

    fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let mut hex = |digits: usize| {
            let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            parts.next().filter(|part| part.len() == digits).filter(is_hex)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let has_more = parts.next().is_some();
        if version == "ff" || (version == "00" && has_more) {
            return None;
        }
        let context = Context::new(TraceId::from_hex(trace_id).ok()?, SpanId::from_hex(span_id).ok()?)?;
        let is_recorded = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(if is_recorded { Self::Recorded(context) } else { Self::NotRecorded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_context_survives_its_way_to_another_node_and_nothing_else_is_one() {
        let Parent::Recorded(context) = Parent::of(Some(&format!("00-{TRACE}-b7ad6b7169203331-01"))) else { panic!() };
        assert_eq!(context.trace_id.to_string(), TRACE);
        assert_eq!(Context::from_bytes(&context.to_bytes()), Some(context));
        for bytes in [&[][..], &[1; BYTES - 1], &[1; BYTES + 1], &[0; BYTES]] {
            assert_eq!(Context::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_traceparent_is_understood_as_the_standard_says() {
        let parent = |header: &str| Parent::of(Some(header));
        assert_eq!(parent(&format!("00-{TRACE}-b7ad6b7169203331-00")), Parent::NotRecorded);
        // Other flags, and versions to come.
        for header in [format!(" 00-{TRACE}-b7ad6b7169203331-03 "), format!("01-{TRACE}-b7ad6b7169203331-01-more")] {
            assert!(matches!(parent(&header), Parent::Recorded(_)), "{header}");
        }
        for header in [
            String::new(),
            "nonsense".to_owned(),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            format!("00-{TRACE}-b7ad6b7169203331"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "ä".repeat(16)),
        ] {
            assert_eq!(parent(&header), Parent::Unknown, "{header}");
        }
        assert_eq!(Parent::of(None), Parent::Unknown);
    }
}
