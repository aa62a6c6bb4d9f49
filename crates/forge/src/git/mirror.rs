//! A bare mirror of a repository on the server's disk, and what is read from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use model::GlobList;

use super::cat::{Cat, Object, Trouble};
use super::fetch::Turns;
use super::object::entries;
use super::{
    Address, CommitInfo, Credential, Entry, EntryKind, GitError, Program, command, credential, is_abbreviated,
    is_commit, is_ref_name, name,
};

/// Objects that are commits or folders, in bytes: a folder of 100,000 files has some 5 MB.
const OBJECT_BYTES_MAX: u64 = 64 << 20;
/// Paths that one question about changes or files answers with; beyond that it is not known.
const PATHS_MAX: usize = 100_000;
/// Folders that are compared for one question about changes.
const FOLDERS_MAX: usize = 50_000;
/// For commands that look at the mirror alone.
const LOCAL_LIMIT: Duration = Duration::from_secs(60);
/// For packing what came in since the last time.
const REPACK_LIMIT: Duration = Duration::from_secs(3600);
/// For questions to the other side that fetch nothing.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);
/// Written into every mirror. Nothing is ever thrown away by git itself, so that a commit can be run again after a forced
/// push; agents fetch by commit.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfsync = committed\n[gc]\n\tauto = 0\n\
    [maintenance]\n\tauto = false\n[uploadpack]\n\tallowAnySHA1InWant = true\n\tallowFilter = true\n\
    [receive]\n\tautogc = false\n\tmaxInputSize = 2147483648\n\tfsckObjects = true\n[http]\n\treceivepack = true\n";

/// Where a mirror is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The place.
    pub address: Address,
    /// What opens it.
    pub credential: Option<Credential>,
}

/// A bare mirror. Cheap to clone; all clones are one. Every method blocks, and may be called from any thread.
#[derive(Clone, Debug)]
pub struct Mirror(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: Program,
    path: PathBuf,
    remote: Option<Remote>,
    cat: Mutex<Option<(Cat, Instant)>>,
    turns: Turns,
}

impl Mirror {
    /// Opens the mirror in a folder, makes it when absent. Without a remote it is a repository of its own, to which people
    /// push.
    ///
    /// # Errors
    /// The folder cannot be made, or git not be started.
    pub fn open(program: &Program, path: &Path, remote: Option<Remote>) -> Result<Mirror, GitError> {
        if !path.join("HEAD").exists() {
            make(program, path)?;
        }
        let (cat, turns) = (Mutex::new(None), Turns::default());
        Ok(Mirror(Arc::new(Inner { program: program.clone(), path: path.to_path_buf(), remote, cat, turns })))
    }

    /// Its folder, for those who serve it.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Nobody fetches it from elsewhere: people push to it.
    pub fn is_hosted(&self) -> bool {
        self.0.remote.is_none()
    }

    /// Git, for those who serve it.
    pub fn program(&self) -> &Program {
        &self.0.program
    }

    /// Brings refs up to date; none given: all branches and tags, and those that are gone are removed. Fetches of several
    /// threads at a time become one. A hosted mirror is always up to date.
    ///
    /// # Errors
    /// A name that git does not allow, a ref that is not there, or the other side cannot be reached.
    pub fn fetch(&self, refs: &[String]) -> Result<(), GitError> {
        if let Some(bad) = refs.iter().find(|name| !is_ref_name(name)) {
            return Err(GitError::Name(bad.clone()));
        }
        match &self.0.remote {
            None => Ok(()),
            Some(remote) => self.0.turns.take(refs, |refs| super::fetch::fetch(self, remote, refs)),
        }
    }

