//! Which copies there are below, and which runs say what is in them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::{Copy, Objects};
use crate::checkpoint::sync_dir;
use crate::tag::Tag;

const FIRST_LINE: &str = "paceline tier 1";
/// Blobs that must not come back one by one; with more, the oldest copies go as a whole.
const REMOVED_MAX: usize = 64 << 10;

/// A copy as the index names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Object {
    pub copy: Copy,
    /// Of the copy, without its index.
    pub bytes: u64,
}

/// What is in the file: a line for each thing, and a checksum of them all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Manifest {
    /// How this store is called in names of copies.
    pub store: String,
    /// The last number given to a copy.
    pub next_object: u32,
    /// The last number given to a run.
    pub next_run: u64,
    /// Entries in copies up to this number are not believed.
    pub entries_after: u32,
    /// Local segments that have a copy, or need none.
    pub copied: BTreeSet<u32>,
    pub objects: Objects,
    /// Newest first.
    pub runs: Vec<u64>,
    /// What must not come back.
    pub removed: BTreeSet<Tag>,
}

impl Manifest {
    /// Of a store that has no copies, with a name that no other has.
    pub(super) fn new() -> io::Result<Manifest> {
        let mut name = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut name)?;
        Ok(Manifest { store: format!("{:032x}", u128::from_be_bytes(name)), ..Manifest::default() })
    }

    /// `None` when there is none, or a damaged one: then everything is copied again, under another name.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Manifest>> {
        match fs::read_to_string(dir.join("manifest")) {
            Ok(text) => Ok(Manifest::decode(&text)),
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Takes the place of the one before at once or not at all.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("manifest.new");
        let mut file = File::create(&new)?;
        file.write_all(self.encode().as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, dir.join("manifest"))?;
        sync_dir(dir)
    }

    pub(super) fn remove(&mut self, tag: Tag) {
        self.removed.insert(tag);
        if self.removed.len() > REMOVED_MAX {
            // Without objects nothing comes back, so nothing has to be kept from it.
            self.objects.clear();
            self.removed.clear();
        }
    }

    fn encode(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nstore {}\n", self.store);
        let mut line = |words: std::fmt::Arguments<'_>| text.write_fmt(words).expect("a string takes everything");
        line(format_args!("next {} {} {}\n", self.next_object, self.next_run, self.entries_after));
        self.copied.iter().for_each(|id| line(format_args!("copied {id}\n")));
        for (number, Object { copy, bytes }) in &self.objects {
            line(format_args!("object {number} {} {} {bytes}\n", copy.store, copy.number));
        }
        self.runs.iter().for_each(|id| line(format_args!("run {id}\n")));
        self.removed.iter().for_each(|tag| line(format_args!("removed {}\n", u128::from_be_bytes(tag.bytes()))));
        let sum = xxh3_64(text.as_bytes());
        text + &format!("sum {sum}\n")
    }

    fn decode(text: &str) -> Option<Manifest> {
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once("sum ")?;
        let mut lines = body.strip_prefix(FIRST_LINE).filter(|_| sum.parse() == Ok(xxh3_64(body.as_bytes())))?.lines();
        lines.next()?;
        let mut manifest = Manifest::default();
        for line in lines {
            manifest.take(&line.split(' ').collect::<Vec<_>>())?;
        }
        Some(manifest)
    }

    fn take(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["store", name] => self.store = (*name).to_owned(),
            ["next", object, run, entries] => {
                (self.next_object, self.next_run) = (object.parse().ok()?, run.parse().ok()?);
                self.entries_after = entries.parse().ok()?;
            }
            ["copied", id] => self.copied.extend([id.parse::<u32>().ok()?]),
            ["object", number, store, at_store, bytes] => {
                let copy = Copy { store: (*store).to_owned(), number: at_store.parse().ok()? };
                self.objects.insert(number.parse().ok()?, Object { copy, bytes: bytes.parse().ok()? });
            }
            ["run", id] => self.runs.push(id.parse().ok()?),
            ["removed", tag] => {
                let tag: u128 = tag.parse().ok()?;
                self.removed.insert(Tag::from_bytes(tag.to_be_bytes()));
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_a_damaged_one_does_not() {
        let mut manifest = Manifest::new().unwrap();
        let copy = Copy { store: manifest.store.clone(), number: 7 };
        (manifest.next_object, manifest.next_run, manifest.entries_after) = (9, 12, 3);
        manifest.objects.insert(7, Object { copy, bytes: 1 << 40 });
        (manifest.copied, manifest.runs) = ([4, 5].into(), vec![12, 3]);
        manifest.remove(Tag { high: 1, low: u64::MAX });
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest.clone()));
        let text = manifest.encode();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(Manifest::decode(&String::from_utf8(bytes).unwrap()), None, "byte {at}");
            assert_eq!(Manifest::decode(&text[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn what_was_removed_too_often_to_be_remembered_does_not_come_back_either() {
        let mut manifest = Manifest::new().unwrap();
        let copy = Copy { store: manifest.store.clone(), number: 1 };
        manifest.objects.insert(1, Object { copy, bytes: 1 });
        (0..=REMOVED_MAX as u64).for_each(|low| manifest.remove(Tag { high: 0, low }));
        assert!(manifest.objects.is_empty() && manifest.removed.is_empty());
    }
}
