use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    model::{self, Tree},
    *,
};

const CONFLICTS: [OnConflict; 4] = [
    OnConflict::Error,
    OnConflict::First,
    OnConflict::Last,
    OnConflict::Rename,
];

fn json(text: &str) -> Json {
    Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn settings(mode: MergeMode, on_conflict: OnConflict) -> Merge {
    Merge::new(MergeConfig::new().mode(mode).on_conflict(on_conflict)).unwrap()
}

/// Merges `answers` as the responses of the nodes `a`, `b` and `c`.
fn merge(settings: &Merge, answers: &[&str]) -> Result<String, MergeError> {
    let answers: Vec<_> = answers.iter().map(|answer| json(answer)).collect();
    let merged = settings.merge(["a", "b", "c"].into_iter().zip(&answers))?;
    let again =
        Json::parse(merged.as_bytes().clone()).expect("the merged document must be valid JSON");
    assert_eq!(again, merged);
    assert!(
        again.depth() <= merged.depth(),
        "the depth of the result must be an upper bound"
    );
    Ok(merged.as_raw().to_owned())
}

fn merged(mode: MergeMode, on_conflict: OnConflict, answers: &[&str]) -> String {
    merge(&settings(mode, on_conflict), answers).unwrap()
}

#[test]
fn group_puts_each_response_under_its_node() {
    let group = |answers: &[&str]| merged(MergeMode::Group, OnConflict::Error, answers);
    assert_eq!(group(&[]), "{}");
    assert_eq!(
        group(&["{\"x\": 1}", "null", "[1, 2]"]),
        r#"{"a":{"x": 1},"b":null,"c":[1, 2]}"#
    );
    let answer = json("1");
    let odd = Merge::default().merge([("q\"\n", &answer)]).unwrap();
    assert_eq!(odd.as_raw(), r#"{"q\"\n":1}"#);
}

#[test]
fn concat_joins_the_items_of_all_responses() {
    let concat = |answers: &[&str]| merged(MergeMode::Concat, OnConflict::Error, answers);
    assert_eq!(concat(&[]), "[]");
    assert_eq!(concat(&["[]", "[ \n ]"]), "[]");
    assert_eq!(concat(&["[1 , 2 ]", "[]", "[[3]]"]), "[1 , 2,[3]]");
    assert_eq!(
        concat(&["{\"x\":1}", "null", "\"[]\""]),
        r#"[{"x":1},null,"[]"]"#
    );
}

#[test]
fn fault_g7_flat_resolves_conflicts_as_configured() {
    let answers = [
        r#"{"id": 1, "x": 0}"#,
        r#"{"b_id": 2, "id": 3, "y": 0}"#,
        r#"{"id": 4}"#,
    ];
    let outcome = |on_conflict| merge(&settings(MergeMode::Flat, on_conflict), &answers);
    assert_eq!(
        outcome(OnConflict::Error),
        Err(MergeError::Conflict {
            pointer: "/id".into(),
            first: "a".into(),
            second: "b".into(),
        })
    );
    assert_eq!(
        outcome(OnConflict::First).unwrap(),
        r#"{"id":1,"x":0,"b_id":2,"y":0}"#
    );
    assert_eq!(
        outcome(OnConflict::Last).unwrap(),
        r#"{"id":4,"x":0,"b_id":2,"y":0}"#
    );
    assert_eq!(
        outcome(OnConflict::Rename).unwrap(),
        r#"{"id":1,"x":0,"b_id":2,"y":0,"b_id_2":3,"c_id":4}"#
    );
    let answers = ["{\"x\": 1}", "{\"x\": 2}", "{\"b_x\": 3}"];
    assert_eq!(
        merged(MergeMode::Flat, OnConflict::Rename, &answers),
        r#"{"x":1,"b_x":2,"c_b_x":3}"#
    );
}

#[test]
fn fault_g7_non_object_responses_are_named_after_their_node() {
    let answers = [r#"{"b": 1}"#, "[2]", "null"];
    for mode in [MergeMode::Flat, MergeMode::Deep] {
        assert!(merge(&settings(mode, OnConflict::Error), &answers).is_err());
        assert_eq!(
            merged(mode, OnConflict::First, &answers),
            r#"{"b":1,"c":null}"#
        );
        assert_eq!(
            merged(mode, OnConflict::Last, &answers),
            r#"{"b":[2],"c":null}"#
        );
        assert_eq!(
            merged(mode, OnConflict::Rename, &answers),
            r#"{"b":1,"b_b":[2],"c":null}"#
        );
    }
}

#[test]
fn fault_g7_deep_merges_objects_with_the_same_name() {
    let answers = [
        r#"{"x": {"p": 1, "q": {"r": 1}}, "y": {"z": 1}}"#,
        r#"{"x": {"q": {"s": 2}, "p": 1}, "y": 2}"#,
        r#"{"y": {"w": 3}}"#,
    ];
    let error = merge(&settings(MergeMode::Deep, OnConflict::Error), &answers).unwrap_err();
    assert_eq!(error.to_string(), "nodes \"a\" and \"b\" conflict at /y");
    let x = r#""x":{"p":1,"q":{"r":1,"s":2}}"#;
    let rest = |on_conflict| merged(MergeMode::Deep, on_conflict, &answers);
    assert_eq!(
        rest(OnConflict::First),
        format!(r#"{{{x},"y":{{"z":1,"w":3}}}}"#)
    );
    assert_eq!(rest(OnConflict::Last), format!(r#"{{{x},"y":{{"w": 3}}}}"#));
}

#[test]
fn fault_g7_equal_values_conflict_unless_merged_deeply() {
    let answers = ["{\"id\": 1}", "{\"id\": 1}"];
    assert!(merge(&settings(MergeMode::Flat, OnConflict::Error), &answers).is_err());
    assert_eq!(
        merged(MergeMode::Deep, OnConflict::Error, &answers),
        "{\"id\":1}"
    );
    assert_eq!(
        merged(MergeMode::Deep, OnConflict::Rename, &answers),
        r#"{"id":1,"b_id":1}"#
    );
}

#[test]
fn a_conflict_has_an_escaped_and_bounded_pointer() {
    let deep = settings(MergeMode::Deep, OnConflict::Error);
    let error = merge(&deep, &[r#"{"a/b": {"~c": 1}}"#, r#"{"a/b": {"~c": 2}}"#]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "nodes \"a\" and \"b\" conflict at /a~1b/~0c"
    );
    let long = format!("{{\"{}\": 1}}", "é".repeat(1000));
    let MergeError::Conflict { pointer, .. } = merge(
        &settings(MergeMode::Flat, OnConflict::Error),
        &[&long, &long],
    )
    .unwrap_err() else {
        panic!("expected a conflict");
    };
    assert_eq!(pointer.chars().count(), 200);
}

#[test]
fn compares_names_with_escapes_decoded() {
    let answers = [r#"{"\u0061": 1, "\ud800": 1}"#, r#"{"a": 2, "\uD800": 2}"#];
    for mode in [MergeMode::Flat, MergeMode::Deep] {
        let last = merged(mode, OnConflict::Last, &answers);
        assert_eq!(last, r#"{"\u0061":2,"\ud800":2}"#);
        let renamed = merged(mode, OnConflict::Rename, &answers);
        assert_eq!(
            renamed,
            r#"{"\u0061":1,"\ud800":1,"b_\u0061":2,"b_\ud800":2}"#
        );
    }
}

#[test]
fn the_last_of_duplicate_members_counts() {
    let answers = [
        r#"{"x": {"p": 1}, "y": 1, "x": {"q": 2}}"#,
        r#"{"x": {"r": 3}, "x": {"s": 4}}"#,
    ];
    assert_eq!(
        merged(MergeMode::Deep, OnConflict::Error, &answers),
        r#"{"x":{"q":2,"s":4},"y":1}"#
    );
    assert_eq!(
        merged(MergeMode::Flat, OnConflict::Rename, &answers),
        r#"{"x":{"q": 2},"y":1,"b_x":{"s": 4}}"#
    );
}

#[test]
fn fault_e13_keeps_values_byte_for_byte() {
    let value = "[1E400 , -0, 9007199254740993, 1.10,\n\"\\u00e9\\/\", {\"a\" : 1, \"a\":2}]";
    let answer = format!("{{ \"v\" :\t{value} , \"w\":{value}}}");
    for mode in [
        MergeMode::Group,
        MergeMode::Flat,
        MergeMode::Deep,
        MergeMode::Concat,
    ] {
        let merged = merged(mode, OnConflict::Error, &[&answer, "{\"z\": 1}"]);
        assert_eq!(merged.matches(value).count(), 2, "{mode:?}: {merged}");
    }
}

#[test]
fn fault_f15_bounds_the_size_of_the_document() {
    let answers = ["{\"x\": [1,2]}", "{\"y\": \"1234\"}"];
    for mode in [
        MergeMode::Group,
        MergeMode::Flat,
        MergeMode::Deep,
        MergeMode::Concat,
    ] {
        let settings = settings(mode, OnConflict::Error);
        let size = merge(&settings, &answers).unwrap().len();
        let within = |max_bytes| {
            let config = settings.config().clone().max_bytes(max_bytes);
            merge(&Merge::new(config).unwrap(), &answers)
        };
        assert!(within(size).is_ok());
        for max_bytes in 1..size {
            assert_eq!(within(max_bytes), Err(MergeError::TooLarge));
        }
    }
    let error = Merge::new(MergeConfig::new().max_bytes(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MergeConfig.max_bytes: must be >= 1, got 0"
    );
}

#[test]
fn fault_f12_bounds_the_depth_of_the_document() {
    let deepest = |open: &str, close: &str| open.repeat(MAX_DEPTH) + "1" + &close.repeat(MAX_DEPTH);
    let (object, array) = (deepest("{\"x\":", "}"), deepest("[", "]"));
    let outcome = |mode, answers: &[&str]| merge(&settings(mode, OnConflict::Error), answers);
    for answer in [&object, &array] {
        assert_eq!(
            outcome(MergeMode::Group, &[answer]),
            Err(MergeError::TooDeep)
        );
    }
    assert_eq!(
        outcome(MergeMode::Flat, &[&array]),
        Err(MergeError::TooDeep)
    );
    assert_eq!(
        outcome(MergeMode::Concat, &[&object]),
        Err(MergeError::TooDeep)
    );
    assert!(outcome(MergeMode::Concat, &[&array]).is_ok());
    let other = object.replace('1', "2");
    assert_eq!(
        outcome(MergeMode::Deep, &[&object, &object]).unwrap(),
        object
    );
    let error = outcome(MergeMode::Deep, &[&object, &other]).unwrap_err();
    let all = format!(
        "nodes \"a\" and \"b\" conflict at {}",
        "/x".repeat(MAX_DEPTH)
    );
    assert_eq!(error.to_string(), all);
}

/// Returns a permutation of `0..count`, made with a linear congruential generator.
fn shuffled(count: usize, seed: &mut u64) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    for last in (1..count).rev() {
        *seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        order.swap(last, (*seed >> 33) as usize % (last + 1));
    }
    order
}

#[test]
fn fault_g8_the_result_does_not_depend_on_arrival_order() {
    let answers = [
        r#"{"id": 1, "x": {"p": 1}}"#,
        r#"{"x": {"q": 2}, "id": 2}"#,
        "[1, 2]",
        r#"{"n3": 1, "id": {"x": 1}}"#,
        r#"{"id": {"y": 2}, "x": 0, "n4_id": 1}"#,
        "7",
    ];
    let names = ["n0", "n1", "n2", "n3", "n4", "n5"];
    let answers = answers.map(json);
    let mut seed = 1;
    for mode in [
        MergeMode::Group,
        MergeMode::Flat,
        MergeMode::Deep,
        MergeMode::Concat,
    ] {
        for on_conflict in CONFLICTS {
            let settings = settings(mode, on_conflict);
            let expected = settings.merge(names.into_iter().zip(&answers));
            // 10,000 permutations in all, over 16 settings.
            for _ in 0..10_000 / 16 {
                let mut slots = vec![Json::NULL; answers.len()];
                for arrived in shuffled(answers.len(), &mut seed) {
                    slots[arrived] = answers[arrived].clone();
                }
                assert_eq!(settings.merge(names.into_iter().zip(&slots)), expected);
            }
        }
    }
}

#[test]
fn merges_many_members_in_linear_time() {
    let many = |from: usize| {
        let members: Vec<_> = (from..from + 100_000)
            .map(|n| format!("\"k{n}\":{n}"))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    let answers = [many(0), many(50_000)];
    let rename = settings(MergeMode::Flat, OnConflict::Rename);
    let merged = merge(&rename, &[&answers[0], &answers[1]]).unwrap();
    assert!(merged.starts_with("{\"k0\":0,") && merged.ends_with("\"b_k99999\":99999}"));
    let taken: Vec<_> = (2..50_000).map(|n| format!("\"b_k_{n}\":0")).collect();
    let taken = format!("{{\"k\":0,\"b_k\":0,{}}}", taken.join(","));
    let merged = merge(&rename, &[&taken, "{\"k\":1}"]).unwrap();
    assert!(merged.ends_with("\"b_k_50000\":1}"));
}

/// Generates responses with few different names, so that names collide.
fn tree() -> impl Strategy<Value = Tree> {
    let raw = prop::sample::select(vec!["1", "1.0", "\"s\"", "[{\"a\":1}]", "null", "[]"]);
    raw.prop_map(Tree::Raw).prop_recursive(4, 24, 4, |inner| {
        let names = ["a", "\\u0061", "x", "b_a", "b_a_2", "c_x"];
        let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
        prop::collection::vec((name, inner), 0..5).prop_map(Tree::Object)
    })
}

/// Returns `text` with white space around every part. The generated strings contain no structural
/// characters.
fn spaced(text: &str) -> String {
    let spaced = |mark: char| match mark {
        '{' | '}' | '[' | ']' | ',' | ':' => format!(" {mark}\n\t"),
        other => other.to_string(),
    };
    text.chars().map(spaced).collect()
}

proptest! {
    #[test]
    fn fault_g7_merges_like_the_reference_model(
        trees in prop::collection::vec(tree(), 0..4),
        deep in any::<bool>(),
        on_conflict in prop::sample::select(CONFLICTS.to_vec()),
    ) {
        let mode = if deep { MergeMode::Deep } else { MergeMode::Flat };
        let parts: Vec<_> = ["a", "b", "c"].into_iter().zip(trees).collect();
        let expected = model::merge(mode, on_conflict, &parts).map(|tree| tree.write());
        let texts: Vec<_> = parts.iter().map(|(_, tree)| tree.write()).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let found = merge(&settings(mode, on_conflict), &texts);
        prop_assert_eq!(found.clone().ok(), expected);
        // White space between the parts changes the text of the result, but not its value.
        let spaced: Vec<_> = texts.iter().map(|text| spaced(text)).collect();
        let spaced: Vec<_> = spaced.iter().map(String::as_str).collect();
        let again = merge(&settings(mode, on_conflict), &spaced);
        let value = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        prop_assert_eq!(again.map(value), found.map(value));
    }
}
