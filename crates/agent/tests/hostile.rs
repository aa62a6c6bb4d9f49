//! Steps and hosts that do not behave.

mod world;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::{Agent, Report};
use model::{AttemptEnd, Cause, Fence, TAIL_LINES_MAX};
use world::{World, sandboxes};

#[test]
fn output_that_is_not_utf8_or_has_no_end_becomes_lines() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.only("bytes", "printf 'a\\377b\\n'; printf '\\0\\n'; printf 'no end'").ok().says(&["a\u{fffd}b", "\0", "no end"]);
    w.only("progress", "printf '10%%\\r50%%\\r100%%\\n'; printf 'dos\\r\\n'; echo err >&2")
        .ok()
        .says(&["100%", "dos", "err"]);
    let seen = w.only("long", "head -c 100000 /dev/zero | tr '\\0' x; echo; for i in $(seq 100); do echo $i; done");
    let lengths: Vec<usize> = seen.ok().lines[..2].iter().map(String::len).collect();
    assert_eq!(lengths, [65536, 100_000 - 65536]);
    assert_eq!(seen.result.tail.len(), TAIL_LINES_MAX);
    assert_eq!(seen.result.tail.last().map(String::as_str), Some("100"));
    let cut = w.only("cut", "yes é | head -c 196607 | tr -d '\\n'; echo");
    assert!(cut.ok().lines.iter().all(|line| !line.contains('\u{fffd}')), "no character is cut in two");
}

#[test]
fn a_secret_is_masked_wherever_it_shows_up() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.secrets.insert("TOKEN".into(), "s3cr3t-v4lue".into());
    w.secrets.insert("PIN".into(), "123".into());
    w.begin();
    let script = "echo a${TOKEN}b; printf 's3cr'; sleep 0.2; printf '3t-v4'; sleep 0.2; echo lue; printf %s $TOKEN | base64; \
                  echo url=$TOKEN >> $PACE_VALUES; echo $TOKEN > leaked; echo $PIN";
    let step = w.step("leak", script).secret("TOKEN").secret("PIN");
    let seen = w.run(step);
    seen.ok().says(&["a***b", "***", "***", "123"]);
    assert!(seen.noted("`PIN` has fewer than 4 bytes"));
    assert_eq!(seen.result.values["url"], "***");
    let step = w.step("error", "echo $TOKEN > $PACE_VALUES").secret("TOKEN");
    let why = w.run(step).broken().to_string();
    assert!(!why.contains("s3cr3t") && why.contains("***"), "{why}");
    let spread = w.step("args", "exit 1").secret("TOKEN").artifact("a", "s3cr3t-v4lue", None);
    w.run(spread);
    w.end();
    // The layer is the step's own business; nothing else on the disk has the value.
    for path in world::files_below(w.dir.path()) {
        let bytes = fs::read(&path).unwrap_or_default();
        let found = bytes.windows(12).any(|window| window == b"s3cr3t-v4lue");
        assert!(!found || bytes == b"s3cr3t-v4lue\n", "{}", path.display());
    }
}

#[test]
fn timeouts_end_a_step_and_say_which() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let total = Duration::from_millis(300);
    let step = w.step("total", "while :; do echo x; sleep 0.05; done").timeout(total, Some(Duration::from_secs(60)));
    assert_eq!(w.run(step).cause(), &Cause::TimedOut(total));
    let idle = Duration::from_millis(300);
    let step = w.step("idle", "echo once; sleep 60").timeout(Duration::from_secs(60), Some(idle));
    assert_eq!(w.run(step).cause(), &Cause::Idle(idle));
    // Never idle for so long, not even on a machine that stands still for seconds.
    let step = w.step("busy", "for i in $(seq 24); do echo $i; sleep 0.25; done");
    w.run(step.timeout(Duration::from_secs(300), Some(Duration::from_secs(5)))).ok();
}

