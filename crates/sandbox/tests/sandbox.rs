//! What the sandbox promises, tried with real processes, as root and as an ordinary user.
#![allow(unsafe_code)] // system calls that a step tries

mod cgroup;
mod parts;
mod sample;
mod scene;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use sandbox::{Bind, Exit, Network, Overlay, Root, SpawnError};
use scene::{
    HELP, Scene, a_long_time, again_as, bare, can_sandbox, eventually, helper, helper_outside, processes_with,
    read_until, run, start, view,
};

/// Ends a test where no sandbox works, after saying so.
macro_rules! needs_sandbox {
    () => {
        if !can_sandbox() {
            return;
        }
    };
}
pub(crate) use needs_sandbox;

#[test]
fn everything_holds_for_an_ordinary_user_too() {
    // SAFETY: always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    needs_sandbox!();
    again_as(54321, &["everything_holds_for_an_ordinary_user_too"]);
}

// What it may see.

#[test]
fn a_step_sees_its_own_processes_only() {
    needs_sandbox!();
    assert_eq!(Scene::new().runs("echo /proc/[0-9]*").output, "/proc/1 /proc/2\n");
}

#[test]
fn a_step_has_one_network_interface_and_can_talk_to_itself() {
    needs_sandbox!();
    let ended = Scene::new().runs("grep -c : /proc/net/dev; hostname 2>/dev/null || cat /proc/sys/kernel/hostname");
    assert_eq!(ended.output, "1\nstep\n");
    assert!(run(helper("loopback")).output.contains("SAYS hello"), "loopback is up");
}

#[test]
fn the_host_network_is_there_when_asked_for() {
    needs_sandbox!();
    let mut step = Scene::new().step("cat /proc/net/dev | cut -d: -f1");
    step.cwd = "/".into();
    step.overlays.clear();
    step.network = Network::Host;
    let names = |text: &str| {
        text.lines().map(|line| line.split(':').next().unwrap_or_default().trim().to_owned()).collect::<Vec<_>>()
    };
    let host = fs::read_to_string("/proc/net/dev").expect("is there");
    assert_eq!(names(&run(step).output), names(&host));
}

#[test]
fn the_workspace_can_be_written_and_the_host_cannot() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("lower/there", "before");
    let ended = scene.runs(
        "echo after > there; echo new > made
         for path in /x /usr/x /etc/x /dev/x /proc/sys/kernel/hostname /proc/sysrq-trigger; do
           (echo x > $path) 2>/dev/null && echo wrote $path
         done; echo x > /tmp/x && echo x > /dev/shm/x && echo x > /var/tmp/x && cat there",
    );
    assert_eq!(ended.output, "after\n");
    assert_eq!(
        (scene.read("lower/there"), scene.read("upper/there"), scene.read("upper/made")),
        ("before".into(), "after\n".into(), "new\n".into())
    );
}

#[test]
fn the_host_has_no_root_home_or_tmp_inside() {
    needs_sandbox!();
    let scene = Scene::new();
    let ended = scene
        .runs("ls -A /tmp; ls -d /root /home /work /mnt /boot /old_root /.hidden* /sys/* 2>/dev/null; ls /sys/devices");
    assert_eq!(ended.output, "/sys/devices\nsystem\n");
}

#[test]
fn secrets_of_the_host_and_of_process_1_cannot_be_read() {
    needs_sandbox!();
    let ended = Scene::new().runs(
        "cat /etc/shadow; cat /proc/1/environ; cat /proc/1/maps; ls /proc/1/root/; cat /proc/1/mem; cat /proc/keys",
    );
    assert_eq!(ended.output.matches("ermission denied").count(), 6, "{}", ended.output);
}

#[test]
fn configuration_for_roots_eyes_cannot_be_read() {
    needs_sandbox!();
    let ended = Scene::new().runs("find /etc -type f ! -perm -004 -exec cat {} + 2>/dev/null; true");
    assert_eq!(ended.output, "");
}

#[test]
fn hidden_paths_are_empty_or_unreadable() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("tools/bin/tool", "x");
    scene.file("tools/secrets/key", "x");
    let token = scene.file("tools/token", "x");
    let mut step = scene.step(&format!("cd {}; echo bin/* secrets/*; cat token", scene.path("tools").display()));
    view(&mut step).show.push(scene.path("tools"));
    symlink("secrets", scene.path("tools/same-secrets")).expect("made");
    let hidden = ["tools/secrets", "tools/same-secrets", "tools/not-there"].map(|name| scene.path(name));
    view(&mut step).hide.extend([token.clone(), token].into_iter().chain(hidden));
    let output = run(step).output;
    assert!(output.starts_with("bin/tool secrets/*\n") && output.ends_with("Permission denied\n"), "{output}");
}

