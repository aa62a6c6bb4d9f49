//! As whom a step runs, and the limits of its processes.

use sandbox::{Identity, Rlimits, SUBORDINATE_BASE, Spec, TmpSize};

use crate::scene::{Scene, bare, image_step, run};
use crate::{can_sandbox, fs, needs_sandbox};

/// Ends a test that only root can keep.
macro_rules! needs_root {
    () => {
        // SAFETY: always succeeds.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
    };
}

fn ranged(uid: u32, keep: bool) -> Identity {
    Identity { uid, gid: uid, groups: vec![4, 20], range: true, keep }
}

#[test]
fn a_step_can_have_another_number_inside() {
    needs_sandbox!();
    let scene = Scene::new();
    let mut step = scene.step("id -u; id -g; echo x > made; stat -c %u made");
    step.identity = Identity { uid: 33, gid: 34, ..Identity::caller() };
    assert_eq!(run(step).output, "33\n34\n33\n");
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata(scene.path("upper/made")).expect("was made").uid();
    assert_eq!(owner, Identity::caller().uid, "outside it is the caller's");
}

#[test]
fn a_range_has_all_users_of_an_image() {
    needs_sandbox!();
    needs_root!();
    let mut step = bare(&["sh", "-c", "id -u; id -G; tr -s ' ' < /proc/self/uid_map"]);
    step.identity = ranged(33, false);
    let base = SUBORDINATE_BASE;
    let expected = format!("33\n33 4 20\n 0 {base} 33\n 33 0 1\n 34 {} 65502\n", base + 34);
    assert_eq!(run(step).output, expected);
}

#[test]
fn a_range_without_rights_cannot_change_users() {
    needs_sandbox!();
    needs_root!();
    let scene = Scene::new();
    let mut step = image_step(&scene, "echo x > /x; chown 5 /x; grep Cap /proc/self/status | tr -d '\\t'");
    step.identity = ranged(0, false);
    let output = run(step).output;
    assert!(output.contains("not permitted") && output.contains("CapBnd:0000000000000000"), "{output}");
}

#[test]
fn a_package_manager_has_the_rights_that_it_needs_and_no_others() {
    needs_sandbox!();
    needs_root!();
    let scene = Scene::new();
    let script = "echo x > /x; chown 100:200 /x; chmod 0 /x; stat -c %u:%g:%a /x; cat /x; grep Cap /proc/self/status";
    let mut step = image_step(&scene, script);
    step.identity = ranged(0, true);
    let output = run(step).output.replace('\t', "");
    let kept = "00000000000000db";
    let none = "0000000000000000";
    let expected = format!(
        "100:200:0\nx\nCapInh:{none}\nCapPrm:{kept}\nCapEff:{kept}\nCapBnd:{}\nCapAmb:{none}\n",
        "00000000000000fb"
    );
    assert_eq!(output, expected);
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(scene.path("root-upper/x")).expect("was made");
    assert_eq!((meta.uid(), meta.gid()), (SUBORDINATE_BASE + 100, SUBORDINATE_BASE + 200));
}

#[test]
fn files_of_an_image_belong_to_whom_the_image_says() {
    needs_sandbox!();
    needs_root!();
    use std::os::unix::fs::{MetadataExt, chown};
    let scene = Scene::new();
    let layer = scene.folder("layer");
    for (name, owner) in [("etc/of-root", 0), ("home/of-user", 1000), ("srv/of-other", 33)] {
        let path = scene.file(&format!("layer/{name}"), "before");
        let outside = if owner == 0 { 0 } else { SUBORDINATE_BASE + owner };
        chown(&path, Some(outside), Some(outside)).expect("we are root");
    }
    chown(layer.join("home"), Some(SUBORDINATE_BASE + 1000), Some(SUBORDINATE_BASE + 1000)).expect("we are root");
    let script = "id -u; id -g; cd /; stat -c %u:%g etc/of-root home/of-user srv/of-other workspace
                  echo x > etc/of-root; echo x > etc/new; echo x > srv/of-other; echo mine > home/of-user && cat home/of-user
                  echo x > home/new; stat -c %u home/new; echo x > /workspace/made && stat -c %u /workspace/made";
    let mut step = image_step(&scene, script);
    step.overlays = vec![scene.workspace(&["lower"])];
    step.identity = ranged(1000, false);
    let output = run(step).output;
    let owners = "1000\n1000\n0:0\n1000:1000\n33:33\n1000:1000\n";
    assert!(output.starts_with(owners) && output.ends_with("mine\n1000\n1000\n"), "{output}");
    assert_eq!(output.matches("ermission denied").count(), 3, "{output}");
    assert_eq!(fs::metadata(scene.path("upper/made")).expect("was made").uid(), 0, "outside it is the caller's");
    assert_eq!((scene.read("layer/home/of-user"), scene.read("layer/etc/of-root")), ("before".into(), "before".into()));
}

#[test]
fn core_dumps_are_off_and_stay_off() {
    needs_sandbox!();
    let output = bare_says("grep -i core /proc/self/limits | tr -s ' '; ulimit -c unlimited 2>&1; kill -SEGV $$");
    assert!(output.starts_with("Max core file size 1 1 bytes"), "{output}");
}

fn bare_says(script: &str) -> String {
    run(bare(&["sh", "-c", script])).output
}

#[test]
fn limits_are_soft_and_hard_and_never_above_the_callers() {
    needs_sandbox!();
    let scene = Scene::new();
    let mut step = scene.step(
        "ulimit -Sn; ulimit -Hn; head -c 100000 /dev/zero > big; wc -c < big; ulimit -n 200 2>&1 | grep -c -i permitted",
    );
    step.rlimits = Rlimits { open_files: Some(100), file_size: Some(8192), ..Rlimits::default() };
    let output = run(step).output;
    assert!(output.starts_with("100\n100\n") && output.contains("8192\n"), "{output}");
    let mut step = bare(&["sh", "-c", "ulimit -Hn"]);
    step.rlimits.open_files = Some(u64::MAX);
    let mut ours = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `ours` is filled.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut ours) };
    assert_eq!(run(step).output.trim(), ours.rlim_max.to_string());
}

#[test]
fn tmp_has_the_size_and_the_number_of_files_that_it_was_given() {
    needs_sandbox!();
    let script = "head -c 3000000 /dev/zero > /tmp/a; wc -c < /tmp/a; rm /tmp/a
                  i=0; while echo > /dev/shm/$i; do i=$((i+1)); done 2>/dev/null; test $i -lt 600 && echo bounded";
    let sized = |step: Spec| {
        let tmp = TmpSize { bytes: Some(1 << 20), inodes: Some(600) };
        let output = run(Spec { tmp, ..step }).output;
        assert!(output.contains("No space left") && output.contains("bounded"), "{output}");
    };
    sized(bare(&["sh", "-c", script]));
    sized(image_step(&Scene::new(), script));
}
