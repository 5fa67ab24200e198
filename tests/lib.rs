//! Runs the code of pages in `docs` as doctests.

/// Claims about our layers and those of other crates.
#[cfg(doctest)]
#[doc = include_str!("../docs/why.md")]
struct Why;

/// Code before and after a migration.
#[cfg(doctest)]
#[doc = include_str!("../docs/migrating.md")]
struct Migrating;