#[test]
fn toolchains_lie_on_top_of_a_private_home() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("home/.rust/bin/tool", "x");
    scene.file("home/.ssh/key", "x");
    let (home, private) = (scene.path("home"), scene.folder("private"));
    let mut step =
        scene.step(&format!("cd {0}; ls -A; cat .rust/bin/tool; echo x > mine; echo x > .rust/x", home.display()));
    view(&mut step).show.push(home.join(".rust"));
    step.binds.push(Bind { from: private, to: home, writable: true });
    let output = run(step).output;
    assert!(output.starts_with(".rust\nx") && output.contains("Read-only file system"), "{output}");
    assert_eq!(scene.read("private/mine"), "x\n");
}

#[test]
fn a_script_can_be_bound_read_only_as_a_file() {
    needs_sandbox!();
    let scene = Scene::new();
    let script = scene.file("script", "echo from the script; echo x >> /run/pace/script");
    let mut step = bare(&["sh", "/run/pace/script"]);
    step.binds.push(Bind { from: script, to: "/run/pace/script".into(), writable: false });
    let output = run(step).output;
    assert!(output.starts_with("from the script\n") && output.contains("Read-only"), "{output}");
}

#[test]
fn a_link_in_the_workspace_leads_no_mount_to_the_host() {
    needs_sandbox!();
    let scene = Scene::new();
    let outside = scene.path("outside");
    symlink(&outside, scene.folder("lower").join("cache")).expect("made");
    let source = scene.folder("source");
    let mut step = scene.step("true");
    step.binds.push(Bind { from: source, to: "/workspace/cache/deep".into(), writable: true });
    let error = start(step).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with("cannot make the mount point /workspace/cache/deep in the sandbox"), "{error}");
    assert!(!outside.exists());
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    needs_sandbox!();
    let mut step = bare(&["env"]);
    step.env.push(("WEIRD".into(), OsString::from("a=b\nc")));
    assert_eq!(run(step).output, "PATH=/usr/local/bin:/usr/bin:/bin\nWEIRD=a=b\nc\n");
}

#[test]
fn no_descriptor_of_ours_is_open_inside() {
    needs_sandbox!();
    // SAFETY: a descriptor that survives `exec`, on purpose.
    let leaky = unsafe { OwnedFd::from_raw_fd(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY)) };
    assert_eq!(Scene::new().runs("ls /proc/$$/fd").output, "0\n1\n2\n");
    drop(leaky);
}

#[test]
fn standard_input_is_empty_unless_given() {
    needs_sandbox!();
    let scene = Scene::new();
    assert_eq!(scene.runs("cat; readlink /proc/self/fd/0").output, "/dev/null\n");
    let (reader, mut writer) = std::io::pipe().expect("pipes are to be had");
    let mut step = bare(&["cat"]);
    step.stdin = Some(reader.into());
    writer.write_all(b"hello").expect("somebody reads");
    drop(writer);
    assert_eq!(run(step).output, "hello");
}

#[test]
fn devices_are_the_harmless_ones_and_work() {
    needs_sandbox!();
    let ended =
        Scene::new().runs("echo x > /dev/null; head -c 4 /dev/urandom | wc -c; cd /dev; echo *; echo y > /dev/stdout");
    assert_eq!(ended.output, "4\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero\ny\n");
}

#[test]
fn a_terminal_belongs_to_an_interactive_step() {
    needs_sandbox!();
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: the two numbers are filled and then ours.
    let (ours, theirs) = unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut theirs, null, null.cast(), null.cast()), 0);
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    };
    let mut step = bare(&["sh", "-c", "test -t 0 && echo through the terminal > /dev/tty; read line; echo got $line"]);
    step.stdin = Some(theirs.try_clone().expect("descriptors are to be had"));
    step.stdout = Some(theirs.try_clone().expect("descriptors are to be had"));
    step.stderr = Some(theirs);
    step.terminal = true;
    let mut child = step.spawn().expect("it starts");
    let mut terminal = fs::File::from(ours);
    read_until(&mut terminal, "through the terminal");
    terminal.write_all(b"typed\n").expect("somebody reads");
    read_until(&mut terminal, "got typed");
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Code(0));
}

