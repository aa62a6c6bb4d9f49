//! What control groups promise, with real processes under real limits.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::scene::{self, Ended, Scene, bare, eventually, run, start};
use sandbox::cgroup::{Group, GroupUsage, Groups, Limits, MEMORY_MIN, PIDS_MIN, Tenant};
use sandbox::{Exit, Spec};

const NONE: Limits = Limits { memory: None, cpu_milli: None, pids: None, io_weight: None };
const MIB: u64 = 1 << 20;

/// The groups of this host, or the end of the test where there are none. `PACE_TEST_CGROUPS=must` makes that a failure.
macro_rules! groups {
    () => {
        match open() {
            Some(groups) => groups,
            None => return,
        }
    };
}

fn open() -> Option<Groups> {
    if !scene::can_sandbox() {
        return None;
    }
    match Groups::open() {
        Ok(groups) => Some(groups),
        Err(none) => {
            assert!(std::env::var_os("PACE_TEST_CGROUPS").is_none(), "no groups here: {none}");
            eprintln!("not tested: {none}");
            None
        }
    }
}

/// A tenant of its own for each test.
fn tenant(groups: &Groups, limits: &Limits) -> Arc<Tenant> {
    groups.tenant("tests", limits).unwrap_or_else(|error| panic!("{error}"))
}

fn group(tenant: &Arc<Tenant>, limits: &Limits) -> Arc<Group> {
    Arc::new(tenant.group("one", limits).unwrap_or_else(|error| panic!("{error}")))
}

/// Runs a script in a sandbox in this group.
fn within(group: &Arc<Group>, script: &str) -> (Ended, GroupUsage) {
    let ended = run(step(group, script));
    (ended, group.usage())
}

fn step(group: &Arc<Group>, script: &str) -> Spec {
    Spec { group: Some(group.clone()), ..bare(&["sh", "-c", script]) }
}

/// A shell whose variable grows to this size.
fn grow(mib: u64) -> String {
    format!("x=$(head -c {} /dev/zero | tr '\\0' x); echo ${{#x}}", mib << 20)
}

/// Waits until the processes of a group have used this much processor time more.
fn burns(group: &Group, more: Duration) {
    let before = group.usage().cpu;
    eventually("the group uses its processor", || group.usage().cpu >= before + more);
}

// Limits.

#[test]
fn too_much_memory_ends_the_step_and_is_named() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &Limits { memory: Some(48 * MIB), ..NONE });
    let (ended, usage) = within(&group, &format!("({}); echo survived; exit 1", grow(200)));
    let together = group.paths().iter().any(|(path, _)| path.join("memory.oom.group").exists());
    assert_eq!(ended.exit, if together { Exit::Signal(libc::SIGKILL) } else { Exit::Code(1) }, "{}", ended.output);
    assert!(usage.oom_kills > 0, "{usage:?}");
    assert!(usage.memory_peak > 45 * MIB && usage.memory_peak <= 48 * MIB, "{usage:?}");
}

#[test]
fn the_least_memory_lets_a_shell_start() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &Limits { memory: Some(MEMORY_MIN), pids: Some(PIDS_MIN), cpu_milli: Some(10), ..NONE });
    let (ended, usage) = within(&group, "echo started; ls -d /usr");
    assert_eq!((ended.output.as_str(), ended.exit), ("started\n/usr\n", Exit::Code(0)), "{usage:?}");
}

#[test]
fn peak_memory_is_what_was_really_used() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &NONE);
    let (_, empty) = within(&group, "head -c 1 /dev/zero > /tmp/x");
    let (ended, usage) = within(&group, "head -c 104857600 /dev/zero > /tmp/x");
    assert_eq!(ended.exit, Exit::Code(0), "{}", ended.output);
    let (used, wanted) = (usage.memory_peak - empty.memory_peak.min(20 * MIB), 100 * MIB);
    assert!(used.abs_diff(wanted) < wanted / 20, "{used} for {wanted}: {usage:?} after {empty:?}");
}

