//! Limits of a step: each one holds, has its name when it is hit, and what was used is told.

use serde_json::{Value, json};

use crate::support::{Repo, is_root};

/// Whether control groups can be made here: root on every host that has them.
fn groups() -> bool {
    is_root()
}

fn limited(cmd: &str, resources: Value) -> Repo {
    let step = json!({ "id": "s", "cmd": cmd, "resources": resources, "cache": "never" });
    Repo::new(&json!({ "name": "l", "steps": [step] }).to_string())
}

/// The result of the only attempt.
fn attempt(repo: &Repo, code: i32) -> Value {
    let events = repo.pace(&["run", "--output", "json"]).code(code).events();
    events.into_iter().find(|event| event["event"] == "attempt_ended").expect("an attempt")
}

/// `pace` raises its own limit of open files, which is none of the steps' business.
#[test]
fn a_step_has_the_callers_soft_limit_of_open_files() {
    for executor in ["sandbox", "process"] {
        let repo = limited("ulimit -Sn; ulimit -Hn", json!({}));
        let run = repo.command(&["run", "--executor", executor]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -Sn 777; ulimit -Hn 2345; exec \"$@\"", "sh"]).arg(run.get_program());
        command.args(run.get_args()).envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(repo.root());
        crate::support::finish(command).code(0).says("s | 777").says("s | 2345");
    }
}

#[test]
fn out_of_memory_has_its_name() {
    if !groups() {
        return;
    }
    let ended = attempt(&limited("python3 -c 'x = bytearray(200 << 20)'", json!({ "memory": "64MiB" })), 10);
    assert_eq!(ended["cause"]["kind"], "memory", "{ended}");
    assert!(ended["cause"]["text"].as_str().expect("text").contains("its limit of 64 MiB"), "{ended}");
    let peak = ended["memory_peak"].as_u64().expect("a number");
    assert!((60 << 20..=64 << 20).contains(&peak), "{peak}");
}

#[test]
fn memory_that_a_step_survives_is_no_failure() {
    if !groups() {
        return;
    }
    let cmd = "python3 -c 'x = bytearray(200 << 20)' || true";
    assert_eq!(attempt(&limited(cmd, json!({ "memory": "64MiB" })), 0)["outcome"], "success");
}

#[test]
fn a_fork_bomb_ends_at_its_limit_and_nothing_is_left() {
    let cmd = "for i in $(seq 60); do sleep 987.5 & done; wait";
    let ended = attempt(&limited(cmd, json!({ "pids": 16 })), 10);
    if groups() {
        assert_eq!(ended["cause"]["kind"], "pids", "{ended}");
        assert!(ended["pids_peak"].as_u64().is_some_and(|peak| (2..=16).contains(&peak)), "{ended}");
    }
    assert_eq!(crate::support::processes("sleep 987.5"), [0; 0]);
}

#[test]
fn processors_are_rationed_and_the_wait_is_counted() {
    if !groups() {
        return;
    }
    let ended = attempt(&limited("timeout 1 sh -c 'while :; do :; done' || true", json!({ "cpu": 0.2 })), 0);
    let number = |name: &str| ended[name].as_u64().expect("a number");
    assert!(number("throttled_us") > 100_000, "{ended}");
    assert!(number("cpu_us") < 600_000, "a fifth of a second, and what starting costs: {ended}");
}

#[test]
fn a_step_sees_its_own_limits() {
    if !groups() {
        return;
    }
    let cmd = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true; \
               echo x > /sys/fs/cgroup/memory/memory.limit_in_bytes || echo refused";
    limited(cmd, json!({ "memory": "96MiB" })).pace(&["run"]).code(0).says("s | 100663296").says("s | refused");
}

#[test]
fn files_disk_and_output_are_bounded_everywhere() {
    for (cmd, resources, kind) in [
        ("head -c 3000000 /dev/zero > big", json!({ "file_size": "1MiB" }), "file_size"),
        ("while :; do head -c 500000 /dev/urandom > f$((n += 1)); sleep 0.05; done", json!({ "disk": "4MiB" }), "disk"),
        ("mkdir d; while :; do : > d/$((n += 1)); done", json!({ "disk": "4MiB" }), "disk"),
        ("yes", json!({ "output": "100kB" }), "output"),
    ] {
        let ended = attempt(&limited(cmd, resources), 10);
        assert_eq!(ended["cause"]["kind"], kind, "{cmd}: {}", ended["cause"]);
    }
}

#[test]
fn open_files_are_bounded() {
    limited("ulimit -n; ulimit -Hn", json!({ "open_files": 99 })).pace(&["run"]).code(0).says("s | 99\ns | 99");
}

#[test]
fn tmp_cannot_take_more_than_the_memory() {
    if !groups() {
        return;
    }
    let cmd = "head -c 200000000 /dev/zero > /tmp/x || echo full; ls -l /tmp/x | wc -l";
    let out = limited(cmd, json!({ "memory": "64MiB" })).pace(&["run"]).out;
    assert!(out.contains("s | full") || out.contains("out of memory"), "{out}");
}

#[test]
fn what_this_host_cannot_hold_is_refused_unless_best_effort_will_do() {
    if !is_root() {
        return;
    }
    let as_user = |resources: Value| {
        let repo = limited("echo ran", resources);
        (crate::ordinary_user::as_user(&repo, &["run"]), repo)
    };
    let (strict, _repo) = as_user(json!({ "memory": "64MiB" }));
    strict.code(13).says("cannot hold the limit `resources.memory`").says("enforce: best_effort");
    let (relaxed, _repo) = as_user(json!({ "memory": "64MiB", "cpu": 1, "enforce": "best_effort" }));
    relaxed.code(0).says("s | ran");
}

#[test]
fn without_control_groups_memory_is_watched() {
    if !is_root() {
        return;
    }
    let cmd = "python3 -c 'import time; x = bytearray(300 << 20); time.sleep(20)'";
    let repo = limited(cmd, json!({ "memory": "64MiB", "enforce": "best_effort" }));
    crate::ordinary_user::as_user(&repo, &["run"])
        .code(10)
        .says("out of memory: it needed more than its limit of 64 MiB");
}
