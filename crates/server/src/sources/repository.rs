//! The mirror of one repository: fetched by git, read by git.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lang::ReadError;
use model::limits::FILE_BYTES_MAX;

use super::{globs, short};
use crate::desk::Refusal;
use crate::records::Project;

/// The mirror of one repository.
#[derive(Debug)]
pub(crate) struct Repository {
    mirror: PathBuf,
    origin: String,
}

/// What a commit says of itself.
pub(crate) struct Said {
    pub(crate) title: String,
    pub(crate) author: String,
}

impl Repository {
    pub(super) fn new(folder: &Path, project: &Project) -> Repository {
        Repository { mirror: folder.join(project.name.replace('/', "%")), origin: project.repository.clone() }
    }

    /// Brings a commit, if it is not there.
    pub(crate) fn ensure(&self, commit: &str) -> Result<(), Refusal> {
        let is_id = matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Err(Refusal::Invalid(format!("`{commit}` is no full id of a commit")));
        }
        if self.has(commit) {
            return Ok(());
        }
        self.fetch()?;
        match self.has(commit) {
            true => Ok(()),
            false => Err(Refusal::NotFound(format!("the repository has no commit {}", short(commit)))),
        }
    }

    /// The head of a branch or tag, fetched just now.
    pub(crate) fn head(&self, branch: &str, tag: &str) -> Result<String, Refusal> {
        self.fetch()?;
        let name = if tag.is_empty() { format!("refs/heads/{branch}") } else { format!("refs/tags/{tag}") };
        let commit = self.git(&["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")]);
        commit.map(|out| text(&out)).map_err(|_| Refusal::NotFound(format!("the repository has no `{name}`")))
    }

    /// The branch that is taken when none is named.
    pub(crate) fn default_branch(&self, project: &Project) -> Result<String, Refusal> {
        if !project.default_branch.is_empty() {
            return Ok(project.default_branch.clone());
        }
        let out = run(Command::new("git").args(["ls-remote", "--symref", "--", &self.origin, "HEAD"]))?;
        let named = text(&out).lines().find_map(|line| {
            line.strip_prefix("ref: refs/heads/").and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
        });
        Ok(named.unwrap_or_else(|| "main".into()))
    }

    /// What a commit says of itself.
    pub(crate) fn commit(&self, commit: &str) -> Result<Said, Refusal> {
        let out = self.git(&["log", "-1", "--no-show-signature", "--format=%an%x00%s", commit, "--"])?;
        let text = text(&out);
        let (author, title) = text.split_once('\0').unwrap_or_default();
        Ok(Said { title: title.trim().into(), author: author.into() })
    }

    /// Names of the files of a folder at a commit; none if there is no such folder.
    pub(crate) fn list(&self, commit: &str, folder: &str) -> Result<Vec<String>, Refusal> {
        let tree = format!("{commit}:{folder}");
        let Ok(out) = self.git(&["ls-tree", "--name-only", "-z", &tree]) else { return Ok(Vec::new()) };
        Ok(text(&out).split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// A file at a commit.
    pub(crate) fn read(&self, commit: &str, path: &str) -> Result<Vec<u8>, ReadError> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(ReadError::Outside);
        }
        let out = self.git(&["cat-file", "blob", &format!("{commit}:{path}")]);
        match out {
            Ok(bytes) if bytes.len() > FILE_BYTES_MAX => Err(ReadError::TooLarge),
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(ReadError::NotFound),
        }
    }

    /// Values of `hash(…)` calls, the same as a run on a desk has them.
    pub(crate) fn hashes(
        &self,
        commit: &str,
        calls: &BTreeSet<Vec<String>>,
    ) -> Result<BTreeMap<Vec<String>, String>, Refusal> {
        let mut values = BTreeMap::new();
        if calls.is_empty() {
            return Ok(values);
        }
        let listed = text(&self.git(&["ls-tree", "-r", "-z", "--full-tree", commit])?);
        for call in calls {
            let wanted = globs(call);
            let mut entries = Vec::new();
            for line in listed.split('\0').filter(|line| !line.is_empty()) {
                let Some((what, path)) = line.split_once('\t') else { continue };
                let mut words = what.split(' ');
                let (mode, kind, blob) = (words.next(), words.next(), words.next());
                if kind != Some("blob") || !wanted.matches(path) {
                    continue;
                }
                let bytes = self.git(&["cat-file", "blob", blob.unwrap_or_default()])?;
                entries.push((path.to_owned(), entry(mode.unwrap_or_default(), &bytes)));
            }
            let tree = cas::tree::Tree::from_entries(entries).map_err(|error| Refusal::Invalid(error.to_string()))?;
            values.insert(call.clone(), tree.digest().hex());
        }
        Ok(values)
    }

    fn has(&self, commit: &str) -> bool {
        self.mirror.exists() && self.git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_ok()
    }

    fn fetch(&self) -> Result<(), Refusal> {
        if !self.mirror.exists() {
            run(Command::new("git").args(["init", "-q", "--bare", "--"]).arg(&self.mirror))?;
        }
        let specs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.git(&["fetch", "-q", "--prune", "--no-auto-gc", "--", &self.origin, specs[0], specs[1]]).map(drop)
    }

    fn git(&self, args: &[&str]) -> Result<Vec<u8>, Refusal> {
        run(Command::new("git").arg("--git-dir").arg(&self.mirror).args(args))
    }
}

fn entry(mode: &str, bytes: &[u8]) -> cas::tree::TreeEntry {
    match mode {
        "120000" => cas::tree::TreeEntry::Symlink { target: String::from_utf8_lossy(bytes).into() },
        _ => cas::tree::TreeEntry::File { digest: cas::Store::digest_of(bytes), executable: mode == "100755" },
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned()
}

fn run(command: &mut Command) -> Result<Vec<u8>, Refusal> {
    let failed = |why: String| Refusal::Unavailable(format!("git: {why}"));
    let command = command.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    let out = command.output().map_err(|error| failed(error.to_string()))?;
    match out.status.success() {
        true => Ok(out.stdout),
        false => Err(failed(text(&out.stderr))),
    }
}
