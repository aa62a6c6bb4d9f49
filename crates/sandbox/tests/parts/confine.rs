//! What a step may do beyond what it sees: landlock, its first process, the processors that it may count.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use sandbox::{Bind, Exit, Identity, Network, Spec};

use crate::scene::{Scene, bare, helper, image_step, run};
use crate::{can_sandbox, fs, needs_sandbox};

/// The version of landlock here; 0 is none.
fn landlock() -> i64 {
    // SAFETY: with this flag no memory is read.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) }
}

/// Everything that programs do with files where they may write.
const USUAL: &str =
    "set -e; mkdir -p a/b c; echo x > a/file; mv a/file c/moved; ln c/moved a/b/hard; ln -s hard a/b/soft
    mkfifo a/fifo; mv a/b c/; echo y >> c/b/soft; : > c/moved; rm -r a; chmod 600 c/moved; cp -a c d; rm -rf c d";

#[test]
fn landlock_is_in_nobodys_way_where_a_step_may_write() {
    needs_sandbox!();
    let scene = Scene::new();
    let places = "for dir in /workspace /tmp /dev/shm /run /var/tmp; do cd $dir; usual; done; echo done";
    let ended = run(scene.step(&format!("usual() {{ {USUAL}; }}; {places}")));
    assert_eq!(ended.output, "done\n");
    let ended = run(image_step(&Scene::new(), &format!("mkdir /made; cd /made; {USUAL}; cd /tmp; {USUAL}; echo done")));
    assert_eq!(ended.output, "done\n");
}

#[test]
fn streams_and_what_proc_has_of_a_process_itself_can_be_written() {
    needs_sandbox!();
    let scene = Scene::new();
    let script = "echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/1; echo d > /dev/null
                  printf name > /proc/$$/comm; cat /proc/$$/comm; echo 500 > /proc/self/oom_score_adj";
    assert_eq!(scene.runs(script).output, "a\nb\nc\nname\n");
    let log = scene.file("log", "");
    let mut step = bare(&["sh", "-c", "echo written > /dev/stdout"]);
    let file = fs::File::options().append(true).open(&log).expect("is there");
    step.stdout = Some(OwnedFd::from(file));
    assert_eq!(step.spawn().map(|mut child| child.wait().expect("nobody else waits").0).ok(), Some(Exit::Code(0)));
    assert_eq!(scene.read("log"), "written\n", "a file of the host that is a stream");
}

#[test]
fn a_directory_of_the_host_that_leaked_in_cannot_be_written() {
    needs_sandbox!();
    if landlock() < 2 {
        return;
    }
    let scene = Scene::new();
    scene.file("leaked/file", "as before");
    let mut step = helper("through stdin");
    step.stdin = Some(OwnedFd::from(fs::File::open(scene.path("leaked")).expect("is there")));
    let output = run(step).output;
    assert!(output.contains("SAYS make: 13, overwrite: 13, remove: 13"), "{output}");
    assert_eq!(scene.read("leaked/file"), "as before");
}

