//! Bad input: each is a clear error, a fitting exit code, and nothing is lost.

use std::os::unix::fs::symlink;

use crate::support::Repo;

#[test]
fn a_pipeline_that_is_no_text_is_one_clear_error() {
    let repo = Repo::new("name: x\nsteps: []\n");
    for garbage in
        [&b"\x00\x01\x02\x03\xff\xfe"[..], &b"name: \xff\xfe\n"[..], &b"\x7fELF\x02\x01\x01\x00"[..], &b""[..]]
    {
        repo.write("paceline.yaml", garbage);
        let ended = repo.pace(&["run"]).code(3).complains("error");
        assert!(ended.err.len() < 4000, "short enough to read: {}", ended.err.len());
    }
}

#[test]
fn a_file_over_the_bound_is_refused_and_the_bound_named() {
    let repo = Repo::new("name: x\nsteps: []\n");
    repo.write("paceline.yaml", "#".repeat((1 << 20) + 1));
    repo.pace(&["check"]).code(2).complains("1048576");
}

#[test]
fn a_megabyte_of_brackets_and_an_alias_bomb_are_refused_at_once() {
    let repo = Repo::new("name: x\nsteps: []\n");
    repo.write("paceline.yaml", "[".repeat(1 << 20));
    repo.pace(&["check"]).code(3);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    repo.write("paceline.yaml", bomb);
    repo.pace(&["check"]).code(3);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_welcome() {
    Repo::new("\u{feff}name: x\r\nsteps:\r\n  - id: a\r\n    cmd: |\r\n      echo one\r\n      echo two\r\n")
        .pace(&["run"])
        .code(0)
        .says("a | two");
}

#[test]
fn mistakes_are_all_shown_with_place_and_help() {
    let repo = Repo::new(
        "name: x\nsteps:\n  - { id: build, cmd: make, tiemout: 5m }\n  - { id: deploy, depends_on: [biuld], cmd: 3, timeout: soon }\n",
    );
    repo.pace(&["run"])
        .code(3)
        .complains("`biuld`")
        .complains("there is a step `build`")
        .complains("tiemout")
        .complains("`timeout`")
        .complains("paceline.yaml:4:")
        .complains("pace explain P0");
}

#[test]
fn cycles_are_shown_as_a_path() {
    Repo::new("name: x\nsteps:\n  - { id: a, depends_on: [c], cmd: x }\n  - { id: b, depends_on: [a], cmd: x }\n  - { id: c, depends_on: [b], cmd: x }\n")
        .pace(&["check"])
        .code(3)
        .complains("a → c → b → a");
}

#[test]
fn too_many_steps_and_too_large_a_matrix_are_refused() {
    let mut many = String::from("name: x\nsteps:\n");
    for n in 0..10_001 {
        many.push_str(&format!("  - {{ id: s{n}, cmd: x }}\n"));
    }
    Repo::new(&many).pace(&["check"]).code(3).complains("10000");
    let values = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let matrix =
        format!("name: x\nsteps:\n  - {{ id: s, cmd: x, matrix: {{ a: [{}], b: [{}] }} }}\n", values(143), values(7));
    Repo::new(&matrix).pace(&["check"]).code(3).complains("1000");
}

#[test]
fn includes_stay_in_the_repository_and_end() {
    let repo = Repo::with(&[
        ("paceline.yaml", "name: x\ninclude: [ci/a.yaml]\nsteps: [{ id: s, cmd: x }]\n"),
        ("ci/a.yaml", "include: [ci/b.yaml]\n"),
        ("ci/b.yaml", "include: [ci/a.yaml]\n"),
    ]);
    repo.pace(&["check"]).code(3).complains("include");
    repo.write("ci/a.yaml", "include: [../../outside.yaml]\n");
    repo.pace(&["check"]).code(3).complains("outside");
    std::fs::write(repo.folder.path().join("outside.yaml"), "steps: []\n").expect("a file");
    std::fs::remove_file(repo.root().join("ci/a.yaml")).expect("a file");
    symlink(repo.folder.path().join("outside.yaml"), repo.root().join("ci/a.yaml")).expect("a link");
    repo.pace(&["check"]).code(3).complains("outside");
    std::fs::remove_file(repo.root().join("ci/a.yaml")).expect("a link");
    repo.pace(&["check"]).code(3).complains("ci/a.yaml");
}

#[test]
fn links_out_of_the_workspace_bring_nothing_in_and_take_nothing_out() {
    let repo = Repo::new(
        "name: l\nsteps:\n  - { id: in, cmd: \"cat secret.txt || echo not to be read\", inputs: [secret.txt] }\n  - { id: out, cmd: \"ln -s /etc/passwd leak\", outputs: [leak] }\n  - { id: look, depends_on: [out], cmd: \"test -L leak && echo still a link\" }\n",
    );
    std::fs::write(repo.folder.path().join("host-secret"), "the host's secret").expect("a file");
    symlink("../host-secret", repo.root().join("secret.txt")).expect("a link");
    repo.commit();
    repo.pace(&["run"]).code(0).says("not to be read").says("still a link").does_not_say("the host's secret");
}

#[test]
fn a_special_file_in_the_repository_is_named() {
    let repo = Repo::new("name: s\nsteps:\n  - { id: a, cmd: echo }\n");
    let made = std::process::Command::new("mkfifo").arg(repo.root().join("pipe")).status().expect("mkfifo");
    assert!(made.success());
    repo.pace(&["run"]).code(0);
}

#[test]
fn a_file_that_changes_during_the_run_is_not_recorded_as_if_it_had_not() {
    let repo = Repo::with(&[
        ("paceline.yaml", "name: m\nsteps:\n  - { id: s, cmd: \"cat a.txt; sleep 1; cat a.txt\" }\n"),
        ("a.txt", "before\n"),
    ]);
    let run = repo.start(&["run"]);
    crate::support::until("the step runs", || !crate::support::processes("sleep 1").is_empty());
    repo.write("a.txt", "after\n");
    run.wait().code(0).complains("`a.txt` changed while it ran");
    repo.write("a.txt", "before\n");
    assert_eq!(repo.executed(&[]), ["s"], "nothing was recorded for the content that moved");
}

#[test]
fn a_file_that_comes_during_the_run_is_not_part_of_a_recorded_result() {
    let repo = Repo::new("name: m\nsteps:\n  - { id: s, cmd: \"sleep 1.25; ls\" }\n");
    let run = repo.start(&["run"]);
    crate::support::until("the step runs", || !crate::support::processes("sleep 1.25").is_empty());
    repo.write("new.txt", "");
    run.wait().code(0).complains("`new.txt` changed while it ran");
    std::fs::remove_file(repo.root().join("new.txt")).expect("the new file");
    assert_eq!(repo.executed(&[]), ["s"]);
}

#[test]
fn output_that_is_not_utf8_and_hostile_escapes_are_shown_safely() {
    let repo = Repo::new(
        "name: o\nsteps:\n  - { id: s, cmd: \"printf 'a\\\\377b\\\\n\\\\033[2J\\\\033]0;title\\\\007done\\\\n'\" }\n",
    );
    let ended = repo.pace(&["run"]).code(0).says("done");
    assert!(!ended.out.contains("\x1b[2J") && !ended.out.contains("\x1b]0;"), "{:?}", ended.out);
}

#[test]
fn a_branch_name_cannot_inject_a_command() {
    let repo = Repo::new("name: i\nsteps:\n  - { id: s, cmd: 'echo \"on ${{ git.branch }}\"' }\n");
    repo.git(&["checkout", "-q", "-b", "x$(touch${IFS}owned);touch${IFS}owned"]);
    repo.pace(&["run"]).code(0).says("on x$(touch${IFS}owned)");
}

#[test]
fn what_is_not_there_yet_says_exactly_that() {
    let approval = "name: x\nsteps:\n  - { id: s, approve: { by: [\"user:ada\"] } }\n";
    Repo::new(approval).pace(&["run"]).code(13).says("server");
}

#[test]
fn what_cannot_be_had_is_said_with_its_name() {
    let folder = "name: x\nsteps:\n  - { id: s, image: \"oci:no-such-folder\", cmd: echo }\n";
    Repo::new(folder).pace(&["run"]).says("no-such-folder");
    let image = "name: x\nsteps:\n  - { id: s, image: \"not an image\", cmd: echo }\n";
    Repo::new(image).pace(&["run"]).code(13).says("`not an image` names no image");
    let without = "name: x\nsteps:\n  - { id: s, image: \"debian:12\", cmd: echo }\n";
    Repo::new(without).pace(&["run", "--executor", "process"]).code(13).says("need the sandbox");
    let own = "name: x\nsteps:\n  - { id: s, cmd: echo, network: [\"127.0.0.1:80\"] }\n";
    Repo::new(own).pace(&["run"]).code(13).says("127.0.0.1:80");
}
