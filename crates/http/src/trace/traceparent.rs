//! The header `traceparent` with the trace id, the parent id and the trace flags.

use std::fmt;

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
        let (high, low) = (hex(&known[3..19])?, hex(&known[19..35])?);
        let trace_id = TraceId(u128::from(high) << 64 | u128::from(low));
        let parent_id = ParentId(hex(&known[36..52])?);
        // Two digits fit.
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
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id.digits());
        text[36..52].copy_from_slice(&self.parent_id.digits());
        text[53..].copy_from_slice(&digits_of(self.flags.0.into())[6..]);
        // Hex digits and dashes are always a valid value.
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

// Each request writes and reads several ids. Written by hand, because the functions of the standard library for numbers
// of any base and width take ten times as many instructions.

/// The value of each lower-case hex digit, and `NO_DIGIT` for other bytes.
static VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

const NO_DIGIT: u8 = 0xff;

/// Parses lower-case hex digits, at most 16.
fn hex(text: &[u8]) -> Option<u64> {
    let (number, all) = text.iter().fold((0, 0), |(number, all), byte| {
        let value = VALUES[usize::from(*byte)];
        (number << 4 | u64::from(value & 15), all | value)
    });
    (all < 16).then_some(number)
}

/// Returns the 8 hex digits of `value`.
const fn digits_of(value: u32) -> [u8; 8] {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    // Moves each half of a half to a byte of its own, down to single digits.
    let spread = value as u64;
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Letters are as far behind the digits as `a` is behind the character after `9`.
    let letters = (spread + 6 * EACH) >> 4 & EACH;
    let gap = (b'a' - b'9' - 1) as u64;
    (spread + b'0' as u64 * EACH + gap * letters).to_be_bytes()
}

/// Returns the 16 hex digits of `value`.
fn digits(value: u64) -> [u8; 16] {
    let mut text = [0; 16];
    text[..8].copy_from_slice(&digits_of((value >> 32) as u32));
    text[8..].copy_from_slice(&digits_of(value as u32));
    text
}

impl TraceId {
    fn digits(self) -> [u8; 32] {
        let mut text = [0; 32];
        text[..16].copy_from_slice(&digits((self.0 >> 64) as u64));
        text[16..].copy_from_slice(&digits(self.0 as u64));
        text
    }
}

impl ParentId {
    fn digits(self) -> [u8; 16] {
        digits(self.0)
    }
}

macro_rules! written_in_hex {
    ($($id:ty),*) => { $(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Hex digits are ASCII.
                f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
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