#[test]
fn abstract_sockets_of_the_host_are_out_of_reach_with_the_hosts_network() {
    needs_sandbox!();
    if landlock() < 6 {
        return;
    }
    let name = format!("sandbox-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("short")).expect("free");
    let step = Spec { network: Network::Host, ..helper(&format!("abstract {name}")) };
    let output = run(step).output;
    assert!(output.contains("SAYS 1"), "refused with EPERM: {output}");
}

/// Error numbers of what is tried on process 1: EPERM, for its file EACCES, and nobody else is there.
const CLOSED: &str = "SAYS limit: 1, trace: 1, attach: 1, read: 1, write: 1, memory: 13, take: 1, nobody: 3";

#[test]
fn the_first_process_cannot_be_stopped_traced_limited_or_read() {
    needs_sandbox!();
    let output = run(helper("first process")).output;
    assert!(output.contains(CLOSED), "{output}");
    let scene = Scene::new();
    assert_eq!(
        scene.runs("kill -STOP 1 2>/dev/null; kill -KILL 1 2>/dev/null; sleep 0.1; echo alive").output,
        "alive\n"
    );
}

#[test]
fn the_first_process_is_closed_to_the_root_of_an_image_with_rights_too() {
    needs_sandbox!();
    // SAFETY: always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let scene = Scene::new();
    let helper = helper("first process");
    let mut step = image_step(&scene, "");
    step.binds.extend(helper.binds);
    step.identity = Identity { uid: 0, gid: 0, groups: Vec::new(), range: true, keep: true };
    let output = run(Spec { argv: helper.argv, env: helper.env, ..step }).output;
    assert!(output.contains(CLOSED), "{output}");
}

#[test]
fn a_step_may_trace_its_own_processes_and_read_their_memory() {
    needs_sandbox!();
    let output = run(helper("trace own")).output;
    assert!(output.contains("SAYS attach: 0, stopped: true, read: 0 as written, exit stop: 1"), "{output}");
}

#[test]
fn two_that_trace_each_other_go_when_the_step_is_killed() {
    needs_sandbox!();
    let (mut child, mut output) = crate::start(helper("trace each other")).expect("it starts");
    let before = crate::read_until(&mut output, "SAYS first: 0\n");
    if !before.contains("SAYS second: 0\n") {
        crate::read_until(&mut output, "SAYS second: 0\n");
    }
    child.kill();
    crate::eventually("the tree is gone", || child.try_wait().is_ok_and(|ended| ended.is_some()));
}

#[test]
fn a_command_that_asks_its_parent_to_trace_it_runs_on() {
    needs_sandbox!();
    let ended = run(helper("trace me"));
    assert!(ended.output.contains("SAYS asked: 0, and went on"), "{}", ended.output);
    assert_eq!(ended.exit, Exit::Code(0));
}

const LEAKS: &str =
    "#include <stdlib.h>\nint main(void) { volatile char *lost = malloc(12345); lost = 0; return 0; }\n";

#[test]
fn a_leak_checker_works() {
    needs_sandbox!();
    let scene = Scene::new();
    let (source, program) = (scene.file("leaks.c", LEAKS), scene.path("leaks"));
    let made = std::process::Command::new("gcc").args(["-fsanitize=address", "-o"]).args([&program, &source]).status();
    if !made.is_ok_and(|status| status.success()) {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "gcc cannot make a program with -fsanitize=address: install gcc libc6-dev");
        eprintln!("not tested: gcc cannot make a program with -fsanitize=address");
        return;
    }
    let mut step = bare(&["/run/leaks"]);
    step.env.push(("ASAN_OPTIONS".into(), "detect_leaks=1:exitcode=23".into()));
    step.binds.push(Bind { from: program, to: "/run/leaks".into(), writable: false });
    let ended = run(step);
    assert!(ended.output.contains("12345 byte(s) leaked in 1 allocation"), "{}", ended.output);
    assert_eq!(ended.exit, Exit::Code(23));
}

#[test]
fn the_first_process_tells_nothing_of_its_makers_arguments() {
    needs_sandbox!();
    assert_eq!(Scene::new().runs("tr -d '\\0' < /proc/1/cmdline").output, "sandbox");
}

#[test]
fn processors_can_be_counted_and_nothing_else_of_sys_is_there() {
    needs_sandbox!();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let script =
        "cat /sys/devices/system/cpu/online; ls /sys /sys/devices; echo 0 > /sys/devices/system/cpu/cpu1/online";
    let output = Scene::new().runs(script).output;
    assert!(output.starts_with(&format!("{online}/sys:\ndevices\n\n/sys/devices:\nsystem\n")), "{output}");
    assert!(output.contains("Read-only file system") || output.contains("ermission denied"), "{output}");
}

#[test]
fn rights_cannot_be_gained_back() {
    needs_sandbox!();
    let output = run(helper("securebits")).output;
    assert!(output.contains("SAYS bits: 235, keep: 1, ambient: 1"), "{output}");
}

#[test]
fn a_tree_of_a_thousand_processes_is_gone_when_its_first_is_killed() {
    needs_sandbox!();
    let time = crate::a_long_time(9);
    let script = format!("i=0; while [ $i -lt 1000 ]; do sleep {time} & i=$((i+1)); done; echo all; wait");
    let (mut child, mut output) = crate::start(bare(&["sh", "-c", &script])).expect("it starts");
    crate::read_until(&mut output, "all");
    child.kill();
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Signal(9));
    assert_eq!(crate::processes_with(&format!("sleep {time}")), 0, "gone with the first, not some time later");
}