// Overlays.

#[test]
fn an_overlay_of_150_directories_works() {
    needs_sandbox!();
    let scene = Scene::new();
    let names: Vec<String> = (0..150).map(|number| format!("lower-{number}")).collect();
    for name in &names {
        scene.file(&format!("{name}/file-of-{name}"), "");
        scene.file(&format!("{name}/same"), name);
    }
    let mut step = scene.step("ls | wc -l; cat same");
    step.overlays = vec![scene.workspace(&names.iter().map(String::as_str).collect::<Vec<_>>())];
    assert_eq!(run(step).output, "151\nlower-0");
}

#[test]
fn names_with_colons_commas_newlines_and_backslashes_are_just_names() {
    needs_sandbox!();
    let scene = Scene::new();
    let odd = "a:b,c\nd\\e f=g";
    scene.file(&format!("{odd}/lower/{odd}"), "found");
    let folder = |name: &str| scene.folder(&format!("{odd}/{name}"));
    let at = PathBuf::from("/work: \\,\nspace");
    let mut step = bare(&["sh", "-c", "cat *; echo x > made"]);
    step.overlays =
        vec![Overlay { at: at.clone(), lower: vec![folder("lower")], upper: folder("upper"), work: folder("work") }];
    step.cwd = at;
    assert_eq!(run(step).output, "found");
    assert_eq!(scene.read(&format!("{odd}/upper/made")), "x\n");
}

#[test]
fn what_an_overlay_leaves_can_be_removed() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("lower/dir/file", "x");
    scene.file("lower/file", "x");
    assert_eq!(
        scene.runs("rm -r dir file; mkdir -p dir/a/b; chmod 0 dir/a/b; chmod 555 dir/a dir").exit,
        Exit::Code(0)
    );
    sandbox::remove_tree(&scene.path("upper")).expect("it is ours");
    sandbox::remove_tree(&scene.path("work")).expect("it is ours");
    assert!(!scene.path("upper").exists() && !scene.path("work").exists());
}

// What it may do.

#[test]
fn a_step_has_no_capability_and_gains_none() {
    needs_sandbox!();
    let ended = Scene::new().runs("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t'");
    let none = "0000000000000000";
    let expected =
        format!("CapInh:{none}\nCapPrm:{none}\nCapEff:{none}\nCapBnd:{none}\nCapAmb:{none}\nNoNewPrivs:1\nSeccomp:2\n");
    assert_eq!(ended.output, expected);
}

#[test]
fn a_step_is_the_user_outside_and_knows_no_other() {
    needs_sandbox!();
    // SAFETY: both always succeed.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let ended = Scene::new().runs("id -u; id -g; tr -s ' ' < /proc/self/uid_map; cat /proc/self/setgroups");
    assert_eq!(ended.output, format!("{uid}\n{gid}\n {uid} {uid} 1\ndeny\n"));
}

#[test]
fn mounting_namespaces_and_tracing_are_refused() {
    needs_sandbox!();
    let output = run(helper("forbidden")).output;
    assert!(output.contains("SAYS all refused"), "{output}");
}

#[test]
fn a_sandbox_in_a_sandbox_is_refused_and_says_by_what() {
    needs_sandbox!();
    let output = run(helper("nested")).output;
    assert!(output.contains("SAYS cannot make a sandbox: a system call filter around us forbids it"), "{output}");
}

// How it ends.

#[test]
fn an_exit_code_and_a_signal_are_told_apart() {
    needs_sandbox!();
    let scene = Scene::new();
    assert_eq!(scene.runs("exit 137").exit, Exit::Code(137));
    let scene = Scene::new();
    assert_eq!(scene.runs("kill -9 $$").exit, Exit::Signal(9));
}

#[test]
fn cpu_time_and_memory_of_all_descendants_are_counted() {
    needs_sandbox!();
    let ended = Scene::new().runs("sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'");
    assert!(ended.usage.cpu.as_millis() > 5 && ended.usage.memory_peak > 100_000, "{:?}", ended.usage);
}

#[test]
fn a_daemon_does_not_outlive_its_step() {
    needs_sandbox!();
    let time = a_long_time(1);
    let script = format!(
        "(setsid sh -c 'sleep {time} >/dev/null 2>&1 & sleep {time} >/dev/null 2>&1 &' &); sleep 0.2; echo end"
    );
    assert_eq!(Scene::new().runs(&script).output, "end\n");
    assert_eq!(processes_with(&time), 0);
}

