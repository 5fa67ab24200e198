//! Runs every target on its corpus and on random mutations of it.
#![allow(missing_docs)]

use std::{fs, panic::catch_unwind, path::Path};

use tower_fanout_fuzz::TARGETS;

/// Mutated inputs per target.
const MUTATIONS: usize = 4_000;

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
        panic!("target {target} fails on input {}", input.escape_ascii());
    }
}

/// Mutates one to four bytes of `seed`. In a quarter of the cases, first replaces its end with the end of
/// another seed.
fn mutate(random: &mut fastrand::Rng, seed: &[u8], other: &[u8]) -> Vec<u8> {
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
fn every_target_passes_its_corpus_and_mutations() {
    for (target, check) in TARGETS {
        let seeds = seeds(target);
        assert!(
            seeds.len() >= 10,
            "{target} must have at least 10 seeds, found {}",
            seeds.len()
        );
        for seed in &seeds {
            run(target, *check, seed);
        }
        // A fixed seed makes failures reproducible.
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..MUTATIONS {
            let (seed, other) = (random.choice(&seeds), random.choice(&seeds));
            let input = mutate(&mut random, seed.unwrap(), other.unwrap());
            run(target, *check, &input);
        }
        println!("{target}: {} seeds, {MUTATIONS} mutations", seeds.len());
    }
}

#[test]
fn every_corpus_has_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        let known = TARGETS.iter().any(|(target, _)| name == *target);
        assert!(known, "corpus/{} has no target in TARGETS", name.display());
    }
}
