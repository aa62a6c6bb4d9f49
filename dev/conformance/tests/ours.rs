//! Our own server keeps to the protocol.

#![allow(clippy::unwrap_used)]

use conformance::{Outcome, Server, Target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_cache_passes_every_check() {
    let folder = tempfile::tempdir().unwrap();
    let running = cache::serve(&cache::Config::local(folder.path())).unwrap();
    let target = Target { address: format!("grpc://{}", running.address), ..Target::default() };
    let server = Server::connect(&target).await.unwrap();
    let results = conformance::run(&server, &conformance::all()).await;
    // It runs threads of its own, which must not be joined by a thread that drives futures.
    tokio::task::spawn_blocking(move || drop(running)).await.unwrap();
    let failed = results.iter().any(|result| matches!(result.outcome, Outcome::Fail(_)));
    assert!(!failed, "\n{}", conformance::table(&results));
}
