//! Processor times and latencies, measured in short turns, and memory.

use std::{io, time::Duration};

use crate::{candidate::Candidate, load::Load, quartiles::quartiles};

/// Duration of a slice.
const SLICE: Duration = Duration::from_secs(1);

/// A route of a candidate with its load.
pub(crate) struct Case<'c> {
    pub(crate) candidate: &'c Candidate,
    pub(crate) load: Load<'c>,
}

/// Measured values of one slice. Times are in microseconds, and the processor time is per request.
#[derive(Clone, Copy)]
struct Slice {
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// Medians over all slices of a case, and ratios to the first case: lower quartile, median, upper quartile.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) cpu: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) cpu_ratio: [f64; 3],
    pub(crate) p99_ratio: [f64; 3],
}

impl Case<'_> {
    fn slice(&mut self, time: Duration) -> io::Result<Slice> {
        let before = self.candidate.cpu_time()?;
        let latencies = self.load.run(time);
        let used = self.candidate.cpu_time()? - before;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Ok(Slice {
            cpu: micros(used) / latencies.len() as f64,
            p50: micros(latencies[latencies.len() / 2]),
            p99: micros(latencies[latencies.len() * 99 / 100]),
        })
    }
}

/// Measures `cases` in turns, `slices` times. Each slice is divided by the mean of the two slices of the first case that
/// are next to it in time, because the speed of a machine changes within seconds.
pub(crate) fn compare(cases: &mut [Case<'_>], slices: usize) -> io::Result<Vec<Times>> {
    for case in cases.iter_mut() {
        case.slice(SLICE)?;
    }
    let mut measured = vec![Vec::new(); cases.len()];
    for _ in 0..slices {
        for (case, measured) in cases.iter_mut().zip(&mut measured) {
            measured.push(case.slice(SLICE)?);
        }
    }
    let last = cases[0].slice(SLICE)?;
    let mut bases = measured[0].clone();
    bases.push(last);
    Ok(measured.iter().map(|of| times(of, &bases)).collect())
}

/// Returns the medians of `slices`, of which each was measured between two of `bases`.
fn times(slices: &[Slice], bases: &[Slice]) -> Times {
    let median = |value: fn(&Slice) -> f64| quartiles(slices.iter().map(value).collect())[1];
    let ratios = |value: fn(&Slice) -> f64| {
        let pairs = slices.iter().zip(bases.windows(2));
        let ratios =
            pairs.map(|(slice, bases)| 2.0 * value(slice) / (value(&bases[0]) + value(&bases[1])));
        quartiles(ratios.collect())
    };
    Times {
        cpu: median(|slice| slice.cpu),
        p50: median(|slice| slice.p50),
        p99: median(|slice| slice.p99),
        cpu_ratio: ratios(|slice| slice.cpu),
        p99_ratio: ratios(|slice| slice.p99),
    }
}

/// Memory of a candidate in KiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) idle: f64,
    pub(crate) per_request: f64,
}

/// Measures the memory before `load` opens its connections, and while each of them waits for its response.
pub(crate) fn memory<'r>(
    candidate: &Candidate,
    load: impl FnOnce() -> Load<'r>,
    requests: usize,
) -> io::Result<Memory> {
    let idle = candidate.memory()?;
    let waiting = load().hold(|| candidate.memory())?;
    Ok(Memory {
        idle,
        per_request: (waiting - idle) / requests as f64,
    })
}
