//! Replays the corpus of every target, and what little changes make of it.
#![allow(missing_docs)]

use std::{fs, panic::catch_unwind, path::Path};

use tower_fanout_fuzz::TARGETS;

const CHANGED: usize = 4_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn run(target: &str, check: fn(&[u8]), input: &[u8]) {
    if catch_unwind(|| check(input)).is_err() {
        panic!("{target} fails with {}", input.escape_ascii());
    }
}

/// One to four little changes, and now and then the end of another seed.
fn change(random: &mut fastrand::Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut input = seed.to_vec();
    if random.u8(..) < 64 {
        input.truncate(random.usize(..=input.len()));
        input.extend_from_slice(&other[random.usize(..=other.len())..]);
    }
    for _ in 0..random.usize(1..=4) {
        let place = random.usize(..=input.len());
        match (random.u8(..4), place < input.len()) {
            (0, true) => input[place] ^= 1 << random.u8(..8),
            (1, true) => drop(input.remove(place)),
            (2, true) => input[place] = random.u8(..),
            _ => input.insert(place, random.u8(..)),
        }
    }
    input
}

#[test]
fn every_target_holds_over_its_corpus() {
    for (target, check) in TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
        for seed in &seeds {
            run(target, *check, seed);
        }
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..CHANGED {
            let (seed, other) = (random.choice(&seeds), random.choice(&seeds));
            let input = change(&mut random, seed.unwrap(), other.unwrap());
            run(target, *check, &input);
        }
        println!("{target}: {} seeds, {CHANGED} changed", seeds.len());
    }
}

#[test]
fn every_corpus_has_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        let known = TARGETS.iter().any(|(target, _)| name == *target);
        assert!(known, "{} is nobody's corpus", name.display());
    }
}
