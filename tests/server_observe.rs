//! What a server tells about itself, read by the programs that are made for it: promtool of Prometheus, a collector of
//! traces, systemd. And what `deploy/` says, held against the program.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use server::observe::table;

const PACE: &str = env!("CARGO_BIN_EXE_pace");
/// Nothing here depends on how fast it is; this ends what hangs.
const PATIENCE: Duration = Duration::from_secs(180);
const PIPELINE: &str = "\
name: demo
on: { push: {}, manual: {} }
steps:
  - { id: build, cmd: echo made > out.txt, cache: never }
  - { id: test, depends_on: [build], cmd: test -s out.txt, cache: never }
";

#[test]
fn prometheus_reads_the_metrics_and_they_are_those_of_the_page() {
    let scene = Scene::new(None);
    scene.pace(&["trigger", "demo", "--wait"]);
    let text = scene.read("/metrics");
    let seen: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(seen, table::ALL.iter().map(|metric| metric.name).collect());
    assert!(text.contains("pace_runs_requested_total{event=\"manual\"} 1"), "{text}");
    for metric in table::ALL.iter().filter(|metric| !metric.label.is_empty()) {
        let labelled = format!("\n{}{{{}=\"", metric.name, metric.label);
        assert!(text.contains(&labelled), "{labelled} is missing: {text}");
    }
    if let Some(promtool) = program("promtool") {
        let mut child =
            Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).spawn().expect("promtool");
        child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
        assert!(child.wait().expect("an end").success());
    }
}

