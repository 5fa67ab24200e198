//! Tests of the search for encoded strings.

use super::scan::{base64, leak};

const SECRET: &str = "a-secret/+?&= of any length";

#[test]
fn base64_matches_the_test_vectors_of_the_standard() {
    // RFC 4648 §10, and the digits that differ.
    for (bytes, standard, url_safe) in [
        (&b""[..], "", ""),
        (b"f", "Zg", "Zg"),
        (b"fo", "Zm8", "Zm8"),
        (b"foobar", "Zm9vYmFy", "Zm9vYmFy"),
        (b"\xfb\xff\xbf", "+/+/", "-_-_"),
    ] {
        assert_eq!(base64(bytes, b"+/"), standard);
        assert_eq!(base64(bytes, b"-_"), url_safe);
    }
}

#[test]
fn finds_a_secret_at_any_offset_in_base64() {
    for length in SECRET.len() - 2..=SECRET.len() {
        let secret = &SECRET[..length];
        for before in ["", "b", "be", "bef"] {
            for after in ["", "a", "af", "aft"] {
                for last in [b"+/", b"-_"] {
                    let text = base64(format!("{before}{secret}{after}").as_bytes(), last);
                    assert!(leak(&text, secret).is_some(), "{secret} in {text}");
                }
            }
        }
    }
}

#[test]
fn finds_a_secret_in_other_encodings_and_nothing_else() {
    let bytes = SECRET.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        format!("{}{SECRET}", "é".repeat(201)),
        format!("key: {bytes:?}"),
        "a-secret%2F%2B%3F%26%3D%20of%20any%20length".to_owned(),
        hex.to_uppercase(),
        hex,
    ] {
        assert!(leak(&text, SECRET).is_some(), "{text}");
    }
    assert_eq!(
        leak("a secret of any length, and YS1zZWN of it", SECRET),
        None
    );
}
