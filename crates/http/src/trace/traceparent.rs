//! The header `traceparent` with the trace id, the parent id and the trace flags.

use std::{fmt, io::Write as _};

use http::HeaderValue;

/// Length of `traceparent` in version 00, in bytes.
const LENGTH: usize = 55;

/// A trace id: 16 bytes, not all zero. Displayed in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// Creates a random id.
    #[must_use]
    pub fn generate() -> Self {
        // The only invalid id is zero.
        Self(fastrand::u128(1..))
    }
}

/// The id of one request within a trace: 8 bytes, not all zero. Displayed in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParentId(u64);

impl ParentId {
    /// Creates a random id.
    #[must_use]
    pub fn generate() -> Self {
        Self(fastrand::u64(1..))
    }
}

/// The trace flags. Undefined flags are always zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// The sender may have recorded the trace.
    pub const SAMPLED: Self = Self(1);
    /// At least the last 7 bytes of the trace id are random.
    pub const RANDOM: Self = Self(2);

    /// Returns `true` if [`SAMPLED`](Self::SAMPLED) is set.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Keeps the defined flags of `bits` and clears all others.
    const fn of(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }
}

/// The value of `traceparent`
/// ([Trace Context Level 2 §3.2](https://www.w3.org/TR/trace-context-2/#traceparent-header)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent {
    /// Id of the trace.
    pub trace_id: TraceId,
    /// Id of the sender's request.
    pub parent_id: ParentId,
    /// Trace flags.
    pub flags: Flags,
}

impl Traceparent {
    /// Creates a new trace with a random id. The flag `sampled` is not set.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            trace_id: TraceId::generate(),
            parent_id: ParentId::generate(),
            flags: Flags::RANDOM,
        }
    }

    /// Parses the header value, which must have no surrounding spaces. Returns `None` if it is invalid.
    ///
    /// If the version is above 00, only the fields of version 00 are read (§3.2.5). More fields may follow
    /// after a dash.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        // `known` has `LENGTH` bytes, so all ranges below are valid.
        let complete = match hex(&known[..2])? {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|index| known[*index] == b'-');
        if !complete || !dashes {
            return None;
        }
        // No field has more digits than its type.
        let trace_id = TraceId(hex(&known[3..35])?);
        let parent_id = ParentId(hex(&known[36..52])? as u64);
        let flags = Flags::of(hex(&known[53..])? as u8);
        let valid = trace_id.0 != 0 && parent_id.0 != 0;
        valid.then_some(Self {
            trace_id,
            parent_id,
            flags,
        })
    }

    /// Returns the same trace with a new parent id, for a downstream call.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            parent_id: ParentId::generate(),
            ..self
        }
    }

    /// Returns the header value in version 00.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        let (mut text, flags) = ([0; LENGTH], self.flags.0);
        // Neither of the two can fail: the text has `LENGTH` bytes, all of them hex digits and dashes.
        let _ = write!(
            &mut text[..],
            "00-{}-{}-{flags:02x}",
            self.trace_id,
            self.parent_id
        );
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Parses lower-case hex digits, at most 32.
fn hex(text: &[u8]) -> Option<u128> {
    // `from_str_radix` also accepts capital letters and a sign.
    let valid = text
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let text = std::str::from_utf8(text).ok().filter(|_| valid)?;
    u128::from_str_radix(text, 16).ok()
}

macro_rules! written_in_hex {
    ($($id:ty: $format:literal),*) => { $(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )* };
}
written_in_hex!(TraceId: "{:032x}", ParentId: "{:016x}");
