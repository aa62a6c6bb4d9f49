//! Faults of the world around: full disks, read-only folders, damaged entries, SIGKILL, floods of output.

use std::path::Path;
use std::process::Command;

use crate::support::{PACE, Repo, finish, is_root, processes, until};

#[test]
fn a_damaged_blob_is_made_again_and_never_served() {
    let repo = Repo::new(
        "name: d\nsteps:\n  - { id: gen, cmd: \"echo content > out\", outputs: [out] }\n  - { id: use, depends_on: [gen], cmd: cat out trigger, inputs: [out, trigger] }\n",
    );
    repo.write("trigger", "1\n");
    repo.pace(&["run"]).code(0);
    let damaged = damage(&repo.cache().join("cas"), b"content\n");
    assert!(damaged > 0, "the layer's blob was there to be damaged");
    repo.write("trigger", "2\n");
    repo.pace(&["run"]).code(0).says("use | content").does_not_say("garbage");
}

/// Overwrites every stored file that holds `content`, and says how many did.
fn damage(folder: &Path, content: &[u8]) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            damaged += damage(&entry.path(), content);
        } else if std::fs::read(entry.path()).is_ok_and(|bytes| bytes == content) {
            std::fs::write(entry.path(), b"garbage\n").expect("writable");
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn a_damaged_record_is_a_miss() {
    let repo = Repo::new("name: d\nsteps:\n  - { id: s, cmd: echo x }\n");
    repo.pace(&["run"]).code(0);
    for folder in ["ac", "actions"] {
        scribble(&repo.cache().join(folder));
    }
    repo.pace(&["run"]).code(0).says("s | x");
}

fn scribble(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.path().is_dir() {
            true => scribble(&entry.path()),
            false => std::fs::write(entry.path(), b"\xff\x00nonsense").expect("writable"),
        }
    }
}

#[test]
fn sigkill_leaves_no_process_and_the_next_run_goes_on() {
    let repo = Repo::new(
        "name: k\nsteps:\n  - { id: done, cmd: echo done > d }\n  - { id: long, depends_on: [done], cmd: \"test -f fast || sleep 654.5\" }\n",
    );
    let run = repo.start(&["run"]);
    until("the long step runs", || !processes("sleep 654.5").is_empty());
    run.signal("KILL");
    run.wait();
    until("its steps are gone", || processes("sleep 654.5").is_empty());
    repo.pace(&["runs"]).code(0).says("interrupted");
    repo.write("fast", "");
    repo.pace(&["run"]).code(0);
    repo.pace(&["cache", "verify"]).code(0).says("damaged blobs      0");
}

#[test]
fn a_flood_on_one_line_does_not_fill_the_memory() {
    let repo = Repo::new(
        "name: f\nsteps:\n  - { id: s, cmd: \"head -c 1073741824 /dev/zero | tr '\\\\0' x; echo; echo end\" }\n",
    );
    let mut command = Command::new("sh");
    let script = format!(
        "'{PACE}' run --output json > /dev/null & p=$!; peak=0; while kill -0 $p 2>/dev/null; do v=$(sed -n 's/VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$p/status 2>/dev/null); [ -n \"$v\" ] && peak=$v; sleep 0.05; done; wait $p; echo code $? peak $peak"
    );
    command
        .args(["-c", &script])
        .current_dir(repo.root())
        .env("PACE_CACHE_DIR", repo.cache())
        .env("PACE_STATE_DIR", repo.state());
    let ended = finish(command).says("code 0");
    let peak: u64 = ended.out.split_whitespace().last().and_then(|n| n.parse().ok()).expect("a number");
    assert!(peak < 64 * 1024, "pace used {peak} KiB");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_clear_error() {
    let repo = Repo::new("name: r\nsteps:\n  - { id: s, cmd: echo x }\n");
    // A file where the folder should be refuses everybody, root too.
    std::fs::write(repo.cache(), "in the way").expect("a file");
    repo.pace(&["run"]).code(11).complains("cache");
}

#[test]
fn a_cache_inside_the_repository_is_refused_with_what_to_do() {
    let repo = Repo::new("name: r\nsteps:\n  - { id: s, cmd: echo x }\n");
    let mut command = repo.command(&["run"]);
    command.env("PACE_CACHE_DIR", repo.root().join("deep/cache"));
    finish(command).code(2).complains("lies in the repository").complains("set PACE_CACHE_DIR");
    assert!(!repo.root().join("deep").exists());
}

#[test]
fn a_read_only_cache_is_a_clear_error() {
    if !is_root() {
        return;
    }
    let repo = Repo::new("name: r\nsteps:\n  - { id: s, cmd: echo x }\n");
    std::fs::create_dir(repo.cache()).expect("a folder");
    in_own_mounts(&repo, "mount -t tmpfs -o ro none \"$PACE_CACHE_DIR\"", &["run"]).code(11).complains("ead-only");
}

#[test]
fn a_full_disk_fails_the_step_and_says_so() {
    if !is_root() {
        return;
    }
    let repo = Repo::new("name: d\nsteps:\n  - { id: s, cmd: \"head -c 50000000 /dev/zero > big\" }\n");
    std::fs::create_dir(repo.cache()).expect("a folder");
    in_own_mounts(&repo, "mount -t tmpfs -o size=8m none \"$PACE_CACHE_DIR\"", &["run"]).code(10).says("No space left");
}

/// Runs `pace` in a mount namespace of its own after `prepare`.
fn in_own_mounts(repo: &Repo, prepare: &str, args: &[&str]) -> crate::support::Ended {
    let mut command = Command::new("unshare");
    let script = format!("{prepare} && exec '{PACE}' {}", args.join(" "));
    command.args(["-m", "sh", "-c", &script]).current_dir(repo.root());
    command.env("PACE_CACHE_DIR", repo.cache()).env("PACE_STATE_DIR", repo.state());
    finish(command)
}

#[test]
fn a_torn_history_is_still_readable() {
    let repo = Repo::new("name: t\nsteps:\n  - { id: s, cmd: echo x }\n");
    repo.pace(&["run"]).code(0);
    let events = find(&repo.state(), "events.jsonl").expect("the history");
    let text = std::fs::read_to_string(&events).expect("readable");
    std::fs::write(&events, &text[..text.len() - 20]).expect("writable");
    repo.pace(&["runs"]).code(0).says("interrupted");
    repo.pace(&["run"]).code(0);
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| match entry.path() {
        path if path.is_dir() => find(&path, name),
        path if path.file_name().is_some_and(|file| file == name) => Some(path),
        _ => None,
    })
}

#[test]
fn the_third_ctrl_c_ends_a_run_whose_output_nobody_reads() {
    let repo = Repo::new("name: f\nsteps:\n  - { id: s, cmd: \"yes unread-flood\" }\n");
    let run = repo.start(&["run", "--output", "plain"]);
    until("it floods", || !processes("yes unread-flood").is_empty());
    // Until the pipe is full and `pace` stands in its write.
    std::thread::sleep(std::time::Duration::from_secs(1));
    // Two of one kind that come together are one.
    for signal in ["INT", "TERM", "HUP"] {
        run.signal(signal);
    }
    assert_eq!(run.wait_unread(), Some(12));
    until("the step is gone with it", || processes("yes unread-flood").is_empty());
}
