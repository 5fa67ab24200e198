//! Sets of results, written as a list of words and statuses: `[connect, timeout, 503]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::config::STATUSES;

/// A set of results that is written as a list.
pub(crate) trait OutcomeList: Clone {
    /// The set without any.
    fn nothing() -> Self;

    /// The results that have a word, and the statuses.
    fn parts(&mut self) -> (Vec<(&'static str, &mut bool)>, &mut Vec<u16>);
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Item {
    Status(u16),
    Word(String),
}

fn add<T: OutcomeList, E: Error>(set: &mut T, item: Item) -> Result<(), E> {
    let (mut words, statuses) = set.parts();
    match item {
        Item::Status(status) if STATUSES.contains(&status) => statuses.push(status),
        Item::Status(status) => {
            let (low, high) = STATUSES.into_inner();
            let message = format_args!("{status} is not within {low} to {high}");
            return Err(E::custom(message));
        }
        Item::Word(word) => match words.iter_mut().find(|(name, _)| *name == word) {
            Some((_, on)) => **on = true,
            None => {
                let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
                let names = names.join(", ");
                return Err(E::custom(format_args!(
                    "{word:?} is none of {names}, or a status"
                )));
            }
        },
    }
    Ok(())
}

/// Reads a list.
pub(crate) fn deserialize<'de, T: OutcomeList, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut set = T::nothing();
    for item in Vec::<Item>::deserialize(deserializer)? {
        add(&mut set, item)?;
    }
    Ok(set)
}

/// Writes a list.
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
