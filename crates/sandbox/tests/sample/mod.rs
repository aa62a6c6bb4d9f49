//! What sampling sees of a step, and what rlimits hold, on hosts without control groups.
#![allow(unsafe_code)] // asks who we are

use std::io::Read;

use sandbox::{Exit, Sample, Sampler};

use crate::scene::{self, Scene, bare, eventually, start};

const MIB: u64 = 1 << 20;

/// Ends a test where no sandbox works, after saying so.
macro_rules! needs_sandbox {
    () => {
        if !scene::can_sandbox() {
            return;
        }
    };
}

#[test]
fn all_processes_of_a_step_are_sampled_orphans_too() {
    needs_sandbox!();
    let script = "(setsid sh -c 'sleep 1000 & sleep 1000 & wait' & ); sleep 1000 & echo ready; wait";
    let (mut child, mut output) = start(bare(&["sh", "-c", script])).expect("starts");
    scene::read_until(&mut output, "ready\n");
    let mut sampler = Sampler::new(child.pid());
    // The first process, the shell, its sleep, and the orphan with its two.
    eventually("six processes are seen", || sampler.clone().sample().processes == 6);
    child.kill();
    child.wait().expect("nobody else waits");
    assert_eq!(sampler.sample(), Sample::default(), "a tree that is gone is empty");
}

#[test]
fn memory_that_a_forked_process_shares_is_counted_once() {
    needs_sandbox!();
    let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo one; read line
                  (sleep 1000; echo ${#x}) & echo two; wait";
    let (reader, writer) = std::io::pipe().expect("pipes are to be had");
    let mut step = bare(&["sh", "-c", script]);
    step.stdin = Some(reader.into());
    let (mut child, mut output) = start(step).expect("starts");
    let mut sampler = Sampler::new(child.pid());
    scene::read_until(&mut output, "one\n");
    let alone = sampler.sample().memory;
    drop(writer);
    scene::read_until(&mut output, "two\n");
    eventually("the forked one and its sleep are there", || sampler.clone().sample().processes == 4);
    let both = sampler.sample().memory;
    assert!(alone > 18 * MIB && both < alone + alone / 2, "{alone} and then {both}");
    child.kill();
    child.wait().expect("nobody else waits");
}

#[test]
fn a_memory_file_counts_once_whoever_has_it_open_or_mapped() {
    needs_sandbox!();
    let (mut child, mut output) = start(scene::helper("memory file")).expect("starts");
    let mut sampler = Sampler::new(child.pid());
    scene::read_until(&mut output, "SAYS written\n");
    let memory = sampler.sample().memory;
    assert!((64 * MIB..100 * MIB).contains(&memory), "{memory}");
    child.kill();
    child.wait().expect("nobody else waits");
}

#[test]
fn a_fork_bomb_of_an_ordinary_user_meets_its_process_limit() {
    needs_sandbox!();
    // SAFETY: always succeeds.
    if unsafe { libc::geteuid() } == 0 {
        return; // the kernel exempts root; the run as an ordinary user shows it
    }
    // Many more than the limit run outside, as the same user: they must not count, nor be hurt.
    let mut others: Vec<_> = (0..30)
        .map(|_| std::process::Command::new("sleep").arg("1000").spawn().expect("outside there is no limit"))
        .collect();
    let mut step = bare(&["sh", "-c", "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done; echo never"]);
    step.rlimits.processes = Some(20);
    let (mut child, mut output) = start(step).expect("starts though the user has more processes outside");
    let mut text = String::new();
    output.read_to_string(&mut text).expect("is text");
    let (exit, _) = child.wait().expect("nobody else waits");
    assert!(text.contains("ork") && !text.contains("never") && exit != Exit::Code(0), "{exit:?}: {text}");
    for other in &mut others {
        assert_eq!(other.try_wait().expect("is ours"), None);
        other.kill().expect("is ours");
        other.wait().expect("is ours");
    }
}

#[test]
fn a_file_cannot_grow_beyond_its_limit_and_descriptors_run_out_at_theirs() {
    needs_sandbox!();
    let scene = Scene::new();
    let mut step = scene.step("ulimit -n; head -c 3000000 /dev/zero > big; ls -s big >/dev/null; stat -c %s big");
    step.rlimits.file_size = Some(MIB);
    step.rlimits.open_files = Some(64);
    let ended = scene::run(step);
    assert!(ended.output.starts_with("64\n") && ended.output.ends_with("1048576\n"), "{}", ended.output);
}

#[test]
fn a_soft_limit_of_open_files_leaves_the_hard_one_alone() {
    needs_sandbox!();
    let scene = Scene::new();
    let hard = scene.runs("ulimit -Hn").output;
    let scene = Scene::new();
    let mut step = scene.step("ulimit -Sn; ulimit -Hn; ulimit -Sn 80; ulimit -Sn");
    step.rlimits.open_files_soft = Some(77);
    assert_eq!(scene::run(step).output, format!("77\n{hard}80\n"));
}
