//! Sets of results that are written as a list of words and statuses: `[connect, timeout, 503]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::config::STATUSES;

/// A set of results with a list form.
pub(crate) trait OutcomeList: Clone {
    /// Creates the empty set.
    fn nothing() -> Self;

    /// Returns the flags with their words, and the statuses.
    fn parts(&mut self) -> (Vec<(&'static str, &mut bool)>, &mut Vec<u16>);
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Item {
    Status(u16),
    Word(String),
}

/// Adds `item` to `set`. A status must be within [`STATUSES`], and a word must be known.
fn add<T: OutcomeList, E: Error>(set: &mut T, item: Item) -> Result<(), E> {
    let (mut words, statuses) = set.parts();
    match item {
        Item::Status(status) if STATUSES.contains(&status) => statuses.push(status),
        Item::Status(status) => {
            let (low, high) = STATUSES.into_inner();
            let message = format_args!("must be within {low} to {high}, got {status}");
            return Err(E::custom(message));
        }
        Item::Word(word) => match words.iter_mut().find(|(name, _)| *name == word) {
            Some((_, on)) => **on = true,
            None => {
                let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
                let names = names.join(", ");
                return Err(E::custom(format_args!(
                    "expected a status or one of {names}, got {word:?}"
                )));
            }
        },
    }
    Ok(())
}

/// Reads the set from a list.
pub(crate) fn deserialize<'de, T: OutcomeList, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut set = T::nothing();
    for item in Vec::<Item>::deserialize(deserializer)? {
        add(&mut set, item)?;
    }
    Ok(set)
}

/// Writes the set as a list.
pub(crate) fn serialize<T: OutcomeList, S: Serializer>(
    set: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut set = set.clone();
    let (words, statuses) = set.parts();
    let words = words.into_iter().filter(|(_, on)| **on);
    let words = words.map(|(word, _)| Item::Word(word.into()));
    serializer.collect_seq(words.chain(statuses.iter().copied().map(Item::Status)))
}
