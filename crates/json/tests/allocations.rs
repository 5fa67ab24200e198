//! The memory that checking, filtering and merging allocate.

use bytes::Bytes;
use tower_fanout_json::{
    Json,
    filter::{FieldFilter, FieldFilterConfig},
    merge::{Merge, MergeConfig, MergeMode, OnConflict},
};

/// An answer with as many items.
fn answer(node: &str, items: usize) -> Bytes {
    let items = vec![r#"{"id": 7, "tags": ["a", "b"], "in": {}}"#; items].join(", ");
    format!(r#"{{"{node}": [{items}], "shared": {{"{node}": [{items}]}}, "other": 1}}"#).into()
}

/// Returns the number of allocations while five responses become one document, and the allocated bytes per byte of the
/// document.
fn allocations(mode: MergeMode, items: usize) -> (u64, u64) {
    let merge = MergeConfig::new().mode(mode).on_conflict(OnConflict::Last);
    let merge = Merge::new(merge);
    let merge = merge.unwrap();
    let shape =
        FieldFilter::new(FieldFilterConfig::new().deny(["other".to_owned()].into())).unwrap();
    let nodes = ["a", "b", "c", "d", "e"];
    let mut answers = nodes.map(|node| Some(answer(node, items)));
    let mut size = 0;
    let counted = allocation_counter::measure(|| {
        let answers = answers.each_mut().map(|answer| {
            let answer = Json::parse(answer.take().unwrap()).unwrap();
            shape.apply(answer).unwrap()
        });
        let merged = merge.merge(nodes.into_iter().zip(&answers)).unwrap();
        size = merged.as_bytes().len() as u64;
    });
    (counted.count_total, counted.bytes_total / size)
}

#[test]
fn merging_allocates_no_more_for_larger_answers() {
    for mode in [
        MergeMode::Group,
        MergeMode::Flat,
        MergeMode::Deep,
        MergeMode::Concat,
    ] {
        let few = allocations(mode, 20).0;
        assert_eq!(allocations(mode, 200).0, few, "{mode:?}");
        assert_eq!(allocations(mode, 2000).0, few, "{mode:?}");
    }
}

#[test]
fn a_document_is_written_once() {
    for mode in [MergeMode::Group, MergeMode::Deep, MergeMode::Concat] {
        // The other time is for the shape, which leaves a member out.
        assert_eq!(allocations(mode, 2000).1, 2, "{mode:?}");
    }
}
