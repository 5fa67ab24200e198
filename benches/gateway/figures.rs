//! The committed costs per request, with which `--check` compares.

use std::{collections::BTreeMap, fmt::Write, fs, io, process::Command};

use crate::{callgrind::Counts, workbench::Row};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway/figures.txt");

/// Maximum ratio of a cost to the committed one.
const LIMIT: f64 = 1.03;

const HEAD: &str = "\
# Costs of the gateway per request, as callgrind counts them for each route of `benches/gateway`.
# `.ci/run` fails if one of them grows by more than 3 %. To write this file again after a change:
#
#     cargo build --release && cargo test -p tower-fanout-benches --bench gateway -- --update
#
# A change that raises a figure says why. All features that are off together may cost at most 10 %.
";

/// Figures by path and name, such as `/4 instructions`, and the compiler that built the gateway.
#[derive(Debug, PartialEq)]
pub(crate) struct Figures {
    compiler: String,
    costs: BTreeMap<String, f64>,
}

impl Figures {
    /// Returns the figures of the measured rows of the gateway.
    pub(crate) fn new(compiler: String, counts: &[(Row, Counts)]) -> Self {
        let costs = counts.iter().flat_map(|(row, counts)| {
            let path = row.route.path();
            [
                (format!("{path} allocations"), counts.allocations),
                (format!("{path} instructions"), counts.instructions),
            ]
        });
        let costs = costs.map(|(name, cost)| (name, (cost * 10.0).round() / 10.0));
        let costs = costs.collect();
        Self { compiler, costs }
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut lines = lines.filter(|line| !line.is_empty());
        let compiler = lines.next()?.to_owned();
        let costs = lines.map(|line| {
            let (name, cost) = line.rsplit_once(' ')?;
            Some((name.to_owned(), cost.parse().ok()?))
        });
        let costs = costs.collect::<Option<_>>()?;
        Some(Self { compiler, costs })
    }

    /// Returns a line for each cost.
    pub(crate) fn costs(&self) -> String {
        let costs = self.costs.iter();
        costs.fold(String::new(), |mut text, (name, cost)| {
            let _ = writeln!(text, "{name} {cost}");
            text
        })
    }

    /// Returns the text of the file.
    pub(crate) fn text(&self) -> String {
        format!("{HEAD}\n{}\n\n{}", self.compiler, self.costs())
    }

    /// Returns a line for each cost that is too high compared with `committed`, or that only one of the two has.
    pub(crate) fn growth(&self, committed: &Self) -> Vec<String> {
        let names = self.costs.keys().chain(committed.costs.keys());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names.dedup();
        let lines = names.into_iter().filter_map(|name| {
            match (self.costs.get(name), committed.costs.get(name)) {
                (Some(now), Some(then)) if *now <= then * LIMIT => None,
                (Some(now), Some(then)) => {
                    let growth = (now / then - 1.0) * 100.0;
                    Some(format!(
                        "{name}: {now} per request, {growth:.1} % above {then}"
                    ))
                }
                (Some(now), None) => Some(format!("{name}: {now} per request, not committed")),
                (None, _) => Some(format!("{name}: committed, but not measured")),
            }
        });
        lines.collect()
    }

    /// Returns the message about all growth compared with `committed`, if there is any.
    pub(crate) fn complaint(&self, committed: &Self) -> Option<String> {
        let growth = self.growth(committed);
        if growth.is_empty() {
            return None;
        }
        let mut message = format!(
            "costs of the gateway are above those of {FILE}:\n  {}\n\
             reduce them, or run this again with --update and say in the commit why the growth is worth it",
            growth.join("\n  ")
        );
        let (now, then) = (&self.compiler, &committed.compiler);
        if now != then {
            let _ = write!(
                message,
                "\nthe committed figures are of {then}, and this gateway of {now}: if the compiler makes the \
                 difference, update the figures without other changes"
            );
        }
        Some(message)
    }

    /// Returns the committed figures, or `None` if their file is damaged.
    pub(crate) fn committed() -> Option<Self> {
        Self::parse(include_str!("figures.txt"))
    }

    /// Writes the committed file.
    pub(crate) fn write(&self) -> io::Result<()> {
        fs::write(FILE, self.text())
    }
}

/// Returns the version of the compiler, as `rustc 1.90.0 (1159e78c4 2025-09-14)`.
pub(crate) fn compiler() -> io::Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
