//! The measures of a server of the Bazel Remote Execution API.

use std::sync::Arc;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::bytestream as bs;
use bytes::Bytes;
use prost::Message;

use crate::Load;
use crate::content::{self, Blob};
use crate::drive::{Failed, Measure, Sample, drive};
use crate::wire::{Client, connect, download, unary, upload};

const UPDATE: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
const READ_BATCH: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs";
pub(crate) const FIND: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
const WRITE: &str = "/google.bytestream.ByteStream/Write";
const READ: &str = "/google.bytestream.ByteStream/Read";
const GET_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
const SET_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";

/// Bytes of a message of a stream: BuildGrid's server takes no more than 4 MiB, Bazel sends 16 KiB, this is between.
const PART_BYTES: usize = 1 << 20;
/// Output files of an action result.
const OUTPUTS: usize = 4;

/// How blobs of one size travel.
#[derive(Clone, Copy, Debug)]
struct Size {
    name: &'static str,
    len: usize,
    /// Blobs in a call; 0 for a stream each.
    batch: usize,
    /// Blobs that are made at most for a measure.
    most: usize,
}

const SIZES: [Size; 4] = [
    Size { name: "1KiB_batch", len: 1 << 10, batch: 1000, most: 150_000 },
    Size { name: "1KiB_single", len: 1 << 10, batch: 1, most: 20_000 },
    Size { name: "64KiB", len: 64 << 10, batch: 32, most: 6400 },
    Size { name: "16MiB", len: 16 << 20, batch: 0, most: 48 },
];

/// Measures everything; a line of JSON each.
pub(crate) async fn measure(load: &Load) -> Result<(), Failed> {
    warm_up(load).await?;
    for size in SIZES {
        for clients in &load.clients {
            blobs(load, size, *clients).await?;
        }
    }
    find_missing(load).await?;
    for clients in &load.clients {
        results(load, *clients).await?;
    }
    large_stream(load).await?;
    Ok(())
}

async fn warm_up(load: &Load) -> Result<(), Failed> {
    let mut client = connect(&load.target, 1).await?.remove(0);
    for _ in 0..20 {
        let request = update_request(load, &content::blobs(100, 1 << 10));
        unary(&mut client, UPDATE, request).await?;
    }
    Ok(())
}

/// Uploads of one size, then downloads of what was uploaded.
async fn blobs(load: &Load, size: Size, clients: usize) -> Result<(), Failed> {
    let (put, get) = (format!("put_{}", size.name), format!("get_{}", size.name));
    if !load.wants(&put) && !load.wants(&get) {
        return Ok(());
    }
    // With fewer clients less is stored in the same time, and 64 want more than one each.
    let most = if size.batch == 0 { size.most.min(clients * 8).max(clients) } else { size.most };
    let blobs = content::blobs(most, size.len);
    let per_call = size.batch.max(1);
    let calls: Vec<&[Blob]> = blobs.chunks(per_call).collect();
    let measure = |name: &str| measure_of(load, name, per_call, per_call * size.len);
    let puts: Vec<Vec<Bytes>> = match size.batch {
        0 => calls.iter().map(|call| write_requests(load, &call[0])).collect(),
        _ => calls.iter().map(|call| vec![update_request(load, call)]).collect(),
    };
    let put = put_all(&measure(&put), connect(&load.target, clients).await?, puts, size.batch).await;
    put.print();
    let gets = calls[..put.calls].iter();
    let gets: Vec<Bytes> = match size.batch {
        0 => gets.map(|call| read_request(load, &call[0].digest)).collect(),
        _ => gets.map(|call| read_batch_request(load, call)).collect(),
    };
    let length = per_call * size.len;
    get_all(&measure(&get), connect(&load.target, clients).await?, gets, size.batch, length).await.print();
    Ok(())
}

async fn put_all(measure: &Measure, clients: Vec<Client>, puts: Vec<Vec<Bytes>>, batch: usize) -> Sample {
    let puts = Arc::new(puts);
    drive(measure, clients, puts.clone().len(), move |mut client: Client, at| {
        let requests = puts[at].clone();
        async move {
            if batch == 0 {
                upload(&mut client, WRITE, requests).await?;
                return Ok(client);
            }
            let answer = unary(&mut client, UPDATE, requests[0].clone()).await?;
            let answer = api::BatchUpdateBlobsResponse::decode(answer)?;
            let refused = answer.responses.iter().find_map(|one| one.status.as_ref().filter(|status| status.code != 0));
            match refused {
                Some(status) => Err(format!("an upload was refused: {}", status.message).into()),
                None if answer.responses.len() != batch => Err("an upload was not answered".into()),
                None => Ok(client),
            }
        }
    })
    .await
}

