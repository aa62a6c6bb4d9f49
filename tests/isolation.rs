//! What a step can see and do, what it leaves behind, and that secrets stay secret.

use crate::support::{Repo, finish, processes, until};

fn step(cmd: &str) -> Repo {
    let pipeline = serde_json::json!({ "name": "i", "steps": [{ "id": "s", "cmd": cmd, "cache": "never" }] });
    Repo::new(&pipeline.to_string())
}

#[test]
fn a_step_sees_its_own_processes_home_and_tmp_only() {
    let mark = std::env::temp_dir().join(format!("mark-{}", std::process::id()));
    std::fs::write(&mark, "").expect("a file");
    step("ls -A /tmp; ls -d /proc/[0-9]* | wc -l; echo ids $(id -u); ls -A \"$HOME\" | head; ip -o link 2>/dev/null | wc -l; pwd")
        .pace(&["run"])
        .code(0)
        .does_not_say(&format!("mark-{}", std::process::id()))
        .says("s | /workspace");
    std::fs::remove_file(mark).expect("the mark");
}

#[test]
fn the_host_is_read_only_and_has_no_secrets() {
    step(
        "touch /usr/x 2>/dev/null && echo WROTE; touch /etc/x 2>/dev/null && echo WROTE; cat /etc/shadow 2>/dev/null | grep -q : && echo READ; \
         grep -h CapEff /proc/self/status; grep -h NoNewPrivs /proc/self/status; grep -h Seccomp: /proc/self/status; echo end",
    )
    .pace(&["run"])
    .code(0)
    .does_not_say("WROTE")
    .does_not_say("READ")
    .says("CapEff:\t0000000000000000")
    .says("NoNewPrivs:\t1")
    .says("Seccomp:\t2");
}

#[test]
fn the_environment_is_the_documented_one() {
    let repo = step("env | cut -d= -f1 | sort | tr '\\n' ' '");
    let mut command = repo.command(&["run"]);
    command.env("MY_OWN_VARIABLE", "x");
    let ended = finish(command).code(0).does_not_say("MY_OWN_VARIABLE");
    for name in "CI PACE PACE_RUN_ID PACE_RUN_NUMBER PACE_STEP PACE_ATTEMPT PACE_COMMIT PACE_BRANCH PACE_TAG PACE_EVENT PACE_WORKSPACE PACE_VALUES HOME TMPDIR PATH".split(' ') {
        assert!(ended.out.split_whitespace().any(|word| word == name), "no {name} in {}", ended.out);
    }
}

#[test]
fn pass_env_passes_and_is_part_of_the_key() {
    let repo = Repo::new("name: e\nsteps:\n  - { id: s, cmd: \"echo got $COLOUR\", pass_env: [COLOUR] }\n");
    let run = |colour: &str| {
        let mut command = repo.command(&["run"]);
        command.env("COLOUR", colour);
        finish(command).code(0).out
    };
    assert!(run("red").contains("got red"));
    assert!(run("blue").contains("got blue"));
    assert!(run("red").contains("cached"));
}

#[test]
fn no_network_is_the_hosts_loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let connect = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null && echo REACHED || echo refused");
    step(&connect).pace(&["run"]).code(0).says("s | refused");
    let full = serde_json::json!({ "name": "n", "steps": [{ "id": "s", "cmd": connect, "network": "full" }] });
    Repo::new(&full.to_string()).pace(&["run"]).code(0).says("s | refused");
}

#[test]
fn inputs_are_all_that_a_step_can_read() {
    let repo = Repo::with(&[
        (
            "paceline.yaml",
            "name: i\nsteps:\n  - { id: s, cmd: \"find . -type f | sort | tr '\\\\n' ' '\", inputs: [\"src/**\"] }\n",
        ),
        ("src/a.c", ""),
        ("src/deep/b.c", ""),
        ("README.md", ""),
    ]);
    repo.pace(&["run"]).code(0).says("s | ./src/a.c ./src/deep/b.c");
}

#[test]
fn ignored_files_and_git_are_not_part_of_the_workspace() {
    let repo = Repo::with(&[
        ("paceline.yaml", "name: i\nsteps:\n  - { id: s, cmd: \"ls -A | sort | tr '\\\\n' ' '\" }\n"),
        (".gitignore", "build/\n*.log\n"),
        ("a.txt", ""),
    ]);
    repo.write("build/out", "");
    repo.write("x.log", "");
    repo.write("new.txt", "");
    repo.pace(&["run"]).code(0).says("s | .gitignore a.txt new.txt paceline.yaml");
}

#[test]
fn daemons_do_not_outlive_their_step() {
    step("(setsid sleep 1234.5 >/dev/null 2>&1 &) ; (nohup sleep 1234.5 & disown) >/dev/null 2>&1 || true; echo left")
        .pace(&["run"])
        .code(0)
        .says("s | left");
    assert_eq!(processes("sleep 1234.5"), [0; 0], "nothing is left");
}

#[test]
fn a_step_that_ignores_sigterm_still_ends_at_its_timeout() {
    let pipeline = "name: t\nsteps:\n  - id: s\n    cmd: \"trap '' TERM; echo armed; while :; do sleep 0.2; done\"\n    timeout: 1s\n";
    Repo::new(pipeline).pace(&["run"]).code(10).says("timed out after 1.0s");
}

#[test]
fn a_silent_step_ends_at_its_idle_timeout() {
    Repo::new(
        "name: t\nsteps:\n  - { id: s, cmd: \"echo working; sleep 60\", timeout: { total: 50s, idle: 500ms } }\n",
    )
    .pace(&["run"])
    .code(10)
    .says("no output for 0.5s");
}

