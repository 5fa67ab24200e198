//! The map under many thread schedules. See [`crate::sync`].

use super::{
    PerKeyConfig,
    keyed::{Keyed, Retention},
    map::Map,
};
use crate::{
    event::Events,
    sync::{Arc, check, join, thread},
};

struct Counts;

impl Keyed for Counts {
    fn fresh(&self) -> Self {
        Self
    }

    fn events(self, _: Events) -> Self {
        self
    }

    fn retention(&self) -> Retention {
        Retention::Counts
    }
}

fn map(max_keys: usize) -> Arc<Map<u32, Counts>> {
    Arc::new(Map::new(&PerKeyConfig::new().max_keys(max_keys)))
}

#[test]
fn key_01_concurrent_first_calls_create_one_state() {
    check(|| {
        let map = map(10);
        let get = || {
            let map = Arc::clone(&map);
            thread::spawn(move || map.get_or_make(7, |_| Counts))
        };
        let layers = join([get(), get(), get()]);
        let [first, others @ ..] = layers.map(Option::unwrap);
        assert!(others.iter().all(|other| Arc::ptr_eq(&first, other)));
        assert_eq!(map.stats().keys, 1);
    });
}

#[test]
fn key_04_concurrent_new_keys_do_not_exceed_the_limit() {
    check(|| {
        let map = map(2);
        let get = |key| {
            let map = Arc::clone(&map);
            thread::spawn(move || {
                for key in [key, key + 1] {
                    let layer = map.get_or_make(key, |_| Counts);
                    assert!(map.keys().len() <= 2);
                    drop(layer);
                }
            })
        };
        join([get(1), get(2), get(3)]);
        assert_eq!(map.stats().keys, map.keys().len());
    });
}
