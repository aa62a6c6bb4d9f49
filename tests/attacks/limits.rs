//! Taking all there is: what `resources` bounds.

use attacks::stage::Stage;
use serde_json::{Value, json};

use crate::scene::{run, scene, seen};

/// A step with these limits. Where the host cannot hold one exactly, as well as it can.
fn bounded(stage: &Stage, cmd: &str, mut resources: Value, text: &str, harmless: &str) -> String {
    resources["enforce"] = "best_effort".into();
    let ended =
        run(stage, json!([{ "id": "s", "cmd": cmd, "resources": resources, "timeout": "60s", "cache": "never" }]));
    if ended.out.contains("s | ESCAPED") {
        return format!("ESCAPED: {}", ended.out);
    }
    seen(stage, &ended, 10, text, harmless)
}

#[test]
fn a_fork_bomb_ends_at_its_limit() {
    scene("fork-bomb", |stage| {
        bounded(
            stage,
            "./attacks helper fork 500",
            json!({ "pids": 50 }),
            "fork: refused EAGAIN",
            "fork is refused with EAGAIN",
        )
    });
}

#[test]
fn a_memory_bomb_ends_at_its_limit() {
    scene("memory-bomb", |stage| {
        let text = "out of memory: it needed more than its limit of 64";
        bounded(
            stage,
            "./attacks helper memory 300",
            json!({ "memory": "64MiB" }),
            text,
            "the step fails: out of memory",
        )
    });
}

#[test]
fn memory_in_a_file_without_a_name_counts() {
    scene("memory-file", |stage| {
        let text = "out of memory: it needed more than its limit of 64";
        let cmd = "./attacks helper memory-file 300";
        bounded(stage, cmd, json!({ "memory": "64MiB" }), text, "the step fails: out of memory")
    });
}

#[test]
fn memory_in_tmp_counts() {
    scene("fill-tmp", |stage| {
        bounded(stage, "./attacks helper fill 300 /tmp/fill", json!({ "memory": "64MiB" }), "", "it ends at the limit")
    });
}

#[test]
fn files_in_tmp_without_content_are_not_free() {
    scene("fill-tmp-inodes", |stage| {
        let cmd = "cd /tmp && /workspace/attacks helper files 300000";
        bounded(stage, cmd, json!({ "memory": "64MiB" }), "", "it ends at the limit")
    });
}

#[test]
fn shared_memory_counts() {
    scene("fill-shared-memory", |stage| {
        bounded(
            stage,
            "./attacks helper fill 300 /dev/shm/fill",
            json!({ "memory": "64MiB" }),
            "",
            "it ends at the limit",
        )
    });
}

#[test]
fn the_disk_is_not_filled_by_a_layer() {
    scene("fill-disk", |stage| {
        let text = "it wrote more to disk than its limit of 32";
        bounded(stage, "./attacks helper fill 300", json!({ "disk": "32MiB" }), text, "the step fails: disk")
    });
}

#[test]
fn the_disk_is_not_filled_faster_than_anybody_looks() {
    scene("fill-disk-fast", |stage| {
        let text = "it wrote more to disk than its limit of 8";
        bounded(stage, "head -c 60000000 /dev/urandom > x", json!({ "disk": "8MiB" }), text, "the step fails: disk")
    });
}

#[test]
fn files_without_content_are_not_free() {
    scene("fill-inodes", |stage| {
        let text = "it wrote more to disk than its limit of 32";
        bounded(stage, "./attacks helper files 30000", json!({ "disk": "32MiB" }), text, "the step fails: disk")
    });
}

#[test]
fn a_file_ends_at_its_limit() {
    scene("large-file", |stage| {
        let text = "a file became larger than its limit of 1";
        bounded(stage, "./attacks helper fill 20", json!({ "file_size": "1MiB" }), text, "the step fails: file size")
    });
}

#[test]
fn output_ends_at_its_limit() {
    scene("output-limit", |stage| {
        let text = "it printed more than its limit of 1";
        bounded(stage, "yes | head -c 30000000; sleep 5", json!({ "output": "1MiB" }), text, "the step fails: output")
    });
}

#[test]
fn descriptors_end_at_their_limit() {
    scene("descriptor-bomb", |stage| {
        let text = "open: refused EMFILE";
        bounded(stage, "./attacks helper descriptors", json!({ "open_files": 64 }), text, "open is refused with EMFILE")
    });
}

#[test]
fn a_step_cannot_leave_its_control_group() {
    scene("leave-group-of-limits", |stage| {
        let cmd = "./attacks leave-cgroup; ./attacks cgroup-names; \
                   for f in $(find /sys/fs/cgroup -name 'memory.max' -o -name 'memory.limit_in_bytes' -o -name 'pids.max' 2>/dev/null); do \
                   (echo 1073741824 > $f) 2>/dev/null && echo ESCAPED $f; done; (mkdir /sys/fs/cgroup/x) 2>/dev/null && echo ESCAPED; true";
        let resources = json!({ "memory": "64MiB", "pids": 50, "enforce": "best_effort" });
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd, "resources": resources, "cache": "never" }]));
        if ended.out.contains("ESCAPED") {
            return ended.out;
        }
        seen(stage, &ended, 0, "found 0 groups to move to", "there is no other group")
    });
}
