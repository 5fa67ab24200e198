//! Checks of a configuration beyond its single values.

pub(super) mod conditions;
pub(super) mod keys;
pub(super) mod merge;
pub(super) mod noop;
pub(super) mod reach;
pub(super) mod texts;
pub(super) mod tiers;
