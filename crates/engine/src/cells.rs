//! A list, or a sparse copy over one: how a draft changes a few states of a world without touching it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Cells that live here, or changes over cells that live elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Cells<'w, T> {
    /// They live here.
    Own(Vec<T>),
    /// They live elsewhere; what differs is here.
    Over { base: &'w [T], changed: BTreeMap<usize, T>, added: Vec<T> },
}

impl<T: Clone> Cells<'_, T> {
    /// A draft over these cells.
    pub(crate) fn over(&self) -> Cells<'_, T> {
        match self {
            Cells::Own(base) => Cells::Over { base, changed: BTreeMap::new(), added: Vec::new() },
            Cells::Over { .. } => Cells::Own(self.iter().cloned().collect()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Cells::Own(own) => own.len(),
            Cells::Over { base, added, .. } => base.len() + added.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        match self {
            Cells::Own(own) => own.get(at),
            Cells::Over { base, changed, added } => {
                changed.get(&at).or_else(|| base.get(at)).or_else(|| added.get(at.checked_sub(base.len())?))
            }
        }
    }

    /// The cell to change, copied up when it lives elsewhere.
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match self {
            Cells::Own(own) => own.get_mut(at),
            Cells::Over { base, changed, added } => match base.get(at) {
                Some(cell) => Some(changed.entry(at).or_insert_with(|| cell.clone())),
                None => added.get_mut(at.checked_sub(base.len())?),
            },
        }
    }

    pub(crate) fn push(&mut self, cell: T) {
        match self {
            Cells::Own(own) => own.push(cell),
            Cells::Over { added, .. } => added.push(cell),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl<T: Clone + PartialEq> PartialEq for Cells<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_changes_nothing_below_it() {
        let below = Cells::Own(alloc::vec![1, 2, 3]);
        let mut draft = below.over();
        *draft.get_mut(1).expect("there are three") = 20;
        draft.push(4);
        *draft.get_mut(3).expect("just added") = 40;
        assert_eq!(draft.iter().copied().collect::<Vec<_>>(), [1, 20, 3, 40]);
        assert_eq!(below.iter().copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(draft.get(4).is_none() && draft.get_mut(9).is_none());
    }
}
