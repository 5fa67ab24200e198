//! The map from keys to layers: shards with a lock each, and a common number of entries.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    PerKeyConfig, Stats,
    keyed::Keyed,
    shard::{HashedKey, Shard},
};
use crate::{
    clock, sharded,
    sync::{Arc, AtomicU64, Mutex, Ordering, lock},
};

/// Minimum of `max_keys` per shard. With fewer, the entries of a shard could be too few to choose from.
const KEYS_PER_SHARD: usize = 64;
/// Number of shards per processor, so that two threads rarely need the same one.
const SHARDS_PER_PROCESSOR: usize = 16;

/// A shard with its lock. Aligned to two cache lines, so that one lock does not slow down another.
#[repr(align(128))]
struct Locked<K, L>(Mutex<Shard<K, L>>);

pub(super) struct Map<K, L> {
    /// The number of shards is a power of two.
    shards: Box<[Locked<K, L>]>,
    hasher: RandomState,
    max_keys: u64,
    idle_after: Duration,
    /// Number of entries, including those that are being created.
    len: AtomicU64,
    evicted: AtomicU64,
    forgotten: AtomicU64,
    overflows: AtomicU64,
}

impl<K, L> Map<K, L> {
    pub(super) fn new(config: &PerKeyConfig) -> Self {
        let wanted = (config.max_keys / KEYS_PER_SHARD).max(1);
        // Rounded down to a power of two.
        let wanted = 1 << wanted.ilog2();
        let shards = wanted.min(sharded::parts() * SHARDS_PER_PROCESSOR);
        Self {
            shards: (0..shards)
                .map(|_| Locked(Mutex::new(Shard::new())))
                .collect(),
            hasher: RandomState::new(),
            max_keys: config.max_keys as u64,
            idle_after: config.idle_after,
            len: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            keys: load(&self.len) as usize,
            evicted: load(&self.evicted),
            forgotten: load(&self.forgotten),
            overflows: load(&self.overflows),
        }
    }

    pub(super) fn keys(&self) -> Vec<K>
    where
        K: Clone,
    {
        let mut keys = Vec::new();
        for Locked(shard) in &self.shards {
            keys.extend(lock(shard).keys().cloned());
        }
        keys
    }

    fn count(&self, evicted: usize, forgotten: bool) {
        self.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        self.forgotten
            .fetch_add(u64::from(forgotten), Ordering::Relaxed);
    }
}

impl<K: Hash + Eq + Clone, L> Map<K, L> {
    #[inline]
    fn hashed(&self, key: K) -> HashedKey<K> {
        HashedKey {
            hash: self.hasher.hash_one(&key),
            key,
        }
    }

    #[inline]
    fn shard(&self, key: &HashedKey<K>) -> &Mutex<Shard<K, L>> {
        // The maps of the shards use the lowest and the highest bits.
        let index = (key.hash >> 32) as usize & (self.shards.len() - 1);
        // In bounds: the number of shards is a power of two.
        &self.shards[index].0
    }

    /// Returns the layer of `key`. Does not count as a use.
    pub(super) fn get(&self, key: &K) -> Option<L>
    where
        L: Clone,
    {
        let key = self.hashed(key.clone());
        lock(self.shard(&key)).layer(&key).cloned()
    }
}

impl<K: Hash + Eq + Clone, L: Keyed> Map<K, L> {
    /// Returns the layer of `key`, which `make` creates for a new key. Returns `None` if the map is full.
    #[inline]
    pub(super) fn get_or_make(&self, key: K, make: impl FnOnce(&K) -> L) -> Option<Arc<L>> {
        let key = self.hashed(key);
        let known = lock(self.shard(&key)).use_layer(&key);
        known.or_else(|| self.add(key, make))
    }

    #[cold]
    fn add(&self, key: HashedKey<K>, make: impl FnOnce(&K) -> L) -> Option<Arc<L>> {
        let shard = self.shard(&key);
        let Some(place) = self.reserve(shard) else {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        // Without the lock, because `make` may run foreign code.
        let layer = Arc::new(make(&key.key));
        let mut shard = lock(shard);
        if let Some(known) = shard.use_layer(&key) {
            // Another thread was faster.
            return Some(known);
        }
        shard.insert(key, Arc::clone(&layer), clock::now());
        place.keep();
        Some(layer)
    }

    /// Reserves a place for a new entry. If the map is full, evicts another entry of the shard.
    fn reserve(&self, shard: &Mutex<Shard<K, L>>) -> Option<Place<'_>> {
        let now = Instant::now();
        let idle = lock(shard).sweep(now, self.idle_after);
        self.count(idle.len(), false);
        self.len.fetch_sub(idle.len() as u64, Ordering::Relaxed);
        // Dropped here, without the lock.
        drop(idle);
        let is_free = |len| (len < self.max_keys).then_some(len + 1);
        let ordering = Ordering::Relaxed;
        if self.len.fetch_update(ordering, ordering, is_free).is_ok() {
            return Some(Place(&self.len));
        }
        // The lock is released at the end of the statement, before the entry is dropped.
        let evicted = lock(shard).evict(now, self.idle_after)?;
        self.count(1, evicted.had_counts);
        drop(evicted.layer);
        Some(Place(&self.len))
    }
}

/// A reserved place for an entry. Dropping the place frees it.
struct Place<'a>(&'a AtomicU64);

impl Place<'_> {
    /// Keeps the place for an entry that was added.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
