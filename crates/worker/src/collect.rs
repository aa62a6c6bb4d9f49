//! What an action made, into the store: files, trees, links and what it printed.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Function, Hasher, Key};
use bytes::Bytes;
use cache::execution::Fault;
use prost::Message;

use crate::failed;
use crate::merged::{Directory, Found};
use crate::order::{Order, Wanted};
use crate::path::join;
use crate::room::Room;

/// Files up to this size are read once and stored together, flushed once.
const SMALL_BYTES: u64 = 1 << 20;
/// Bytes that are stored together.
const BATCH_BYTES: usize = 8 << 20;
/// One read of a large file.
const CHUNK_BYTES: usize = 256 << 10;
/// Files and directories of all outputs together.
const NODES_MAX: usize = 500_000;
/// Levels of an output directory.
const DEPTH_MAX: usize = 256;

/// Stores what an action made.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    blobs: &'a Blobs,
    function: Function,
    batch: Vec<(Key, Bytes)>,
    batch_bytes: usize,
    nodes: usize,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(blobs: &'a Blobs, function: Function) -> Collector<'a> {
        Collector { blobs, function, batch: Vec::new(), batch_bytes: 0, nodes: 0 }
    }

    /// Stores what was printed; nothing when that was nothing.
    ///
    /// # Errors
    /// The store or the file system refuses.
    pub(crate) fn stream(&mut self, path: &Path) -> Result<Option<api::Digest>, Fault> {
        let key = self.file(path)?;
        Ok((key.size > 0).then(|| digest(&key)))
    }

    /// Stores what was asked for, as far as it is there.
    ///
    /// # Errors
    /// An output is too large or cannot be named, the store or the file system refuses.
    #[allow(deprecated)]
    pub(crate) fn outputs(&mut self, room: &Room, order: &Order, result: &mut api::ActionResult) -> Result<(), Fault> {
        for output in &order.outputs {
            let root = Directory::root(room.upper(), room.inputs());
            let path = output.path.clone();
            let found =
                root.at(&join(&order.folder, &path)).map_err(failed("look for the output", Path::new(&path)))?;
            match (found, output.kind) {
                (Some(Found::File { path: at, executable }), Wanted::Any | Wanted::File) => {
                    let digest = Some(digest(&self.file(&at)?));
                    let file =
                        api::OutputFile { path, digest, is_executable: executable, ..api::OutputFile::default() };
                    result.output_files.push(file);
                }
                (Some(Found::Directory(directory)), Wanted::Any | Wanted::Directory) => {
                    result.output_directories.push(self.tree(path, &directory)?);
                }
                (Some(Found::Link(target)), kind) => {
                    let link = api::OutputSymlink { path, target: text(&target)?, node_properties: None };
                    match kind {
                        Wanted::Any => {}
                        Wanted::File => result.output_file_symlinks.push(link.clone()),
                        Wanted::Directory => result.output_directory_symlinks.push(link.clone()),
                    }
                    result.output_symlinks.push(link);
                }
                // Not there, or not what was asked for: the client knows what to make of that.
                _ => {}
            }
        }
        Ok(())
    }

    /// Stores what is left to store.
    ///
    /// # Errors
    /// The store refuses.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        Ok(self.blobs.put_many(&batch).into_iter().collect::<Result<(), blobs::Error>>()?)
    }

    fn tree(&mut self, path: String, root: &Directory) -> Result<api::OutputDirectory, Fault> {
        let mut below = Below::default();
        let root = self.directory(root, 1, &mut below)?;
        // A directory was finished after all that is in it; turned round, parents stand before their children.
        let children = below.children.into_iter().rev().collect();
        let tree = api::Tree { root: Some(root), children };
        let key = self.bytes(tree.encode_to_vec().into())?;
        let tree_digest = Some(digest(&key));
        Ok(api::OutputDirectory { path, tree_digest, is_topologically_sorted: true, root_directory_digest: None })
    }

    fn directory(&mut self, dir: &Directory, depth: usize, below: &mut Below) -> Result<api::Directory, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Unmet(format!("an output directory has more than {DEPTH_MAX} levels")));
        }
        let reading = || failed("read a directory of the", Path::new("outputs"));
        let mut made = api::Directory::default();
        for name in dir.names().map_err(reading())? {
            self.nodes += 1;
            if self.nodes > NODES_MAX {
                return Err(Fault::Unmet(format!("the outputs are more than {NODES_MAX} files and directories")));
            }
            match dir.child(&name).map_err(reading())? {
                Some(Found::File { path, executable }) => {
                    let digest = Some(digest(&self.file(&path)?));
                    let name = text(Path::new(&name))?;
                    made.files.push(api::FileNode { name, digest, is_executable: executable, node_properties: None });
                }
                Some(Found::Link(target)) => {
                    let (name, target) = (text(Path::new(&name))?, text(&target)?);
                    made.symlinks.push(api::SymlinkNode { name, target, node_properties: None });
                }
                Some(Found::Directory(child)) => {
                    let child = self.directory(&child, depth + 1, below)?;
                    let key = self.function.key_of(&child.encode_to_vec());
                    let name = text(Path::new(&name))?;
                    made.directories.push(api::DirectoryNode { name, digest: Some(digest(&key)) });
                    below.add(key, child);
                }
                Some(Found::Other) | None => {}
            }
        }
        Ok(made)
    }

    fn file(&mut self, path: &Path) -> Result<Key, Fault> {
        let open = || {
            let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
            OpenOptions::new().read(true).custom_flags(flags as i32).open(path).map_err(failed("read the output", path))
        };
        let mut file = open()?;
        let size = file.metadata().map_err(failed("read the output", path))?.len();
        if size <= SMALL_BYTES {
            let mut bytes = Vec::with_capacity(size as usize);
            file.take(SMALL_BYTES).read_to_end(&mut bytes).map_err(failed("read the output", path))?;
            return self.bytes(bytes.into());
        }
        let mut hasher = Hasher::new(self.function);
        pour(&mut file, path, |part| {
            hasher.update(part);
            Ok(())
        })?;
        let key = hasher.key();
        if !self.blobs.missing(&[key]).is_empty() {
            let mut writer = self.blobs.writer(key)?;
            pour(&mut open()?, path, |part| writer.write(part))?;
            writer.finish()?;
        }
        Ok(key)
    }

    fn bytes(&mut self, bytes: Bytes) -> Result<Key, Fault> {
        let key = self.function.key_of(&bytes);
        self.batch_bytes += bytes.len();
        self.batch.push((key, bytes));
        if self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(key)
    }
}

/// Directories below one, each once, in the order in which they were finished.
#[derive(Default)]
struct Below {
    seen: HashSet<Key>,
    children: Vec<api::Directory>,
}

impl Below {
    fn add(&mut self, key: Key, child: api::Directory) {
        if self.seen.insert(key) {
            self.children.push(child);
        }
    }
}

fn pour(file: &mut File, path: &Path, mut into: impl FnMut(&[u8]) -> Result<(), blobs::Error>) -> Result<(), Fault> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => into(&chunk[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read the output", path)(error)),
        }
    }
}

/// The protocol knows only names that are text.
fn text(path: &Path) -> Result<String, Fault> {
    let owned: PathBuf = path.to_path_buf();
    owned
        .into_os_string()
        .into_string()
        .map_err(|name| Fault::Unmet(format!("an output has the name or target {name:?}, which is not UTF-8")))
}

pub(crate) fn digest(key: &Key) -> api::Digest {
    api::Digest { hash: key.hex(), size_bytes: i64::try_from(key.size).unwrap_or(i64::MAX) }
}
