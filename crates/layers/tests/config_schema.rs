//! JSON Schemas of the config structs.
#![cfg(feature = "schemars")]
#![allow(missing_docs)]

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};
use tower_fanout_layers::{
    BreakerConfig, ConcurrencyConfig, HedgeConfig, PerKeyConfig, RetryConfig,
    classify::ClassifyConfig, throttle::ThrottleConfig, timeout::DeadlineConfig,
};

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Returns the schema of a field, without its description.
fn field<T: JsonSchema>(name: &str) -> Value {
    let mut field = schema::<T>()["properties"][name].take();
    let description = field.as_object_mut().unwrap().remove("description");
    assert!(description.is_some_and(|text| !text.as_str().unwrap().is_empty()));
    field
}

#[test]
fn a_number_has_its_range_and_its_default() {
    let attempts = field::<RetryConfig>("max_attempts");
    assert_eq!(attempts["type"], "integer");
    assert_eq!(
        (&attempts["minimum"], &attempts["maximum"]),
        (&json!(1), &json!(6))
    );
    assert_eq!(attempts["default"], 3);
    let share = field::<BreakerConfig>("failure_rate");
    assert_eq!(
        (&share["exclusiveMinimum"], &share["maximum"]),
        (&json!(0), &json!(1))
    );
}

#[test]
fn a_duration_is_text_with_limits_as_text() {
    let base = json!({
        "type": "string", "format": "duration", "x-exclusiveMinimum": "0s", "default": "50ms"
    });
    assert_eq!(field::<RetryConfig>("base"), base);
    let idle = field::<PerKeyConfig>("idle_after");
    assert_eq!(
        (&idle["x-minimum"], &idle["x-maximum"]),
        (&json!("1s"), &json!("24h"))
    );
}

#[test]
fn an_optional_field_is_a_value_or_off() {
    let aging = field::<ConcurrencyConfig>("aging");
    let time = json!({
        "type": "string", "format": "duration", "x-minimum": "1ms", "x-maximum": "1h"
    });
    assert_eq!(
        aging,
        json!({ "anyOf": [time, { "const": "off" }], "default": "1s" })
    );
    assert_eq!(field::<DeadlineConfig>("total")["default"], "off");
    let adaptive = field::<ConcurrencyConfig>("adaptive");
    assert_eq!(adaptive["anyOf"][0]["properties"]["min"]["minimum"], 1);
    assert_eq!(adaptive["anyOf"][1], json!({ "const": "off" }));
}

#[test]
fn a_value_of_several_types_has_them_all() {
    let window = &field::<BreakerConfig>("window")["anyOf"];
    assert_eq!(
        (&window[0]["format"], &window[1]["maximum"]),
        (&json!("duration"), &json!(10_000))
    );
    let delay = &field::<HedgeConfig>("delay")["anyOf"];
    assert_eq!(delay[1]["properties"]["quantile"]["default"], 0.95);
    assert_eq!(delay[2], json!({ "const": "never" }));
    let items = &field::<RetryConfig>("retry_on")["items"]["anyOf"];
    let items = items.as_array().unwrap();
    let words: Vec<_> = items.iter().filter_map(|item| item.get("const")).collect();
    assert_eq!(
        words,
        ["connect", "refused", "reset", "body", "timeout", "other"]
    );
    assert_eq!(
        (&items[3]["description"], &items[6]["maximum"]),
        (
            &json!(
                "The response body was truncated.\n\nOnly applies if a service below reads the whole body before it \
                 responds: see\n[`Failure::TruncatedBody`]."
            ),
            &json!(599)
        )
    );
}

#[test]
fn a_budget_of_hedges_has_its_own_default() {
    let ratio = |budget: &Value| budget["properties"]["ratio"]["default"].clone();
    assert_eq!(ratio(&field::<HedgeConfig>("budget")), 0.05);
    assert_eq!(ratio(&field::<RetryConfig>("budget")), 0.2);
}

#[test]
fn every_schema_refuses_unknown_keys() {
    let all = [
        schema::<RetryConfig>(),
        schema::<HedgeConfig>(),
        schema::<BreakerConfig>(),
        schema::<ConcurrencyConfig>(),
        schema::<ThrottleConfig>(),
        schema::<ClassifyConfig>(),
        schema::<PerKeyConfig>(),
        schema::<DeadlineConfig>(),
    ];
    for schema in all {
        assert_eq!(schema["additionalProperties"], false, "{}", schema["title"]);
        assert!(schema["required"].is_null());
    }
}