/// Reads what was put, round and round until the time is up.
async fn get_all(measure: &Measure, clients: Vec<Client>, gets: Vec<Bytes>, batch: usize, length: usize) -> Sample {
    let gets = Arc::new(gets);
    let calls = if gets.is_empty() { 0 } else { usize::MAX / 2 };
    drive(measure, clients, calls, move |mut client: Client, at| {
        let request = gets[at % gets.len()].clone();
        async move {
            let mut seen = 0;
            if batch == 0 {
                download(&mut client, READ, request, |message| seen += message.len()).await?;
            } else {
                seen = unary(&mut client, READ_BATCH, request).await?.len();
            }
            // Content and what protobuf puts around it.
            if seen < length || seen > length + length / 4 + 64 * 1024 {
                return Err(format!("{seen} bytes came back, expected {length}").into());
            }
            Ok(client)
        }
    })
    .await
}

/// FindMissingBlobs of what is there: 1000 a call, and all at once.
async fn find_missing(load: &Load) -> Result<(), Failed> {
    if !load.wants("find_missing") {
        return Ok(());
    }
    let digests = stored(load, load.digests).await?;
    for (name, per_call, clients) in
        [("find_missing", 1000, 1), ("find_missing", 1000, 8), ("find_missing_in_one", load.digests, 1)]
    {
        let requests: Vec<Bytes> = digests.chunks(per_call).map(|digests| find_request(load, digests)).collect();
        let requests = Arc::new(requests);
        let measure = measure_of(load, name, per_call, 0);
        let clients = connect(&load.target, clients).await?;
        let sample = drive(&measure, clients, usize::MAX / 2, move |mut client: Client, at| {
            let request = requests[at % requests.len()].clone();
            async move {
                let missing = unary(&mut client, FIND, request).await?;
                if missing.is_empty() { Ok(client) } else { Err("what is there was told to be missing".into()) }
            }
        });
        sample.await.print();
    }
    Ok(())
}

/// Action results: written, then looked up.
async fn results(load: &Load, clients: usize) -> Result<(), Failed> {
    if !load.wants("result") {
        return Ok(());
    }
    let outputs = stored(load, 1000).await?;
    // Servers that look into the action want to find one.
    let actions: Vec<Blob> = (0..load.actions).map(|_| action()).collect();
    store(load, &actions).await?;
    let sets: Arc<Vec<Bytes>> =
        Arc::new(actions.iter().enumerate().map(|(at, action)| set_request(load, action, at, &outputs)).collect());
    let measure = measure_of(load, "set_result", 1, 0);
    let set =
        drive(&measure, connect(&load.target, clients).await?, sets.clone().len(), move |mut client: Client, at| {
            let request = sets[at].clone();
            async move {
                unary(&mut client, SET_RESULT, request).await?;
                Ok(client)
            }
        });
    let set = set.await;
    set.print();
    let gets: Vec<Bytes> = actions[..set.calls].iter().map(|action| get_request(load, action)).collect();
    let gets = Arc::new(gets);
    let calls = if gets.is_empty() { 0 } else { usize::MAX / 2 };
    let measure = measure_of(load, "get_result", 1, 0);
    let get = drive(&measure, connect(&load.target, clients).await?, calls, move |mut client: Client, at| {
        let request = gets[at % gets.len()].clone();
        async move {
            let result = api::ActionResult::decode(unary(&mut client, GET_RESULT, request).await?)?;
            if result.output_files.len() == OUTPUTS { Ok(client) } else { Err("a result lost its files".into()) }
        }
    });
    get.await.print();
    Ok(())
}

/// One blob of a gibibyte or so: written once, read once.
async fn large_stream(load: &Load) -> Result<(), Failed> {
    if !load.wants("stream") {
        return Ok(());
    }
    let blob = content::blob(load.stream << 20);
    let put =
        Measure { limit: std::time::Duration::from_secs(300), ..measure_of(load, "put_stream", 1, load.stream << 20) };
    let requests = vec![write_requests(load, &blob)];
    let read = read_request(load, &blob.digest);
    drop(blob);
    let sample = put_all(&put, connect(&load.target, 1).await?, requests, 0).await;
    let stored = sample.error.is_none();
    sample.print();
    if stored {
        let get = Measure { name: "get_stream".into(), ..put };
        let clients = connect(&load.target, 1).await?;
        let length = load.stream << 20;
        let once = Measure { limit: load.limit(), ..get };
        get_all(&once, clients, vec![read], 0, length).await.print();
    }
    Ok(())
}

