//! A project's repository as runs need it: commits brought by name, files of pipelines, hashes.

use std::collections::{BTreeMap, BTreeSet};

use forge::Mirror;
use forge::git::{Entry, EntryKind, GitError};
use lang::ReadError;
use model::limits::FILE_BYTES_MAX;

use super::globs;
use crate::desk::Refusal;
use crate::records::Project;

/// Length of a file that a `hash(…)` call reads, in bytes.
const HASHED_BYTES_MAX: u64 = 256 << 20;

/// A project's repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// Its mirror on this server.
    pub(crate) mirror: Mirror,
}

/// What a commit says of itself.
pub(crate) struct Said {
    pub(crate) title: String,
    pub(crate) author: String,
}

impl Repository {
    /// Brings a commit, if it is not there.
    pub(crate) fn ensure(&self, commit: &str) -> Result<(), Refusal> {
        match forge::git::is_commit(commit) {
            true => self.bring(commit, &[]).map(drop),
            false => Err(Refusal::Invalid(format!("`{commit}` is no full id of a commit"))),
        }
    }

    /// Brings what a delivery names: a commit, the beginning of one, or a full ref, to be found in `refs`. The commit.
    pub(crate) fn bring(&self, revision: &str, refs: &[String]) -> Result<String, Refusal> {
        Ok(self.mirror.ensure(revision, refs)?)
    }

    /// The head of a branch or tag, fetched just now.
    pub(crate) fn head(&self, branch: &str, tag: &str) -> Result<String, Refusal> {
        let name = if tag.is_empty() { format!("refs/heads/{branch}") } else { format!("refs/tags/{tag}") };
        self.bring(&name, &[])
    }

    /// The branch that is taken when none is named.
    pub(crate) fn default_branch(&self, project: &Project) -> Result<String, Refusal> {
        if !project.default_branch.is_empty() {
            return Ok(project.default_branch.clone());
        }
        Ok(self.mirror.default_branch()?.unwrap_or_else(|| "main".into()))
    }

    /// What a commit says of itself.
    pub(crate) fn commit(&self, commit: &str) -> Result<Said, Refusal> {
        let info = self.mirror.commit_info(commit)?;
        Ok(Said { title: info.title().into(), author: info.author.clone() })
    }

    /// Paths that changed between two commits, or since the second left the first; `None`: that is not known.
    pub(crate) fn changed(&self, base: &str, head: &str, since_fork: bool) -> Result<Option<Vec<String>>, Refusal> {
        Ok(match since_fork {
            true => self.mirror.changed_since_fork(base, head)?,
            false => self.mirror.changed_files(base, head)?,
        })
    }

    /// Names of what is in a folder at a commit; none if there is no such folder.
    pub(crate) fn list(&self, commit: &str, folder: &str) -> Result<Vec<String>, Refusal> {
        let entries = self.mirror.list(commit, folder)?;
        let files = entries.into_iter().filter(|entry| matches!(entry.kind, EntryKind::File | EntryKind::Executable));
        Ok(files.map(|entry| entry.name).collect())
    }

    /// A file at a commit.
    pub(crate) fn read(&self, commit: &str, path: &str) -> Result<Vec<u8>, ReadError> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(ReadError::Outside);
        }
        match self.mirror.read(commit, path, FILE_BYTES_MAX as u64) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(ReadError::NotFound),
            Err(GitError::TooLarge { .. }) => Err(ReadError::TooLarge),
            Err(error) => Err(ReadError::Other(error.to_string())),
        }
    }

    /// Values of `hash(…)` calls, the same as a run on a desk has them.
    pub(crate) fn hashes(
        &self,
        commit: &str,
        calls: &BTreeSet<Vec<String>>,
    ) -> Result<BTreeMap<Vec<String>, String>, Refusal> {
        let hash = |call: &Vec<String>| {
            let found = self.mirror.files(commit, &globs(call))?;
            let entries = found.into_iter().map(|(path, entry)| Ok((path, self.leaf(&entry)?)));
            let entries = entries.collect::<Result<Vec<_>, Refusal>>()?;
            let tree = cas::tree::Tree::from_entries(entries).map_err(|error| Refusal::Invalid(error.to_string()))?;
            Ok((call.clone(), tree.digest().hex()))
        };
        calls.iter().map(hash).collect()
    }

    fn leaf(&self, entry: &Entry) -> Result<cas::tree::TreeEntry, Refusal> {
        let bytes = self.mirror.content(entry, HASHED_BYTES_MAX)?;
        Ok(match entry.kind {
            EntryKind::Link => cas::tree::TreeEntry::Symlink { target: String::from_utf8_lossy(&bytes).into() },
            kind => cas::tree::TreeEntry::File {
                digest: cas::Store::digest_of(&bytes),
                executable: kind == EntryKind::Executable,
            },
        })
    }
}

impl From<GitError> for Refusal {
    fn from(error: GitError) -> Refusal {
        match error {
            GitError::Missing { .. } => Refusal::NotFound(error.to_string()),
            _ if error.is_transient() => Refusal::Unavailable(error.to_string()),
            _ => Refusal::Invalid(error.to_string()),
        }
    }
}
