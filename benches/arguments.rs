//! Arguments of a bench on its command line.

use std::str::FromStr;

/// Returns `true` if `name` is an argument.
pub(crate) fn has(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

/// Returns the argument that follows `name`.
pub(crate) fn after(name: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)
}

/// Returns the number that follows `name`, or `otherwise` if `name` is no argument.
///
/// # Panics
/// Panics if the next argument is not a number.
pub(crate) fn number<N: FromStr>(name: &str, otherwise: N) -> N {
    after(name).map_or(otherwise, |number| {
        let Ok(number) = number.parse() else {
            panic!("{name} must be a number, got \"{number}\"");
        };
        number
    })
}
