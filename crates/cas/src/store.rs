//! Blobs by digest on the local disk.

use std::path::{Path, PathBuf};

use model::Digest;

/// The local blob store. Cheap to clone; safe between threads and between processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A blob is not there.
    #[error("blob {0} is not in the store")]
    Missing(Digest),
    /// A blob's bytes are not what its name says. It has been moved out of the way.
    #[error("blob {0} is damaged; it was taken out of the store")]
    Damaged(Digest),
    /// The file system refused.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Store {
    /// Opens or makes the store below `root`.
    ///
    /// # Errors
    /// The folder cannot be made or is not writable.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Ok(Store { root: root.to_path_buf() })
    }
    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Digest of bytes; stores nothing.
    pub fn digest_of(_bytes: &[u8]) -> Digest {
        unimplemented!()
    }
    /// Digest of a file's content; stores nothing. Reads in blocks.
    pub fn digest_of_file(_path: &Path) -> Result<Digest, StoreError> {
        unimplemented!()
    }
    /// Stores bytes.
    pub fn put(&self, _bytes: &[u8]) -> Result<Digest, StoreError> {
        unimplemented!()
    }
    /// Stores a file's content: by hard link when `own` (the caller will never write the file again) and the file
    /// system allows it, else by copy.
    pub fn put_file(&self, _path: &Path, _own: bool) -> Result<Digest, StoreError> {
        unimplemented!()
    }
    /// Whether a blob is there (not whether it is undamaged).
    pub fn has(&self, _digest: &Digest) -> bool {
        unimplemented!()
    }
    /// A blob of at most `bytes_max`, verified.
    pub fn get(&self, _digest: &Digest, _bytes_max: usize) -> Result<Vec<u8>, StoreError> {
        unimplemented!()
    }
    /// Puts a verified blob at `to`, which must not exist and which nobody writes in place: by hard link, else copy.
    pub fn place(&self, _digest: &Digest, _executable: bool, _to: &Path) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// As [`Store::place`], and the file at `to` has this time of last change (nanoseconds since 1970-01-01 UTC).
    pub fn place_at(&self, _digest: &Digest, _executable: bool, _mtime_ns: i64, _to: &Path) -> Result<(), StoreError> {
        unimplemented!()
    }
    /// As [`Store::place`], but always an own copy: for places where somebody may write.
    pub fn copy_to(&self, _digest: &Digest, _executable: bool, _to: &Path) -> Result<(), StoreError> {
        unimplemented!()
    }
}
