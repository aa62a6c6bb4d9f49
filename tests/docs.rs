//! The guide: every block marked `sh run` of a page runs, one after another, in a copy of the example that the page names.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{PACE, Repo, finish};

/// Runs the blocks of one page of docs/.
fn page(name: &str) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let text = std::fs::read_to_string(docs.join(name)).expect(name);
    let example = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("<!-- runs in: examples/"))
        .and_then(|line| line.strip_suffix(" -->"))
        .unwrap_or_else(|| panic!("{name} does not begin with the example that it runs in"));
    let repo = Repo::of_example(example);
    let blocks = runnable(&text);
    assert!(!blocks.is_empty(), "{name} has nothing to run");
    for (line, script) in blocks {
        let ended = finish(shell(&repo, &script));
        assert_eq!(ended.code, Some(0), "docs/{name}:{line}\n{script}\n--- out\n{}\n--- err\n{}", ended.out, ended.err);
    }
}

/// `sh -eu` with the `pace` under test first on its PATH.
fn shell(repo: &Repo, script: &str) -> Command {
    let mut path = vec![PathBuf::from(PACE).parent().expect("a folder").to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = repo.command(&[]);
    let envs: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = Command::new("sh");
    command.args(["-euc", script]).current_dir(repo.root()).stdin(std::process::Stdio::null());
    for (name, value) in envs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PATH", std::env::join_paths(path).expect("no colon in a folder's name"));
    command
}

/// Line and text of the blocks that begin with three back quotes and `sh run`; those in a list are indented.
fn runnable(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        match &mut open {
            None if trimmed == "```sh run" => open = Some((index + 1, String::new())),
            Some(_) if trimmed == "```" => blocks.extend(open.take()),
            Some((_, script)) => script.push_str(&format!("{line}\n")),
            None => {}
        }
    }
    blocks
}

#[test]
fn first_pipeline() {
    page("first-pipeline.md");
}

#[test]
fn caching() {
    page("caching.md");
}

#[test]
fn images() {
    page("images.md");
}

#[test]
fn sandbox() {
    page("sandbox.md");
}

#[test]
fn security() {
    page("security.md");
}

#[test]
fn secrets() {
    page("secrets.md");
}

#[test]
fn debugging() {
    page("debugging.md");
}

#[test]
fn matrix_templates_expand() {
    page("matrix-templates-expand.md");
}

#[test]
fn output() {
    page("output.md");
}

#[test]
fn limits() {
    page("limits.md");
}

#[test]
fn services() {
    page("services.md");
}

#[test]
fn networks() {
    page("networks.md");
}
