//! Suggestions for misspelt names.

/// Returns the name among `known` that was probably meant by `name`: at most a third of its letters
/// differ. Returns `None` if no name is close enough.
///
/// ```
/// use tower_fanout::nearest_name;
///
/// assert_eq!(nearest_name("odrers", ["user", "orders"]), Some("orders"));
/// assert_eq!(nearest_name("prices", ["user", "orders"]), None);
/// ```
#[must_use]
pub fn nearest_name<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let length = name.chars().count();
    let near = known.into_iter().filter_map(|known| {
        let known_length = known.chars().count();
        let limit = known_length.max(3) / 3;
        // Computing a distance takes the product of both lengths, so names of very different lengths
        // are left out first.
        if known_length.abs_diff(length) > limit {
            return None;
        }
        let distance = strsim::damerau_levenshtein(name, known);
        // A name without a letter in common is another name.
        (distance <= limit && distance < length.max(known_length)).then_some((distance, known))
    });
    near.min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_corrected() {
        let names = ["user", "orders", "größe", "a"];
        for (written, meant) in [
            ("usr", Some("user")),
            ("suer", Some("user")),
            ("odrers", Some("orders")),
            ("orderss", Some("orders")),
            ("große", Some("größe")),
            ("prices", None),
            ("", None),
            ("q", None),
            ("a long name that resembles no known name", None),
        ] {
            assert_eq!(nearest_name(written, names), meant, "{written}");
        }
    }
}
