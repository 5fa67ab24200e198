//! Levels of the operators of CEL, from those that bind least
//! ([CEL, Syntax](https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax)).

pub(super) const CHOICE: u8 = 0;
pub(super) const OR: u8 = 1;
pub(super) const AND: u8 = 2;
pub(super) const RELATION: u8 = 3;
pub(super) const SUM: u8 = 4;
pub(super) const PRODUCT: u8 = 5;
pub(super) const UNARY: u8 = 6;
pub(super) const VALUE: u8 = 7;