#[test]
fn sigterm_reaches_the_step() {
    needs_sandbox!();
    let scene = Scene::new();
    let script = "trap 'echo asked to stop; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let (mut child, mut reader) = start(scene.step(script)).expect("it starts");
    read_until(&mut reader, "ready");
    child.terminate();
    read_until(&mut reader, "asked to stop");
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Code(3));
}

#[test]
fn a_step_that_ignores_sigterm_is_killed() {
    needs_sandbox!();
    let time = a_long_time(2);
    let scene = Scene::new();
    let script = format!("trap '' TERM; echo ready; sleep {time} & while :; do sleep 0.05; done");
    let (mut child, mut reader) = start(scene.step(&script)).expect("it starts");
    read_until(&mut reader, "ready");
    child.terminate();
    assert!(child.try_wait().expect("nobody else waits").is_none());
    child.kill();
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Signal(9));
    assert_eq!(child.wait().expect("may be asked again").0, Exit::Signal(9));
    assert_eq!(processes_with(&time), 0);
}

#[test]
fn the_end_can_be_polled_for() {
    needs_sandbox!();
    let mut child = bare(&["sleep", "0.1"]).spawn().expect("it starts");
    let mut poll = libc::pollfd { fd: child.pidfd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry that lives on this stack.
    assert_eq!(unsafe { libc::poll(&mut poll, 1, 60_000) }, 1);
    assert_eq!(child.try_wait().expect("nobody else waits").map(|(exit, _)| exit), Some(Exit::Code(0)));
}

#[test]
fn a_dropped_child_is_gone() {
    needs_sandbox!();
    let time = a_long_time(3);
    drop(bare(&["sleep", &time]).spawn().expect("it starts"));
    assert_eq!(processes_with(&time), 0);
}

#[test]
fn a_step_outlives_the_thread_that_started_it() {
    needs_sandbox!();
    let thread = std::thread::spawn(|| bare(&["sh", "-c", "sleep 0.3; exit 4"]).spawn().expect("it starts"));
    let mut child = thread.join().expect("does not panic");
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Code(4));
}

#[test]
fn when_we_are_killed_so_is_the_step() {
    needs_sandbox!();
    killed_supervisor("supervise sandbox", &a_long_time(4));
}

