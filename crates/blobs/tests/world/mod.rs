//! What the tests of a store share.

#![allow(dead_code)] // each test binary needs another part of it

use std::fs;
use std::path::Path;
use std::time::Duration;

use blobs::{Blobs, EntryId, Function, Key, Options};
use bytes::Bytes;

pub fn options() -> Options {
    Options { bytes_max: 1 << 30, lease: Duration::from_secs(60), memory_bytes: 1 << 20, ..Options::default() }
}

pub fn open(dir: &Path) -> Blobs {
    Blobs::open(dir, options()).unwrap()
}

/// Bytes that do not compress, always the same ones.
pub fn noise(seed: u64, count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

pub fn keyed(bytes: Bytes) -> (Key, Bytes) {
    (Function::Sha256.key_of(&bytes), bytes)
}

pub fn put(blobs: &Blobs, bytes: &Bytes) -> Key {
    let (key, bytes) = keyed(bytes.clone());
    blobs.put_many(&[(key, bytes)]).remove(0).unwrap();
    key
}

pub fn whole(blobs: &Blobs, key: &Key, offset: u64, limit: Option<u64>) -> Vec<u8> {
    blobs.reader(key, offset, limit).unwrap().flat_map(|part| part.unwrap()).collect()
}

pub fn id(name: &str) -> EntryId {
    EntryId { space: "main".into(), hash: Function::Sha256.key_of(name.as_bytes()).hash }
}

/// A copy of a store's folder as it is now, as a crash would leave it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The segments of a store, the oldest first, with their lengths.
pub fn segments(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let number =
        |path: &Path| path.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0.parse::<u32>().unwrap();
    let paths = fs::read_dir(dir.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = paths.map(|path| (path.clone(), fs::metadata(&path).unwrap().len())).collect();
    segments.sort_by_key(|(path, _)| number(path));
    segments
}

pub fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
