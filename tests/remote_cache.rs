//! Several machines share a cache: with the real `pace`, a real server, and servers that are slow, dead or lie.

#[path = "remote_cache/liar.rs"]
mod liar;
#[path = "support.rs"]
#[allow(dead_code)]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use liar::{Liar, digest_of};
use support::{Ended, PACE, Repo, executed, finish, is_root};

/// A pipeline with all that a result has: log, layer, values, artifact, report.
const PIPELINE: &str = r#"
name: shared
steps:
  - id: build
    cmd: |
      echo building
      mkdir -p out/deep
      head -c 3000000 /dev/urandom > out/deep/big
      echo small > out/small
      echo "version=1.2" >> "$PACE_VALUES"
    inputs: [seed]
    outputs: [out/**]
  - id: test
    depends_on: [build]
    inputs: [out]
    cmd: |
      test "$(cat out/small)" = small
      test "$(stat -c %s out/deep/big)" = 3000000
      echo "<testsuites/>" > junit.xml
      mkdir -p dist/a
      cp out/small dist/a/file
    reports: { junit: junit.xml }
    artifacts: [{ name: app, path: dist }]
  - id: say
    depends_on: [build, test]
    inputs: [seed]
    cmd: echo "version is ${{ steps.build.values.version }}"
"#;

/// A machine: its own cache, state and checkout.
struct Machine {
    repo: Repo,
}

impl Machine {
    fn new(pipeline: &str) -> Machine {
        Machine { repo: Repo::with(&[("paceline.yaml", pipeline), ("seed", "1")]) }
    }

    fn command(&self, url: &str, args: &[&str]) -> Command {
        let mut all = vec!["run", "--cache", url];
        all.extend(args);
        let mut command = self.repo.command(&all);
        command.env("XDG_CONFIG_HOME", self.repo.folder.path().join("config"));
        for name in ["PACE_CACHE_URL", "PACE_CACHE_MODE", "PACE_CACHE_TOKEN", "GITHUB_EVENT_PATH", "PACE_CACHE_SCOPE"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, url: &str, args: &[&str]) -> Ended {
        finish(self.command(url, args))
    }

    /// Names of the steps that were executed here.
    #[track_caller]
    fn executes(&self, url: &str) -> Vec<String> {
        executed(&self.run(url, &["--output", "json"]).code(0).events())
    }

    fn artifact(&self) -> PathBuf {
        let found = Command::new("find").arg(self.repo.state()).args(["-path", "*/app/a/file"]).output().expect("find");
        PathBuf::from(String::from_utf8_lossy(&found.stdout).lines().next().expect("an artifact"))
    }
}

/// A `pace cache serve`.
struct Server {
    child: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        Server::start_by(Command::new(PACE), &["--listen", "127.0.0.1:0"])
    }

    fn start_by(mut command: Command, args: &[&str]) -> Server {
        let data = tempfile::tempdir().expect("a folder");
        command.args(["cache", "serve"]).args(args).arg("--data").arg(data.path().join("served"));
        command.env("PACE_CACHE_DIR", data.path()).env("PACE_STATE_DIR", data.path());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a server");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = lines
            .find_map(|line| {
                let line = line.ok()?;
                let words: Vec<&str> = line.split_whitespace().collect();
                words.iter().find_map(|word| word.parse::<std::net::SocketAddr>().ok())
            })
            .expect("it says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, url: format!("grpc://{address}"), _data: data }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Bytes that the summary says were received.
#[track_caller]
fn received(ended: &Ended) -> f64 {
    let line = ended.out.lines().find(|line| line.starts_with("shared cache ")).expect("a summary");
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("received")).expect("received");
    let unit = match words[at - 1] {
        "B" | "bytes" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        other => panic!("{other} in {line}"),
    };
    words[at - 2].parse::<f64>().expect("a number") * unit
}

#[test]
fn the_second_machine_executes_no_step_of_the_first_and_has_all_it_made() {
    let server = Server::start();
    let (one, two) = (Machine::new(PIPELINE), Machine::new(PIPELINE));
    assert_eq!(one.executes(&server.url), ["build", "say", "test"]);
    let ended = two.run(&server.url, &[]).code(0).says("3 results from there");
    assert!(received(&ended) < 500_000.0, "nobody reads the layer of 3 MB: {}", ended.out);
    assert_eq!(two.executes(&server.url), [""; 0]);
    assert_eq!(std::fs::read_to_string(two.artifact()).expect("the artifact"), "small\n");
    two.repo.pace(&["logs", "say"]).code(0).says("version is 1.2");
}

#[test]
fn a_layer_comes_when_a_step_reads_it_and_then_the_cache_is_not_needed_any_more() {
    let liar = Liar::start();
    let (one, two) = (Machine::new(PIPELINE), Machine::new(PIPELINE));
    one.run(&liar.url(), &[]).code(0);
    two.run(&liar.url(), &[]).code(0);
    let before = liar.mind().read;
    assert!(before < 100_000, "{before} bytes were read");
    two.repo.write("paceline.yaml", PIPELINE.replace("cp out/small", "cat out/small; cp out/small"));
    assert_eq!(two.executes(&liar.url()), ["test"], "what it wrote is the same, so `say` is known");
    let read = liar.mind().read - before;
    assert!((3_000_000..3_200_000).contains(&read), "{read} bytes were read");
    two.repo.write("paceline.yaml", PIPELINE.replace("cp out/small", "cat out/small; cat out/small; cp out/small"));
    assert_eq!(two.executes("none"), ["test"]);
}

#[test]
fn a_port_that_nobody_listens_on_costs_a_warning() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let ended = Machine::new(PIPELINE).run(&format!("grpc://127.0.0.1:{port}"), &[]).code(0);
    let told = ended.err.lines().filter(|line| line.contains("shared cache")).count();
    assert_eq!(told, 1, "{}", ended.err);
}

