//! A filter that says which files cannot have a tag, at one access to memory each.

use crate::tag::Tag;

/// Bits for each tag: with 7 probes in one cache line some 1.5 % of strangers pass.
const BITS: u64 = 10;
const WORDS: usize = 8;
const PROBES: u32 = 7;

/// A blocked Bloom filter (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters", 2007). Blocks are
/// in the order of tags, so that a sorted batch walks through memory.
#[derive(Debug)]
pub(crate) struct Bloom {
    words: Vec<u64>,
}

impl Bloom {
    pub(crate) fn with_capacity(tags: u64) -> Bloom {
        let blocks = (tags * BITS).div_ceil(WORDS as u64 * 64).max(1);
        Bloom { words: vec![0; blocks as usize * WORDS] }
    }

    /// `None` when the length is not that of a filter.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Bloom> {
        let (words, rest) = bytes.as_chunks::<8>();
        let whole = rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(WORDS);
        whole.then(|| Bloom { words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() })
    }

    pub(crate) fn bytes(&self) -> impl Iterator<Item = [u8; 8]> {
        self.words.iter().map(|word| word.to_le_bytes())
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len() * 8
    }

    pub(crate) fn add(&mut self, tag: Tag) {
        let block = self.block(tag);
        for bit in bits(tag) {
            self.words[block + bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(crate) fn may_have(&self, tag: Tag) -> bool {
        let block = self.block(tag);
        let words = &self.words[block..block + WORDS];
        bits(tag).all(|bit| words[bit / 64] & (1 << (bit % 64)) != 0)
    }

    fn block(&self, tag: Tag) -> usize {
        let blocks = (self.words.len() / WORDS) as u128;
        ((u128::from(tag.high) * blocks) >> 64) as usize * WORDS
    }
}

fn bits(tag: Tag) -> impl Iterator<Item = usize> {
    (0..PROBES).map(move |probe| (tag.low >> (probe * 9)) as usize % (WORDS * 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;

    fn tag(n: u32) -> Tag {
        Tag::of(&Function::Sha256.key_of(&n.to_le_bytes()))
    }

    #[test]
    fn what_was_added_passes_and_few_others_do() {
        let mut bloom = Bloom::with_capacity(10_000);
        (0..10_000).for_each(|n| bloom.add(tag(n)));
        let bloom = Bloom::from_bytes(bloom.bytes().collect::<Vec<_>>().as_flattened()).unwrap();
        assert!((0..10_000).all(|n| bloom.may_have(tag(n))));
        let strangers = (10_000..30_000).filter(|n| bloom.may_have(tag(*n))).count();
        assert!(strangers < 800, "{strangers} of 20000 pass");
    }
}
