//! A layer's manifest: what is stored of a layer, and the digest that two executions are compared by.

use model::{Digest, LayerRef};
use prost::Message;

use super::{LAYER_ENTRIES_MAX, Layer, LayerEntry, LayerError, LayerKind, MANIFEST_BYTES_MAX};
use crate::tree::{check_path, path_order};
use crate::{Store, StoreError, reapi};

#[derive(Clone, PartialEq, Message)]
struct ManifestMessage {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<EntryMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(bytes = "vec", tag = "3")]
    hash: Vec<u8>,
    #[prost(uint64, tag = "4")]
    size: u64,
    #[prost(bool, tag = "5")]
    executable: bool,
    #[prost(sint64, tag = "6")]
    mtime_ns: i64,
    #[prost(string, tag = "7")]
    target: String,
}

const FILE: u32 = 1;
const SYMLINK: u32 = 2;
const DIR: u32 = 3;
const WHITEOUT: u32 = 4;
const OPAQUE_DIR: u32 = 5;

impl Layer {
    /// Digest of what it says, but for the times: two executions are the same if this is.
    pub fn digest(&self) -> Digest {
        Store::digest_of(&self.message(|_| 0).encode_to_vec())
    }
    /// Its manifest.
    pub fn encode(&self) -> Vec<u8> {
        self.message(|mtime_ns| mtime_ns).encode_to_vec()
    }
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is malformed, too large, or has paths that would lead out of the directory it is restored to.
    pub fn decode(bytes: &[u8]) -> Result<Layer, LayerError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(LayerError::TooLarge("256 MiB of paths"));
        }
        let message: ManifestMessage = reapi::decode(bytes).map_err(|_| LayerError::Malformed("it does not decode"))?;
        if message.entries.len() > LAYER_ENTRIES_MAX {
            return Err(LayerError::TooLarge("1,000,000 paths"));
        }
        let entries = message.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
        let layer = Layer { entries };
        layer.check()?;
        Ok(layer)
    }
    /// Puts the manifest into the store.
    ///
    /// # Errors
    /// The store refuses.
    pub fn put(&self, store: &Store) -> Result<LayerRef, StoreError> {
        let digest = store.put(&self.encode())?;
        let mut reference = LayerRef { digest, files: 0, bytes: 0 };
        for entry in &self.entries {
            if let LayerKind::File { digest, .. } = &entry.kind {
                reference.files = reference.files.saturating_add(1);
                reference.bytes = reference.bytes.saturating_add(digest.size);
            }
        }
        Ok(reference)
    }
    /// Reads a manifest from the store.
    ///
    /// # Errors
    /// As in [`Layer::decode`], or it is missing or damaged.
    pub fn load(manifest: &Digest, store: &Store) -> Result<Layer, LayerError> {
        Layer::decode(&store.get(manifest, MANIFEST_BYTES_MAX)?)
    }

    fn message(&self, mtime: impl Fn(i64) -> i64) -> ManifestMessage {
        let message = |entry: &LayerEntry| {
            let empty = EntryMessage { path: entry.path.clone(), ..EntryMessage::default() };
            match &entry.kind {
                LayerKind::File { digest, executable, mtime_ns } => EntryMessage {
                    kind: FILE,
                    hash: digest.hash.to_vec(),
                    size: digest.size,
                    executable: *executable,
                    mtime_ns: mtime(*mtime_ns),
                    ..empty
                },
                LayerKind::Symlink { target } => EntryMessage { kind: SYMLINK, target: target.clone(), ..empty },
                LayerKind::Dir => EntryMessage { kind: DIR, ..empty },
                LayerKind::Whiteout => EntryMessage { kind: WHITEOUT, ..empty },
                LayerKind::OpaqueDir => EntryMessage { kind: OPAQUE_DIR, ..empty },
            }
        };
        ManifestMessage { entries: self.entries.iter().map(message).collect() }
    }

    /// Sorted, and nothing stands below something that is no directory: restoring one entry after the other can then
    /// never write through a link that an entry before it made.
    fn check(&self) -> Result<(), LayerError> {
        for pair in self.entries.windows(2) {
            let [before, after] = pair else { continue };
            if path_order(&before.path, &after.path).is_ge() {
                return Err(LayerError::Malformed("its paths are not sorted"));
            }
        }
        let mut leaf: Option<&str> = None;
        for entry in &self.entries {
            if let Some(leaf) = leaf
                && entry.path.strip_prefix(leaf).is_some_and(|rest| rest.starts_with('/'))
            {
                return Err(LayerError::Malformed("a path lies below one that is no directory"));
            }
            leaf = (!matches!(entry.kind, LayerKind::Dir | LayerKind::OpaqueDir)).then_some(&entry.path);
        }
        Ok(())
    }
}

fn entry(message: EntryMessage) -> Result<LayerEntry, LayerError> {
    check_path(&message.path).map_err(|_| LayerError::Malformed("a path leads out of the workspace"))?;
    let kind = match message.kind {
        FILE => {
            let hash = message.hash.try_into().map_err(|_| LayerError::Malformed("a file has no digest"))?;
            LayerKind::File {
                digest: Digest { hash, size: message.size },
                executable: message.executable,
                mtime_ns: message.mtime_ns,
            }
        }
        SYMLINK if !message.target.is_empty() && !message.target.contains('\0') => {
            LayerKind::Symlink { target: message.target }
        }
        DIR => LayerKind::Dir,
        WHITEOUT => LayerKind::Whiteout,
        OPAQUE_DIR => LayerKind::OpaqueDir,
        _ => return Err(LayerError::Malformed("an entry of an unknown kind")),
    };
    Ok(LayerEntry { path: message.path, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(entries: &[(&str, LayerKind)]) -> Layer {
        Layer {
            entries: entries
                .iter()
                .map(|(path, kind)| LayerEntry { path: path.to_string(), kind: kind.clone() })
                .collect(),
        }
    }

    fn file(mtime_ns: i64) -> LayerKind {
        LayerKind::File { digest: Store::digest_of(b"x"), executable: true, mtime_ns }
    }

    #[test]
    fn a_manifest_reads_as_it_was_written() {
        let link = LayerKind::Symlink { target: "../x".into() };
        let all = layer(&[
            ("a", LayerKind::Dir),
            ("a/f", file(-5)),
            ("b", LayerKind::OpaqueDir),
            ("c", LayerKind::Whiteout),
            ("d", link),
        ]);
        assert_eq!(Layer::decode(&all.encode()).expect("decode"), all);
    }

    #[test]
    fn the_digest_does_not_see_times() {
        let (a, b) = (layer(&[("f", file(1))]), layer(&[("f", file(2))]));
        assert_eq!(a.digest(), b.digest());
        assert_ne!(a.encode(), b.encode());
        assert_ne!(a.digest(), layer(&[("g", file(1))]).digest());
    }

    #[test]
    fn a_manifest_that_would_lead_out_is_refused() {
        let link = LayerKind::Symlink { target: "/etc".into() };
        for bad in [
            layer(&[("../a", file(0))]),
            layer(&[("/a", file(0))]),
            layer(&[("b", file(0)), ("a", file(0))]),
            layer(&[("a", file(0)), ("a", file(0))]),
            layer(&[("a", link), ("a/passwd", file(0))]),
            layer(&[("a", LayerKind::Whiteout), ("a/b/c", file(0))]),
            layer(&[("a", LayerKind::Symlink { target: String::new() })]),
        ] {
            assert!(Layer::decode(&bad.encode()).is_err(), "{bad:?}");
        }
        assert!(Layer::decode(b"\x0a\xff garbage").is_err());
    }
}
