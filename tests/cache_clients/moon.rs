//! moon over gRPC: with and without compression, with and without the name of an instance.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::{Said, Server, read, run, tool, write};

fn workspace(root: &Path, port: u16, instance: &str, compression: &str) {
    let remote = format!(
        "remote:\n  api: grpc\n  host: 'grpc://127.0.0.1:{port}'\n  cache:\n    instanceName: '{instance}'\n    \
         compression: {compression}\n    verifyIntegrity: true\n"
    );
    write(&root.join(".moon/workspace.yml"), &format!("projects:\n  app: app\n{remote}"));
    let task = "tasks:\n  build:\n    command: 'sh make.sh'\n    inputs: ['in.txt', 'make.sh']\n    outputs: ['out']\n";
    write(&root.join("app/moon.yml"), task);
    write(&root.join("app/in.txt"), &format!("{instance}{compression}\n"));
    // Beside the time something that is worth compressing, and larger than one message.
    write(&root.join("app/make.sh"), "mkdir -p out\ndate +%s%N > out/time\nseq 1 1000000 > out/large\n");
    let git = |args: &[&str]| run(Command::new("git").args(args).current_dir(root)).fine();
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "A change"]);
}

fn build(moon: &Path, root: &Path) -> Said {
    let mut command = Command::new(moon);
    command.args(["run", "app:build", "--log", "debug"]).current_dir(root).env("MOON_TOOLCHAIN_FORCE_GLOBALS", "true");
    run(command.env_remove("CI"))
}

fn is_taken_from_the_cache(instance: &str, compression: &str) {
    let Some(moon) = tool("moon") else { return };
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    workspace(root, server.port, instance, compression);
    build(&moon, root).fine();
    let made = (read(&root.join("app/out/time")), fs::read(root.join("app/out/large")).expect("it was made"));
    fs::remove_dir_all(root.join(".moon/cache")).expect("moon's own cache");
    fs::remove_dir_all(root.join("app/out")).expect("the outputs");
    build(&moon, root).fine().says("cached from remote");
    let again = (read(&root.join("app/out/time")), fs::read(root.join("app/out/large")).expect("it is back"));
    assert!(made == again, "the task was executed again: {} and then {}", made.0, again.0);
}

#[test]
fn moon_takes_a_task_from_the_cache() {
    is_taken_from_the_cache("main", "none");
}

#[test]
fn moon_takes_a_task_from_the_cache_compressed() {
    is_taken_from_the_cache("main", "zstd");
}

#[test]
fn moon_takes_a_task_from_the_cache_without_the_name_of_an_instance() {
    is_taken_from_the_cache("", "none");
}
