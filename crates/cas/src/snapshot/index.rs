//! What the last snapshot saw, so that a file that did not change is not read again.

use std::path::Path;

use model::Digest;

use super::look::Stat;
use crate::disk::{read_bounded, seal, unseal, write_atomically};

/// Two million entries of two hundred bytes each.
const INDEX_BYTES_MAX: u64 = 512 << 20;
const MAGIC: &[u8; 8] = b"PACEIDX1";

/// A write within this time of a snapshot's beginning may not show in the times of a file: file systems count in steps
/// (4 ms on ext4, 2 s on FAT). Git has the same rule and calls such entries racily clean.
const RACY_NS: i64 = 2_000_000_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// When the snapshot began, in nanoseconds since 1970-01-01 UTC.
    pub(super) started_ns: i64,
    /// Sorted as the paths of a tree are.
    pub(super) entries: Vec<IndexEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) path: String,
    pub(super) stat: Stat,
    pub(super) digest: Digest,
}

impl Index {
    /// Whether an entry's file may have changed after it was hashed without its times showing it.
    pub(super) fn is_racy(&self, entry: &IndexEntry) -> bool {
        entry.stat.ctime_ns.max(entry.stat.mtime_ns) >= self.started_ns.saturating_sub(RACY_NS)
    }

    /// Reads an index of `root`; `None` if there is none, it is damaged, or it is that of another folder.
    pub(super) fn load(file: &Path, root: &Path) -> Option<Index> {
        let sealed = read_bounded(file, INDEX_BYTES_MAX)?;
        let mut rest = Reader(unseal(MAGIC, &sealed)?);
        let length = rest.u32()? as usize;
        if rest.bytes(length)? != root.as_os_str().as_encoded_bytes() {
            return None;
        }
        let started_ns = rest.i64()?;
        let mut entries = Vec::new();
        while !rest.0.is_empty() {
            entries.push(rest.entry()?);
        }
        Some(Index { started_ns, entries })
    }

    /// Replaces an index; not being able to only costs time.
    pub(super) fn save(&self, file: &Path, root: &Path) {
        let root = root.as_os_str().as_encoded_bytes();
        let mut body = Vec::with_capacity(self.entries.len() * 128 + 64);
        body.extend((root.len() as u32).to_le_bytes());
        body.extend(root);
        body.extend(self.started_ns.to_le_bytes());
        for entry in &self.entries {
            let Stat { size, mtime_ns, ctime_ns, inode, mode } = entry.stat;
            body.extend((entry.path.len() as u32).to_le_bytes());
            body.extend(entry.path.as_bytes());
            body.extend(size.to_le_bytes());
            body.extend(mtime_ns.to_le_bytes());
            body.extend(ctime_ns.to_le_bytes());
            body.extend(inode.to_le_bytes());
            body.extend(mode.to_le_bytes());
            body.extend(entry.digest.hash);
        }
        if let Some(folder) = file.parent()
            && std::fs::create_dir_all(folder).is_ok()
        {
            let _ = write_atomically(folder, file, &seal(MAGIC, &body));
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }
    fn entry(&mut self) -> Option<IndexEntry> {
        let length = self.u32()? as usize;
        let path = std::str::from_utf8(self.bytes(length)?).ok()?.to_string();
        let (size, mtime_ns, ctime_ns) = (self.u64()?, self.i64()?, self.i64()?);
        let stat = Stat { size, mtime_ns, ctime_ns, inode: self.u64()?, mode: self.u32()? };
        // The digest's size is the file's: a file that changed while it was read has no entry.
        Some(IndexEntry { path, stat, digest: Digest { hash: self.array()?, size } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let stat = Stat { size: 3, mtime_ns: 5, ctime_ns: -7, inode: 11, mode: 0o100_644 };
        let digest = crate::Store::digest_of(b"abc");
        Index { started_ns: 10_000_000_000, entries: vec![IndexEntry { path: "a/b".into(), stat, digest }] }
    }

    #[test]
    fn an_index_reads_as_it_was_written_for_its_own_folder_only() {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("deep/index");
        index().save(&file, Path::new("/r"));
        assert_eq!(Index::load(&file, Path::new("/r")), Some(index()));
        assert_eq!(Index::load(&file, Path::new("/other")), None);
    }

    #[test]
    fn a_damaged_index_is_none() {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("index");
        index().save(&file, Path::new("/r"));
        let whole = std::fs::read(&file).expect("index");
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 4;
            std::fs::write(&file, &torn).expect("damage");
            assert_eq!(Index::load(&file, Path::new("/r")), None, "byte {at}");
        }
    }

    #[test]
    fn a_file_written_about_the_time_of_the_snapshot_is_not_trusted() {
        let mut index = index();
        assert!(!index.is_racy(&index.entries[0]));
        index.entries[0].stat.ctime_ns = 8_000_000_000;
        assert!(index.is_racy(&index.entries[0]));
        index.entries[0].stat.ctime_ns = 7_999_999_999;
        assert!(!index.is_racy(&index.entries[0]));
    }
}
