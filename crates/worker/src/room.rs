//! The folders of one action, removed with everything in them when it is over.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use blobs::Blobs;
use cache::execution::Fault;

use crate::failed;
use crate::files::Files;
use crate::input::Input;
use crate::order::Order;
use crate::path::join;

/// The folders of one action.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
}

impl Room {
    /// An empty one.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn make(path: PathBuf) -> Result<Room, Fault> {
        let room = Room { path };
        for folder in [&room.path, &room.inputs(), &room.upper(), &room.work()] {
            fs::create_dir(folder).map_err(failed("make the folder", folder))?;
        }
        Ok(room)
    }

    /// The lower layer of the workspace.
    pub(crate) fn inputs(&self) -> PathBuf {
        self.path.join("inputs")
    }
    /// Where what the action writes ends up.
    pub(crate) fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }
    /// For the kernel's use beside it.
    pub(crate) fn work(&self) -> PathBuf {
        self.path.join("work")
    }
    /// What it prints.
    pub(crate) fn stdout(&self) -> PathBuf {
        self.path.join("stdout")
    }
    /// What it complains.
    pub(crate) fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// Makes both streams.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn streams(&self) -> Result<(File, File), Fault> {
        // Appended to, so that an action which opens one of them again through /proc does not overwrite itself.
        let open = |path: PathBuf| {
            OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(failed("make the file", &path))
        };
        Ok((open(self.stdout())?, open(self.stderr())?))
    }

    /// Adds to what the action complained.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn write_stderr(&self, text: &str) -> Result<(), Fault> {
        let (_, mut stderr) = self.streams()?;
        stderr.write_all(text.as_bytes()).map_err(failed("write", &self.stderr()))
    }

    /// Lays out the inputs, and the directories in which outputs are to appear.
    ///
    /// # Errors
    /// A blob is missing, the working directory is no directory of the tree, an output is below a file, or the file
    /// system refuses.
    pub(crate) fn furnish(&self, input: &Input, order: &Order, files: &Files, blobs: &Blobs) -> Result<(), Fault> {
        // The tree has no name twice, so no path leads through a link.
        let root = self.inputs();
        for directory in &input.directories {
            let at = root.join(directory);
            fs::create_dir(&at).map_err(failed("make the folder", &at))?;
        }
        for file in &input.files {
            files.place(blobs, file.key, file.executable, &root.join(&file.path))?;
        }
        for (path, target) in &input.links {
            let at = root.join(path);
            symlink(target, &at).map_err(failed("make the link", &at))?;
        }
        if !order.folder.is_empty() && !input.directories.contains(&order.folder) {
            let why = format!("the working directory {:?} is no directory of the input tree", order.folder);
            return Err(Fault::Invalid(why));
        }
        for output in &order.outputs {
            let path = join(&order.folder, &output.path);
            if let Some((parent, _)) = path.rsplit_once('/') {
                make_parents(&root, parent)?;
            }
        }
        Ok(())
    }
}

/// Makes the directories of a path one by one; stops at a link, which may lead anywhere.
fn make_parents(root: &Path, path: &str) -> Result<(), Fault> {
    let mut at = root.to_path_buf();
    for name in path.split('/') {
        at.push(name);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) if meta.is_symlink() => return Ok(()),
            Ok(_) => {
                let why = format!("an output is to appear in {path:?}, and a part of that is a file of the input tree");
                return Err(Fault::Invalid(why));
            }
            Err(_) => fs::create_dir(&at).map_err(failed("make the folder", &at))?,
        }
    }
    Ok(())
}

impl Drop for Room {
    fn drop(&mut self) {
        // What is left is removed at the next start; nobody waits who could be told.
        let _ = sandbox::remove_tree(&self.path);
    }
}
