//! A small gzip body that is large after decoding.

use super::Fault;

impl Fault {
    /// Responds with a gzip body (RFC 1952) that decodes to `len` zero bytes.
    ///
    /// Each byte sent decodes to about 159 bytes. The content type is JSON, but the decoded body is not
    /// JSON.
    ///
    /// ```
    /// use tower_fanout_testkit::fault_server::Fault;
    ///
    /// let bomb = Fault::gzip_bomb(100 << 20); // 100 MiB in 660 KiB
    /// ```
    #[must_use]
    pub fn gzip_bomb(len: usize) -> Self {
        let headers = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ];
        Self::response(200, &headers, gzip_of_zeros(len))
    }
}

pub(super) fn gzip_of_zeros(len: usize) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]; // deflate, no flags, no mtime, unknown OS
    let mut bits = Bits {
        bytes: header.into(),
        free: 0,
    };
    deflate_zeros(&mut bits, len);
    let mut gzip = bits.bytes;
    gzip.extend(crc32_of_zeros(len).to_le_bytes());
    gzip.extend((len as u32).to_le_bytes()); // ISIZE is the length modulo 2³²
    gzip
}

/// Writes one block with the fixed Huffman codes (RFC 1951 §3.2.6).
///
/// The block holds literal zeros for the remainder, then copies of 258 bytes at distance 1, the
/// longest copies that the format has.
fn deflate_zeros(bits: &mut Bits, len: usize) {
    let copies = len.saturating_sub(1) / 258;
    bits.push(0b110, 3); // last block, fixed codes (01, lowest bit first)
    for _ in 0..len - copies * 258 {
        bits.push(0b0011_0000, 8); // literal 0
    }
    for _ in 0..copies {
        bits.push(0b1100_0101, 8); // symbol 285: length 258
        bits.push(0, 5); // code 0: distance 1
    }
    bits.push(0, 7); // end of block
}

/// A bit stream that fills each byte from its lowest bit.
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    /// Appends the last `count` bits of `code`, highest bit first.
    fn push(&mut self, code: u8, count: u32) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= (code >> bit & 1) << (8 - self.free);
            self.free -= 1;
        }
    }
}

/// Returns the CRC-32 of `len` zero bytes in `O(log len)`.
///
/// Each zero byte multiplies the register by x⁸, so `len` of them multiply it by x⁸ to the power of
/// `len`, which is computed by repeated squaring.
fn crc32_of_zeros(len: usize) -> u32 {
    let (mut register, mut power, mut left) = (u32::MAX, X8, len);
    while left > 0 {
        if left & 1 == 1 {
            register = multiply(register, power);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    !register
}

/// The polynomial x⁸. The highest bit is the coefficient of x⁰.
const X8: u32 = 1 << 23;
/// The CRC-32 polynomial in the same bit order.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// Multiplies two polynomials modulo the CRC-32 polynomial.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = b >> 1 ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_of_zeros_matches_known_values() {
        assert_eq!(crc32_of_zeros(0), 0);
        assert_eq!(crc32_of_zeros(4), 0x2144_df1c);
        assert_eq!(crc32_of_zeros(32), 0x190a_55ad);
    }

    #[test]
    fn gzip_of_zeros_matches_known_bytes() {
        let gzip = gzip_of_zeros(260);
        let (header, rest) = gzip.split_at(10);
        assert_eq!(header, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        // The compressed block (two literals and one copy), the CRC-32 and the length, checked with
        // other decoders.
        assert_eq!(
            rest,
            b"\x63\x60\x18\x05\x00\x1b\x70\xa9\x91\x04\x01\x00\x00"
        );
        let large = gzip_of_zeros(10 << 20).len();
        assert!(
            (10 << 20) / large > 150,
            "10 MiB of zeros became {large} bytes"
        );
    }
}