#[test]
fn a_stopped_step_may_clean_up_and_one_that_does_not_listen_is_killed() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let polite = w.step("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    let deaf = w.step("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done");
    let (polite, deaf) = (w.start(polite), w.start(deaf));
    for up in [&polite, &deaf] {
        wait_for_line(&w, up);
    }
    let run = w.run_id();
    w.agent().stop(&run, polite.node, Fence(999), false);
    w.agent().stop(&run, polite.node, polite.fence, false);
    let seen = w.wait(&polite);
    let last = seen.lines.last().map(String::as_str);
    assert_eq!((&seen.result.end, last), (&AttemptEnd::Cancelled, Some("bye")));
    w.agent().stop(&run, deaf.node, deaf.fence, false);
    w.agent().stop(&run, deaf.node, deaf.fence, true);
    assert_eq!(w.wait(&deaf).result.end, AttemptEnd::Cancelled);
}

#[test]
fn after_the_grace_a_step_that_ignores_sigterm_is_killed() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let deaf = w.step("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done");
    let deaf = w.start(deaf);
    wait_for_line(&w, &deaf);
    let asked = Instant::now();
    w.agent().stop(&w.run_id(), deaf.node, deaf.fence, false);
    assert_eq!(w.wait(&deaf).result.end, AttemptEnd::Cancelled);
    assert!(asked.elapsed() >= model::limits::CANCEL_GRACE);
}

fn wait_for_line(w: &World, spec: &model::AttemptSpec) {
    let reports = w.reports.as_ref().expect("reports");
    let log = w.logs().join(format!("{}-1.log", spec.node.0));
    while !fs::read_to_string(&log).unwrap_or_default().contains("up") {
        std::thread::sleep(Duration::from_millis(10));
    }
    // The lines so far are not what the test is about.
    while reports.try_recv().is_ok() {}
}

#[test]
fn a_step_that_waits_for_a_slot_can_be_stopped_too() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let busy: Vec<_> = (0..2).map(|n| w.step(&format!("busy{n}"), "sleep 30")).map(|s| s.spec()).collect();
    busy.iter().for_each(|spec| w.agent().execute(spec.clone()));
    let queued = w.step("queued", "echo never").spec();
    w.agent().execute(queued.clone());
    let run = w.run_id();
    w.agent().stop(&run, queued.node, queued.fence, false);
    for spec in &busy {
        w.agent().stop(&run, spec.node, spec.fence, true);
    }
    let seen = w.wait(&queued);
    assert_eq!((&seen.result.end, seen.lines.len()), (&AttemptEnd::Cancelled, 0));
}

#[test]
fn daemons_do_not_outlive_their_step() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    let mark = format!("86400.{}", std::process::id());
    let seen = w.only("daemon", &format!("(setsid sleep {mark} >/dev/null 2>&1 &) ; setsid sleep {mark} & echo left"));
    seen.ok().says(&["left"]);
    assert!(!runs(&mark), "a daemon is still there");
}

fn runs(mark: &str) -> bool {
    fs::read_dir("/proc").expect("/proc").flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"sleep\0") && String::from_utf8_lossy(&line).contains(mark)
    })
}

#[test]
fn dropping_the_agent_kills_what_runs() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let mark = format!("86401.{}", std::process::id());
    let step = w.step("sleeps", &format!("echo up; sleep {mark}"));
    let spec = w.start(step);
    wait_for_line(&w, &spec);
    w.agent = None;
    assert!(!runs(&mark));
}

#[test]
fn a_flood_on_one_line_does_not_fill_the_memory() {
    if !sandboxes() {
        return;
    }
    let grown = by_myself("helper_flood", &[]);
    let peak = grown.split_once("VmHWM ").and_then(|(_, rest)| rest.split_whitespace().next());
    let kib: u64 = peak.expect("VmHWM").parse().expect("KiB");
    println!("peak {kib} KiB");
    assert!(kib < 120 << 10, "{kib} KiB");
}

