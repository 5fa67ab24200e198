//! Detection of keys that verify forged signatures: RSA keys that can be factored (ROCA, CVE-2017-15361),
//! and Ed25519 points of small order.

/// The odd primes up to 167. All of them divide the product from which the vulnerable library built its
/// primes.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Returns `true` if an RSA modulus, big-endian, has the fingerprint of CVE-2017-15361: modulo each of
/// [`PRIMES`] it is a power of 65,537. A sound key matches with a probability of 2^-27.
///
/// Nemec, Sys, Svenda, Klinec, Matyas: *The Return of Coppersmith's Attack: Practical Factorization of
/// Widely Used RSA Moduli*, ACM CCS 2017, §2.
pub(super) fn is_roca(modulus: &[u8]) -> bool {
    PRIMES
        .iter()
        .all(|&prime| is_power(remainder(modulus, prime), prime))
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    let digits = number.iter().copied().map(u32::from);
    digits.fold(0, |rest, digit| (rest * 256 + digit) % prime)
}

/// Returns `true` if `value` is a power of 65,537 modulo `prime`. The powers repeat after fewer than
/// `prime` steps.
fn is_power(value: u32, prime: u32) -> bool {
    let mut power = 1;
    (0..prime).any(|_| {
        power = power * 65_537 % prime;
        power == value
    })
}

/// The encodings of the points of small order (1, 2, 4 and 8) on edwards25519, without the sign bit: those
/// in canonical form, and 0 and 1 plus the prime.
///
/// Cremers, Jackson: *Prime, Order Please! Revisiting Small Subgroup and Invalid Curve Attacks on Protocols
/// using Diffie-Hellman*, CSF 2019.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    little_endian(1, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    little_endian(0xec, 0xff, 0x7f),
    little_endian(0xed, 0xff, 0x7f),
    little_endian(0xee, 0xff, 0x7f),
];

const fn little_endian(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    (bytes[0], bytes[31]) = (first, last);
    bytes
}

/// Returns `true` if an encoded Ed25519 public key is a point of small order. With such a key, a signature
/// can be valid for many messages, and needs no private key
/// ([RFC 8032 §8.9](https://www.rfc-editor.org/rfc/rfc8032#section-8.9)).
pub(super) fn is_small_order(point: &[u8]) -> bool {
    let is = |small: &[u8; 32]| {
        let (last, rest) = small.split_last().unwrap_or((&0, &[]));
        point
            .split_last()
            .is_some_and(|(sign, y)| y == rest && sign & 0x7f == *last)
    };
    SMALL_ORDER.iter().any(is)
}
