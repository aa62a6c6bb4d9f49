//! The server as a whole: opens what it keeps, starts its threads, and puts everything on one port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use cache::config::{Anonymous, Listen};
use cache::{Routes, Running, ServeError};
use sd_notify::NotifyState;
use store::{Batch, Change, Expect};

use crate::archive::Archive;
use crate::authentication::Authentication;
use crate::config::CONNECTIONS_MAX;
use crate::desk::Desk;
use crate::hub::{Hub, Parts};
use crate::intake::{self, Intake};
use crate::live::Live;
use crate::observe::Meters;
use crate::records::Project;
use crate::shared::Hidden;
use crate::sources::Sources;
use crate::stopping::Stopping;
use crate::{Config, Shared, cache_door, care, routes, schedule, secrets};

/// Threads that answer requests: more only take memory, what takes long is not done in them.
const WORKERS_MAX: usize = 4;
/// Threads for what blocks, at most; they end when they have nothing to do.
const BLOCKING_MAX: usize = 128;
/// For a thread that has nothing to do until it ends.
const THREAD_IDLE: Duration = Duration::from_secs(5);

/// A thread's work; it ends when the server does.
type Work = fn(&Arc<Shared>);

/// What is done beside answering, each in a thread of its own.
const THREADS: &[(&str, Work)] = &[("deliveries", intake::run), ("schedule", schedule::run), ("care", care::run)];

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data folder cannot be made or used.
    #[error("cannot use the data folder {path}: {source}; name another with --data")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The master key.
    #[error(transparent)]
    Keys(#[from] access::SealError),
    /// The port, the cache or the encryption.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The folder of the mirrors.
    #[error(transparent)]
    Git(#[from] forge::git::GitError),
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
}

/// A server that runs. Dropping it ends it at once; [`Server::stop`] lets requests finish.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, with the real port.
    pub address: SocketAddr,
    /// What its parts share.
    pub shared: Arc<Shared>,
    running: Running,
}

impl Server {
    /// Opens what it keeps and answers from now on, in threads of its own.
    ///
    /// # Errors
    /// The data folder, the store, the port or the encryption.
    pub fn start(config: Config) -> Result<Server, StartError> {
        let folder = |source| StartError::Folder { path: config.data.clone(), source };
        std::fs::create_dir_all(config.data.join("git")).map_err(folder)?;
        let store = store::Store::open(&config.database)?;
        let authentication = Authentication::open(&config)?;
        let live = Live::default();
        let keys = authentication.keys.clone();
        let sources = Arc::new(Sources::new(store.clone(), &config.data.join("git"), keys.clone())?);
        let (desk, orders) =
            Desk::start(&config.name, store.clone(), live.clone(), sources.clone()).map_err(StartError::Threads)?;
        let credential = access::CredentialKind::Agent.mint("builtin").text;
        let cache = cache_config(&config, cache_door::ask(store.clone(), &credential));
        let made = Arc::new(Mutex::new(None));
        let runtime = runtime()?;
        let slot = made.clone();
        let running = cache::serve_within(&cache, runtime, move |cache, service, listens| {
            let mut config = config;
            if config.url.is_empty() {
                config.url = url(&config, listens);
            }
            let version_key = keys.derive("versions of secrets").to_vec();
            let vault = store.clone();
            let hub = Arc::new(Hub::new(Parts {
                store: store.clone(),
                desk: desk.clone(),
                live: live.clone(),
                archive: Archive::new(&config.data.join("artifacts"), service.blobs.clone()),
                secrets: Box::new(move |run, wanted| secrets::of_attempt(&vault, &keys, run, wanted)),
                version_key,
                builtin: credential.clone(),
            }));
            let shared = Arc::new(Shared {
                config,
                store,
                desk,
                live,
                sources,
                stopping: Stopping::default(),
                deliveries: Stopping::default(),
                intake: Intake::default(),
                hub,
                builtin: Hidden(credential),
                authentication,
                meters: Meters::default(),
            });
            let routes = routes::all(&shared, cache, orders);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared);
            routes
        })?;
        let shared = made.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = shared.expect("the routes were made before it answers");
        let pushed = shared.clone();
        // What was pushed in the last moment of a former process; nobody waits for it.
        std::thread::spawn(move || crate::githost::recover(&pushed));
        for (name, work) in THREADS {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name((*name).into());
            thread.spawn(move || work(&shared)).map_err(StartError::Threads)?;
        }
        let (weak, stopping) = (Arc::downgrade(&shared), shared.stopping.clone());
        let errands = std::thread::Builder::new().name("errands".into());
        errands.spawn(move || crate::errands::run(&weak, &stopping)).map_err(StartError::Threads)?;
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        Ok(Server { address: running.address, shared, running })
    }

    /// Makes a project, or points the one of this name at another repository.
    ///
    /// # Errors
    /// The name is none, or the store does not take it. A sentence.
    pub fn add_project(&self, name: &str, repository: &str) -> Result<(), String> {
        if let Some(problem) = crate::records::name_problem(name) {
            return Err(problem);
        }
        let store = &self.shared.store;
        let known = store.record::<Project>(name).map_err(|error| error.to_string())?;
        let fresh = || Project { approve_forks: true, ..Project::default() };
        let mut project = known.map_or_else(fresh, |kept| kept.value);
        if project.name == name && project.repository == repository {
            return Ok(());
        }
        project.name = name.into();
        project.repository = repository.into();
        let change = Change::put(crate::clock::now(), "server", "project.created", &project, Expect::Any);
        let batch = Batch { changes: vec![change], ..Batch::default() };
        store.append(None, batch).map(drop).map_err(|error| error.to_string())
    }

    /// Gives the leadership back, takes no more connections and lets requests finish within `grace`. Whether all did.
    pub fn stop(self, grace: Duration) -> bool {
        // A service manager that does not listen is none.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        self.shared.stopping.stop();
        self.shared.deliveries.stop();
        self.shared.desk.stop(grace);
        self.running.stop(grace)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_keep_alive(THREAD_IDLE)
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(StartError::Threads)
}

/// The shared cache as part of a server: its own folder, and nobody without a credential.
fn cache_config(config: &Config, ask: cache::access::Ask) -> cache::Config {
    let mut cache = cache::Config::local(&config.data.join("cache"));
    cache.listen = vec![Listen::Tcp(config.listen)];
    cache.store.bytes_max = config.cache_bytes;
    cache.tls = config.tls.clone();
    cache.anonymous = Some(Anonymous::None);
    cache.connections_max = CONNECTIONS_MAX;
    cache.s3 = config.blobs.clone();
    cache.ask = Some(ask);
    cache
}

/// How others reach it, when nobody said.
fn url(config: &Config, listens: &[Listen]) -> String {
    let address = listens.iter().find_map(|listen| match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    });
    let mut address = address.unwrap_or(config.listen);
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("{}://{address}", if config.tls.is_some() { "https" } else { "http" })
}

/// The cache's own routes, below their prefix.
pub(crate) fn below_cache(routes: Routes) -> Routes {
    let below = axum::Extension(cache::http::Below("/cache"));
    Routes { http: Router::new().nest("/cache", routes.http.layer(below)), grpc: routes.grpc }
}
