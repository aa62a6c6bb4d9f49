//! Mirrors of real repositories with the real git.
// A test may say `unwrap`, in its helpers, too: its failure is the message.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use forge::git::GitError;
use forge::{Mirror, Mirrors};
use model::{Glob, GlobList};

struct Scene {
    dir: tempfile::TempDir,
    mirrors: Mirrors,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::new(&dir.path().join("git")).unwrap();
        let scene = Scene { dir, mirrors };
        std::fs::create_dir(scene.repo()).unwrap();
        scene.git(&["init", "-q", "-b", "main"]);
        scene
    }

    fn repo(&self) -> std::path::PathBuf {
        self.dir.path().join("origin")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.repo()).args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com"]);
        let out = git.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.repo().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "Say hello\n\nbody"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn mirror(&self) -> Mirror {
        self.mirrors.of("team/web", self.repo().to_str().unwrap(), "").unwrap()
    }
}

fn refs(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_pushed_commit_is_fetched_and_read() {
    let scene = Scene::new();
    let first = scene.commit(&[("paceline.yaml", "steps: []"), ("src/a b.rs", "fn a() {}")]);
    let mirror = scene.mirror();
    assert_eq!(mirror.ensure(&first, &refs(&["refs/heads/main"])), Ok(first.clone()));
    assert_eq!(mirror.read(&first, "paceline.yaml", 100).unwrap().as_deref(), Some(b"steps: []".as_slice()));
    assert_eq!(mirror.read(&first, "src/a b.rs", 100).unwrap().as_deref(), Some(b"fn a() {}".as_slice()));
    assert_eq!(mirror.read(&first, "nothing", 100), Ok(None));
    assert_eq!(mirror.read(&first, "src", 100), Ok(None), "a folder is no file");
    assert_eq!(mirror.read(&first, "../origin/x", 100), Ok(None));
    let names: Vec<String> = mirror.list(&first, "").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["paceline.yaml", "src"]);
    assert_eq!(mirror.list(&first, "no/such").unwrap(), []);
    let info = mirror.commit_info(&first).unwrap();
    assert_eq!((info.title(), info.author.as_str()), ("Say hello", "Anna"));
    // Incrementally, with the git that is there already.
    let second = scene.commit(&[("new", "x")]);
    assert_eq!(mirror.ensure(&second, &refs(&["refs/heads/main"])), Ok(second.clone()));
    assert_eq!(mirror.head("main"), Ok(Some(second)));
    assert_eq!(mirror.default_branch(), Ok(Some("main".into())));
}

#[test]
fn a_file_that_is_too_large_is_refused_and_the_next_question_is_answered() {
    let scene = Scene::new();
    let commit = scene.commit(&[("big", &"x".repeat(1000)), ("small", "y")]);
    let mirror = scene.mirror();
    mirror.fetch(&[]).unwrap();
    assert!(matches!(mirror.read(&commit, "big", 10), Err(GitError::TooLarge { bytes: 1000, .. })));
    assert_eq!(mirror.read(&commit, "small", 10).unwrap().as_deref(), Some(b"y".as_slice()));
    mirror.rest(std::time::Duration::ZERO);
    assert_eq!(mirror.read(&commit, "small", 10).unwrap().as_deref(), Some(b"y".as_slice()));
}