#[test]
fn a_fork_bomb_meets_the_process_limit_and_it_is_counted() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &Limits { pids: Some(16), ..NONE });
    let (ended, usage) = within(&group, "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; echo never");
    assert!(ended.output.contains("ork") && !ended.output.contains("never"), "{}", ended.output);
    assert!(usage.pids_refused > 0 && usage.pids_peak == 16, "{usage:?}");
}

#[test]
fn a_processor_limit_throttles_and_the_time_is_counted() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &Limits { cpu_milli: Some(100), ..NONE });
    let (mut child, _reader) = start(step(&group, "while :; do :; done")).expect("starts");
    burns(&group, Duration::from_millis(50));
    eventually("it is throttled", || group.usage().throttled > Duration::from_millis(20));
    child.kill();
    let (exit, usage) = child.wait().expect("nobody else waits");
    assert_eq!(exit, Exit::Signal(libc::SIGKILL));
    assert!(group.usage().cpu >= Duration::from_millis(50), "{usage:?} {:?}", group.usage());
}

#[test]
fn what_is_written_to_a_disk_is_counted() {
    let groups = groups!();
    let scene = Scene::new();
    let (tenant, disk) = (tenant(&groups, &NONE), scene.folder("disk"));
    if !on_a_disk(&disk) {
        eprintln!("not tested: no disk below {}", disk.display());
        return;
    }
    let group = group(&tenant, &NONE);
    let mut step = step(&group, "dd if=/dev/zero of=/mnt/x bs=1M count=8 conv=fsync 2>/dev/null");
    step.binds.push(sandbox::Bind { from: disk, to: "/mnt".into(), writable: true });
    let ended = run(step);
    assert_eq!(ended.exit, Exit::Code(0));
    // Version 1 counts for nobody; the processes themselves are counted everywhere.
    let by_group = if version_2(&group) { group.usage().io_written } else { u64::MAX };
    assert!(by_group >= 8 * MIB && ended.usage.io_written >= 8 * MIB, "{:?} {:?}", ended.usage, group.usage());
}

fn version_2(group: &Group) -> bool {
    group.paths().iter().any(|(path, _)| path.join("io.stat").exists())
}

/// A tmpfs or the like has no device.
fn on_a_disk(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).is_ok_and(|meta| libc::major(meta.dev()) != 0)
}

// While it runs.

#[test]
fn limits_can_be_changed_while_the_step_runs() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &Limits { memory: Some(24 * MIB), pids: Some(8), cpu_milli: Some(900), ..NONE });
    let (reader, writer) = std::io::pipe().expect("pipes are to be had");
    let mut spec = step(&group, &format!("echo ready; read line; {}", grow(30)));
    spec.stdin = Some(reader.into());
    let (mut child, mut output) = start(spec).expect("starts");
    scene::read_until(&mut output, "ready\n");
    group
        .set_limits(&Limits { memory: Some(400 * MIB), pids: Some(20), cpu_milli: None, ..NONE })
        .expect("more is fine");
    drop(writer);
    let mut text = String::new();
    output.read_to_string(&mut text).expect("is text");
    assert_eq!((child.wait().expect("nobody else waits").0, text.trim()), (Exit::Code(0), "31457280"));
    group.set_limits(&Limits { memory: Some(20 * MIB), ..NONE }).expect("less is fine too");
    let (ended, usage) = within(&group, &grow(30));
    assert!(ended.exit != Exit::Code(0) && usage.oom_kills > 0, "{usage:?}");
}

