//! `pace server`: a team's server until Ctrl-C.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use link::Link;
use server::authentication::setup_link;
use server::config::{S3Settings, Tls};
use server::journal::{self, Format};
use server::{Config, Server};

use super::oidc::OidcArgs;
use crate::cli::ExecutorName;
use crate::exit::{Ended, Exit, Failure};
use crate::folders::Folders;
use crate::screen::Screen;
use crate::signals::Stops;

/// For steps of the agent in this process that run when a signal comes: less than service managers wait.
const DRAIN: Duration = Duration::from_secs(60);
/// For requests that run when a signal comes.
const GRACE: Duration = Duration::from_secs(20);
/// How often it is looked whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Serve a team: webhooks, runs, agents, pages and the shared cache on one port.
///
/// Without options everything lives in one folder and one process: a SQLite store, the blobs, an agent with one slot for each
/// processor. The first start prints a link that makes the first administrator.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", env = "PACE_LISTEN")]
    pub listen: SocketAddr,
    /// How people, forges and agents reach it, for links and statuses [default: http://ADDRESS:PORT]
    #[arg(long, value_name = "URL", env = "PACE_URL")]
    pub url: Option<String>,
    /// The data folder [default: `server` in the state's folder]
    #[arg(long, value_name = "FOLDER", env = "PACE_DATA")]
    pub data: Option<PathBuf>,
    /// The store: postgres://… for several replicas [default: a SQLite file in the data folder]
    #[arg(long, value_name = "URL", env = "PACE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// Blobs and artifacts in a bucket: s3://BUCKET[/PREFIX] [default: in the data folder]
    #[arg(long, value_name = "URL", env = "PACE_BLOBS")]
    pub blobs: Option<String>,
    /// The bucket's store, where it is not Amazon's
    #[arg(long, value_name = "URL", env = "PACE_S3_ENDPOINT", requires = "blobs")]
    pub s3_endpoint: Option<String>,
    /// The bucket's region
    #[arg(long, value_name = "NAME", env = "PACE_S3_REGION", requires = "blobs")]
    pub s3_region: Option<String>,
    /// Disk for the shared cache
    #[arg(long, value_name = "SIZE", default_value = "50GiB")]
    pub cache_size: String,
    /// Encrypt with this certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Take only clients with a certificate that this authority signed, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// A project to begin with: its name, and what git fetches; may be given several times. A name alone is a repository that
    /// the server itself keeps: `git push http://…/git/NAME main`
    #[arg(long = "project", value_name = "NAME[=PATH_OR_URL]")]
    pub projects: Vec<String>,
    /// Start no agent in this process
    #[arg(long)]
    pub no_agent: bool,
    /// Steps at once of the agent in this process [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub agent_slots: Option<u32>,
    /// Its name among replicas [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Send a trace of each run to this collector, OTLP over HTTP
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp: Option<String>,
    /// Whom else people sign in with.
    #[command(flatten)]
    pub oidc: OidcArgs,
    /// How it tells what it does, on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
}

/// How a server tells what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Serves until a signal comes.
pub fn run(args: &ServerArgs, screen: &mut Screen) -> Ended {
    let config = config(args)?;
    tell(args.log, screen);
    let stops = Stops::listen().map_err(Failure::infrastructure)?;
    let data = config.data.clone();
    let server = Server::start(config).map_err(Failure::infrastructure)?;
    for project in &args.projects {
        let (name, repository) = project_of(project)?;
        server.add_project(name, &repository).map_err(Failure::usage)?;
    }
    let agent = builtin(args, &server)?;
    screen.text(&format!("serving {} on {}", data.display(), server.shared.config.url));
    if let Some(link) = setup_link(&server.shared).map_err(|problem| Failure::infrastructure(problem.detail))? {
        screen.text(&format!(
            "nobody can sign in yet; this link makes the first administrator, once, within a day:\n{link}"
        ));
    }
    while stops.count() == 0 {
        std::thread::sleep(LOOK_EVERY);
    }
    stop(server, agent, &stops, screen)
}

/// Begins to tell on standard error what goes on.
pub fn tell(log: LogFormat, screen: &Screen) {
    journal::start(match log {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text { color: screen.error_color() },
    });
}

/// The agent in this process, which works as any other does. `None` when there shall be none.
fn builtin(args: &ServerArgs, server: &Server) -> Result<Option<Link>, Failure> {
    if args.no_agent {
        return Ok(None);
    }
    let data = server.shared.config.data.clone();
    let mut execution = super::agent::execution(args.agent_slots, ExecutorName::Sandbox, data.clone(), data.clone())?;
    execution.caller_env.retain(|name, _| is_harmless(name));
    let url = match &server.shared.config.tls {
        // Its certificate is for the name that others use.
        Some(_) => server.shared.config.url.clone(),
        None => format!("http://{}", loopback(server.address)),
    };
    let config = link::builtin(&url, &server.shared.builtin.0, &data, execution);
    link::start(config).map(Some).map_err(Failure::infrastructure)
}

