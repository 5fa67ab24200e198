//! Detection of RSA keys that can be factored (ROCA, CVE-2017-15361).

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
