//! The examples, cold and cached, as a newcomer would run them.

use crate::support::{Repo, executed};

/// Runs an example twice: first everything is executed, then only what is never cached.
fn cold_then_cached(name: &str, never_cached: &[&str]) {
    let repo = Repo::of_example(name);
    let mut args = vec!["run", "--output", "json"];
    if name == "monorepo" && !repo.root().join("paceline.yaml").exists() {
        args.extend(["--event", "push"]);
    }
    let cold = repo.pace(&args).code(0);
    assert!(!executed(&cold.events()).is_empty());
    let cached = repo.pace(&args).code(0);
    let again = executed(&cached.events());
    assert_eq!(again, never_cached, "{name}: executed again");
}

#[test]
fn go_service() {
    cold_then_cached("go-service", &[]);
}

#[test]
fn rust_tool() {
    cold_then_cached("rust-tool", &[]);
}

#[test]
fn node_web() {
    cold_then_cached("node-web", &[]);
}

#[test]
fn python_lib() {
    cold_then_cached("python-lib", &[]);
}

#[test]
fn monorepo() {
    // `rates` reads the steps that were written; `report` says `cache: never`.
    cold_then_cached("monorepo", &["rates", "report"]);
}