#[test]
#[ignore = "run by `a_flood_on_one_line_does_not_fill_the_memory` in a process of its own"]
fn helper_flood() {
    let mut w = World::new();
    w.begin();
    let step = w.step("flood", "head -c 268435456 /dev/zero; head -c 67108864 /dev/zero | tr '\\0' '\\n'");
    let spec = w.start(step.with(|c| c.has_dependants = false));
    // A reader that is slow at first: what it has not read must not pile up.
    std::thread::sleep(Duration::from_secs(1));
    let reports = w.reports.as_ref().expect("reports");
    loop {
        match reports.recv_timeout(Duration::from_secs(300)).expect("a report") {
            Report::Finished { result, fence, .. } if fence == spec.fence => {
                assert_eq!(result.end, AttemptEnd::Succeeded);
                assert!(result.tail.last().expect("a tail").contains("more were not kept: a log is at most 256 MiB"));
                break;
            }
            _ => {}
        }
    }
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    println!("VmHWM {}", peak.trim().trim_end_matches(" kB"));
}

/// Runs an ignored test of this file in a process of its own, below these words.
fn by_myself(test: &str, before: &[&str]) -> String {
    let me = std::env::current_exe().expect("this test");
    let mut words: Vec<String> = before.iter().map(ToString::to_string).collect();
    words.push(me.display().to_string());
    words.extend(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"].map(String::from));
    let done = Command::new(&words[0]).args(&words[1..]).output().expect("it starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    said
}

/// In a mount namespace where `/mnt` is a small disk.
const SMALL_DISK: [&str; 6] =
    ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=3m small /mnt && exec \"$@\"", "sh"];

#[test]
fn a_full_disk_is_said_and_nothing_false_is_recorded() {
    if !sandboxes() {
        return;
    }
    by_myself("helper_full_disk", &SMALL_DISK);
}

#[test]
#[ignore = "run by `a_full_disk_is_said_and_nothing_false_is_recorded` in a mount namespace of its own"]
fn helper_full_disk() {
    let mut w = World::new();
    std::os::unix::fs::symlink("/mnt", w.path("cache")).expect("link");
    w.begin();
    let step = w.step("fills", "head -c 10000000 /dev/zero > big");
    let seen = w.run(step);
    assert_eq!(seen.cause(), &Cause::Exit(1), "{seen:?}");
    assert!(seen.lines.iter().any(|line| line.contains("No space left on device")), "{seen:?}");
    w.end();
    fs::remove_dir_all(w.path("state/failed")).ok();
    // Now the disk is full before the step starts.
    w.begin();
    let _ = fs::write("/mnt/filler", vec![0; 4 << 20]);
    let step = w.step("starts", "true");
    let seen = w.run(step);
    match &seen.result.end {
        AttemptEnd::Failed(Cause::Infrastructure(why)) => assert!(why.contains("the disk is full"), "{why}"),
        AttemptEnd::Succeeded => assert!(w.end().iter().any(|note| note.contains("was not recorded"))),
        other => panic!("{other:?}"),
    }
    fs::remove_file("/mnt/filler").expect("filler");
    w.only("starts", "true").executed();
}

#[test]
fn a_read_only_cache_folder_is_said_at_the_start() {
    if !sandboxes() {
        return;
    }
    let read_only = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o ro frozen /mnt && exec \"$@\"", "sh"];
    by_myself("helper_read_only", &read_only);
}

#[test]
#[ignore = "run by `a_read_only_cache_folder_is_said_at_the_start` in a mount namespace of its own"]
fn helper_read_only() {
    let w = World::new();
    std::os::unix::fs::symlink("/mnt", w.path("cache")).expect("link");
    let (to, _from) = std::sync::mpsc::channel();
    let why = Agent::start(w.config(), to).expect_err("a read-only cache folder").to_string();
    assert!(why.contains("Read-only file system") && why.contains("cache"), "{why}");
}
