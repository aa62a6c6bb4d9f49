//! The nearest name to one that does not exist.

use alloc::vec::Vec;

/// Longer names are compared by their beginning only: nobody mistypes a hundred letters.
const CHARS_MAX: usize = 100;

/// The name most like `wanted`, if one is like it at all: at most a third of its letters differ.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.chars().take(CHARS_MAX).collect();
    let bound = (wanted.len() / 3).max(1);
    names
        .map(|name| (distance(&wanted, name), name))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Optimal string alignment: inserted, deleted, changed and swapped letters count one each.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().take(CHARS_MAX).collect();
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = alloc::vec![i + 1];
        for j in 0..b.len() {
            let change = row[j] + usize::from(a[i] != b[j]);
            let mut best = change.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                let swapped: &Vec<usize> = &before;
                best = best.min(swapped[j - 1] + 1);
            }
            next.push(best);
        }
        before = core::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let near = |wanted| nearest(wanted, ["build", "test", "deploy"].into_iter());
        assert_eq!(near("biuld"), Some("build"));
        assert_eq!(near("tets"), Some("test"));
        assert_eq!(near("x"), None);
        assert_eq!(near("publish"), None);
    }
}
