//! Random expressions of texts and numbers of any types.

use proptest::prelude::*;

use super::*;

/// Values that exist in the request, and literals.
const VALUES: [&str; 14] = [
    "tier",
    "query.page",
    "query.name",
    "header['X-Client']",
    "route.id",
    "'App'",
    "''",
    "1",
    "2u",
    "0.5",
    "true",
    "has(query.page)",
    "'none' in header",
    "query",
];

/// Operations on the operands `#` and `@`.
const OPERATIONS: [&str; 22] = [
    "# == @",
    "# != @",
    "# < @",
    "# >= @",
    "# + @",
    "# - @",
    "# * @",
    "# && @",
    "# || @",
    "!(#)",
    "-(#)",
    "# in [@]",
    "[#, @]",
    "[#, @][1]",
    "# ? @ : #",
    "size(#)",
    "(#).size()",
    "(#).contains(@)",
    "(#).startsWith(@)",
    "(#).lowerAscii()",
    "[#, @].exists(x, x == #)",
    "[#].map(x, x + @)[0]",
];

fn expression() -> impl Strategy<Value = String> {
    let value = prop::sample::select(&VALUES[..]).prop_map(str::to_owned);
    value.prop_recursive(3, 12, 2, |inner| {
        let operation = prop::sample::select(&OPERATIONS[..]);
        (operation, inner.clone(), inner).prop_map(|(operation, left, right)| {
            // One pass, because an operand can contain the signs too.
            let parts = operation.chars().map(|sign| match sign {
                '#' => format!("({left})"),
                '@' => format!("({right})"),
                other => other.to_string(),
            });
            parts.collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The engine has each operation that the check admits. Only the size of numbers depends on the request.
    #[test]
    fn what_the_check_of_types_admits_can_be_evaluated(text in expression()) {
        let Ok(condition) = Condition::parse(&text) else {
            return Ok(());
        };
        let known = Known::new();
        let holds = condition.holds(&known);
        let is_negative = text.contains("2u") && text.contains(" - ");
        // The items that `map` returns have types that only the request decides.
        let is_excused = is_negative || text.contains("map(");
        prop_assert!(holds.is_ok() || is_excused, "{text}: {holds:?}");
        for (reference, _) in condition.references() {
            prop_assert!(reference.path.is_empty() || known.lookup(reference).is_some() || text.contains("'none'"));
        }
    }

    /// An operand of a comparison with a text is a text.
    #[test]
    fn a_text_is_never_compared_with_another_type(text in expression()) {
        let is_known = !text.contains("map(");
        let compared = Condition::parse(&format!("tier == ({text})"));
        let is_text = Condition::parse(&format!("type({text}) == string"));
        if let (true, Ok(_), Ok(is_text)) = (is_known, compared, is_text) {
            prop_assert_eq!(is_text.holds(&Known::new()), Ok(true));
        }
    }
}
