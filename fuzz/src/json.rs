use bytes::Bytes;
use serde_json::value::RawValue;
use tower_fanout_json::{
    Json,
    merge::{Merge, MergeConfig, MergeMode, OnConflict},
};

const VALID: &str = "serde_json must accept this document too";

/// `serde_json` accepts all JSON that our parser accepts, and all merged results.
///
/// The input is up to four documents, separated by the byte FF, which does not occur in JSON.
pub fn json_merge(data: &[u8]) {
    let parts = data.splitn(4, |byte| *byte == 0xff);
    let documents: Vec<Json> = parts
        .filter_map(|part| {
            let document = Json::parse(Bytes::copy_from_slice(part)).ok()?;
            let other: Box<RawValue> = serde_json::from_slice(part).expect(VALID);
            assert_eq!(
                document.as_raw(),
                other.get(),
                "the raw value must exclude surrounding whitespace"
            );
            Some(document)
        })
        .collect();
    let names = ["a", "b", "c", "d"];
    let parts = || names.into_iter().zip(&documents);
    for mode in [
        MergeMode::Group,
        MergeMode::Flat,
        MergeMode::Deep,
        MergeMode::Concat,
    ] {
        for on_conflict in [
            OnConflict::Error,
            OnConflict::First,
            OnConflict::Last,
            OnConflict::Rename,
        ] {
            let merge = Merge::new(MergeConfig::new().mode(mode).on_conflict(on_conflict));
            let merge = merge.expect("every mode works with every conflict rule");
            let Ok(merged) = merge.merge(parts()) else {
                continue;
            };
            let read: Box<RawValue> = serde_json::from_str(merged.as_raw()).expect(VALID);
            assert_eq!(read.get(), merged.as_raw());
            assert_eq!(
                merge.merge(parts()).as_ref(),
                Ok(&merged),
                "merging must be deterministic"
            );
        }
    }
}
