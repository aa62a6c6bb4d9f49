//! Lists of which only the beginning is kept, so that no delivery costs much more memory than it is long.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// Entries of a list that are kept.
const ENTRIES_MAX: usize = 300;

/// The beginning of a list; `null` is an empty one.
#[derive(Debug)]
pub(super) struct Few<T> {
    /// The first ones.
    pub(super) entries: Vec<T>,
    /// There were more.
    pub(super) cut: bool,
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few { entries: Vec::new(), cut: false }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Few<T>, D::Error> {
        deserializer.deserialize_any(Beginning(PhantomData))
    }
}

struct Beginning<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Beginning<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Few::default();
        while few.entries.len() < ENTRIES_MAX {
            match list.next_element()? {
                Some(entry) => few.entries.push(entry),
                None => return Ok(few),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            few.cut = true;
        }
        Ok(few)
    }
}
