//! A small body that is large once it is decoded.

use super::Fault;

impl Fault {
    /// Answers with JSON in gzip (RFC 1952) that decodes to `len` zero bytes, about 159 for each
    /// byte that is sent.
    ///
    /// ```
    /// use tower_fanout_testkit::fault_server::Fault;
    ///
    /// let bomb = Fault::bomb_gzip(100 << 20); // 100 MiB, in 660 KiB
    /// ```
    #[must_use]
    pub fn bomb_gzip(len: usize) -> Self {
        let headers = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ];
        Self::answer(200, &headers, gzip_of_zeros(len))
    }
}

pub(super) fn gzip_of_zeros(len: usize) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]; // deflate, no flags, no time, unknown OS
    let mut bits = Bits {
        bytes: header.into(),
        free: 0,
    };
    deflate_zeros(&mut bits, len);
    let mut gzip = bits.bytes;
    gzip.extend(crc32_of_zeros(len).to_le_bytes());
    gzip.extend((len as u32).to_le_bytes()); // modulo 2³², as the format wants it
    gzip
}

/// One block with the fixed codes (RFC 1951 §3.2.6): single zeros, and then copies of the 258 bytes
/// that begin one byte before.
fn deflate_zeros(bits: &mut Bits, len: usize) {
    let copies = len.saturating_sub(1) / 258;
    bits.push(0b110, 3); // the last block; fixed codes are 01, lowest bit first
    for _ in 0..len - copies * 258 {
        bits.push(0b0011_0000, 8); // a zero
    }
    for _ in 0..copies {
        bits.push(0b1100_0101, 8); // length 258 is symbol 285
        bits.push(0, 5); // distance 1 is code 0
    }
    bits.push(0, 7); // the end of the block
}

/// Bits from the lowest of each byte on.
struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    /// Adds the last `count` bits of `code`, the highest first.
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

/// A zero byte multiplies the register by x⁸, so `len` of them do by a power of it.
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

/// x⁸; the highest bit is x⁰.
const X8: u32 = 1 << 23;
/// The polynomial of CRC-32, its bits in the same order.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The product of two polynomials, modulo the one of CRC-32.
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
    fn the_sum_is_the_known_one() {
        assert_eq!(crc32_of_zeros(0), 0);
        assert_eq!(crc32_of_zeros(4), 0x2144_df1c);
        assert_eq!(crc32_of_zeros(32), 0x190a_55ad);
    }

    #[test]
    fn a_gzip_is_bit_by_bit_as_it_should_be() {
        let gzip = gzip_of_zeros(260);
        let (header, rest) = gzip.split_at(10);
        assert_eq!(header, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        // two zeros and one copy, as other decoders read it, the sum and the length
        assert_eq!(
            rest,
            b"\x63\x60\x18\x05\x00\x1b\x70\xa9\x91\x04\x01\x00\x00"
        );
        let large = gzip_of_zeros(10 << 20).len();
        assert!((10 << 20) / large > 150, "{large}");
    }
}