#[test]
fn ctrl_c_cancels_with_clean_up_and_twice_kills() {
    let repo = Repo::new(
        "name: c\nsteps:\n  - { id: long, cmd: \"echo started; sleep 321.5\" }\n  - { id: tidy, depends_on: [long], when: always, cmd: \"echo tidied; test ! -f slow || sleep 322.5\" }\n",
    );
    let run = repo.start(&["run"]);
    until("the step runs", || !processes("sleep 321.5").is_empty());
    run.signal("INT");
    run.wait().code(12).says("tidy | tidied");
    assert_eq!(processes("sleep 321.5"), [0; 0]);

    repo.write("slow", "");
    let run = repo.start(&["run"]);
    until("the step runs", || !processes("sleep 321.5").is_empty());
    run.signal("INT");
    until("clean-up runs", || !processes("sleep 322.5").is_empty());
    run.signal("INT");
    run.wait().code(12);
    assert_eq!(processes("sleep 322.5"), [0; 0]);
}

#[test]
fn secrets_reach_the_step_and_nothing_else() {
    let repo = Repo::with(&[
        (
            "paceline.yaml",
            "name: s\nsteps:\n  - { id: s, cmd: \"echo token is $TOKEN; printf %s $TOKEN | base64; test ${#TOKEN} = 15; exit 4\", secrets: [TOKEN] }\n",
        ),
        (".gitignore", "secrets.env\n"),
    ]);
    repo.pace(&["run"]).code(2).complains("PACE_SECRET_TOKEN");
    repo.write("secrets.env", "# comment\nTOKEN=hunter2-hunter2\n");
    repo.pace(&["run", "--secrets", "secrets.env", "--junit", "j.xml"])
        .code(10)
        .says("token is ***")
        .does_not_say("hunter2")
        .does_not_say("aHVudGVyMi1odW50ZXIy");
    let mut command = repo.command(&["run", "--output", "json"]);
    command.env("PACE_SECRET_TOKEN", "hunter2-hunter2");
    finish(command).code(10).does_not_say("hunter2");
    let found = std::process::Command::new("grep")
        .args(["-rl", "hunter2-hunter2"])
        .arg(repo.cache())
        .arg(repo.state())
        .arg(repo.root().join("j.xml"))
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "no file of ours holds the secret");
}

#[test]
fn a_step_that_an_expansion_brings_gets_the_secrets_it_names() {
    let repo = Repo::with(&[
        (
            "paceline.yaml",
            "name: s\nsteps:\n  - id: gen\n    cmd: |\n      printf 'steps:\\n  - { id: x, cmd: \"test $A$B = ab\", secrets: [A, B] }\\n' > more.yaml\n  - { id: more, depends_on: [gen], expand: more.yaml }\n",
        ),
        (".gitignore", "secrets.env\n"),
    ]);
    repo.write("secrets.env", "A=a\n");
    let mut command = repo.command(&["run", "--secrets", "secrets.env"]);
    command.env("PACE_SECRET_B", "b");
    finish(command).code(0);
}

#[test]
fn shell_opens_the_sandbox_of_a_failed_step() {
    let repo = Repo::new(
        "name: s\nsteps:\n  - { id: gen, cmd: echo made > made.txt }\n  - { id: bad, depends_on: [gen], cmd: \"echo half > half.txt; exit 1\" }\n",
    );
    repo.pace(&["run"]).code(10);
    repo.pace(&["shell", "bad", "-c", "cat made.txt half.txt; pwd"])
        .code(0)
        .says("made")
        .says("half")
        .says("/workspace");
    repo.pace(&["shell", "1", "gen", "-c", "ls"]).code(0).says("paceline.yaml");
    repo.pace(&["shell", "bad", "-c", "exit 3"]).code(10);
    repo.pace(&["shell", "nope"]).code(2);
}

#[test]
fn shell_on_a_terminal_has_a_terminal_of_its_own() {
    let repo = Repo::new("name: s\nsteps:\n  - { id: s, cmd: echo }\n");
    // `script` gives `pace` a terminal and types what it gets on its standard input.
    let shell = format!(
        "sleep 1; echo 'test -t 0 && echo \"size $(stty size) in $PWD\"; exit' | script -qec '{} shell s' /dev/null",
        crate::support::PACE
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &shell]).current_dir(repo.root());
    command.env("PACE_CACHE_DIR", repo.cache()).env("PACE_STATE_DIR", repo.state());
    finish(command).code(0).says("in /workspace");
}

#[test]
fn a_host_that_forbids_sandboxes_says_so_and_what_to_do() {
    let repo = Repo::new("name: n\nsteps:\n  - { id: s, cmd: echo done }\n");
    // Inside a user namespace of its own, in which no further ones can be made.
    let inside = |args: &str| {
        let mut command = std::process::Command::new("unshare");
        let script = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec {} {args}", crate::support::PACE);
        command.args(["-U", "-r", "sh", "-c", &script]).current_dir(repo.root());
        command.env("PACE_CACHE_DIR", repo.cache()).env("PACE_STATE_DIR", repo.state());
        finish(command)
    };
    inside("run").code(11).says("allows no user namespaces").says("--executor process");
    inside("doctor").code(11).says("--executor process");
    inside("run --executor process").code(0).complains("no isolation").says("s | done");
}

#[test]
fn the_process_executor_is_offered_and_never_taken_silently() {
    let repo = Repo::new(
        "name: p\nsteps:\n  - { id: a, cmd: \"echo x > made\" }\n  - { id: b, depends_on: [a], cmd: \"cat made; test ! -e /workspace && echo no sandbox\" }\n",
    );
    repo.pace(&["run", "--executor", "process"]).code(0).says("b | no sandbox").complains("no isolation");
    assert!(!repo.root().join("made").exists());
    repo.pace(&["run"]).code(10).says("b | x");
}