#[test]
fn changed_files_are_those_that_git_diff_names() {
    let scene = Scene::new();
    let base = scene.commit(&[("a", "1"), ("dir/b", "1"), ("dir/sub/c", "1"), ("gone/d", "1")]);
    scene.git(&["checkout", "-q", "-b", "topic"]);
    std::fs::remove_dir_all(scene.repo().join("gone")).unwrap();
    let topic = scene.commit(&[("a", "2"), ("dir/sub/c", "2"), ("fresh/e/f", "1")]);
    scene.git(&["checkout", "-q", "main"]);
    let main = scene.commit(&[("other", "1")]);
    let mirror = scene.mirror();
    mirror.fetch(&[]).unwrap();
    let diff = |arguments: &[&str]| Some(scene.git(arguments).lines().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(
        mirror.changed_files(&base, &topic).unwrap(),
        diff(&["diff", "--name-only", "--no-renames", &base, &topic])
    );
    let fork = format!("{main}...{topic}");
    assert_eq!(
        mirror.changed_since_fork(&main, &topic).unwrap(),
        diff(&["diff", "--name-only", "--no-renames", &fork])
    );
    assert_eq!(mirror.changed_files(&"f".repeat(40), &topic), Ok(None), "what is not known is not guessed");
    let rust = GlobList(vec![Glob::parse("dir/**").unwrap()]);
    let files: Vec<String> = mirror.files(&topic, &rust).unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(files, ["dir/b", "dir/sub/c"]);
}

#[test]
fn the_head_of_a_fork_is_fetched_by_the_pull_requests_number() {
    let scene = Scene::new();
    scene.commit(&[("a", "1")]);
    scene.git(&["checkout", "-q", "-b", "faraway"]);
    let head = scene.commit(&[("a", "2")]);
    scene.git(&["update-ref", "refs/pull/7/head", &head]);
    scene.git(&["checkout", "-q", "main"]);
    scene.git(&["branch", "-q", "-D", "faraway"]);
    let mirror = scene.mirror();
    assert_eq!(mirror.ensure(&head, &refs(&["refs/pull/7/head", "refs/heads/main"])), Ok(head.clone()));
    // The branch that it goes to is gone: the commit is what counts.
    let again = Mirrors::new(&scene.dir.path().join("other")).unwrap();
    let mirror = again.of("web", scene.repo().to_str().unwrap(), "").unwrap();
    assert_eq!(mirror.ensure(&head, &refs(&["refs/pull/7/head"])), Ok(head));
}

#[test]
fn a_commit_that_was_pushed_over_is_still_there_to_run() {
    let scene = Scene::new();
    let first = scene.commit(&[("a", "1")]);
    let mirror = scene.mirror();
    mirror.ensure(&first, &refs(&["refs/heads/main"])).unwrap();
    scene.git(&["commit", "-q", "--amend", "-m", "another"]);
    let second = scene.git(&["rev-parse", "HEAD"]);
    assert_eq!(mirror.ensure(&second, &refs(&["refs/heads/main"])), Ok(second.clone()));
    mirror.repack().unwrap();
    assert_eq!(mirror.ensure(&first, &[]), Ok(first), "it was not thrown away");
    assert_eq!(mirror.ensure("refs/heads/main", &[]), Ok(second));
}

#[test]
fn a_branch_that_became_a_folder_of_branches_is_fetched() {
    let scene = Scene::new();
    scene.commit(&[("a", "1")]);
    scene.git(&["branch", "topic"]);
    let mirror = scene.mirror();
    mirror.fetch(&[]).unwrap();
    scene.git(&["branch", "-D", "topic"]);
    scene.git(&["branch", "topic/one"]);
    mirror.fetch(&refs(&["refs/heads/topic/one"])).unwrap();
    assert_eq!(mirror.head("topic"), Ok(None));
    assert!(mirror.head("topic/one").unwrap().is_some());
    let branches: Vec<String> = mirror.branches().unwrap().into_iter().map(|(branch, _)| branch).collect();
    assert_eq!(branches, ["main", "topic/one"]);
}

#[test]
fn tags_are_followed_to_their_commits() {
    let scene = Scene::new();
    let commit = scene.commit(&[("a", "1")]);
    scene.git(&["tag", "-a", "-m", "release", "v1"]);
    let object = scene.git(&["rev-parse", "refs/tags/v1"]);
    assert_ne!(object, commit);
    let mirror = scene.mirror();
    assert_eq!(mirror.ensure(&object, &refs(&["refs/tags/v1"])), Ok(commit));
}

#[test]
fn what_is_not_there_is_said_and_nothing_is_taken_for_an_option() {
    let scene = Scene::new();
    scene.commit(&[("a", "1")]);
    let mirror = scene.mirror();
    let missing = mirror.ensure("refs/heads/none", &[]).unwrap_err();
    assert!(matches!(missing, GitError::Missing { .. }) && !missing.is_transient(), "{missing}");
    for bad in ["--upload-pack=touch x", "main", "HEAD", "-x", ""] {
        assert!(matches!(mirror.ensure(bad, &[]), Err(GitError::Name(_))), "{bad}");
        assert!(matches!(mirror.fetch(&refs(&[bad])), Err(GitError::Name(_))), "{bad}");
        assert!(matches!(mirror.read(bad, "a", 10), Err(GitError::Name(_))), "{bad}");
    }
    let gone = scene.mirrors.of("gone", "/no/such/repository", "").unwrap();
    assert!(gone.fetch(&[]).unwrap_err().is_transient(), "it may come back");
    assert!(scene.mirrors.of("bad", "ext::sh -c id", "").is_err());
}

#[test]
fn fifty_threads_at_once_get_their_commits() {
    let scene = Scene::new();
    let commits: Vec<String> = (0..10)
        .map(|n| {
            let commit = scene.commit(&[("n", &n.to_string())]);
            scene.git(&["branch", &format!("b{n}")]);
            commit
        })
        .collect();
    let mirror = scene.mirror();
    std::thread::scope(|threads| {
        for n in 0..50 {
            let (mirror, commit) = (mirror.clone(), &commits[n % 10]);
            threads.spawn(move || {
                let name = format!("refs/heads/b{}", n % 10);
                assert_eq!(mirror.ensure(commit, &[name]).as_ref(), Ok(commit));
            });
        }
    });
}

#[test]
fn a_hosted_repository_takes_pushes() {
    let scene = Scene::new();
    let commit = scene.commit(&[("a", "1")]);
    let hosted = scene.mirrors.of("own", "", "").unwrap();
    assert!(hosted.is_hosted());
    scene.git(&["push", "-q", hosted.path().to_str().unwrap(), "main"]);
    assert_eq!(hosted.ensure(&commit, &[]), Ok(commit));
    hosted.choose_default_branch("main").unwrap();
    assert_eq!(hosted.default_branch(), Ok(Some("main".into())));
    assert!(Path::new(hosted.path()).starts_with(scene.dir.path()));
}
