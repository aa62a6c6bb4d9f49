//! `pace agent`: executes steps for a server until a signal comes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::Executor;
use clap::Args;
use link::{Link, Status};

use crate::cli::ExecutorName;
use crate::exit::{Ended, Exit, Failure};
use crate::folders::Folders;
use crate::prepare;
use crate::screen::Screen;
use crate::signals::Stops;

/// How often it is looked whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Variables of ours that no step gets to see.
const OWN_VARIABLES: [&str; 2] = ["PACE_AGENT_TOKEN", crate::remote_cache::TOKEN_ENV];

/// Execute steps for a server: takes what it is given, until a signal comes
///
/// The first start needs a token, which `pace agents token` makes on the server and which is good once; what the agent gets for
/// it is kept in its state's folder, for this user alone. It reconnects for ever. SIGTERM or Ctrl-C lets running steps finish
/// and takes no more; a second one ends it at once.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where the server is
    #[arg(long, value_name = "URL", env = "PACE_SERVER")]
    pub server: String,
    /// The token for the first contact
    #[arg(long, value_name = "TOKEN", env = "PACE_AGENT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Its name on the server [default: this host's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Labels beside those of the host, by commas: steps name them in `runs_on`
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Steps at once [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// How steps are executed
    #[arg(long, value_enum, default_value_t = ExecutorName::Sandbox)]
    pub executor: ExecutorName,
    /// The folder of what can be made again [default: `agent` in the cache's folder]
    #[arg(long, value_name = "FOLDER")]
    pub cache_dir: Option<PathBuf>,
    /// The folder of what must not be lost: its credential, results that the server does not have yet [default: `agent` in the
    /// state's folder]
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Disk for checked-out commits
    #[arg(long, value_name = "SIZE", default_value = "10GiB")]
    pub checkout_size: String,
    /// The authorities that may vouch for the server, as PEM, instead of those of the system
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// A certificate for servers that ask for one, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// How long running steps may go on after SIGTERM
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub grace: String,
    /// How it tells what it does, on standard error
    #[arg(long, value_enum, default_value_t = super::server::LogFormat::Text)]
    pub log: super::server::LogFormat,
}

/// Works until a signal comes.
pub fn run(args: &AgentArgs, screen: &mut Screen) -> Ended {
    let config = config(args)?;
    let grace =
        model::units::parse_duration(&args.grace).map_err(|error| Failure::usage(format!("--grace: {error}")))?;
    super::server::tell(args.log, screen);
    if args.executor == ExecutorName::Process {
        screen.warning("no isolation: steps run as plain processes and can read and write all that this user can");
    }
    let stops = Stops::listen().map_err(Failure::infrastructure)?;
    let place = config.server.clone();
    let link = link::start(config).map_err(Failure::infrastructure)?;
    screen.text(&format!("an agent for {place}"));
    link::ready();
    while stops.count() == 0 && link.status() != Status::Drained {
        std::thread::sleep(LOOK_EVERY);
    }
    link::stopping();
    drain(&link, grace, &stops, screen)
}

/// Finishes what runs. A second signal, or the end of the grace, kills it: it is told as lost at the next start.
fn drain(link: &Link, grace: Duration, stops: &Stops, screen: &mut Screen) -> Ended {
    let (begun, before) = (Instant::now(), stops.count());
    link.drain("it was asked to end");
    let mut told = 0;
    while link.status() != Status::Drained {
        let held = link.held();
        if held != told && held > 0 {
            screen.text(&format!("finishing {held} steps; a second signal ends them"));
            told = held;
        }
        if stops.count() > before.max(1) || begun.elapsed() > grace {
            screen.warning(&format!("{held} steps were ended"));
            return Ok(Exit::Cancelled);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Exit::Green)
}

fn config(args: &AgentArgs) -> Result<link::Config, Failure> {
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(Failure::usage);
    let cache_dir =
        args.cache_dir.as_ref().map(absolute).unwrap_or_else(|| Ok(Folders::find()?.cache.join("agent")))?;
    let state_dir =
        args.state_dir.as_ref().map(absolute).unwrap_or_else(|| Ok(Folders::find()?.state.join("agent")))?;
    let execution = execution(args.slots, args.executor, cache_dir, state_dir)?;
    let name = args.name.clone().unwrap_or_else(super::server::host_name);
    let checkout_bytes = model::units::parse_bytes(&args.checkout_size)
        .map_err(|error| Failure::usage(format!("--checkout-size: {error}")))?;
    Ok(link::Config {
        token: args.token.clone(),
        labels: args.labels.clone(),
        ca: args.ca.clone(),
        identity: args.cert.clone().zip(args.key.clone()),
        checkout_bytes_max: checkout_bytes.0,
        ..link::Config::new(&args.server, &name, execution)
    })
}

/// How an agent of a server executes on this machine.
pub fn execution(
    slots: Option<u32>,
    executor: ExecutorName,
    cache_dir: PathBuf,
    state_dir: PathBuf,
) -> Result<agent::Config, Failure> {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| !OWN_VARIABLES.contains(&name.as_str()))?;
        Some((name, value.into_string().ok()?))
    });
    Ok(agent::Config {
        slots: slots.map_or_else(cpus, |slots| slots as usize),
        executor: match executor {
            ExecutorName::Sandbox => Executor::Sandbox,
            ExecutorName::Process => Executor::Process,
        },
        caller_env: environment.collect(),
        secrets: std::collections::BTreeMap::new(),
        quota: agent::machine_quota(),
        full_network: prepare::full_network()?,
        images: prepare::image_options(&state_dir),
        open_files_soft: prepare::raise_open_files(),
        shared: None,
        whole_logs: true,
        keep_failed: false,
        cache_dir,
        state_dir,
    })
}
