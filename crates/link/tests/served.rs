//! Agents and the real server, in one process: runs from the wish to their end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use link::Link;
use model::{RunEvent, RunId, RunOutcome, Trigger};
use server::desk::RunWish;
use server::{Config, Server};

const DEADLINE: Duration = Duration::from_secs(120);

struct World {
    dir: tempfile::TempDir,
    server: Server,
    runtime: tokio::runtime::Runtime,
    _link: Link,
}

impl World {
    fn new(pipeline: &str, slots: usize) -> World {
        let dir = tempfile::tempdir().expect("a folder");
        repository(&dir.path().join("repo"), pipeline);
        let server = Server::start(Config::local(&dir.path().join("data"))).expect("a server");
        server.add_project("demo", dir.path().join("repo").to_str().expect("UTF-8")).expect("a project");
        let url = format!("http://{}", server.address);
        let data = dir.path().join("data");
        let link = link::start(link::builtin(&url, &server.shared.builtin.0, &data, execution(&data, slots)));
        let link = link.expect("an agent");
        let connected = link.wait(DEADLINE, |status| matches!(status, link::Status::Connected(_)));
        assert!(matches!(connected, link::Status::Connected(_)), "{connected:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        World { dir, server, runtime, _link: link }
    }

    fn asks(&self, run: &str) {
        let wish = RunWish {
            run: RunId::new(run),
            project: "demo".into(),
            pipeline: String::new(),
            trigger: Trigger::default(),
            params: Vec::new(),
            selection: model::Selection::default(),
            by: "user:test".into(),
            priority: 0,
            fork: false,
        };
        self.runtime.block_on(self.server.shared.desk.run(wish)).expect("a run");
    }

    fn outcome(&self, run: &str) -> RunOutcome {
        let end = Instant::now() + DEADLINE;
        loop {
            let facts = self.runtime.block_on(self.server.shared.desk.facts(&RunId::new(run))).expect("facts");
            let ended = facts.iter().find_map(|fact| match &fact.event {
                RunEvent::Ended { outcome } => Some(*outcome),
                _ => None,
            });
            if let Some(outcome) = ended {
                assert_eq!(outcome, RunOutcome::Succeeded, "{facts:#?}");
                return outcome;
            }
            assert!(Instant::now() < end, "the run ends in time: {facts:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn execution(folder: &Path, slots: usize) -> agent::Config {
    let caller_env =
        ["PATH", "HOME"].into_iter().filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?))).collect();
    let probed = sandbox::probe(folder).sandbox;
    agent::Config {
        cache_dir: folder.into(),
        state_dir: folder.into(),
        slots,
        executor: match probed {
            sandbox::Ability::No { .. } => agent::Executor::Process,
            _ => agent::Executor::Sandbox,
        },
        caller_env,
        secrets: BTreeMap::new(),
        quota: Default::default(),
        full_network: Default::default(),
        images: image::Options::new(folder),
        open_files_soft: None,
        shared: None,
        whole_logs: true,
        keep_failed: false,
    }
}

fn repository(root: &Path, pipeline: &str) {
    std::fs::create_dir(root).expect("folder");
    std::fs::write(root.join("paceline.yaml"), pipeline).expect("file");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().expect("git");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "first"]);
}

#[test]
fn a_run_goes_from_the_wish_to_its_end() {
    let w = World::new(
        "name: demo\nsteps:\n  - id: make\n    cmd: echo hello > made\n  - id: read\n    depends_on: [make]\n    cmd: grep hello made\n",
        2,
    );
    w.asks("run_1");
    w.outcome("run_1");
    // Again: from the cache.
    w.asks("run_2");
    w.outcome("run_2");
    assert!(w.dir.path().join("data/agent").exists());
}

#[test]
fn many_runs_of_one_commit_go_through() {
    let runs = std::env::var("LINK_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let w = World::new("name: demo\nsteps:\n  - id: a\n    cmd: 'true'\n    cache: never\n", 4);
    w.asks("first");
    w.outcome("first");
    let begun = Instant::now();
    (0..runs).for_each(|n| w.asks(&format!("run_{n}")));
    let asked = begun.elapsed();
    (0..runs).for_each(|n| assert_eq!(w.outcome(&format!("run_{n}")), RunOutcome::Succeeded));
    let took = begun.elapsed();
    eprintln!(
        "{runs} runs: asked for in {asked:?}, done in {took:?}: {:.0} a second",
        f64::from(runs) / took.as_secs_f64()
    );
}