#[test]
fn a_tenant_bounds_what_its_groups_may() {
    let groups = groups!();
    let tenant = tenant(&groups, &Limits { memory: Some(24 * MIB), pids: Some(12), ..NONE });
    let wide = Limits { memory: Some(1024 * MIB), pids: Some(1000), ..NONE };
    let group = group(&tenant, &wide);
    let (ended, usage) = within(&group, &grow(200));
    assert!(ended.exit != Exit::Code(0) && usage.oom_kills > 0, "{usage:?}");
    let (ended, usage) = within(&group, "i=0; while [ $i -lt 40 ]; do sleep 30 & i=$((i+1)); done; echo never");
    // The kernel notes the refused one before it asks the tenant.
    assert!(!ended.output.contains("never") && usage.pids_peak <= 13, "{} {usage:?}", ended.output);
    assert!(tenant.usage().pids_refused + usage.pids_refused > 0, "{:?}", tenant.usage());
}

#[test]
fn a_tenants_processor_limit_may_go_below_and_above_that_of_its_groups() {
    let groups = groups!();
    let tenant = tenant(&groups, &Limits { cpu_milli: Some(1000), ..NONE });
    let group = group(&tenant, &Limits { cpu_milli: Some(4000), ..NONE });
    tenant.set_limits(&Limits { cpu_milli: Some(200), ..NONE }).expect("less");
    group.set_limits(&Limits { cpu_milli: Some(3000), ..NONE }).expect("more than the tenant's");
    let (mut child, _reader) = start(step(&group, "while :; do :; done")).expect("starts");
    eventually("the tenant is throttled", || {
        group.usage().throttled.max(tenant.usage().throttled) > Duration::from_millis(20)
    });
    tenant.set_limits(&NONE).expect("none");
    burns(&group, Duration::from_millis(100));
    child.kill();
    child.wait().expect("nobody else waits");
}

#[test]
fn a_frozen_step_stands_still_goes_on_and_can_be_killed_while_frozen() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &NONE);
    let (mut child, _reader) = start(step(&group, "while :; do :; done")).expect("starts");
    burns(&group, Duration::from_millis(20));
    group.freeze(true).expect("stops");
    eventually("it stands still", || {
        let before = group.usage().cpu;
        thread::sleep(Duration::from_millis(30));
        group.usage().cpu == before
    });
    group.freeze(false).expect("goes on");
    burns(&group, Duration::from_millis(20));
    group.freeze(true).expect("stops");
    group.kill();
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Signal(libc::SIGKILL));
}

#[test]
fn killing_a_group_ends_everything_in_it() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &NONE);
    let script = "for i in 1 2 3 4 5 6 7 8; do (setsid sleep 1000 & ) ; done; echo ready; sleep 1000";
    let (mut child, mut reader) = start(step(&group, script)).expect("starts");
    scene::read_until(&mut reader, "ready\n");
    group.kill();
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Signal(libc::SIGKILL));
    assert_eq!(inhabitants(&group), 0);
}

fn inhabitants(group: &Group) -> usize {
    let lists = group.paths().into_iter().filter_map(|(path, _)| fs::read_to_string(path.join("cgroup.procs")).ok());
    lists.map(|list| list.lines().count()).max().unwrap_or(0)
}

// What is seen inside.

#[test]
fn the_step_sees_its_group_as_the_root_of_all_groups() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &NONE);
    let (ended, _) = within(&group, "cat /proc/self/cgroup");
    for (_, mount) in group.paths() {
        let name = mount.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let line = ended.output.lines().find(|line| line.contains(&name) || line.starts_with("0::"));
        assert!(line.is_some_and(|line| line.ends_with(":/")), "{mount:?}: {}", ended.output);
    }
    assert!(!ended.output.contains("paceline-"), "{}", ended.output);
}

// Nothing is left.

