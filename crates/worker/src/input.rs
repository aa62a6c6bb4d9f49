//! The input tree of an action: `Directory` messages, walked into a flat list whose every path stays below the workspace.

use std::collections::HashSet;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Key};
use cache::execution::Fault;

use crate::order::{digest, message};
use crate::path::{PATH_BYTES_MAX, join, name_problem};

/// Files, directories and links of one tree. A tree that names one directory twice at each of forty levels has a
/// trillion of them and costs its sender forty blobs.
const NODES_MAX: usize = 500_000;
/// Bytes of all paths together.
const PATHS_BYTES_MAX: usize = 256 << 20;
/// Missing blobs that are named; the others come to light when these are there.
const MISSING_MAX: usize = 4096;

/// An input tree. A directory stands before what is in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) directories: Vec<String>,
    pub(crate) files: Vec<File>,
    /// Path and target.
    pub(crate) links: Vec<(String, String)>,
}

/// A file of an input tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) key: Key,
    pub(crate) executable: bool,
}

impl Input {
    /// Reads a tree; all its blobs are leased from then on.
    ///
    /// # Errors
    /// Blobs of it are missing, a name leads out of its directory, or it is too large.
    pub(crate) fn walk(blobs: &Blobs, root: Key) -> Result<Input, Fault> {
        let mut walk =
            Walk { input: Input::default(), open: vec![(String::new(), root)], missing: Vec::new(), bytes: 0 };
        while let Some((path, key)) = walk.open.pop() {
            match message::<api::Directory>(blobs, &key, "a Directory") {
                Ok(directory) => walk.enter(&path, &key, &directory)?,
                Err(Fault::Missing(keys)) => walk.missing.extend(keys),
                Err(fault) => return Err(fault),
            }
            if walk.missing.len() >= MISSING_MAX {
                break;
            }
        }
        walk.look_for_files(blobs);
        if walk.missing.is_empty() { Ok(walk.input) } else { Err(Fault::Missing(walk.missing)) }
    }

    fn nodes(&self) -> usize {
        self.directories.len() + self.files.len() + self.links.len()
    }
}

struct Walk {
    input: Input,
    /// Directories that are still to be read.
    open: Vec<(String, Key)>,
    missing: Vec<Key>,
    bytes: usize,
}

impl Walk {
    fn enter(&mut self, path: &str, key: &Key, directory: &api::Directory) -> Result<(), Fault> {
        let mut names = HashSet::new();
        for node in &directory.files {
            let path = self.path(path, &node.name, &mut names)?;
            let key = digest(key.function, node.digest.as_ref(), &format!("file {path:?}"))?;
            self.input.files.push(File { path, key, executable: node.is_executable });
        }
        for node in &directory.symlinks {
            let path = self.path(path, &node.name, &mut names)?;
            if node.target.is_empty() || node.target.contains('\0') || node.target.len() > PATH_BYTES_MAX {
                return Err(Fault::Invalid(format!("the link {path:?} has a target that no link can have")));
            }
            self.bytes += node.target.len();
            self.input.links.push((path, node.target.clone()));
        }
        for node in &directory.directories {
            let path = self.path(path, &node.name, &mut names)?;
            let key = digest(key.function, node.digest.as_ref(), &format!("directory {path:?}"))?;
            self.input.directories.push(path.clone());
            self.open.push((path, key));
        }
        Ok(())
    }

    fn path<'a>(&mut self, folder: &str, name: &'a str, names: &mut HashSet<&'a str>) -> Result<String, Fault> {
        let refuse = |why: String| Err(Fault::Invalid(format!("the input tree cannot be: {why}")));
        if let Some(problem) = name_problem(name) {
            return refuse(format!("in {folder:?} {problem}"));
        }
        if !names.insert(name) {
            return refuse(format!("{folder:?} has {name:?} twice"));
        }
        let path = join(folder, name);
        self.bytes += path.len();
        if path.len() > PATH_BYTES_MAX {
            return refuse(format!("a path in it has {} bytes, and at most {PATH_BYTES_MAX} are allowed", path.len()));
        }
        if self.input.nodes() >= NODES_MAX || self.bytes > PATHS_BYTES_MAX {
            return refuse(format!("it has more than {NODES_MAX} files and directories, or too long paths"));
        }
        Ok(path)
    }

    fn look_for_files(&mut self, blobs: &Blobs) {
        let mut seen = HashSet::new();
        let keys: Vec<Key> = self.input.files.iter().map(|file| file.key).filter(|key| seen.insert(*key)).collect();
        let room = MISSING_MAX.saturating_sub(self.missing.len());
        self.missing.extend(blobs.missing(&keys).into_iter().take(room).map(|at| keys[at]));
    }
}