fn measure_of(load: &Load, name: &str, items: usize, bytes: usize) -> Measure {
    Measure { name: name.to_owned(), items, bytes: bytes as u64, limit: load.limit(), pid: load.pid }
}

async fn stored(load: &Load, count: usize) -> Result<Vec<api::Digest>, Failed> {
    let blobs = content::blobs(count, 64);
    store(load, &blobs).await?;
    Ok(blobs.into_iter().map(|blob| blob.digest).collect())
}

async fn store(load: &Load, blobs: &[Blob]) -> Result<(), Failed> {
    let mut client = connect(&load.target, 1).await?.remove(0);
    for batch in blobs.chunks(4000) {
        unary(&mut client, UPDATE, update_request(load, batch)).await?;
    }
    Ok(())
}

fn action() -> Blob {
    let action = api::Action { salt: content::random(16), ..Default::default() }.encode_to_vec();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&action).iter().map(|byte| format!("{byte:02x}")).collect();
    Blob { digest: api::Digest { hash, size_bytes: action.len() as i64 }, bytes: action.into() }
}

// Requests, encoded.

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn update_request(load: &Load, blobs: &[Blob]) -> Bytes {
    let one = |blob: &Blob| api::batch_update_blobs_request::Request {
        digest: Some(blob.digest.clone()),
        data: blob.bytes.to_vec(),
        compressor: 0,
    };
    encoded(&api::BatchUpdateBlobsRequest {
        instance_name: load.instance.clone(),
        requests: blobs.iter().map(one).collect(),
        digest_function: 0,
    })
}

fn read_batch_request(load: &Load, blobs: &[Blob]) -> Bytes {
    encoded(&api::BatchReadBlobsRequest {
        instance_name: load.instance.clone(),
        digests: blobs.iter().map(|blob| blob.digest.clone()).collect(),
        ..Default::default()
    })
}

fn find_request(load: &Load, digests: &[api::Digest]) -> Bytes {
    encoded(&api::FindMissingBlobsRequest {
        instance_name: load.instance.clone(),
        blob_digests: digests.to_vec(),
        digest_function: 0,
    })
}

fn write_requests(load: &Load, blob: &Blob) -> Vec<Bytes> {
    let name = format!("{}uploads/{}/blobs/{}", prefix(load), uuid(), tail(&blob.digest));
    let parts = blob.bytes.chunks(PART_BYTES).enumerate();
    let part = |(at, part): (usize, &[u8])| bs::WriteRequest {
        resource_name: if at == 0 { name.clone() } else { String::new() },
        write_offset: (at * PART_BYTES) as i64,
        finish_write: (at + 1) * PART_BYTES >= blob.bytes.len(),
        data: part.to_vec(),
    };
    parts.map(|one| encoded(&part(one))).collect()
}

fn read_request(load: &Load, digest: &api::Digest) -> Bytes {
    let resource_name = format!("{}blobs/{}", prefix(load), tail(digest));
    encoded(&bs::ReadRequest { resource_name, ..Default::default() })
}

fn set_request(load: &Load, action: &Blob, at: usize, outputs: &[api::Digest]) -> Bytes {
    let file = |part: usize| api::OutputFile {
        path: format!("bazel-out/k8-fastbuild/bin/package/file{part}.o"),
        digest: Some(outputs[(at * OUTPUTS + part) % outputs.len()].clone()),
        ..Default::default()
    };
    encoded(&api::UpdateActionResultRequest {
        instance_name: load.instance.clone(),
        action_digest: Some(action.digest.clone()),
        action_result: Some(api::ActionResult { output_files: (0..OUTPUTS).map(file).collect(), ..Default::default() }),
        ..Default::default()
    })
}

fn get_request(load: &Load, action: &Blob) -> Bytes {
    encoded(&api::GetActionResultRequest {
        instance_name: load.instance.clone(),
        action_digest: Some(action.digest.clone()),
        ..Default::default()
    })
}

fn prefix(load: &Load) -> String {
    if load.instance.is_empty() { String::new() } else { format!("{}/", load.instance) }
}

fn tail(digest: &api::Digest) -> String {
    format!("{}/{}", digest.hash, digest.size_bytes)
}

fn uuid() -> String {
    let hex: String = content::random(16).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
