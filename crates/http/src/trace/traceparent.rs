//! The header `traceparent` with the trace id, the parent id and the trace flags.

use std::fmt;

use http::HeaderValue;

/// Length of `traceparent` in version 00, in bytes.
const LENGTH: usize = 55;

/// A trace id: 16 bytes, not all zero. Displayed in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// Creates a random id.
    #[must_use]
    pub fn generate() -> Self {
        // The only invalid id is zero.
        Self(fastrand::u128(1..).to_be_bytes())
    }

    /// Returns the bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The id of one request within a trace: 8 bytes, not all zero. Displayed in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParentId([u8; 8]);

impl ParentId {
    /// Creates a random id.
    #[must_use]
    pub fn generate() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }

    /// Returns the bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
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

    /// Returns `true` if [`RANDOM`](Self::RANDOM) is set.
    #[must_use]
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// Keeps the defined flags of `bits` and clears all others.
    #[must_use]
    pub const fn of(bits: u8) -> Self {
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
    /// Creates a new trace with a random id. It is not sampled.
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
    /// Of a version above 00 only the fields of version 00 are read (§3.2.5). More fields may follow
    /// after a dash.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        // `known` has `LENGTH` bytes, so all ranges below are valid.
        let [version] = hex(&known[..2])?;
        let complete = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|index| known[*index] == b'-');
        if !complete || !dashes {
            return None;
        }
        let trace_id = TraceId(hex(&known[3..35])?);
        let parent_id = ParentId(hex(&known[36..52])?);
        let [flags] = hex(&known[53..])?;
        let valid = trace_id.0 != [0; 16] && parent_id.0 != [0; 8];
        valid.then_some(Self {
            trace_id,
            parent_id,
            flags: Flags::of(flags),
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
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace_id.0);
        write_hex(&mut text[36..52], &self.parent_id.0);
        write_hex(&mut text[53..], &[self.flags.0]);
        // Never fails, because the text consists of hex digits and dashes.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Parses `N` bytes of lower-case hex.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(bytes)
}

const fn digit(char: u8) -> Option<u8> {
    match char {
        b'0'..=b'9' => Some(char - b'0'),
        b'a'..=b'f' => Some(char - b'a' + 10),
        _ => None,
    }
}

fn write_hex(to: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, byte) in to.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}

macro_rules! written_in_hex {
    ($($id:ty),*) => { $(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )* };
}
written_in_hex!(TraceId, ParentId);
