//! What a keeper of netmap ports hands on besides the descriptors: enough to use them without registering again.

use serde::{Deserialize, Serialize};

/// A set of buffer indices as it is written down: runs of neighbours.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Indices(Vec<(u32, u32)>);

impl Indices {
    /// Sorts and packs.
    pub fn pack(mut indices: Vec<u32>) -> Self {
        indices.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for index in indices {
            match runs.last_mut() {
                Some((first, count)) if first.checked_add(*count) == Some(index) => *count += 1,
                _ => runs.push((index, 1)),
            }
        }
        Self(runs)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|&(_, count)| count as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(first, count)| first..first.saturating_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_come_back_sorted_and_neighbours_cost_one_run() {
        let packed = Indices::pack(vec![9, 2, 3, 4, 11, 10]);
        assert_eq!(packed, Indices(vec![(2, 3), (9, 3)]));
        assert_eq!(packed.iter().collect::<Vec<_>>(), [2, 3, 4, 9, 10, 11]);
        assert_eq!((packed.len(), packed.is_empty()), (6, false));
        assert!(Indices::pack(Vec::new()).is_empty());
    }

    #[test]
    fn an_index_named_twice_is_not_swallowed() {
        assert_eq!(Indices::pack(vec![5, 5]).iter().collect::<Vec<_>>(), [5, 5]);
    }
}