#[test]
fn a_cache_that_never_answers_costs_a_warning_and_some_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let held = std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().take(8).collect();
        std::thread::sleep(Duration::from_secs(300));
        drop(held);
    });
    let began = Instant::now();
    let ended = Machine::new(PIPELINE).run(&format!("grpc://{address}"), &[]).code(0);
    assert!(ended.err.contains("shared cache"), "{}", ended.err);
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    drop(held);
}

#[test]
fn a_cache_that_is_too_slow_is_left_alone() {
    let liar = Liar::start();
    liar.mind().dawdle = Duration::from_secs(20);
    let ended = Machine::new(PIPELINE).run(&liar.url(), &[]).code(0);
    assert!(ended.err.contains("no answer within"), "{}", ended.err);
}

#[test]
fn a_cache_that_dies_in_the_middle_fails_nothing() {
    let mut server = Server::start();
    let (one, two) = (Machine::new(PIPELINE), Machine::new(PIPELINE));
    one.run(&server.url, &[]).code(0);
    let pipeline = PIPELINE.replace("test \"$(cat", "sleep 3; test \"$(cat");
    two.repo.write("paceline.yaml", &pipeline);
    let mut command = two.command(&server.url, &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pace");
    std::thread::sleep(Duration::from_secs(1));
    server.kill();
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_is_gone_there_is_made_again_here() {
    let liar = Liar::start();
    let (one, two) = (Machine::new(PIPELINE), Machine::new(PIPELINE));
    one.run(&liar.url(), &[]).code(0);
    liar.mind().forgets_over = Some(1_000_000);
    two.repo.write("paceline.yaml", PIPELINE.replace("cp out/small", "cat out/small; cp out/small"));
    two.run(&liar.url(), &[]).code(0).says("executed again");
}

#[test]
fn wrong_bytes_and_wrong_sizes_are_never_used() {
    for lie in [|mind: &mut liar::Mind| mind.wrong_bytes = true, |mind: &mut liar::Mind| mind.short = true] {
        let liar = Liar::start();
        let (one, two) = (Machine::new(PIPELINE), Machine::new(PIPELINE));
        one.run(&liar.url(), &[]).code(0);
        lie(&mut liar.mind());
        assert_eq!(two.executes(&liar.url()), ["build", "say", "test"]);
        assert_eq!(std::fs::read_to_string(two.artifact()).expect("the artifact"), "small\n");
    }
}

/// Replaces bytes in a blob and everywhere its digest is named.
fn forge(liar: &Liar, from: &[u8], to: &[u8]) {
    let replace = |bytes: &[u8], from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.to_vec();
        for at in 0..bytes.len().saturating_sub(from.len() - 1) {
            if bytes[at..].starts_with(from) {
                bytes[at..at + from.len()].copy_from_slice(to);
            }
        }
        bytes
    };
    let mut mind = liar.mind();
    let forged: Vec<(String, Vec<u8>)> = mind
        .blobs
        .iter()
        .map(|(hash, bytes)| (hash.clone(), replace(bytes, from, to)))
        .filter(|(hash, bytes)| digest_of(bytes) != *hash)
        .collect();
    let mut renamed = Vec::new();
    for (hash, bytes) in forged {
        renamed.push((hash, digest_of(&bytes)));
        mind.blobs.insert(digest_of(&bytes), bytes);
    }
    for result in mind.results.values_mut() {
        let metadata = result.execution_metadata.as_mut().expect("ours");
        for any in &mut metadata.auxiliary_metadata {
            any.value = replace(&any.value, from, to);
            for (old, new) in &renamed {
                any.value = replace(&any.value, old.as_bytes(), new.as_bytes());
            }
        }
    }
}

#[test]
fn a_path_that_leads_out_is_not_believed() {
    let pipeline = PIPELINE.replace("out/deep/big", "out/deep/bigger").replace("dist/a", "dist/aaaaaaaa");
    let pipeline =
        pipeline.replace("cp out/small dist/aaaaaaaa/file", "cp out/small dist/aaaaaaaa/file; cp out/small top");
    for (from, to) in
        [("out/deep/bigger", "../../../../xyz"), ("aaaaaaaa/file", "../../../evil"), ("out/small", "/tmp/evil")]
    {
        let liar = Liar::start();
        let (one, two) = (Machine::new(&pipeline), Machine::new(&pipeline));
        one.run(&liar.url(), &[]).code(0);
        forge(&liar, from.as_bytes(), to.as_bytes());
        two.run(&liar.url(), &[]).code(0);
        let found =
            Command::new("find").arg(two.repo.folder.path()).args(["-name", "xyz", "-o", "-name", "evil"]).output();
        assert_eq!(String::from_utf8_lossy(&found.expect("find").stdout), "", "{to}");
        assert!(!std::path::Path::new("/tmp/evil").exists());
    }
}

#[test]
fn who_may_only_read_is_not_bothered_and_a_fork_does_not_even_try() {
    let liar = Liar::start();
    liar.mind().read_only = true;
    let ended = Machine::new(PIPELINE).run(&liar.url(), &[]).code(0);
    assert!(!ended.err.contains("shared cache"), "{}", ended.err);
    liar.mind().read_only = false;
    let fork = Machine::new(PIPELINE);
    let event = fork.repo.folder.path().join("event.json");
    let text = r#"{"pull_request":{"head":{"repo":{"full_name":"evil/b"}},"base":{"repo":{"full_name":"a/b"}}}}"#;
    std::fs::write(&event, text).expect("an event");
    let mut command = fork.command(&liar.url(), &[]);
    finish({
        command.env("GITHUB_EVENT_PATH", &event);
        command
    })
    .code(0);
    Machine::new(PIPELINE).run(&liar.url(), &["--cache-mode", "read"]).code(0);
    assert_eq!(liar.seen().writes, 0);
    assert_eq!(liar.seen().blobs, 0);
    Machine::new(PIPELINE).run(&liar.url(), &["--cache-mode", "write"]).code(0);
    assert_eq!(liar.seen().writes, 3);
    let look_ups = liar.seen().look_ups;
    assert!(look_ups > 0);
    Machine::new(PIPELINE).run(&liar.url(), &["--cache-mode", "write"]).code(0);
    assert_eq!(liar.seen().look_ups, look_ups);
}

#[test]
fn an_upload_that_is_cut_off_goes_on_where_it_was() {
    let liar = Liar::start();
    liar.mind().cuts = 2;
    let ended = Machine::new(PIPELINE).run(&liar.url(), &[]).code(0);
    assert!(!ended.err.contains("not uploaded"), "{}", ended.err);
    assert_eq!(liar.seen().writes, 3);
    assert_eq!(liar.mind().cuts, 0);
}

#[test]
fn small_batches_are_obeyed() {
    let liar = Liar::start();
    liar.mind().batch_bytes = 64 << 10;
    let many = "name: t\nsteps:\n  - id: many\n    cmd: |\n      for n in $(seq 300); do head -c 1000 /dev/urandom > f$n; done\n    outputs: [f*]\n";
    let ended = Machine::new(many).run(&liar.url(), &[]).code(0);
    assert!(!ended.err.contains("not uploaded"), "{}", ended.err);
    assert_eq!(Machine::new(many).executes(&liar.url()), [""; 0]);
}

/// A pipeline whose cache has this key; the step says what it finds in it and adds a file.
fn caching(key: &str) -> String {
    format!(
        "name: t\nsteps:\n  - id: fill\n    cache: never\n    cmd: |\n      echo found $(ls dep)\n      mkdir -p dep/sub && echo x > dep/{key} && \
         ln -sf {key} dep/sub/link\n    caches: [{{ path: dep, key: {key}, fallback: [go-] }}]\n"
    )
}

#[test]
fn a_token_that_reads_writes_nothing_and_a_pull_request_writes_where_only_it_looks() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens.toml");
    let tokens = tokens.to_str().expect("UTF-8");
    let token = |args: &[&str]| {
        let mut command = Command::new(PACE);
        command.args(["cache", "token", "new", "--tokens", tokens, "--instance", "main"]).args(args);
        command.env("PACE_CACHE_DIR", folder.path()).env("PACE_STATE_DIR", folder.path());
        finish(command).code(0).out.trim().to_string()
    };
    let reader = token(&["--name", "reader", "--rights", "read"]);
    let of_pull = token(&["--name", "pull", "--rights", "write", "--domain", "pr/17"]);
    let of_main = token(&["--name", "main", "--rights", "write"]);
    let server = Server::start_by(Command::new(PACE), &["--listen", "127.0.0.1:0", "--tokens", tokens]);
    let run = |token: &str, instance: &str| {
        let machine = Machine::new(PIPELINE);
        let mut command = machine.command(&format!("{}/{instance}", server.url), &["--output", "json"]);
        command.env("PACE_CACHE_TOKEN", token);
        let ended = finish(command).code(0);
        (executed(&ended.events()).len(), ended.err)
    };
    let (nobody, told) = run("pace_unknown", "main");
    assert!(nobody == 3 && told.contains("shared cache"), "{told}");
    let (read, told) = run(&reader, "main");
    assert!(read == 3 && !told.contains("shared cache"), "{told}");
    assert_eq!(run(&of_pull, "main/pr/17").0, 3, "the reader wrote nothing");
    assert_eq!(run(&of_pull, "main/pr/17").0, 0, "it finds its own");
    assert_eq!(run(&of_main, "main").0, 3, "nobody else does");
    assert_eq!(run(&reader, "main").0, 0);
}