    /// The commit that a revision names (a commit, the beginning of one, a full ref), fetched when it is not here yet.
    /// `refs` is where it is to be found. A commit that no ref has any more is asked for by itself, which forges allow.
    ///
    /// # Errors
    /// There is no such commit, or it cannot be fetched.
    pub fn ensure(&self, revision: &str, refs: &[String]) -> Result<String, GitError> {
        let is_ref = is_ref_name(revision);
        if !is_ref && let Some(commit) = self.resolve(revision)? {
            return Ok(commit);
        }
        let fetched = match is_ref && refs.is_empty() {
            true => self.fetch(&[revision.to_owned()]),
            false => self.fetch(refs),
        };
        if let Some(commit) = self.resolve(revision)? {
            // Another ref of the list may be gone (the branch of a merged pull request); what is wanted is here.
            return Ok(commit);
        }
        if let (Some(remote), true) = (&self.0.remote, is_commit(revision)) {
            // The branch has moved on by force since; most forges still give the commit.
            super::fetch::fetch_commit(self, remote, revision)?;
            if let Some(commit) = self.resolve(revision)? {
                return Ok(commit);
            }
        }
        fetched?;
        Err(self.missing(format!("commit `{revision}`")))
    }

    /// The commit that a revision names: a commit, the beginning of one, a full ref; tags are followed. `None`: it is not
    /// here.
    ///
    /// # Errors
    /// It is no name that git allows, or the mirror cannot be read.
    pub fn resolve(&self, revision: &str) -> Result<Option<String>, GitError> {
        if !is_abbreviated(revision) && !is_ref_name(revision) {
            return Err(GitError::Name(revision.to_owned()));
        }
        let found = self.ask(&format!("{revision}^{{commit}}"), OBJECT_BYTES_MAX)?;
        Ok(found.filter(|object| object.kind == "commit").map(|object| object.id))
    }

    /// What a ref names itself: a commit, or a tag object that is not followed.
    ///
    /// # Errors
    /// As [`Mirror::resolve`].
    pub fn target(&self, name: &str) -> Result<Option<String>, GitError> {
        match is_ref_name(name) {
            true => Ok(self.ask(name, OBJECT_BYTES_MAX)?.map(|object| object.id)),
            false => Err(GitError::Name(name.to_owned())),
        }
    }

    /// The newest commit of a branch, as the mirror knows it.
    ///
    /// # Errors
    /// As [`Mirror::resolve`].
    pub fn head(&self, branch: &str) -> Result<Option<String>, GitError> {
        self.resolve(&format!("refs/heads/{branch}"))
    }

    /// Author, message, parents of a commit.
    ///
    /// # Errors
    /// It is not here, or the mirror cannot be read.
    pub fn commit_info(&self, commit: &str) -> Result<CommitInfo, GitError> {
        if !is_abbreviated(commit) {
            return Err(GitError::Name(commit.to_owned()));
        }
        let missing = || self.missing(format!("commit `{commit}`"));
        let object = self.ask(&format!("{commit}^{{commit}}"), OBJECT_BYTES_MAX)?.ok_or_else(missing)?;
        CommitInfo::read(&object.id, &object.bytes).ok_or_else(missing)
    }

