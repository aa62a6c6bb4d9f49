//! Limits that change while a step runs, and tenants that cannot take each other's share.

mod world;

use std::time::{Duration, Instant};

use model::{AttemptEnd, Bytes, Cause, LimitHit};
use sandbox::cgroup::Limits;
use world::{World, sandboxes};

/// Control groups are root's on the hosts where the tests run; others hold no limits, which other tests look at.
fn groups() -> bool {
    sandboxes() && std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

#[test]
fn a_running_step_gets_less_memory_and_dies_of_it() {
    if !groups() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let script = "echo up; head -c 60000000 /dev/zero > /tmp/held; while test ! -e /tmp/more; do sleep 0.1; \
                  head -c 60000000 /dev/zero > /tmp/again; rm /tmp/again; done";
    let mut step = w.step("grows", script);
    step.spec.resources.memory = Some(Bytes(400 << 20));
    let spec = w.start(step);
    // The kernel takes a lower limit when what is in use fits below it; until then we ask again.
    let since = Instant::now();
    let limits = Limits { memory: Some(90 << 20), ..Limits::default() };
    // Limits of an attempt that has not begun would change nothing.
    let log = w.logs().join(format!("{}-1.log", spec.node.0));
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("up") {
        assert!(since.elapsed() < Duration::from_secs(120), "never begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    while w.agent().set_limits(&spec.run, spec.node, spec.fence, &limits).is_err() {
        assert!(since.elapsed() < Duration::from_secs(120), "never taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen = w.wait(&spec);
    assert!(
        matches!(seen.result.end, AttemptEnd::Failed(Cause::Limit(LimitHit::Memory(_)))),
        "{:?} {:?}",
        seen.result.end,
        seen.lines
    );
}

#[test]
fn limits_of_an_attempt_that_is_over_change_nothing() {
    let mut w = World::new();
    let seen = w.only("over", "true");
    assert!(matches!(seen.result.end, AttemptEnd::Succeeded));
    let (run, limits) = (w.run_id(), Limits { pids: Some(10), ..Limits::default() });
    w.agent().set_limits(&run, model::NodeIx(0), model::Fence(1), &limits).expect("nothing to do");
}

#[test]
fn a_tenant_does_not_get_more_than_its_quota_however_many_steps_it_has() {
    if !groups() {
        return;
    }
    let mut w = World::new();
    w.begin();
    w.agent().set_quota("test", Limits { memory: Some(100 << 20), ..Limits::default() }).expect("a quota");
    let hog = "python3 -c 'import time; x = bytearray(70 << 20); time.sleep(3)'";
    let (one, other) = (w.step("one", hog), w.step("other", hog));
    let (one, other) = (w.start(one), w.start(other));
    let ends = w.wait_both(&one, &other);
    let killed =
        ends.iter().filter(|end| matches!(end, AttemptEnd::Failed(Cause::Limit(LimitHit::Memory(None))))).count();
    assert_eq!(killed, 1, "70 MiB twice do not fit into 100: {ends:?}");
}