#[test]
fn two_hundred_sandboxes_at_once_leave_nothing() {
    needs_sandbox!();
    let output = helper_outside("many").output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SAYS nothing left"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

// What is wrong is said.

#[test]
fn a_program_that_is_not_there_is_named_with_the_path_searched() {
    needs_sandbox!();
    let error = bare(&["no-such-tool"]).spawn().err().map(|error| error.to_string());
    let expected =
        "cannot execute `no-such-tool`: it is in no directory of the step's PATH (/usr/local/bin:/usr/bin:/bin)";
    assert_eq!(error.as_deref(), Some(expected));
    let error = bare(&["/etc/passwd"]).spawn().err().map(|error| error.to_string());
    let expected = "cannot execute `/etc/passwd`: it is not an executable file, or may not be executed by this user";
    assert_eq!(error.as_deref(), Some(expected));
}

#[test]
fn what_cannot_be_mounted_is_named() {
    needs_sandbox!();
    let scene = Scene::new();
    let mut step = bare(&["true"]);
    view(&mut step).show.push("/no/such/folder".into());
    assert_eq!(
        step.spawn().err().map(|error| error.to_string()).as_deref(),
        Some("cannot show /no/such/folder at /no/such/folder in the sandbox: No such file or directory (os error 2)")
    );
    let mut step = scene.step("true");
    step.overlays[0].lower.push("/no/such/lower".into());
    assert_eq!(
        step.spawn().err().map(|error| error.to_string()).as_deref(),
        Some(
            "cannot open /no/such/lower, a lower directory of the overlay at /workspace: No such file or directory (os error 2)"
        )
    );
    let mut step = bare(&["true"]);
    step.cwd = "/no/such/folder".into();
    assert_eq!(
        step.spawn().err().map(|error| error.to_string()).as_deref(),
        Some("cannot change to the working directory /no/such/folder: No such file or directory (os error 2)")
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut step = bare(&["true"]);
    step.cwd = "relative".into();
    assert!(matches!(step.spawn(), Err(SpawnError::Invalid(why)) if why == "the path `relative` is not absolute"));
    let mut step = bare(&["true"]);
    view(&mut step).private.push("/tmp/../etc".into());
    assert!(matches!(step.spawn(), Err(SpawnError::Invalid(why)) if why == "the path /tmp/../etc goes up with `..`"));
    let mut step = bare(&["true"]);
    step.env.push(("A=B".into(), "c".into()));
    assert!(matches!(step.spawn(), Err(SpawnError::Invalid(why)) if why == "`A=B` cannot be the name of a variable"));
}

// Tools that people have.

#[test]
fn the_hosts_toolchains_work_inside() {
    needs_sandbox!();
    let env: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let detected = sandbox::host_view::detect(&env);
    let path = detected.env.get("PATH").cloned().unwrap_or_default();
    let home = env.get("HOME").cloned().unwrap_or("/home/nobody".into());
    for command in [
        "go version",
        "cargo --version",
        "rustc --version",
        "node --version",
        "npm --version",
        "python3 --version",
        "java -version",
        "git --version",
    ] {
        let program = command.split(' ').next().unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join(program).exists()) {
            continue;
        }
        let scene = Scene::new();
        let mut step = scene.step(command);
        step.root = Root::Host(detected.view.clone());
        step.env = detected.env.iter().map(|(key, value)| (key.into(), value.into())).collect();
        step.env.push(("HOME".into(), home.clone().into()));
        step.binds.push(Bind { from: scene.folder("home"), to: home.clone().into(), writable: true });
        let ended = run(step);
        assert_eq!(ended.exit, Exit::Code(0), "{command}: {}", ended.output);
    }
}

// Without isolation.

fn unsandboxed(script: &str) -> (sandbox::Child, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().expect("pipes are to be had");
    let argv = ["sh", "-c", script].map(OsString::from).to_vec();
    let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    let child = sandbox::process::spawn(argv, env, "/".into(), None, Some(writer.into()), None, None);
    (child.expect("it starts"), reader)
}

#[test]
fn a_plain_process_ends_as_its_command_does() {
    assert_eq!(unsandboxed("exit 9").0.wait().expect("nobody else waits").0, Exit::Code(9));
    assert_eq!(unsandboxed("kill -TERM $$").0.wait().expect("nobody else waits").0, Exit::Signal(15));
}

#[test]
fn a_plain_process_leaves_no_daemon() {
    let time = a_long_time(5);
    let script = format!("(setsid sh -c 'sleep {time} & sleep {time} &' &); sleep 0.2; echo end");
    let (mut child, mut reader) = unsandboxed(&script);
    read_until(&mut reader, "end");
    assert_eq!(child.wait().expect("nobody else waits").0, Exit::Code(0));
    assert_eq!(processes_with(&time), 0);
}

#[test]
fn a_plain_process_that_ignores_sigterm_is_killed_with_its_children() {
    let time = a_long_time(6);
    let (mut child, mut reader) = unsandboxed(&format!("trap '' TERM; setsid sleep {time} & echo ready; sleep {time}"));
    read_until(&mut reader, "ready");
    child.terminate();
    assert!(child.try_wait().expect("nobody else waits").is_none());
    child.kill();
    child.wait().expect("nobody else waits");
    assert_eq!(processes_with(&time), 0);
}

#[test]
fn when_we_are_killed_so_is_a_plain_process() {
    killed_supervisor("supervise process", &a_long_time(7));
}

#[test]
fn a_host_is_probed_without_a_trace() {
    let scene = Scene::new();
    let host = sandbox::probe(&scene.folder("scratch"));
    assert!(host.kernel.contains('.'), "{host:?}");
    assert_eq!(fs::read_dir(scene.path("scratch")).expect("is there").count(), 0);
}

// Helpers: this very binary, in another process.

struct Supervisor(std::process::Child);

impl Drop for Supervisor {
    fn drop(&mut self) {
        // It may be dead already, which is what most tests want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn killed_supervisor(what: &str, time: &str) {
    let command = format!("sleep {time}");
    let child = helper_outside(&format!("{what} {time}")).stdout(Stdio::piped()).spawn();
    let mut supervisor = Supervisor(child.expect("it can be started"));
    read_until(supervisor.0.stdout.as_mut().expect("is a pipe"), "SAYS started");
    // The kernel lets us go on before the new program has its command line.
    eventually("the step runs", || processes_with(&command) > 0);
    drop(supervisor);
    eventually("the step is gone", || processes_with(&command) == 0);
}

#[test]
fn the_other_side() {
    let Ok(what) = std::env::var(HELP) else { return };
    match what.split(' ').collect::<Vec<_>>()[..] {
        ["loopback"] => talk_to_myself(),
        ["forbidden"] => try_what_is_forbidden(),
        ["nested"] => println!("SAYS {}", bare(&["true"]).spawn().expect_err("is refused")),
        ["many"] => start_many(),
        ["connect", port] => println!("SAYS {}", connect(port)),
        ["serve", port] => serve(port),
        ["through", "stdin"] => println!("SAYS {}", through_stdin()),
        ["abstract", name] => println!("SAYS {}", connect_abstract(name)),
        ["first", "process"] => println!("SAYS {}", attack_first_process()),
        ["memory", "file"] => fill_memory_file(),
        ["trace", "own"] => println!("SAYS {}", trace_own()),
        ["trace", "each", "other"] => trace_each_other(),
        ["trace", "me"] => trace_me(),
        ["securebits"] => println!("SAYS {}", gain_rights()),
        ["network", "rights"] => println!("SAYS {}", network_rights()),
        ["supervise", "sandbox", time] => supervise(bare(&["sleep", time]).spawn().expect("it starts")),
        ["supervise", "process", time] => supervise(unsandboxed(&format!("sleep {time} & sleep {time}; true")).0),
        _ => panic!("unknown: {what}"),
    }
}

fn connect(port: &str) -> String {
    let mut text = String::new();
    match std::net::TcpStream::connect(format!("127.0.0.1:{port}")) {
        Ok(mut stream) => std::io::Read::read_to_string(&mut stream, &mut text).map(|_| text).expect("is connected"),
        Err(_) => "refused".into(),
    }
}

fn serve(port: &str) {
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).expect("every port is free for everybody");
    println!("SAYS listening");
    for stream in listener.incoming() {
        stream.expect("is connected").write_all(b"served").expect("somebody reads");
    }
}

/// The error number of a system call, 0 when it worked.
fn errno(result: libc::c_long) -> i32 {
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

/// Error numbers of what is tried below a directory that is standard input.
fn through_stdin() -> String {
    // SAFETY: all paths are static.
    unsafe {
        let make = errno(libc::openat(0, c"made".as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o644).into());
        let overwrite = errno(libc::openat(0, c"file".as_ptr(), libc::O_WRONLY).into());
        let remove = errno(libc::unlinkat(0, c"file".as_ptr(), 0).into());
        format!("make: {make}, overwrite: {overwrite}, remove: {remove}")
    }
}

fn connect_abstract(name: &str) -> i32 {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("short");
    let connected = std::os::unix::net::UnixStream::connect_addr(&address);
    connected.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// 64 MiB in a file that has no name, which another process has open too and which is mapped here.
fn fill_memory_file() {
    // SAFETY: the name is static; what is mapped is never touched by other code.
    unsafe {
        let file = libc::memfd_create(c"filled".as_ptr(), 0);
        assert_eq!(libc::posix_fallocate(file, 0, 64 << 20), 0);
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let mapped = libc::mmap(std::ptr::null_mut(), 64 << 20, libc::PROT_READ, flags, file, 0);
        assert_ne!(mapped, libc::MAP_FAILED);
    }
    forked(|| ());
    println!("SAYS written");
    std::thread::sleep(std::time::Duration::from_secs(1000));
}

const PR_SET_PTRACER: i32 = 0x5961_6d61;
const PTRACE_O_TRACEEXIT: libc::c_long = 1 << 6;

fn ptrace(request: libc::c_uint, pid: i32, data: libc::c_long) -> i32 {
    // SAFETY: the requests used here pass no memory.
    errno(unsafe { libc::syscall(libc::SYS_ptrace, libc::c_long::from(request), libc::c_long::from(pid), 0, data) })
}

/// A copy of this process that does something and then waits for ever.
fn forked(what: impl FnOnce()) -> i32 {
    // SAFETY: the copy has one thread, makes system calls, and never returns.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            what();
            loop {
                libc::pause();
            }
        }
        pid
    }
}

/// What tracing a process of one's own gives: attached, stopped, its memory, and what it may not be asked.
fn trace_own() -> String {
    let secret = [7u8; 4];
    let pid = forked(|| ());
    let attach = ptrace(libc::PTRACE_ATTACH, pid, 0);
    let (mut status, mut copy) = (0, [0u8; 4]);
    // SAFETY: all of it lives on this stack.
    let read = unsafe {
        libc::waitpid(pid, &raw mut status, libc::__WALL);
        let here = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: 4 };
        let there = libc::iovec { iov_base: secret.as_ptr().cast_mut().cast(), iov_len: 4 };
        errno(libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) as libc::c_long)
    };
    let as_written = if copy == secret { "as written" } else { "wrongly" };
    let exit_stop = ptrace(libc::PTRACE_SETOPTIONS, pid, PTRACE_O_TRACEEXIT);
    format!(
        "attach: {attach}, stopped: {}, read: {read} {as_written}, exit stop: {exit_stop}",
        libc::WIFSTOPPED(status)
    )
}

