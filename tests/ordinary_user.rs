//! The same as an ordinary user: no root, no privileges, user namespaces only.

use std::process::Command;

use crate::support::{PACE, Repo, finish, is_root};

/// Not in any password file: nothing is set up for it.
const USER: &str = "54321";

/// A repository that belongs to the ordinary user, and `pace` run by that user from a place it can read.
pub fn as_user(repo: &Repo, args: &[&str]) -> crate::support::Ended {
    hand_over(repo);
    finish(command(repo, args))
}

/// Gives everything of the test to the ordinary user.
pub fn hand_over(repo: &Repo) {
    let binary = repo.folder.path().join("pace");
    if !binary.exists() {
        std::fs::copy(PACE, &binary).expect("a copy of pace");
    }
    std::fs::create_dir_all(repo.folder.path().join("home")).expect("a home");
    let owned =
        Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(repo.folder.path()).status().expect("chown");
    assert!(owned.success());
}

/// `pace` as that user, not started yet. The test must be handed over.
pub fn command(repo: &Repo, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(repo.folder.path().join("pace"));
    command.args(args).current_dir(repo.root());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", repo.folder.path().join("home"));
    command.env("PACE_CACHE_DIR", repo.cache()).env("PACE_STATE_DIR", repo.state());
    command
}

#[test]
fn an_ordinary_user_gets_the_same_sandbox_and_cache() {
    if !is_root() {
        return;
    }
    let repo = Repo::new(
        "name: u\nsteps:\n  - { id: a, cmd: \"echo made > x; rm paceline.yaml; id -u\" }\n  - { id: b, depends_on: [a], cmd: \"cat x; test ! -e paceline.yaml; touch /usr/x 2>/dev/null || echo refused; grep CapEff /proc/self/status; (setsid sleep 777.5 &)\" }\n",
    );
    as_user(&repo, &["run"])
        .code(0)
        .says("a | 54321")
        .says("b | made")
        .says("b | refused")
        .says("CapEff:\t0000000000000000");
    assert_eq!(crate::support::processes("sleep 777.5"), [0; 0]);
    as_user(&repo, &["run"]).code(0).says("a: cached").says("b: cached");
}

#[test]
fn an_unreadable_file_is_named() {
    if !is_root() {
        return;
    }
    let repo = Repo::with(&[("paceline.yaml", "name: u\nsteps:\n  - { id: a, cmd: echo }\n"), ("closed.txt", "x")]);
    as_user(&repo, &["check"]).code(0);
    Command::new("chown").args(["0:0"]).arg(repo.root().join("closed.txt")).status().expect("chown");
    Command::new("chmod").args(["600"]).arg(repo.root().join("closed.txt")).status().expect("chmod");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
        .arg(repo.folder.path().join("pace"))
        .arg("run")
        .current_dir(repo.root());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", repo.folder.path().join("home"));
    command.env("PACE_CACHE_DIR", repo.cache()).env("PACE_STATE_DIR", repo.state());
    finish(command).code(11).complains("closed.txt");
}
