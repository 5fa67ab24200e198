//! The set of nodes that are ready to start.

/// A priority queue of node ranks that pops the smallest rank first. All required nodes come before
/// all optional ones.
///
/// The queue is a bit set, so inserting and removing need no sorting. A required node has the bit
/// `rank`, an optional one the bit `ranks + rank`.
#[derive(Debug, Default)]
pub(super) struct Ready {
    bits: Vec<u64>,
    ranks: usize,
    /// Index of the first word that may have a bit set.
    first: usize,
    len: usize,
}

impl Ready {
    /// Removes all ranks, and sizes the set for ranks below `ranks`.
    pub(super) fn reset(&mut self, ranks: usize) {
        self.ranks = ranks;
        self.bits.clear();
        self.bits.resize((2 * ranks).div_ceil(64), 0);
        self.first = self.bits.len();
        self.len = 0;
    }

    pub(super) fn insert(&mut self, required: bool, rank: u32) {
        let bit = rank as usize + if required { 0 } else { self.ranks };
        self.bits[bit / 64] |= 1 << (bit % 64);
        self.first = self.first.min(bit / 64);
        self.len += 1;
    }

    /// Removes and returns the rank of the next node to start, or `None` if the set is empty.
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        // `len` bits are set and none is before `first`, so the loop ends at a word that is not 0.
        while self.bits[self.first] == 0 {
            self.first += 1;
        }
        let word = &mut self.bits[self.first];
        let bit = self.first * 64 + word.trailing_zeros() as usize;
        *word &= *word - 1;
        self.len -= 1;
        Some((bit % self.ranks) as u32)
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
        fn pops_ranks_in_order_required_first(
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
