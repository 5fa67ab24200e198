//! Finds which of many texts a message may have, without a look at each of them.

use std::collections::HashMap;

use super::words;

/// Texts by their words, each with an index.
#[derive(Default)]
pub(super) struct Words {
    /// The indices of the texts by the longest word of each.
    by_word: HashMap<String, Vec<usize>>,
    /// The indices of texts without words, which are looked for in every message.
    without: Vec<usize>,
}

impl Words {
    pub(super) fn add(&mut self, index: usize, text: &str) {
        let longest = words(text).max_by_key(|word| word.len());
        match longest.filter(|word| !word.is_empty()) {
            Some(word) => self.by_word.entry(word.to_owned()).or_default().push(index),
            None => self.without.push(index),
        }
    }

    /// Returns the indices of the texts that `message` may have outside of other words, in ascending order.
    pub(super) fn among(&self, message: &str) -> Vec<usize> {
        let found = words(message).filter_map(|word| self.by_word.get(word));
        let mut found: Vec<_> = found.flatten().chain(&self.without).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_j7_finds_the_texts_of_a_message_by_their_words() {
        let mut all = Words::default();
        for (index, text) in ["c d:e", "ab", "%%", "b", "abc"].iter().enumerate() {
            all.add(index, text);
        }
        assert_eq!(all.among("\"ab\" is b"), [1, 2, 3]);
        assert_eq!(all.among("c d:e"), [0, 2]);
        assert_eq!(all.among("ab-c xb"), [2]);
    }
}