#[test]
fn a_dependency_cache_travels_by_key_and_by_fallback_to_machines_of_one_origin() {
    let server = Server::start();
    let machine = |key: &str, origin: &str| {
        let machine = Machine::new(&caching(key));
        machine.repo.git(&["remote", "add", "origin", origin]);
        machine
    };
    let of = ["https://example.com/a/b", "git@example.com:a/b.git", "https://example.com/a/other"];
    machine("go-1", of[0]).run(&server.url, &[]).code(0).says("found\n");
    let two = machine("go-1", of[1]);
    two.run(&server.url, &[]).code(0).says("found go-1 sub");
    two.run("none", &[]).code(0).says("found go-1 sub");
    machine("go-2", of[0]).run(&server.url, &[]).code(0).says("found go-1 sub");
    machine("go-3", of[0]).run(&server.url, &[]).code(0).says("found go-1 go-2 sub");
    machine("go-1", of[2]).run(&server.url, &[]).code(0).says("found\n");
    machine("go-1", of[0]).run(&server.url, &["--cache-mode", "write"]).code(0).says("found\n");
    let nowhere = Machine::new(&caching("go-1"));
    nowhere.run(&server.url, &[]).code(0).says("found\n");
}

#[test]
fn a_dependency_cache_with_a_file_that_is_gone_is_no_cache() {
    let liar = Liar::start();
    let machine = || {
        let machine = Machine::new(&caching("go-1").replace("echo x >", "head -c 200000 /dev/urandom >"));
        machine.repo.git(&["remote", "add", "origin", "https://example.com/a/b"]);
        machine
    };
    machine().run(&liar.url(), &[]).code(0);
    machine().run(&liar.url(), &[]).code(0).says("found go-1 sub");
    liar.mind().forgets_over = Some(100_000);
    let ended = machine().run(&liar.url(), &[]).code(0).says("found\n");
    assert!(ended.err.contains("shared snapshot of cache `go-1` was not used"), "{}", ended.err);
}

