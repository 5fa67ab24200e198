//! Nodes that could start, in the order in which they should.

/// A set of ranks, of which the least is taken first: a bit for each, so that nothing is sorted.
/// Those of required nodes come before all others.
#[derive(Debug, Default)]
pub(super) struct Ready {
    bits: Vec<u64>,
    ranks: usize,
    /// No word before this one has a bit.
    first: usize,
    len: usize,
}

impl Ready {
    /// Forgets all, and makes room for `ranks`.
    pub(super) fn reset(&mut self, ranks: usize) {
        self.ranks = ranks;
        self.bits.clear();
        self.bits.resize((2 * ranks).div_ceil(64), 0);
        self.first = self.bits.len();
        self.len = 0;
    }

    pub(super) fn insert(&mut self, required: bool, rank: u32) {
        let place = rank as usize + if required { 0 } else { self.ranks };
        self.bits[place / 64] |= 1 << (place % 64);
        self.first = self.first.min(place / 64);
        self.len += 1;
    }

    /// Takes the first out, by its rank.
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        // `len` bits are set, none of them before `first`, so there is such a word.
        while self.bits[self.first] == 0 {
            self.first += 1;
        }
        let word = &mut self.bits[self.first];
        let place = self.first * 64 + word.trailing_zeros() as usize;
        *word &= *word - 1;
        self.len -= 1;
        Some((place % self.ranks) as u32)
    }

    pub(super) fn clear(&mut self) {
        self.reset(self.ranks);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_an_ordered_set(
            ranks in 1usize..200,
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<u32>()), 0..300),
        ) {
            let (mut ready, mut model) = (Ready::default(), BTreeSet::new());
            ready.reset(ranks);
            for (insert, required, rank) in steps {
                let rank = rank % ranks as u32;
                if !insert {
                    prop_assert_eq!(ready.pop(), model.pop_first().map(|(_, rank)| rank));
                } else if !model.contains(&(!required, rank)) {
                    ready.insert(required, rank);
                    model.insert((!required, rank));
                }
            }
        }
    }
}
