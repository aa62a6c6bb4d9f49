//! `cache-load`: puts one server under load, or measures the floor under all of them, and prints a line of JSON a measure.

mod content;
mod drive;
mod floor;
mod grpc;
mod process;
mod start;
mod web;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Puts one server under load and prints a line of JSON for each measure.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A server of the Bazel Remote Execution API
    Grpc(Load),
    /// A server of plain HTTP: PUT and GET under /cas/
    Http(Load),
    /// The start of a server of ours that knows many blobs
    Start {
        /// A folder that does not exist; the store is made in it
        #[arg(long)]
        dir: PathBuf,
        /// How many blobs it knows
        #[arg(long, default_value_t = 10_000_000)]
        blobs: u64,
        /// Where the command listens, 127.0.0.1:PORT
        #[arg(long)]
        target: String,
        /// How the server is started
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Hashing, the loopback network and the disk, without any server
    Floor {
        /// A folder on the disk to measure
        #[arg(long)]
        dir: PathBuf,
        /// Seconds that a measure takes
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
}

/// What server, and how much.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    /// 127.0.0.1:PORT
    #[arg(long)]
    target: String,
    /// The server's process; its memory and processor time are told with each measure
    #[arg(long)]
    pid: Option<u32>,
    /// The name of the instance
    #[arg(long, default_value = "")]
    instance: String,
    /// Seconds that a measure takes at most
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Clients at a time, each with a connection of its own
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    clients: Vec<usize>,
    /// Mebibytes of the one large stream
    #[arg(long, default_value_t = 1024)]
    stream: usize,
    /// Digests of the FindMissingBlobs measures; their blobs are stored first
    #[arg(long, default_value_t = 100_000)]
    digests: usize,
    /// Actions of the action cache's measures; they are stored first
    #[arg(long, default_value_t = 20_000)]
    actions: usize,
    /// Only measures whose name contains this
    #[arg(long)]
    only: Option<String>,
}

impl Load {
    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
    fn wants(&self, measure: &str) -> bool {
        self.only.as_ref().is_none_or(|part| part.split(',').any(|part| measure.contains(part)))
    }
}

fn main() -> Result<(), drive::Failed> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match arguments.what {
        What::Grpc(load) => runtime.block_on(grpc::measure(&load)),
        What::Http(load) => runtime.block_on(web::measure(&load)),
        What::Start { dir, blobs, target, command } => runtime.block_on(start::measure(&dir, blobs, &target, &command)),
        What::Floor { dir, seconds } => floor::measure(&dir, Duration::from_secs_f64(seconds)),
    }
}