/// Variables of the server that `pass_env` may name, or that tell where toolchains are. All others are the server's own: keys
/// and passwords among them.
fn is_harmless(name: &str) -> bool {
    const NAMES: &str = "PATH HOME LANG TZ TERM USER LOGNAME SHELL RUSTUP_HOME CARGO_HOME GOPATH GOROOT PYENV_ROOT NVM_DIR \
                         JAVA_HOME SDKMAN_DIR VOLTA_HOME";
    NAMES.split(' ').any(|known| known == name) || name.starts_with("LC_")
}

fn loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let own: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(own);
    }
    address
}

/// Lets requests finish; a second signal ends it at once, which the store stands at any moment.
fn stop(server: Server, agent: Option<Link>, stops: &Stops, screen: &mut Screen) -> Ended {
    let stopping = std::thread::spawn(move || {
        if let Some(agent) = agent {
            // What still runs afterwards is told as lost when it starts again.
            agent.drain("the server stops");
            agent.wait(DRAIN, |status| *status == link::Status::Drained);
        }
        server.stop(GRACE)
    });
    while !stopping.is_finished() {
        if stops.count() > 1 {
            screen.warning("requests were cut off");
            std::process::exit(Exit::Cancelled as i32);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    if !stopping.join().unwrap_or(false) {
        screen.warning(&format!("requests that took longer than {} seconds were cut off", GRACE.as_secs()));
    }
    Ok(Exit::Green)
}

fn config(args: &ServerArgs) -> Result<Config, Failure> {
    let data = match &args.data {
        Some(data) => std::path::absolute(data).map_err(Failure::usage)?,
        None => Folders::find()?.state.join("server"),
    };
    let database = match &args.database {
        None => store::Location::Sqlite(data.join("paceline.db")),
        Some(url) => database(url)?,
    };
    let cache_bytes = model::units::parse_bytes(&args.cache_size)
        .map_err(|error| Failure::usage(format!("--cache-size: {error}")))?
        .0;
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let tls = tls.map(|(cert, key)| Tls { cert, key, client_ca: args.tls_client_ca.clone() });
    let url = args.url.clone().unwrap_or_default().trim_end_matches('/').to_owned();
    let blobs = args.blobs.as_deref().map(|url| bucket(url, args)).transpose()?;
    let name = args.name.clone().unwrap_or_else(host_name);
    let (otlp, oidc) = (args.otlp.clone(), args.oidc.config()?);
    Ok(Config { listen: args.listen, url, data, database, blobs, cache_bytes, tls, name, otlp, oidc })
}

/// What `--database` names.
pub(super) fn database(url: &str) -> Result<store::Location, Failure> {
    match url.strip_prefix("sqlite:") {
        Some(path) => Ok(store::Location::Sqlite(path.into())),
        None if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(store::Location::Postgres(url.into()))
        }
        None => Err(Failure::usage("--database is neither postgres://… nor sqlite:PATH")),
    }
}

fn bucket(url: &str, args: &ServerArgs) -> Result<S3Settings, Failure> {
    let wrong = || Failure::usage(format!("--blobs: `{url}` is not s3://BUCKET[/PREFIX]"));
    let rest = url.strip_prefix("s3://").ok_or_else(wrong)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(wrong());
    }
    Ok(S3Settings {
        bucket: bucket.into(),
        prefix: Some(prefix.trim_end_matches('/').to_owned()).filter(|prefix| !prefix.is_empty()),
        endpoint: args.s3_endpoint.clone(),
        region: args.s3_region.clone(),
        allow_http: args.s3_endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
        ..S3Settings::default()
    })
}

/// `NAME=PATH_OR_URL`, or a name alone; a path is made absolute, because the server's folder is another.
fn project_of(text: &str) -> Result<(&str, String), Failure> {
    let (name, repository) = match text.split_once('=') {
        None => return Ok((text, String::new())),
        Some(("", _) | (_, "")) => {
            return Err(Failure::usage(format!("--project: `{text}` is neither NAME nor NAME=PATH_OR_URL")));
        }
        Some(pair) => pair,
    };
    let repository = match Path::new(repository).exists() {
        true => std::path::absolute(repository).map_err(Failure::usage)?.display().to_string(),
        false => repository.to_owned(),
    };
    Ok((name, repository))
}

/// The name of this machine.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "server".into() } else { name.trim().into() }
}
