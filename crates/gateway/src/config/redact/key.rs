//! Keys that can hold a secret.

use super::super::schema::{self, Place};

/// Words that mark a key as that of a secret.
const SECRET: [&str; 5] = ["secret", "password", "authorization", "cookie", "api-key"];

/// Words that mark a key as that of a secret only as they are written, because other keys are similar to them.
const SECRET_AS_WRITTEN: [&str; 2] = ["token", "private_key"];

/// Returns `true` if `name` contains a word for secrets, or is a misspelling of one. Keys that end in
/// `_file` hold a path, not a secret.
pub(in super::super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let contains = |word| name.contains(word) || strsim::damerau_levenshtein(&name, word) <= 2;
    let is_listed = SECRET.into_iter().any(contains)
        || SECRET_AS_WRITTEN
            .into_iter()
            .any(|word| name.contains(word));
    name.len() <= 64 && !name.ends_with("_file") && is_listed
}

/// Returns `true` if the value of the key may be a secret, or is one in place of the path of a file.
pub(super) fn holds_secret(key: &str) -> bool {
    is_secret(key) || key.strip_suffix("_file").is_some_and(is_secret)
}

/// Returns the length of the longest value at `path` that cannot be a secret, in bytes. The whole path must be known. Values
/// of headers, query parameters and JSON may be secrets, as their names are chosen by the file. So may be a long text where
/// no text is expected.
pub(in super::super) fn longest_public(path: &str) -> usize {
    let steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    let root = Place::root(schema::of_file());
    let place = steps.clone().try_fold(root, |place, step| {
        if step.ends_with(']') {
            return place.item();
        }
        let keys = place.keys();
        match keys.into_iter().find(|(key, _)| *key == step) {
            Some((key, inside)) => (!holds_secret(key)).then_some(inside),
            None => place.member(step).filter(|named| !named.accepts_scalars()),
        }
    });
    let places = || {
        place
            .into_iter()
            .flat_map(|place| [Some(place), place.item()])
    };
    if places().flatten().any(Place::accepts_texts) {
        usize::MAX
    } else if places().flatten().any(Place::accepts_scalars) {
        LONGEST_WORD
    } else {
        0
    }
}

/// Length of a text that is unlikely to be a secret, or a part of one.
pub(super) const LONGEST_WORD: usize = 5;

/// Returns a key without what may be a value: the rest after a character that keys do not have, as in `secret:hunter2`.
pub(in super::super) fn shown_key(key: &str) -> String {
    let at = key.find(is_separator).map_or(key.len(), |at| at + 1);
    match key.split_at_checked(at) {
        Some((shown, rest)) if rest.len() > LONGEST_WORD => {
            shown.to_owned() + &"*".repeat(rest.chars().count())
        }
        _ => key.to_owned(),
    }
}

/// Returns `true` for a character that separates a key from its value, or that only values have.
pub(super) fn is_separator(one: char) -> bool {
    one.is_whitespace() || ":=\"'".contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i17_values_are_public_if_their_whole_path_is_known() {
        for path in [
            "server.listen",
            "downstreams.token-service.endpoints[0].url",
            "routes[0].plan.a.request.path",
            "routes[12].plan.a.when",
            "routes[0].plan.a.depends_on[1]",
            "auth.jwt.main.keys[0].kid",
            "auth.jwt.main.keys[0].pem_file",
            "telemetry.logs.level",
        ] {
            assert_eq!(longest_public(path), usize::MAX, "{path}");
        }
        for path in [
            "",
            "server.lsiten",
            "version",
            "server.max_connections",
            "cooki@e",
            "auth.jwt.main.keys[0].secret",
            "auth.jwt.main.keys[0].secret_file",
            "auth.jwt.main.keys[0].secret.a",
            "routes[0].plan.a.request.headers.x-a",
            "routes[0].plan.a.request.query.page",
            "routes[0].plan.a.request.body",
            "routes[0].plan.a.request.body.a",
            "routes[0].plan.a.fallback[0].static",
            "routes[0].plan.a.response.rename.a",
        ] {
            assert!(longest_public(path) <= LONGEST_WORD, "{path}");
        }
    }
}
