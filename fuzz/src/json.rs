use bytes::Bytes;
use serde_json::value::RawValue;
use tower_fanout_json::{
    Json,
    merge::{Merge, MergeMode, OnConflict},
};

/// What we take for JSON is JSON for others, and so is what is merged of it.
///
/// The input is up to four answers, with the byte FF, which no JSON has, between them.
pub fn json_merge(data: &[u8]) {
    let parts = data.splitn(4, |byte| *byte == 0xff);
    let answers: Vec<Json> = parts
        .filter_map(|part| {
            let answer = Json::parse(Bytes::copy_from_slice(part)).ok()?;
            let other: Box<RawValue> = serde_json::from_slice(part).expect("JSON for others");
            assert_eq!(
                answer.as_raw(),
                other.get(),
                "the value and nothing around it"
            );
            Some(answer)
        })
        .collect();
    let names = ["a", "b", "c", "d"];
    let parts = || names.into_iter().zip(&answers);
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
            let merge = Merge::build(|merge| {
                merge.mode = mode;
                merge.on_conflict = on_conflict;
            });
            let merge = merge.expect("sound settings");
            let Ok(merged) = merge.merge(parts()) else {
                continue;
            };
            let read: Box<RawValue> =
                serde_json::from_str(merged.as_raw()).expect("JSON for others");
            assert_eq!(read.get(), merged.as_raw());
            assert_eq!(merge.merge(parts()).as_ref(), Ok(&merged), "the same again");
        }
    }
}