/// Each of two processes traces the other. With a stop at the exit no kernel could end them.
fn trace_each_other() {
    let (mut reader, mut writer) = std::io::pipe().expect("pipes are to be had");
    let seize = |name: &str, pid| println!("SAYS {name}: {}", ptrace(libc::PTRACE_SEIZE, pid, 0));
    let first = forked(|| {
        let mut second = [0; 4];
        std::io::Read::read_exact(&mut reader, &mut second).expect("is sent");
        seize("first", i32::from_ne_bytes(second));
    });
    let second = forked(|| seize("second", first));
    writer.write_all(&second.to_ne_bytes()).expect("is read");
    std::thread::sleep(std::time::Duration::from_secs(1000));
}

/// In the main thread's process our parent is process 1. A signal to a traced process waits for the tracer.
fn trace_me() {
    let asked = ptrace(libc::PTRACE_TRACEME, 0, 0);
    // SAFETY: only numbers change hands; this signal is ignored by default.
    unsafe { libc::raise(libc::SIGWINCH) };
    println!("SAYS asked: {asked}, and went on");
}

fn attack_first_process() -> String {
    let limit = libc::rlimit64 { rlim_cur: 1, rlim_max: 1 };
    let none: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: all that is passed lives on this stack.
    unsafe {
        let limit_set = errno(libc::prlimit64(1, libc::RLIMIT_CPU, &raw const limit, none).into());
        let trace = errno(libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, 1, 0, 0));
        let attach = errno(libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0));
        // Its memory lies where ours does: it is a copy of our maker, and any readable byte would do.
        let mut byte = [0u8; 1];
        let here = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let there = libc::iovec { iov_base: (&raw const limit).cast_mut().cast(), iov_len: 1 };
        let read = errno(libc::process_vm_readv(1, &raw const here, 1, &raw const there, 1, 0) as libc::c_long);
        let write = errno(libc::process_vm_writev(1, &raw const here, 1, &raw const there, 1, 0) as libc::c_long);
        let open = |path: &std::ffi::CStr| errno(libc::open(path.as_ptr(), libc::O_RDWR).into());
        let (memory, process) = (open(c"/proc/1/mem"), libc::syscall(libc::SYS_pidfd_open, 1, 0));
        let take = errno(libc::syscall(libc::SYS_pidfd_getfd, process, 0, 0));
        // Letting everybody trace us lets nobody trace process 1.
        libc::prctl(PR_SET_PTRACER, libc::c_ulong::MAX);
        let nobody = errno(libc::syscall(libc::SYS_ptrace, libc::PTRACE_SEIZE, 99_999, 0, 0));
        format!(
            "limit: {limit_set}, trace: {trace}, attach: {attach}, read: {read}, write: {write}, memory: {memory}, \
             take: {take}, nobody: {nobody}"
        )
    }
}

