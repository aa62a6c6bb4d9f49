//! `pace cache serve`: a shared cache until Ctrl-C.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cache::config::{Settings, TlsSettings, UpstreamSettings};
use cache::execution::Execution;

use crate::cli::ServeArgs;
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::signals::Stops;

/// For requests that run when a signal comes: longer than a large blob takes, shorter than service managers wait.
const GRACE: Duration = Duration::from_secs(60);
/// How often it is looked whether a signal came.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Serves until a signal comes.
pub fn run(args: &ServeArgs, cache_root: &Path, screen: &mut Screen) -> Ended {
    let file = args.config.as_deref().map(Settings::read).transpose().map_err(Failure::usage)?;
    let settings = flags(args)?.over(file.unwrap_or_default());
    let mut config = settings.resolve(&cache_root.join("served")).map_err(Failure::usage)?;
    if args.check {
        screen.text(&config.to_string());
        return Ok(Exit::Green);
    }
    config.execution = execution(args, &config.data)?;
    let stops = Stops::listen().map_err(Failure::infrastructure)?;
    let running = cache::serve(&config).map_err(Failure::infrastructure)?;
    let places: Vec<String> = running.listens.iter().map(ToString::to_string).collect();
    screen.text(&format!("serving the cache in {} on {}", config.data.display(), places.join(" and ")));
    while stops.count() == 0 {
        std::thread::sleep(LOOK_EVERY);
    }
    stop(running, &stops, screen)
}

/// What executes actions, if that is wanted.
fn execution(args: &ServeArgs, data: &Path) -> Result<Option<Execution>, Failure> {
    if !args.execute {
        return Ok(None);
    }
    let options = worker::Options { network: args.execute_network, ..worker::Options::new(data.join("execution")) };
    let worker = worker::Worker::open(options).map_err(Failure::infrastructure)?;
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    Ok(Some(Execution { executor: Arc::new(worker), jobs }))
}

/// Lets requests finish; a second signal ends it at once, which the store stands at any moment.
fn stop(running: cache::Running, stops: &Stops, screen: &mut Screen) -> Ended {
    let stopping = std::thread::spawn(move || running.stop(GRACE));
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

fn flags(args: &ServeArgs) -> Result<Settings, Failure> {
    let tls =
        TlsSettings { cert: args.tls_cert.clone(), key: args.tls_key.clone(), client_ca: args.tls_client_ca.clone() };
    let has_tls = tls.cert.is_some() || tls.key.is_some() || tls.client_ca.is_some();
    let rights = args.upstream_rights.as_deref().map(str::parse).transpose();
    let rights = rights.map_err(|why: String| Failure::usage(format!("--upstream-rights: {why}")))?;
    let upstream = args.upstream.clone().map(|url| UpstreamSettings {
        url,
        token_env: args.upstream_token_env.clone(),
        rights: rights.unwrap_or_default(),
        ca: args.upstream_ca.clone(),
        ..UpstreamSettings::default()
    });
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    Ok(Settings {
        listen: some(&args.listen),
        data: args.data.clone(),
        max_size: args.max_size.clone(),
        max_age: args.max_age.clone(),
        lease: args.lease.clone(),
        durable: args.durable.clone(),
        memory: args.memory.clone(),
        instances: some(&args.instances),
        tokens_file: args.tokens.clone(),
        anonymous: args.anonymous.clone(),
        denied_writes: args.denied_writes.clone(),
        connections: args.connections,
        log: args.log.clone(),
        tls: has_tls.then_some(tls),
        s3: None,
        upstream,
    })
}
