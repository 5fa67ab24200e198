//! Marks the bytes of interest in words of eight bytes
//! ([Bit Twiddling Hacks](https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord)).
//!
//! The first byte of a text is in the lowest bits of its word. A mark is the high bit of a byte.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Returns a word that has `byte` eight times.
const fn each(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Returns the index of the first marked byte, or 8 if no byte is marked.
#[inline]
pub(super) const fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Marks the bytes that end a plain run within a string: quotes, backslashes and control characters. May
/// also mark bytes that are not ASCII.
///
/// Only the first mark of an ASCII byte is reliable, because a borrow can mark later bytes wrongly.
#[inline]
pub(super) const fn special(word: u64) -> u64 {
    // A quote becomes 0x20, and a control character another one. All other bytes are above 0x20.
    let quote_or_control = (word ^ each(b'"' ^ 0x20)).wrapping_sub(each(0x21));
    let backslash = (word ^ each(b'\\')).wrapping_sub(ONES);
    (quote_or_control | backslash) & HIGH
}

/// Marks the bytes that are not decimal digits.
///
/// The marks up to the first byte that is not ASCII are reliable. Later ones may be wrong.
#[inline]
pub(super) const fn not_digit(word: u64) -> u64 {
    // A digit becomes 0x76 to 0x7f, and any other ASCII character 0x80 or more.
    let digit = (word ^ each(b'0')).wrapping_add(each(0x80 - 10));
    (digit | word) & HIGH
}

/// Returns a word with bits in exactly the bytes that are not spaces.
#[inline]
pub(super) const fn not_space(word: u64) -> u64 {
    word ^ each(b' ')
}

/// Marks exactly the bytes that equal `byte`.
#[inline]
pub(super) const fn equal(word: u64, byte: u8) -> u64 {
    let zero = word ^ each(byte);
    !(((zero & !HIGH) + !HIGH) | zero) & HIGH
}

/// Marks exactly the brackets and braces among the bytes that occur outside of strings.
#[inline]
pub(super) const fn bracket(word: u64) -> u64 {
    // With the bits of 0x26 set, all four brackets become 0x7f. The other bytes that do (`Y`, `y`,
    // `_` and DEL) occur only in strings.
    equal(word | each(0x26), 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` with each pair of bytes at each place of a word that is filled with `filler`, and
    /// with the index of the first of them.
    fn each_pair(filler: u8, check: impl Fn(&[u8; 8], usize)) {
        for (one, other) in
            (0..=u8::MAX).flat_map(|one| (0..=u8::MAX).map(move |other| (one, other)))
        {
            for at in [0, 3, 6] {
                let mut bytes = [filler; 8];
                bytes[at..at + 2].copy_from_slice(&[one, other]);
                check(&bytes, at);
            }
        }
    }

    /// Returns the index of the first byte for which `test` is true, or 8.
    fn position(bytes: &[u8; 8], test: impl Fn(u8) -> bool) -> usize {
        bytes.iter().position(|byte| test(*byte)).unwrap_or(8)
    }

    #[test]
    fn special_marks_the_first_end_of_a_run() {
        let ends = |byte| matches!(byte, b'"' | b'\\' | ..=0x1f);
        each_pair(b'a', |bytes, _| {
            let word = u64::from_le_bytes(*bytes);
            assert_eq!(
                first(special(word) & !word),
                position(bytes, ends),
                "{bytes:?}"
            );
            let found = first(special(word));
            let expected = position(bytes, |byte| ends(byte) || byte > 0x7f);
            let wrong = found > position(bytes, ends) || found < expected;
            assert!(!wrong, "{bytes:?}");
        });
    }

    #[test]
    fn not_digit_marks_the_first_two_others() {
        each_pair(b'7', |bytes, at| {
            let marks = not_digit(u64::from_le_bytes(*bytes));
            let expected = position(bytes, |byte| !byte.is_ascii_digit());
            assert_eq!(first(marks), expected, "{bytes:?}");
            if expected == at && bytes[at].is_ascii() {
                let second = if bytes[at + 1].is_ascii_digit() {
                    8
                } else {
                    at + 1
                };
                assert_eq!(first(marks & (marks - 1)), second, "{bytes:?}");
            }
        });
    }

    #[test]
    fn equal_and_not_space_are_exact() {
        each_pair(b' ', |bytes, _| {
            let word = u64::from_le_bytes(*bytes);
            let others = position(bytes, |byte| byte != b' ');
            assert_eq!(first(not_space(word)), others, "{bytes:?}");
            let spaces = bytes.iter().filter(|byte| **byte == b' ').count();
            assert_eq!(equal(word, b' ').count_ones() as usize, spaces, "{bytes:?}");
        });
    }
}
