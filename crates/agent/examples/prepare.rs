//! Prints what an attempt costs beside its sandbox: time from lease to spawn, and from lease to end, for steps that do
//! nothing, for hits, and at the top of a stack of layers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use agent::{Agent, Config, Executor, Project, Report};
use model::{AttemptNo, AttemptResult, AttemptSpec, CommandSpec, Fence, NodeIx, Resources, RunId, RunNumber, Work};

const ROUNDS: u32 = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: usize = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let dir = std::env::temp_dir().join(format!("pace-prepare-{}", std::process::id()));
    let root = dir.join("repo");
    for number in 0..files {
        let folder = root.join(format!("d{}", number / 100));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("f{number}")), number.to_string())?;
    }
    let (to, reports) = channel();
    let agent = Agent::start(config(&dir), to)?;
    println!("{files} files in the repository, {ROUNDS} rounds, microseconds: min / median");
    round(&agent, &reports, &dir, "r1", "true # {}", "nothing, executed")?;
    round(&agent, &reports, &dir, "r2", "true # {}", "nothing, cached")?;
    round(&agent, &reports, &dir, "r3", "echo {} > out-{}", "a file each, up to 40 layers deep, executed")?;
    round(&agent, &reports, &dir, "r4", "echo {} > out-{}", "a file each, up to 40 layers deep, cached")?;
    drop(agent);
    sandbox::remove_tree(&dir)?;
    Ok(())
}

fn config(dir: &Path) -> Config {
    Config {
        cache_dir: dir.join("cache"),
        state_dir: dir.join("state"),
        slots: 1,
        executor: Executor::Sandbox,
        caller_env: std::env::vars().filter(|(name, _)| ["PATH", "HOME"].contains(&name.as_str())).collect(),
        secrets: BTreeMap::new(),
        quota: agent::machine_quota(),
        full_network: Default::default(),
        images: image::Options::new(dir),
        open_files_soft: None,
        shared: None,
        whole_logs: false,
        keep_failed: true,
    }
}

fn round(
    agent: &Agent,
    reports: &Receiver<Report>,
    dir: &Path,
    run: &str,
    script: &str,
    title: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let run = RunId::new(run);
    let root = dir.join("repo");
    let snapshot = Arc::new(cas::Snapshot::take(&root, &dir.join("index"))?);
    let folder = |name: &str| dir.join(name).join(run.as_str());
    let project = Project {
        root,
        key: "k".into(),
        snapshot,
        lock: Arc::default(),
        tenant: "t".into(),
        cache_scope: "t".into(),
        shared_scope: None,
        log_dir: folder("log"),
        cache: None,
        artifact_dir: folder("artifacts"),
    };
    agent.begin(&run, project);
    let (mut prepare, mut whole) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let needs = if number == 0 { Vec::new() } else { vec![NodeIx(number - 1)] };
        // A chain, forty layers deep at most: deeper ones are rare.
        let needs = if number % 40 == 0 || script.starts_with("true") { Vec::new() } else { needs };
        let began = Instant::now();
        agent.execute(Arc::new(spec(&run, number, needs, script)));
        let result = finished(reports)?;
        whole.push(began.elapsed());
        prepare.push(result.prepare);
    }
    let notes = agent.end(&run);
    println!("{title}");
    show("from lease to spawned, or to the cached result", &mut prepare);
    show("from lease to report", &mut whole);
    notes.iter().for_each(|note| println!("  note: {note}"));
    Ok(())
}

fn spec(run: &RunId, number: u32, needs: Vec<NodeIx>, script: &str) -> AttemptSpec {
    let script = script.replace("{}", &number.to_string());
    let command = CommandSpec { has_dependants: true, ..CommandSpec::new(&script) };
    AttemptSpec {
        run: run.clone(),
        number: RunNumber(1),
        node: NodeIx(number),
        name: format!("s{number}").into(),
        attempt: AttemptNo(1),
        fence: Fence(u64::from(number)),
        needs,
        work: Work::Command(Arc::new(command)),
        timeout_total: Duration::from_secs(60),
        timeout_idle: None,
        resources: Resources::default(),
    }
}

fn finished(reports: &Receiver<Report>) -> Result<Arc<AttemptResult>, Box<dyn std::error::Error>> {
    loop {
        if let Report::Finished { result, .. } = reports.recv()? {
            if result.end != model::AttemptEnd::Succeeded {
                return Err(format!("{result:?}").into());
            }
            return Ok(result);
        }
    }
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort();
    println!("  {what}: {} / {}", times[0].as_micros(), times[times.len() / 2].as_micros());
}