#[test]
fn no_step_sees_the_token() {
    let liar = Liar::start();
    let pipeline = "name: t\nsteps:\n  - id: spy\n    pass_env: [PACE_CACHE_TOKEN, MINE]\n    cmd: 'echo \"token is <$(env | grep -c -e hunter2)> ${PACE_CACHE_TOKEN:-none}\"'\n";
    for (args, name) in [(&[][..], "PACE_CACHE_TOKEN"), (&["--cache-token-env", "MINE"][..], "MINE")] {
        let machine = Machine::new(pipeline);
        let mut command = machine.command(&liar.url(), args);
        command.env(name, "hunter2hunter2");
        finish(command).code(0).says("token is <0>").does_not_say("hunter2");
    }
}

#[test]
fn a_repository_may_not_choose_the_cache() {
    let liar = Liar::start();
    let machine = Machine::new(PIPELINE);
    machine.repo.write(".paceline/config.toml", format!("[cache]\nurl = '{}'\n", liar.url()));
    let run = || {
        let mut command = machine.command("", &[]);
        command.env("PACE_CACHE_TOKEN", "hunter2");
        finish(command).code(0)
    };
    run().complains("add it to `trust`");
    assert_eq!(liar.seen().look_ups, 0);
    let config = machine.repo.folder.path().join("config/paceline");
    std::fs::create_dir_all(&config).expect("a folder");
    std::fs::write(config.join("config.toml"), format!("[cache]\ntrust = ['{}']\n", liar.url())).expect("a file");
    machine.repo.write("paceline.yaml", PIPELINE.replace("echo building", "echo Building"));
    run();
    assert!(liar.seen().look_ups > 0);
    assert_eq!(liar.seen().writes, 0);
}

