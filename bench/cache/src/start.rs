//! How soon a server with ten million blobs answers after its start, and how much memory it has then.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Key, sketch};
use prost::Message;

use crate::drive::{Failed, Sample};
use crate::grpc::FIND;
use crate::process;
use crate::wire::{connect, unary};

/// Digests that the first question is about: spread over all that the store knows.
const ASKED: u64 = 1000;
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server's process; it ends with the measure.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a store in `dir` that knows `count` blobs, starts the server of `command` on it, which is to listen on `target`, and
/// asks for a thousand of them until it says that all are there.
pub(crate) async fn measure(dir: &Path, count: u64, target: &str, command: &[String]) -> Result<(), Failed> {
    std::fs::create_dir_all(dir)?;
    sketch::draw(dir, count)?;
    let request = question(count);
    let [program, arguments @ ..] = command else { return Err("no command is given".into()) };
    let start = Instant::now();
    let server = Started(Command::new(program).args(arguments).stdout(Stdio::null()).spawn()?);
    let missing = loop {
        match ask(target, request.clone()).await {
            Ok(missing) => break missing,
            Err(failed) if start.elapsed() > PATIENCE => return Err(failed),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let took = start.elapsed();
    let pid = server.0.id();
    let usage = process::usage(pid);
    let sample = Sample {
        measure: format!("start_with_{count}_blobs"),
        clients: 1,
        calls: 1,
        items: ASKED as usize - missing,
        seconds: took.as_secs_f64(),
        p50_us: took.as_micros() as u64,
        p99_us: took.as_micros() as u64,
        server_cpu: usage.cpu,
        server_rss: usage.rss,
        error: (missing > 0).then(|| format!("{missing} of {ASKED} blobs are told to be missing")),
        ..Sample::default()
    };
    sample.print();
    Ok(())
}

fn question(count: u64) -> bytes::Bytes {
    let digest = |key: Key| {
        let hash = key.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        api::Digest { hash, size_bytes: key.size as i64 }
    };
    let asked = (0..ASKED).map(|at| digest(sketch::key(at * (count / ASKED))));
    let digest_function = api::digest_function::Value::Blake3.into();
    api::FindMissingBlobsRequest { blob_digests: asked.collect(), digest_function, ..Default::default() }
        .encode_to_vec()
        .into()
}

async fn ask(target: &str, request: bytes::Bytes) -> Result<usize, Failed> {
    let mut client = connect(target, 1).await?.remove(0);
    let answer = unary(&mut client, FIND, request).await?;
    Ok(api::FindMissingBlobsResponse::decode(answer)?.missing_blob_digests.len())
}