    /// A file of a commit; `None`: there is no such file. At most `bytes_max` bytes long.
    ///
    /// # Errors
    /// It is longer, or the mirror cannot be read.
    pub fn read(&self, commit: &str, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, GitError> {
        let object = self.at(commit, path, bytes_max)?;
        Ok(object.filter(|object| object.kind == "blob").map(|object| object.bytes))
    }

    /// What is in a folder of a commit, in order of names; the empty path is the root. A folder that is not there is empty.
    ///
    /// # Errors
    /// The mirror cannot be read.
    pub fn list(&self, commit: &str, folder: &str) -> Result<Vec<Entry>, GitError> {
        match self.at(commit, folder, OBJECT_BYTES_MAX)? {
            Some(object) if object.kind == "tree" => self.entries_of(&object),
            _ => Ok(Vec::new()),
        }
    }

    /// Files and symbolic links of a commit that a list of patterns takes in, in order of paths.
    ///
    /// # Errors
    /// There are more than 100,000, or the mirror cannot be read.
    pub fn files(&self, commit: &str, wanted: &GlobList) -> Result<Vec<(String, Entry)>, GitError> {
        let tree = self.commit_info(commit)?.tree;
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), tree)];
        while let Some((folder, tree)) = folders.pop() {
            for entry in self.tree(&tree)? {
                let path = join(&folder, &entry.name);
                match entry.kind {
                    EntryKind::Folder if wanted.may_match_below(&path) => folders.push((path, entry.id)),
                    EntryKind::Folder | EntryKind::Submodule => {}
                    _ if wanted.matches(&path) => found.push((path, entry)),
                    _ => {}
                }
            }
            if found.len() > PATHS_MAX {
                let bytes = found.len() as u64;
                return Err(GitError::TooLarge {
                    what: "the list of files".into(),
                    bytes,
                    bytes_max: PATHS_MAX as u64,
                });
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// Content of something that [`Mirror::files`] found, at most `bytes_max` bytes long.
    ///
    /// # Errors
    /// It is longer, or the mirror cannot be read.
    pub fn content(&self, entry: &Entry, bytes_max: u64) -> Result<Vec<u8>, GitError> {
        let missing = || self.missing(format!("object `{}`", entry.id));
        Ok(self.ask(&entry.id, bytes_max)?.ok_or_else(missing)?.bytes)
    }

    /// Paths that differ between two commits, in order; a moved file is there twice. `None`: one of them is not here, or
    /// there are too many to say.
    ///
    /// # Errors
    /// The mirror cannot be read.
    pub fn changed_files(&self, base: &str, head: &str) -> Result<Option<Vec<String>>, GitError> {
        let (Some(base), Some(head)) = (self.resolve(base)?, self.resolve(head)?) else { return Ok(None) };
        let (base, head) = (self.commit_info(&base)?.tree, self.commit_info(&head)?.tree);
        let mut changed = Vec::new();
        let mut folders = vec![(String::new(), Some(base), Some(head))];
        let mut seen = 0;
        while let Some((folder, old, new)) = folders.pop() {
            seen += 1;
            if seen > FOLDERS_MAX || changed.len() > PATHS_MAX {
                return Ok(None);
            }
            let side = |tree: Option<String>| tree.map_or(Ok(Vec::new()), |tree| self.tree(&tree));
            compare(&folder, side(old)?, side(new)?, &mut changed, &mut folders);
        }
        changed.sort();
        Ok(Some(changed))
    }

    /// Paths that a branch changed since it left another one: what a pull request shows. `None`: the two have nothing in
    /// common, or there are too many to say.
    ///
    /// # Errors
    /// The mirror cannot be read.
    pub fn changed_since_fork(&self, base: &str, head: &str) -> Result<Option<Vec<String>>, GitError> {
        match self.merge_base(base, head)? {
            Some(fork) => self.changed_files(&fork, head),
            None => Ok(None),
        }
    }

    /// The newest commit that two have in common.
    ///
    /// # Errors
    /// The mirror cannot be read.
    pub fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, GitError> {
        let (Some(one), Some(other)) = (self.resolve(one)?, self.resolve(other)?) else { return Ok(None) };
        match self.run(&["merge-base", &one, &other], "find the common commit", LOCAL_LIMIT) {
            Ok(out) => Ok(Some(String::from_utf8_lossy(&out).trim().to_owned()).filter(|commit| is_commit(commit))),
            // Exit code 1 and nothing said: there is none.
            Err(GitError::Failed { said, .. }) if said.starts_with("git ended with") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All branches with their commits, as the mirror knows them.
    ///
    /// # Errors
    /// The mirror cannot be read.
    pub fn branches(&self) -> Result<Vec<(String, String)>, GitError> {
        let list = ["for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/"];
        let out = self.run(&list, "list branches", LOCAL_LIMIT)?;
        let text = String::from_utf8_lossy(&out);
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.map(|(commit, branch)| (branch.to_owned(), commit.to_owned())).collect())
    }

    /// The branch that the other side checks out by default. It is asked, so this also tells whether it can be reached and
    /// lets us in. `None`: it has none yet.
    ///
    /// # Errors
    /// It cannot be reached, or does not let us in.
    pub fn default_branch(&self) -> Result<Option<String>, GitError> {
        let out = match &self.0.remote {
            None => self.run(&["symbolic-ref", "--quiet", "HEAD"], "read HEAD", LOCAL_LIMIT)?,
            Some(remote) => {
                let url = remote.address.text();
                self.run_at(remote, &["ls-remote", "--symref", "--", &url, "HEAD"], "ask", QUESTION_LIMIT)?
            }
        };
        let text = String::from_utf8_lossy(&out);
        let named = text.split_whitespace().find_map(|word| word.strip_prefix("refs/heads/"));
        Ok(named.filter(|branch| is_ref_name(&format!("refs/heads/{branch}"))).map(str::to_owned))
    }

    /// Says which branch a hosted mirror checks out by default.
    ///
    /// # Errors
    /// No name that git allows, or the mirror cannot be written.
    pub fn choose_default_branch(&self, branch: &str) -> Result<(), GitError> {
        let name = format!("refs/heads/{branch}");
        if !is_ref_name(&name) {
            return Err(GitError::Name(branch.to_owned()));
        }
        self.run(&["symbolic-ref", "HEAD", &name], "write HEAD", LOCAL_LIMIT).map(|_| ())
    }

    /// Packs what came in piece by piece. Throws nothing away. Worth calling once an hour.
    ///
    /// # Errors
    /// The mirror cannot be written.
    pub fn repack(&self) -> Result<(), GitError> {
        self.run(&["repack", "-d", "-q", "--geometric=2"], "repack", REPACK_LIMIT)?;
        self.run(&["pack-refs", "--all"], "pack refs", REPACK_LIMIT).map(|_| ())
    }

    /// Ends the git that answers questions if nobody asked for so long; the next question starts another.
    pub fn rest(&self, unused: Duration) {
        let mut cat = self.cat();
        if cat.as_ref().is_some_and(|(_, used)| used.elapsed() >= unused) {
            *cat = None;
        }
    }

    pub(super) fn run(&self, arguments: &[&str], act: &str, limit: Duration) -> Result<Vec<u8>, GitError> {
        let mut command = self.0.program.command();
        command.arg("--git-dir").arg(&self.0.path).args(arguments);
        command::run(command, &format!("{act} in {}", self.0.path.display()), limit, "")
    }

    /// A command that speaks to the other side.
    pub(super) fn run_at(
        &self,
        remote: &Remote,
        arguments: &[&str],
        act: &str,
        limit: Duration,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = self.0.program.command();
        let credential = remote.credential.as_ref();
        let lent = credential::lend(&mut command, self.0.program.home(), &remote.address, credential)?;
        command.arg("--git-dir").arg(&self.0.path).args(arguments);
        let act = format!("{act} {}", remote.address.text());
        let answer = command::run(command, &act, limit, credential.map_or("", |credential| credential.secret()));
        drop(lent);
        answer
    }

    fn at(&self, commit: &str, path: &str, bytes_max: u64) -> Result<Option<Object>, GitError> {
        if !is_abbreviated(commit) {
            return Err(GitError::Name(commit.to_owned()));
        }
        if !path.is_empty() && !name::is_path(path) {
            return Ok(None);
        }
        self.ask(&format!("{commit}:{path}"), bytes_max)
    }

    fn tree(&self, id: &str) -> Result<Vec<Entry>, GitError> {
        match self.ask(id, OBJECT_BYTES_MAX)? {
            Some(object) => self.entries_of(&object),
            None => Err(self.missing(format!("tree `{id}`"))),
        }
    }

    fn entries_of(&self, tree: &Object) -> Result<Vec<Entry>, GitError> {
        entries(&tree.bytes, tree.id.len() / 2).ok_or_else(|| self.missing(format!("readable tree `{}`", tree.id)))
    }

    /// Asks the long-lived git, and a fresh one if that has died meanwhile.
    fn ask(&self, what: &str, bytes_max: u64) -> Result<Option<Object>, GitError> {
        let mut slot = self.cat();
        let mut last = String::new();
        for _ in 0..2 {
            let (mut cat, _) = match slot.take() {
                Some(running) => running,
                None => (Cat::start(&self.0.program, &self.0.path)?, Instant::now()),
            };
            match cat.ask(what, bytes_max) {
                Ok(found) => {
                    *slot = Some((cat, Instant::now()));
                    return Ok(found);
                }
                Err(Trouble::TooLarge(bytes)) => {
                    return Err(GitError::TooLarge { what: format!("`{what}`"), bytes, bytes_max });
                }
                Err(Trouble::Broken(why)) => last = why,
            }
        }
        Err(GitError::Failed { act: format!("read `{what}` in {}", self.0.path.display()), said: last })
    }

    fn cat(&self) -> MutexGuard<'_, Option<(Cat, Instant)>> {
        // Whoever panicked with it took the git out first.
        self.0.cat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn missing(&self, what: String) -> GitError {
        let place = self.0.remote.as_ref().map(|remote| remote.address.text());
        GitError::Missing { repository: place.unwrap_or_else(|| self.0.path.display().to_string()), what }
    }
}

/// Makes an empty bare repository beside its place and moves it there, so that a half-made one is never found.
fn make(program: &Program, path: &Path) -> Result<(), GitError> {
    let failed = |error: std::io::Error| GitError::Folder { path: path.display().to_string(), why: error.to_string() };
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let half =
        parent.join(format!(".{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], ""));
    let mut init = program.command();
    init.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--"]).arg(&half);
    command::run(init, &format!("make {}", path.display()), LOCAL_LIMIT, "")?;
    std::fs::write(half.join("config"), CONFIG).map_err(failed)?;
    match std::fs::rename(&half, path) {
        Err(_) if path.join("HEAD").exists() => {
            // Another thread was faster; its mirror is as good.
            let _ = std::fs::remove_dir_all(&half);
            Ok(())
        }
        moved => moved.map_err(failed),
    }
}

type Pair = (String, Option<String>, Option<String>);

/// What differs between two folders: files go to `changed`, folders are looked at later.
fn compare(folder: &str, old: Vec<Entry>, new: Vec<Entry>, changed: &mut Vec<String>, later: &mut Vec<Pair>) {
    let mut sides: BTreeMap<String, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
    for entry in old {
        let name = entry.name.clone();
        sides.entry(name).or_default().0 = Some(entry);
    }
    for entry in new {
        let name = entry.name.clone();
        sides.entry(name).or_default().1 = Some(entry);
    }
    for (name, (old, new)) in sides {
        if let (Some(old), Some(new)) = (&old, &new)
            && old.id == new.id
            && old.kind == new.kind
        {
            continue;
        }
        let path = join(folder, &name);
        let tree = |entry: &Option<Entry>| {
            entry.as_ref().filter(|entry| entry.kind == EntryKind::Folder).map(|entry| entry.id.clone())
        };
        let is_leaf = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.kind != EntryKind::Folder);
        if is_leaf(&old) || is_leaf(&new) {
            changed.push(path.clone());
        }
        if tree(&old).is_some() || tree(&new).is_some() {
            later.push((path, tree(&old), tree(&new)));
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// All mirrors of a server, in one folder.
#[derive(Debug)]
pub struct Mirrors {
    program: Program,
    folder: PathBuf,
    open: Mutex<BTreeMap<String, Mirror>>,
}

impl Mirrors {
    /// Prepares the folder, made when absent.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: &Path) -> Result<Mirrors, GitError> {
        let program = Program::new(&folder.join("home"))?;
        Ok(Mirrors { program, folder: folder.to_path_buf(), open: Mutex::default() })
    }

    /// The mirror of a project. An empty `repository` makes a hosted one. Another repository or credential than last time
    /// is taken from now on; another repository has another folder.
    ///
    /// # Errors
    /// The address or the credential is none, or the folder cannot be made.
    pub fn of(&self, project: &str, repository: &str, credential: &str) -> Result<Mirror, GitError> {
        let remote = match repository {
            "" => None,
            text => Some(Remote { address: Address::parse(text)?, credential: Credential::parse(credential)? }),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mirror) = open.get(project).filter(|mirror| mirror.0.remote == remote) {
            return Ok(mirror.clone());
        }
        let path = self.folder.join(folder_name(project, remote.as_ref()));
        let mirror = Mirror::open(&self.program, &path, remote)?;
        open.insert(project.to_owned(), mirror.clone());
        Ok(mirror)
    }

    /// Ends gits that nobody asked for so long. Worth calling once a minute.
    pub fn rest(&self, unused: Duration) {
        let all: Vec<Mirror> = self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for mirror in all {
            mirror.rest(unused);
        }
    }
}

/// A name for the folder that no two projects and no two repositories of one share.
fn folder_name(project: &str, remote: Option<&Remote>) -> String {
    let safe: String = project
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '~' })
        .take(64)
        .collect();
    let place = remote.map(|remote| remote.address.text()).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, format!("{project}\0{place}").as_bytes());
    let hash = hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{safe}-{hash}.git")
}