#[test]
fn a_collector_gets_one_trace_of_a_run_with_its_steps_below() {
    let Some(rotel) = tool("rotel") else { return };
    let (sink, requests) = sink();
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let mut collector = Command::new(rotel);
    collector
        .args(["start", "--pid-file", &place("pid"), "--log-file", &place("log")])
        .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", free_port())])
        .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
        .args(["--exporter", "otlp", "--otlp-exporter-endpoint", &format!("http://127.0.0.1:{sink}")])
        .args(["--otlp-exporter-protocol", "http"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _collector = Process(collector.spawn().expect("the collector"));
    until("the collector listens", || TcpStream::connect(("127.0.0.1", port)).ok());

    let scene = Scene::new(Some(&format!("http://127.0.0.1:{port}")));
    scene.pace(&["trigger", "demo", "--wait"]);
    let spans = spans(&requests.recv_timeout(PATIENCE).expect("a trace"));
    assert_eq!(spans.iter().map(|span| &span.trace_id).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(
        tree(&spans),
        "demo\n  build\n    attempt 1\n      prepare\n    queue\n  test\n    attempt 1\n      prepare\n    queue\n"
    );
    let root = spans.iter().find(|span| span.parent_span_id.is_empty()).expect("a root");
    let attributes = attributes(root);
    assert_eq!(attributes["cicd.pipeline.name"], "demo");
    assert_eq!(attributes["cicd.pipeline.result"], "success");
    assert_eq!(attributes["vcs.ref.head.name"], "main");
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(root.start_time_unix_nano <= span.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }
}

#[test]
fn prometheus_takes_the_rules_and_its_configuration() {
    let Some(promtool) = program("promtool") else { return };
    for (what, file) in [("rules", "rules.yml"), ("config", "prometheus.yml")] {
        let done = Command::new(&promtool).args(["check", what, file]).current_dir(deploy("prometheus")).output();
        let done = done.expect("promtool");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
}

#[test]
fn dashboard_and_rules_use_only_metrics_that_there_are() {
    let known: BTreeSet<String> = table::ALL.iter().map(|metric| metric.name.to_owned()).collect();
    for file in ["grafana/paceline.json", "prometheus/rules.yml"] {
        let text = std::fs::read_to_string(deploy(file)).expect(file);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let used: BTreeSet<&str> =
            words.filter(|word| word.starts_with("pace_") || word.starts_with("process_")).collect();
        assert!(!used.is_empty(), "{file}");
        for word in used {
            let ends = ["_bucket", "_sum", "_count"];
            let base = ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            assert!(known.contains(base), "{file} uses `{word}`");
        }
    }
    let dashboard = std::fs::read_to_string(deploy("grafana/paceline.json")).expect("the dashboard");
    serde_json::from_str::<serde_json::Value>(&dashboard).expect("JSON");
}

#[test]
fn what_is_deployed_is_told_by_options_and_variables_that_there_are() {
    let help = |command: &str| {
        let done = Command::new(PACE).args([command, "--help"]).output().expect("pace");
        String::from_utf8(done.stdout).expect("text")
    };
    let (server, agent) = (help("server"), help("agent"));
    // Of the program as a whole, and of the files themselves.
    let others = ["PACE_STATE_DIR", "PACE_CACHE_DIR", "PACE_MASTER_KEY", "PACE_IMAGE", "PACE_DATABASE_PASSWORD"];
    for file in FILES {
        let text = std::fs::read_to_string(deploy(file)).expect(file);
        let known = match file {
            file if file.contains("agent") => agent.clone(),
            file if file.contains("server") => server.clone(),
            _ => format!("{server}{agent}"),
        };
        for word in
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("PACE_"))
        {
            assert!(known.contains(&format!("[env: {word}")) || others.contains(&word), "{file} names `{word}`");
        }
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let options = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        for option in options.filter(|word| word.starts_with("--") && !word.trim_matches('-').is_empty()) {
            assert!(
                known.contains(&format!("{option} ")) || known.contains(&format!("{option}\n")),
                "{file} has `{option}`"
            );
        }
    }
}

#[test]
fn manifests_are_yaml_and_units_are_what_systemd_takes() {
    let parse = "import sys, yaml\nfor path in sys.argv[1:]: assert all(yaml.safe_load_all(open(path))), path";
    let there = Command::new("python3").args(["-c", "import yaml"]).stderr(Stdio::null()).status();
    if present("python3-yaml", there.is_ok_and(|status| status.success())) {
        let manifests = FILES.iter().filter(|file| file.ends_with(".yml")).map(|file| deploy(file));
        let done = Command::new("python3").args(["-c", parse]).args(manifests).output().expect("python");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let Some(analyze) = program("systemd-analyze") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for file in FILES.iter().filter(|file| file.ends_with(".service")) {
        let unit = std::fs::read_to_string(deploy(file)).expect("a unit").replace("/usr/bin/pace", PACE);
        let copy = folder.path().join(Path::new(file).file_name().expect("a name"));
        std::fs::write(&copy, unit).expect("a file");
        let done = Command::new(&analyze).args(["verify", "--man=no"]).arg(&copy).output().expect("systemd-analyze");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        // It looks at the units of the whole host; only what it says of ours counts.
        let ours: Vec<&str> =
            said.lines().filter(|line| line.contains("/pace-") || line.starts_with("pace-")).collect();
        assert!(ours.is_empty(), "{file}: {ours:#?}");
    }
}

const FILES: [&str; 5] = [
    "compose/compose.yml",
    "kubernetes/agent.yml",
    "kubernetes/server.yml",
    "systemd/pace-agent.service",
    "systemd/pace-server.service",
];

/// A server with one project, and somebody who is logged in.
struct Scene {
    folder: tempfile::TempDir,
    port: u16,
    _server: Process,
}

impl Scene {
    fn new(otlp: Option<&str>) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository).expect("a folder");
        std::fs::write(repository.join("paceline.yaml"), PIPELINE).expect("a file");
        for words in ["init --quiet --initial-branch=main", "add .", "commit --quiet --message=first"] {
            let who = ["-c", "user.name=Anna", "-c", "user.email=anna@example.com"];
            let done = Command::new("git").args(who).args(words.split(' ')).current_dir(&repository).status();
            assert!(done.expect("git").success(), "git {words}");
        }
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = command(folder.path());
        command.args(["server", "--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(folder.path().join("data"));
        command.arg("--project").arg(format!("demo={}", repository.display()));
        if let Some(otlp) = otlp {
            command.args(["--otlp", otlp]);
        }
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let scene = Scene { port, _server: Process(command.spawn().expect("a server")), folder };
        let link = until("the link of the first start", || scene.link());
        scene.pace_with(&["login", &link, "--user", "anna"], "correct horse battery staple\n");
        until("the server leads", || scene.read("/readyz").contains("this server leads").then_some(()));
        scene
    }

    fn link(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).ok()?;
        text.split_inclusive('\n')
            .find(|line| line.contains("/setup/") && line.ends_with('\n'))
            .map(|line| line.trim().to_owned())
    }

    fn read(&self, path: &str) -> String {
        let asked = ureq::get(format!("http://127.0.0.1:{}{path}", self.port)).call();
        asked.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
    }

    fn pace(&self, words: &[&str]) {
        self.pace_with(words, "");
    }

    #[track_caller]
    fn pace_with(&self, words: &[&str], input: &str) {
        let mut command = command(self.folder.path());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pace");
        child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
        let done = child.wait_with_output().expect("an end");
        let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(done.status.success(), "pace {words:?}: {said}");
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(PACE);
    for name in ["PACE_CACHE_DIR", "PACE_STATE_DIR", "PACE_SERVER", "PACE_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        command.env_remove(name);
    }
    for (name, part) in [("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config")] {
        command.env(name, folder.join(part));
    }
    command.env("HOME", folder).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a collector sends to: a port, and the bodies of what came.
fn sink() -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (came, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let came = came.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(body) = request(&mut reader) {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    if came.send(body).is_err() || reader.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, bodies)
}

/// The body of one request; `None` at the end of the connection.
fn request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn spans(body: &[u8]) -> Vec<Span> {
    let mut plain = Vec::new();
    match body.starts_with(&[0x1f, 0x8b]) {
        true => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain).expect("gzip")),
        false => plain.extend_from_slice(body),
    }
    let request = ExportTraceServiceRequest::decode(&plain[..]).expect("a request of OTLP");
    let scopes = request.resource_spans.into_iter().flat_map(|spans| spans.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

/// Names, each below its parent, by name.
fn tree(spans: &[Span]) -> String {
    let mut below: BTreeMap<&[u8], Vec<&Span>> = BTreeMap::new();
    for span in spans {
        below.entry(&span.parent_span_id).or_default().push(span);
    }
    let mut text = String::new();
    write(&below, &[], 0, &mut text);
    text
}

fn write(below: &BTreeMap<&[u8], Vec<&Span>>, parent: &[u8], depth: usize, text: &mut String) {
    let mut children = below.get(parent).cloned().unwrap_or_default();
    children.sort_by(|a, b| a.name.cmp(&b.name));
    for span in children {
        text.push_str(&format!("{}{}\n", "  ".repeat(depth), span.name));
        write(below, &span.span_id, depth + 1, text);
    }
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let text = |value| if let Some(Value::StringValue(text)) = value { text } else { String::new() };
    let pairs = span.attributes.iter().cloned();
    pairs.map(|pair| (pair.key, text(pair.value.and_then(|value| value.value)))).collect()
}

#[track_caller]
fn until<T>(what: &str, holds: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A program of the system's packages. Where all must be there, a missing one is a failure.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    present(name, found.is_some());
    found
}

fn present(name: &str, there: bool) -> bool {
    assert!(there || std::env::var_os("CI").is_none(), "{name} is missing; dev/test installs it");
    if !there {
        println!("{name} is missing: nothing is tested with it");
    }
    there
}

/// A tool that `dev/tools.sh` installs. Only where all must be there: it takes a network.
fn tool(name: &str) -> Option<PathBuf> {
    if !present(name, std::env::var_os("CI").is_some() || installed(name)) {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/tools.sh");
    let done = Command::new(script).arg(name).stderr(Stdio::inherit()).output().expect("dev/tools.sh");
    assert!(done.status.success(), "dev/tools.sh cannot install {name}");
    Some(String::from_utf8(done.stdout).expect("a path").trim().into())
}

fn installed(name: &str) -> bool {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let tools = cache.and_then(|cache| std::fs::read_dir(cache.join("paceline-tools")).ok());
    let starts = format!("{name}-");
    tools
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(&starts) && entry.path().join(".whole").exists())
}