#[test]
fn without_a_shared_cache_no_thread_is_started_for_it() {
    let machine = Machine::new("name: t\nsteps: [{ id: a, cmd: sleep 2 }]");
    let mut child = machine.command("none", &[]).stdout(Stdio::null()).spawn().expect("pace");
    let mut names = BTreeSet::new();
    let ended = loop {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
        names.extend(tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()));
        if let Some(ended) = child.try_wait().expect("a child") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(ended.success());
    assert!(names.iter().any(|name| name.starts_with("slot-")), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("remote") || name.starts_with("upload")), "{names:?}");
}

/// Two network namespaces with a wire between them; gone when dropped.
struct Wire {
    names: [String; 2],
}

impl Wire {
    fn lay() -> Wire {
        let id = std::process::id();
        let wire = Wire { names: [format!("pace{id}a"), format!("pace{id}b")] };
        let [a, b] = &wire.names;
        ip(&["netns", "add", a]);
        ip(&["netns", "add", b]);
        ip(&["link", "add", "pv0", "netns", a, "type", "veth", "peer", "name", "pv1", "netns", b]);
        for (name, link, address) in [(a, "pv0", "10.213.7.1/30"), (b, "pv1", "10.213.7.2/30")] {
            ip(&["-n", name, "addr", "add", address, "dev", link]);
            ip(&["-n", name, "link", "set", link, "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        wire
    }
    /// A command on one of the two machines.
    fn on(&self, which: usize, command: Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.names[which]]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there.stdin(Stdio::null());
        there
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(args: &[&str]) {
    let ended = Command::new("ip").args(args).output().expect("ip is installed");
    assert!(ended.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn two_machines_on_a_wire_share_one_cache() {
    if !is_root() || Command::new("ip").arg("-V").output().is_err() {
        return;
    }
    let wire = Wire::lay();
    let server =
        Server::start_by(wire.on(0, Command::new(PACE)), &["--listen", "10.213.7.1:0", "--anonymous", "write"]);
    let (one, two) = (Machine::new(PIPELINE), Machine::new(PIPELINE));
    finish(wire.on(0, one.command(&server.url, &[]))).code(0);
    let ended = finish(wire.on(1, two.command(&server.url, &["--output", "json"]))).code(0);
    assert_eq!(executed(&ended.events()), [""; 0]);
    let alone = finish(two.command(&server.url, &[]));
    assert_eq!(alone.code, Some(0), "from outside the wire there is no way, and no harm");
}