#[test]
fn two_hundred_groups_leave_nothing() {
    let groups = Arc::new(groups!());
    let tenant = tenant(&groups, &NONE);
    let limits = Limits { memory: Some(64 * MIB), cpu_milli: Some(1000), pids: Some(32), io_weight: None };
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let tenant = tenant.clone();
            thread::spawn(move || {
                for round in 0..50 {
                    let group = tenant.group(&format!("w{worker}-{round}"), &limits).expect("is made");
                    let group = Arc::new(group);
                    assert_eq!(within(&group, "exit 3").0.exit, Exit::Code(3));
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
    let one = group(&tenant, &NONE);
    let tenants: Vec<PathBuf> = one.paths().iter().filter_map(|(path, _)| Some(path.parent()?.to_owned())).collect();
    drop(one);
    for path in &tenants {
        assert_eq!(folders_in(path), Vec::<String>::new(), "{}", path.display());
    }
    let homes: Vec<PathBuf> = tenants.iter().filter_map(|path| Some(path.parent()?.to_owned())).collect();
    drop((tenant, groups));
    for path in homes {
        assert!(!path.exists(), "{}", path.display());
    }
}

fn folders_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("is there").filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_group_stays_as_long_as_the_step_in_it_and_no_longer() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &NONE);
    let paths = group.paths();
    let (child, _reader) = start(step(&group, "sleep 1000")).expect("starts");
    drop((group, tenant, groups));
    assert!(paths.iter().all(|(path, _)| path.exists()));
    drop(child);
    assert!(paths.iter().all(|(path, _)| !path.exists()));
}

#[test]
fn a_step_that_cannot_start_leaves_nobody_in_its_group() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let group = group(&tenant, &NONE);
    let spec = Spec { group: Some(group.clone()), ..bare(&["/not/there"]) };
    assert!(spec.spawn().is_err());
    assert_eq!(inhabitants(&group), 0);
    let paths = group.paths();
    drop(group);
    assert!(paths.iter().all(|(path, _)| !path.exists()));
}

#[test]
fn groups_of_a_killed_pace_are_removed_by_the_next_and_those_of_a_living_one_are_not() {
    let groups = groups!();
    let living = tenant(&groups, &NONE);
    let here = group(&living, &NONE).paths();
    // What a killed one leaves: groups that nobody holds.
    let mut left = Vec::new();
    for (path, _) in &here {
        let base = path.ancestors().nth(3).expect("attempt, tenant, home, base");
        let abandoned = base.join(format!("paceline-0-{}", std::process::id()));
        fs::create_dir_all(abandoned.join("tenant")).expect("we may");
        fs::create_dir_all(abandoned.join("tenant/attempt")).expect("we may");
        left.push(abandoned);
    }
    let next = Groups::open().expect("as before");
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(group(&living, &NONE).paths().iter().all(|(path, _)| path.exists()));
    drop(next);
}

// Refusals.

#[test]
fn a_name_that_could_be_a_file_of_the_kernel_is_refused() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    for name in ["cgroup.procs", "", "..", "a/b", "a b", &"x".repeat(201)] {
        let error = tenant.group(name, &NONE).expect_err(name).to_string();
        assert!(error.contains("cannot be the name of a control group"), "{error}");
        assert!(groups.tenant(name, &NONE).is_err());
    }
    let _first = tenant.group("same", &NONE).expect("is free");
    let error = tenant.group("same", &NONE).expect_err("is taken").to_string();
    assert!(error.contains("cannot make the control group") && error.contains("exists"), "{error}");
}

#[test]
fn a_limit_that_makes_no_sense_leaves_no_group() {
    let groups = groups!();
    let tenant = tenant(&groups, &NONE);
    let error = tenant.group("small", &Limits { memory: Some(1), ..NONE }).expect_err("too small").to_string();
    assert!(error.contains("no shell starts"), "{error}");
    assert!(tenant.group("small", &NONE).is_ok(), "the name is still free");
}

#[test]
fn an_ordinary_user_without_delegation_is_told_what_to_do() {
    // Root's run of these tests starts them again as such a user.
    if let Err(none) = Groups::open() {
        let text = none.to_string();
        assert!(text.contains("this user may not make control groups in /sys/fs/cgroup"), "{text}");
        assert!(text.contains("root") && (text.contains("systemd-run") || text.contains("version 2")), "{text}");
    }
}