/// The secure bits, and error numbers of changing them and of raising an ambient capability.
fn gain_rights() -> String {
    // SAFETY: only numbers change hands.
    unsafe {
        let bits = libc::prctl(libc::PR_GET_SECUREBITS);
        let keep = errno(libc::prctl(libc::PR_SET_KEEPCAPS, 1).into());
        let ambient = errno(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, 7, 0, 0).into());
        format!("bits: {bits}, keep: {keep}, ambient: {ambient}")
    }
}

/// Error numbers of taking `lo` down and of adding a route.
fn network_rights() -> String {
    // SAFETY: plain data on this stack.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        let down = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request);
        let down = if down == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) };
        let route = [0u8; 120];
        let added = libc::ioctl(socket, libc::SIOCADDRT as _, route.as_ptr());
        let added = if added == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) };
        format!("lo down: {down}, route: {added}")
    }
}

fn supervise(mut child: sandbox::Child) {
    println!("SAYS started");
    child.wait().expect("nobody else waits");
}

fn talk_to_myself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let mut stream = std::net::TcpStream::connect(listener.local_addr().expect("is bound")).expect("loopback is up");
    stream.write_all(b"hello").expect("is connected");
    drop(stream);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut listener.accept().expect("it waits").0, &mut text).expect("is connected");
    println!("SAYS {text}");
}

