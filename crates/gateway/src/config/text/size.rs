//! Sizes in bytes.

use std::fmt::Display;

use serde_json::Value;

use super::{Fault, Shape, Text, check_limits};

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(in super::super) struct Size(pub(in super::super) usize);

/// Units of sizes. The longest suffix comes first, as every unit ends in `B`.
const UNITS: [(&str, usize); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Returns a suggestion for a size with another unit, such as `1MB` or `64k`.
fn binary_unit(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.find(|one: char| one.is_ascii_alphabetic())?);
    number.trim().parse::<usize>().ok()?;
    let known = match unit.to_ascii_lowercase().as_str() {
        "b" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return None,
    };
    Some(format!("did you mean \"{}{known}\"?", number.trim()))
}

impl Text for Size {
    const FORMAT: &'static str = "size";
    const EXPECTED: &'static str = "a size such as \"64KiB\" or \"1MiB\"";
    const SHAPE: Shape = Shape::Pattern(r"^[\s\x85]*\+?[0-9]+[\s\x85]*(Gi|Mi|Ki)?B$");

    fn parse(text: &str) -> Result<Self, Fault> {
        let parse = || {
            let mut units = UNITS.into_iter();
            let (number, unit) =
                units.find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))?;
            number.trim().parse::<usize>().ok()?.checked_mul(unit)
        };
        match parse() {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(Fault {
                help: binary_unit(text),
                ..Fault::unexpected::<Self>(text)
            }),
        }
    }

    fn written(&self) -> impl Display {
        let mut units = UNITS.into_iter();
        let unit = units.find(|(_, bytes)| self.0.is_multiple_of(*bytes));
        let (unit, bytes) = unit.unwrap_or(("B", 1));
        format!("{}{unit}", self.0 / bytes)
    }

    fn check_limits(&self, schema: &Value) -> Result<(), String> {
        check_limits(self, schema)
    }
}
