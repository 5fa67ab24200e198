//! Storage for the last good responses.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    sync::Arc,
};

use tokio::time::Instant;

use crate::sync::{Mutex, lock};

/// A store of the last good response per key.
///
/// The store is used on the path of a failed call, which may have no time left, so it must return at once.
/// Responses may be personal: the key must distinguish callers that must not see each other's responses.
///
/// ```
/// use std::{sync::{Arc, Mutex}, time::Duration};
/// use tokio::time::Instant;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{ClassifyResult, FallbackLayer, LayerError, fallback::StaleStore};
///
/// /// Keeps the very last response only.
/// #[derive(Clone, Default)]
/// struct Last(Arc<Mutex<Option<(&'static str, u32, Instant)>>>);
///
/// impl StaleStore<&'static str, u32> for Last {
///     fn put(&self, key: &'static str, answer: &u32, now: Instant) {
///         *self.0.lock().unwrap() = Some((key, *answer, now));
///     }
///     fn get(&self, key: &&'static str) -> Option<(u32, Instant)> {
///         let (last, answer, stored) = (*self.0.lock().unwrap())?;
///         (last == *key).then_some((answer, stored))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let key = |name: &&'static str| Some(*name);
/// let layer = FallbackLayer::new(ClassifyResult).stale(Last::default(), key, Duration::from_secs(60));
/// let up = layer.layer(service_fn(|_| async { Ok::<_, LayerError>(7) }));
/// let down = layer.layer(service_fn(|_| async { Err(LayerError::from("down")) }));
/// assert_eq!(up.oneshot("Ada").await.unwrap(), 7);
/// assert_eq!(down.clone().oneshot("Ada").await.unwrap(), 7);
/// assert!(down.oneshot("Bob").await.is_err());
/// # }
/// ```
pub trait StaleStore<K, Res>: Send + Sync {
    /// Stores `answer`, which arrived at `now`, as the last response for `key`.
    fn put(&self, key: K, answer: &Res, now: Instant);

    /// Returns the last response for `key` and the time when it arrived, or `None`.
    fn get(&self, key: &K) -> Option<(Res, Instant)>;
}

/// A [`StaleStore`] in memory, for a fixed number of keys. Clones share the store.
///
/// A response to a new key replaces the oldest response if the store is full. Only the number of keys is
/// bounded, not the size of the responses. A response that is older than `max_stale` is not returned by
/// the fallback, but stays in memory until it is replaced.
pub struct MemoryStore<K, Res> {
    max: NonZeroUsize,
    kept: Arc<Mutex<Kept<K, Res>>>,
}

struct Kept<K, Res> {
    answers: HashMap<K, Answer<Res>>,
    /// Keys in the order of their responses' age.
    by_age: BTreeMap<u64, K>,
    puts: u64,
}

struct Answer<Res> {
    /// Sequence number of the `put`, the key in `by_age`.
    number: u64,
    arrived: Instant,
    answer: Res,
}

impl<K, Res> MemoryStore<K, Res> {
    /// Creates a store for at most `max` keys.
    #[must_use]
    pub fn new(max: NonZeroUsize) -> Self {
        Self {
            max,
            kept: Arc::new(Mutex::new(Kept {
                answers: HashMap::new(),
                by_age: BTreeMap::new(),
                puts: 0,
            })),
        }
    }

    /// Returns the number of keys with a response.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.kept).answers.len()
    }

    /// Returns `true` if no key has a response.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, Res> StaleStore<K, Res> for MemoryStore<K, Res>
where
    K: Clone + Eq + Hash + Send + Sync,
    Res: Clone + Send + Sync,
{
    fn put(&self, key: K, answer: &Res, now: Instant) {
        let answer = answer.clone();
        let mut guard = lock(&self.kept);
        let kept = &mut *guard;
        kept.puts += 1;
        let number = kept.puts;
        kept.by_age.insert(number, key.clone());
        let arrived = now;
        let answer = Answer {
            number,
            arrived,
            answer,
        };
        let before = kept.answers.insert(key, answer);
        if let Some(before) = before {
            kept.by_age.remove(&before.number);
        } else if kept.answers.len() > self.max.get() {
            if let Some((_, oldest)) = kept.by_age.pop_first() {
                kept.answers.remove(&oldest);
            }
        }
    }

    fn get(&self, key: &K) -> Option<(Res, Instant)> {
        let kept = lock(&self.kept);
        let Answer {
            arrived, answer, ..
        } = kept.answers.get(key)?;
        Some((answer.clone(), *arrived))
    }
}

impl<K, Res> Clone for MemoryStore<K, Res> {
    fn clone(&self) -> Self {
        Self {
            max: self.max,
            kept: Arc::clone(&self.kept),
        }
    }
}

impl<K, Res> fmt::Debug for MemoryStore<K, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("max", &self.max)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_drops_the_oldest_response() {
        let store = MemoryStore::new(NonZeroUsize::new(2).unwrap());
        let now = Instant::now();
        for (key, answer) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            store.put(key, &answer, now);
        }
        let kept = ["a", "b", "c"].map(|key| store.get(&key).map(|(answer, _)| answer));
        assert_eq!(kept, [Some(3), None, Some(4)]);
        assert_eq!(store.len(), 2);
    }
}
