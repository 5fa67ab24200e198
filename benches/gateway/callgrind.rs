//! Numbers of instructions, cache misses, allocations and system calls of a candidate, counted by callgrind.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use crate::{candidate::Candidate, load::Load};

/// Number of requests before the counted ones, after which connections, caches and learned values are there.
const WARM_UP: usize = 100;
/// Number of times that requests are counted.
const BATCHES: usize = 20;
/// Number of requests that are counted together.
const REQUESTS: usize = 25;

/// Costs of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    /// Misses of the first-level caches for code and data, each of which takes about as long as ten instructions. They
    /// explain a good part of the processor time: a request passes most code once.
    pub(crate) cache_misses: f64,
    pub(crate) allocations: f64,
    /// System calls, without reads of the clock.
    pub(crate) syscalls: f64,
    /// Reads of the clock. These are system calls under callgrind, and only there.
    pub(crate) clock_reads: f64,
}

impl Counts {
    /// Returns the lower of each cost.
    fn min(self, other: Self) -> Self {
        Self {
            instructions: self.instructions.min(other.instructions),
            cache_misses: self.cache_misses.min(other.cache_misses),
            allocations: self.allocations.min(other.allocations),
            syscalls: self.syscalls.min(other.syscalls),
            clock_reads: self.clock_reads.min(other.clock_reads),
        }
    }
}

/// Counts what the candidate does for each request of a load. The candidate runs under callgrind and writes to one
/// folder.
pub(crate) struct Callgrind<'c> {
    candidate: &'c Candidate,
    folder: &'c Path,
    /// Number of files that callgrind has written.
    dumps: usize,
}

impl<'c> Callgrind<'c> {
    pub(crate) const fn new(candidate: &'c Candidate, folder: &'c Path) -> Self {
        Self {
            candidate,
            folder,
            dumps: 0,
        }
    }

    /// Returns the costs per request of `load`: the lowest of several counts. The gateway also does work at fixed times,
    /// such as the upkeep of its histograms, and an allocation costs more while the heap is fragmented.
    pub(crate) fn count(&mut self, load: &mut Load<'_>) -> io::Result<Counts> {
        load.send(WARM_UP);
        // Starts the counts at zero. Callgrind's command `zero` leaves costs of the functions that are running.
        self.dump()?;
        let mut lowest = self.batch(load)?;
        for _ in 1..BATCHES {
            lowest = lowest.min(self.batch(load)?);
        }
        Ok(lowest)
    }

    fn batch(&mut self, load: &mut Load<'_>) -> io::Result<Counts> {
        load.send(REQUESTS);
        let dump = self.dump()?;
        let damaged = "expected a dump of callgrind with totals and calls of an allocator";
        parse(&dump, REQUESTS as f64).ok_or_else(|| io::Error::other(damaged))
    }

    /// Makes callgrind write its counts and start again at zero. Returns the written file.
    fn dump(&mut self) -> io::Result<String> {
        let mut prefix = OsString::from("--vgdb-prefix=");
        prefix.push(self.folder.join("vgdb"));
        let output = Command::new("vgdb")
            .arg(prefix)
            .args([&format!("--pid={}", self.candidate.pid()), "dump"])
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("vgdb failed: {message}")));
        }
        self.dumps += 1;
        let path = self.folder.join(format!("out.{}", self.dumps));
        let dump = fs::read_to_string(&path)?;
        fs::remove_file(path)?;
        Ok(dump)
    }
}

/// The kinds of functions that are counted.
#[derive(Clone, Copy, PartialEq)]
enum Function {
    Allocator,
    Clock,
    Other,
}

impl Function {
    /// Returns the kind of the function `name`. Knows the allocators of the C library and mimalloc.
    fn of(name: &str) -> Self {
        const ALLOCATORS: [&str; 6] = [
            "malloc",
            "calloc",
            "realloc",
            "memalign",
            "posix_memalign",
            "aligned_alloc",
        ];
        // Callgrind numbers the levels of a recursion: `realloc'2`. The C library has versions: `malloc@@GLIBC_2.2.5`.
        let name = name.split(['\'', '@']).next().unwrap_or(name);
        let mimalloc = name.strip_prefix("mi_").is_some_and(|name| {
            let mut prefixes = ["malloc", "calloc", "zalloc", "realloc", "aligned_alloc"].iter();
            prefixes.any(|prefix| name.starts_with(prefix))
        });
        match name {
            "clock_gettime" => Self::Clock,
            _ if mimalloc || ALLOCATORS.contains(&name) => Self::Allocator,
            _ => Self::Other,
        }
    }
}

/// Returns the costs per request of a dump with `requests` requests. Returns `None` if the dump is incomplete, or has
/// no allocations, as that of a program without symbols.
pub(crate) fn parse(dump: &str, requests: f64) -> Option<Counts> {
    let field = |name: &str| dump.lines().find_map(|line| line.strip_prefix(name));
    let events: Vec<_> = field("events: ")?.split(' ').collect();
    let place = |name| events.iter().position(|event| *event == name);
    let (instructions, syscalls) = (place("Ir")?, place("sysCount")?);
    let totals = field("totals: ")?;
    let misses = [place("I1mr")?, place("D1mr")?, place("D1mw")?];
    let misses = misses.map(|place| number(totals, place));
    let misses = misses.into_iter().sum::<Option<u64>>()?;
    let (allocations, clock_reads) = calls(dump, syscalls)?;
    let per_request = |total: u64| total as f64 / requests;
    Some(Counts {
        instructions: per_request(number(totals, instructions)?),
        cache_misses: per_request(misses),
        allocations: (allocations > 0).then_some(per_request(allocations))?,
        syscalls: per_request(number(totals, syscalls)?.checked_sub(clock_reads)?),
        clock_reads: per_request(clock_reads),
    })
}

/// Returns the number of calls of an allocator, and that of system calls by functions that read the clock. `syscalls`
/// is the place of system calls among the costs.
///
/// A line `fn=` has the function of the following lines, `cfn=` a function that it calls, and `calls=` the number of
/// these calls. The line after that has the costs of the calls, and all other lines that begin with a position have costs
/// of the function itself. See <https://valgrind.org/docs/manual/cl-format.html>.
fn calls(dump: &str, syscalls: usize) -> Option<(u64, u64)> {
    // A function has its name only where it appears first, as `(number) name`, and is `(number)` later.
    let mut functions = HashMap::new();
    let mut function = |text| {
        let (number, name) = str::split_once(text, ' ').unwrap_or((text, ""));
        *functions
            .entry(number)
            .or_insert_with(|| Function::of(name))
    };
    let (mut caller, mut called) = (Function::Other, Function::Other);
    let (mut allocations, mut clock_reads) = (0, 0);
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("fn=") {
            caller = function(text);
        } else if let Some(text) = line.strip_prefix("cfn=") {
            called = function(text);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            // An allocator may call itself by another of its functions.
            if called == Function::Allocator && caller != Function::Allocator {
                allocations += number(calls, 0)?;
            }
            lines.next();
        } else if caller == Function::Clock && line.starts_with(is_position) {
            clock_reads += number(line, syscalls + 1)?;
        }
    }
    Some((allocations, clock_reads))
}

/// Returns the number at a place of a line. A line ends after its last number that is not zero.
fn number(line: &str, place: usize) -> Option<u64> {
    line.split(' ').nth(place).unwrap_or("0").parse().ok()
}

/// Returns `true` if a line that begins with `first` begins with a position, which may be relative to the last one.
fn is_position(first: char) -> bool {
    first.is_ascii_digit() || "+-*".contains(first)
}