fn try_what_is_forbidden() {
    for (name, call) in forbidden_calls() {
        // SAFETY: all of these fail before they look at memory, and when one does not the test fails.
        let result = unsafe { libc::syscall(call[0], call[1], call[2], call[3], call[4], call[5]) };
        let error = std::io::Error::last_os_error();
        assert_eq!((result, error.raw_os_error()), (-1, Some(libc::EPERM)), "{name}");
    }
    println!("SAYS all refused");
}

fn forbidden_calls() -> Vec<(&'static str, [libc::c_long; 6])> {
    let user = libc::c_long::from(libc::CLONE_NEWUSER);
    let path = |text: &'static std::ffi::CStr| text.as_ptr() as libc::c_long;
    vec![
        ("mount", [libc::SYS_mount, path(c"x"), path(c"/tmp"), path(c"tmpfs"), 0, 0]),
        ("umount", [libc::SYS_umount2, path(c"/proc"), 0, 0, 0, 0]),
        ("unshare", [libc::SYS_unshare, user, 0, 0, 0, 0]),
        ("setns", [libc::SYS_setns, 0, 0, 0, 0, 0]),
        ("clone", [libc::SYS_clone, user | libc::c_long::from(libc::SIGCHLD), 0, 0, 0, 0]),
        ("ptrace", [libc::SYS_ptrace, libc::PTRACE_ATTACH as libc::c_long, 1, 0, 0, 0]),
        ("bpf", [libc::SYS_bpf, 0, 0, 0, 0, 0]),
        ("keyctl", [libc::SYS_keyctl, 0, 0, 0, 0, 0]),
        ("io_uring", [libc::SYS_io_uring_setup, 1, 0, 0, 0, 0]),
        ("raw socket", [libc::SYS_socket, libc::AF_INET.into(), libc::SOCK_RAW.into(), 1, 0, 0]),
        ("TIOCSTI", [libc::SYS_ioctl, 0, libc::TIOCSTI as libc::c_long, path(c"x"), 0, 0]),
    ]
}

/// 200 sandboxes from 8 threads, some killed, in a process that does nothing else; then counts what is left.
fn start_many() {
    let scene = Scene::new();
    let time = a_long_time(8);
    let count = |path: &str| fs::read_dir(path).expect("is there").count();
    let ours = |text: String| text.lines().filter(|line| line.contains(&*scene.path("").to_string_lossy())).count();
    let mounts = || ours(fs::read_to_string("/proc/self/mountinfo").expect("is there"));
    let (open, mounted) = (count("/proc/self/fd"), mounts());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (scene, time) = (&scene, &time);
            scope.spawn(move || {
                for number in 0..25 {
                    one_of_many(scene, thread, number, time);
                }
            });
        }
    });
    assert_eq!((count("/proc/self/fd"), mounts(), processes_with(&format!("sleep {time}"))), (open, mounted, 0));
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children, "", "no child is left");
    println!("SAYS nothing left");
}

fn one_of_many(scene: &Scene, thread: u32, number: u32, time: &str) {
    let folder = |name: &str| scene.folder(&format!("{thread}-{number}/{name}"));
    let script = if number.is_multiple_of(3) {
        format!("echo x > made; sleep {time}")
    } else {
        "echo x > made; sleep 9 &".into()
    };
    let mut step = bare(&["sh", "-c", &script]);
    step.overlays = vec![Overlay {
        at: "/workspace".into(),
        lower: vec![folder("lower")],
        upper: folder("upper"),
        work: folder("work"),
    }];
    step.cwd = "/workspace".into();
    let mut child = step.spawn().unwrap_or_else(|error| panic!("{error}"));
    if number.is_multiple_of(3) {
        child.kill();
    }
    let (exit, _) = child.wait().expect("nobody else waits");
    assert_eq!(exit, if number.is_multiple_of(3) { Exit::Signal(9) } else { Exit::Code(0) });
    sandbox::remove_tree(&scene.path(&format!("{thread}-{number}"))).expect("it is ours");
}
