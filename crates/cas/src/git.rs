//! What Git knows about the checked-out commit, asked of the `git` program.

use std::path::Path;
use std::process::{Command, Stdio};

/// The checked-out commit. All empty outside of Git or before the first commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Full commit id.
    pub commit: String,
    /// Branch, if one is checked out.
    pub branch: String,
    /// A tag that names the commit; the last in byte order if there are several.
    pub tag: String,
    /// The whole message.
    pub message: String,
    /// `Name <address>`.
    pub author: String,
}

/// Reads the checked-out commit of the repository that `root` lies in.
pub fn head(root: &Path) -> Head {
    if !is_inside(root) {
        return Head::default();
    }
    let log = ["log", "-1", "--no-show-signature", "--decorate=full", "--format=%H%x00%D%x00%an <%ae>%x00%B"];
    match run(root, &log).map(|out| String::from_utf8_lossy(&out).into_owned()) {
        Ok(text) => parse_log(&text),
        // Before the first commit there is a branch already.
        Err(_) => {
            let branch = run(root, &["symbolic-ref", "--quiet", "--short", "HEAD"]).unwrap_or_default();
            Head { branch: String::from_utf8_lossy(&branch).trim().to_string(), ..Head::default() }
        }
    }
}

/// What is the same in every clone: where it was cloned from, without scheme, user and `.git`, and where in it `root` lies.
/// `None` when Git names no origin.
pub fn origin(root: &Path) -> Option<String> {
    if !is_inside(root) {
        return None;
    }
    let text = |arguments: &[&str]| {
        let out = run(root, arguments).ok()?;
        Some(String::from_utf8(out).ok()?.trim().to_string())
    };
    let url = text(&["config", "--get", "remote.origin.url"]).filter(|url| !url.is_empty())?;
    let below = text(&["rev-parse", "--show-prefix"])?;
    Some(format!("{} {below}", plain_origin(&url)))
}

/// `git@host:a/b.git`, `https://user:token@host/a/b` and `ssh://host/a/b/` are one place.
fn plain_origin(url: &str) -> String {
    let rest = url.split_once("://").map_or_else(|| url.replacen(':', "/", 1), |(_, rest)| rest.to_string());
    let (host, path) = rest.split_once('/').unwrap_or((&rest, ""));
    let host = host.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let path = path.trim_matches('/');
    format!("{host}/{}", path.strip_suffix(".git").unwrap_or(path))
}

/// Paths below `root` that differ between the merge base of `base` and what is on the disk now. Files that Git does
/// not know yet are not among them.
///
/// # Errors
/// What git said: no such revision, not a repository, no git.
pub fn changed_files(root: &Path, base: &str) -> Result<Vec<String>, String> {
    let arguments =
        ["diff", "--name-only", "--no-renames", "--relative", "-z", "--merge-base", "--end-of-options", base];
    let out = run(root, &arguments)?;
    let names = out.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Whether a folder or one above it has a `.git`; costs no process.
pub(crate) fn is_inside(root: &Path) -> bool {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    root.ancestors().any(|dir| dir.join(".git").exists())
}

/// A git command in `root` that sees the repository there and not one that the caller's environment names (hooks set
/// these), and that takes no locks.
pub(crate) fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(arguments).stdin(Stdio::null());
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(name);
    }
    command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    command
}

/// What git printed, or what it said when it failed.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = command(root, arguments).output().map_err(|error| format!("git cannot be started: {error}"))?;
    if output.status.success() { Ok(output.stdout) } else { Err(complaint(&output.stderr, output.status)) }
}

/// The first lines of what git said; bounded, since it may repeat what is in a file.
pub(crate) fn complaint(stderr: &[u8], status: std::process::ExitStatus) -> String {
    let text = String::from_utf8_lossy(&stderr[..stderr.len().min(2000)]).trim().to_string();
    if text.is_empty() { format!("it ended with {status}") } else { text }
}

fn parse_log(text: &str) -> Head {
    let mut fields = text.splitn(4, '\0');
    let mut next = || fields.next().unwrap_or_default().to_string();
    let (commit, names, author, message) = (next(), next(), next(), next());
    let mut head = Head { commit, author, message: message.trim_end().to_string(), ..Head::default() };
    for name in names.split(", ") {
        if let Some(branch) = name.strip_prefix("HEAD -> refs/heads/") {
            head.branch = branch.to_string();
        } else if let Some(tag) = name.strip_prefix("tag: refs/tags/") {
            head.tag = head.tag.max(tag.to_string());
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::repository;
    use std::fs;

    #[test]
    fn one_place_has_one_name_however_it_was_cloned() {
        for url in ["git@Host.example:a/b.git", "https://me:token@host.example/a/b", "ssh://git@host.example/a/b.git/"]
        {
            assert_eq!(plain_origin(url), "host.example/a/b", "{url}");
        }
        assert_ne!(plain_origin("https://host.example/a/c"), "host.example/a/b");
    }

    #[test]
    fn the_head_has_commit_branch_tag_message_and_author() {
        let repo = repository(&[("a", "1")]);
        let git = |arguments: &[&str]| run(repo.path(), arguments).expect("git");
        git(&["tag", "v1.0.0"]);
        git(&["tag", "-a", "-m", "x", "v1.1.0"]);
        let seen = head(repo.path());
        assert_eq!((seen.branch.as_str(), seen.tag.as_str(), seen.commit.len()), ("main", "v1.1.0", 40));
        assert_eq!((seen.message.as_str(), seen.author.as_str()), ("first\n\nwith a body", "A Tester <a@example.com>"));
        git(&["checkout", "-q", "--detach"]);
        assert_eq!(head(repo.path()).branch, "");
    }

    #[test]
    fn outside_of_git_there_is_nothing_and_before_the_first_commit_a_branch() {
        let dir = tempfile::tempdir().expect("folder");
        assert_eq!(head(dir.path()), Head::default());
        run(dir.path(), &["init", "-q", "-b", "trunk"]).expect("git");
        assert_eq!(head(dir.path()), Head { branch: "trunk".into(), ..Head::default() });
    }

    #[test]
    fn changed_files_are_those_since_the_merge_base_and_on_the_disk() {
        let repo = repository(&[("a", "1"), ("b", "1"), ("sub/c", "1")]);
        let git = |arguments: &[&str]| run(repo.path(), arguments).expect("git");
        git(&["checkout", "-q", "-b", "topic"]);
        fs::write(repo.path().join("a"), "2").expect("file");
        git(&["commit", "-q", "-a", "-m", "second"]);
        fs::write(repo.path().join("sub/c"), "2").expect("file");
        assert_eq!(changed_files(repo.path(), "main").expect("changed"), ["a", "sub/c"]);
        assert_eq!(changed_files(&repo.path().join("sub"), "main").expect("changed"), ["c"]);
        assert!(changed_files(repo.path(), "no-such-branch").expect_err("unknown").contains("no-such-branch"));
        assert!(changed_files(repo.path(), "--output=x").is_err(), "a revision is never an option");
        assert!(!repo.path().join("x").exists());
    }
}
