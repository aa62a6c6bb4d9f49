//! What goes up: a bounded queue and one thread, so that no client waits for another machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Function, Key};
use bytes::Bytes;
use prost::Message as _;
use remote::{Blob, Content};

use super::{Line, count, digest_of};
use crate::access::Domain;
use crate::grpc::actions;

/// Writes that wait: blobs of one request, or one action result. Together some 10 MiB.
const QUEUE_MAX: usize = 20_000;
/// Blobs that are asked for and sent in one go.
const AT_ONCE: usize = 1_000;
/// Bytes of blobs in memory at a time; what alone is larger goes through a file.
const MEMORY_BYTES_MAX: u64 = 16 << 20;

/// The queue.
#[derive(Debug)]
pub(super) struct Sender {
    line: Arc<Line>,
    queue: SyncSender<Write>,
}

enum Write {
    Blobs(Domain, Vec<Key>),
    Action(Domain, Key, Bytes),
}

impl Sender {
    /// Starts the thread. It ends when the sender is dropped and the queue is empty or the line is closed.
    pub(super) fn start(line: Arc<Line>, blobs: Blobs) -> io::Result<Sender> {
        let (queue, writes) = sync_channel(QUEUE_MAX);
        let sender = Sender { line: line.clone(), queue };
        std::thread::Builder::new().name("cache upstream".into()).spawn(move || send_all(&line, &blobs, &writes))?;
        Ok(sender)
    }

    pub(super) fn blobs(&self, domain: &Domain, keys: Vec<Key>) {
        self.queue(Write::Blobs(domain.clone(), keys));
    }

    pub(super) fn action(&self, domain: &Domain, action: Key, result: Bytes) {
        self.queue(Write::Action(domain.clone(), action, result));
    }

    fn queue(&self, write: Write) {
        // Counted before: the thread may be done with it at once.
        count(&self.line.counters.queued, 1);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(write) {
            self.line.counters.queued.fetch_sub(1, Ordering::Relaxed);
            count(&self.line.counters.not_queued, 1);
            self.line.complain("more is written here than it takes; some of it is not sent");
        }
    }
}

fn send_all(line: &Line, blobs: &Blobs, writes: &Receiver<Write>) {
    for write in writes {
        let sent = match write {
            Write::Blobs(domain, keys) => send_blobs(line, blobs, &domain, &keys),
            Write::Action(domain, action, result) => send_action(line, blobs, &domain, &action, &result),
        };
        if let Err(trouble) = sent {
            count(&line.counters.not_sent, 1);
            line.complain(&trouble);
        }
        line.counters.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

fn send_action(line: &Line, blobs: &Blobs, domain: &Domain, action: &Key, result: &Bytes) -> Result<(), String> {
    let decoded = api::ActionResult::decode(result.clone()).map_err(|error| error.to_string())?;
    let needs = actions::needs(blobs, Function::Sha256, &decoded).map_err(|status| status.message().to_owned())?;
    send_blobs(line, blobs, domain, &needs)?;
    line.remote(domain).set_action(&digest_of(action), result).map_err(|error| error.to_string())?;
    count(&line.counters.actions_sent, 1);
    Ok(())
}

fn send_blobs(line: &Line, blobs: &Blobs, domain: &Domain, keys: &[Key]) -> Result<(), String> {
    let remote = line.remote(domain);
    let digests: Vec<model::Digest> =
        keys.iter().filter(|key| key.function == Function::Sha256).map(digest_of).collect();
    for part in digests.chunks(AT_ONCE) {
        let missing = remote.missing(part).map_err(|error| error.to_string())?;
        for few in in_memory(&missing) {
            let ready = few.iter().map(|digest| open(line, blobs, *digest)).collect::<Result<Vec<_>, _>>()?;
            let sent = remote.upload(&ready);
            for blob in &ready {
                if let Content::File(path) = &blob.content {
                    let _ = std::fs::remove_file(path);
                }
            }
            count(&line.counters.blobs_sent, sent.map_err(|error| error.to_string())?.blobs);
        }
    }
    Ok(())
}

/// Groups that fit into memory, or of one blob that does not.
fn in_memory(digests: &[model::Digest]) -> Vec<&[model::Digest]> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (at, digest) in digests.iter().enumerate() {
        if at > start && bytes.saturating_add(digest.size) > MEMORY_BYTES_MAX {
            groups.push(&digests[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(digest.size);
    }
    groups.extend((start < digests.len()).then(|| &digests[start..]));
    groups
}

fn open(line: &Line, blobs: &Blobs, digest: model::Digest) -> Result<Blob, String> {
    let key = Key::from(digest);
    if digest.size <= MEMORY_BYTES_MAX {
        let bytes = blobs.get(&key, MEMORY_BYTES_MAX as usize).map_err(|error| error.to_string())?;
        return Ok(Blob { digest, content: Content::Bytes(bytes) });
    }
    let path = line.spool.join(format!("up-{}", key.hex()));
    let copied = blobs.reader(&key, 0, None).map_err(|error| error.to_string()).and_then(|parts| {
        let mut file = std::fs::File::create(&path).map_err(|error| error.to_string())?;
        for part in parts {
            let part = part.map_err(|error| error.to_string())?;
            io::Write::write_all(&mut file, &part).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    copied.map(|()| Blob { digest, content: Content::File(path.clone()) }).inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fit_into_memory_and_lose_nothing() {
        let digests: Vec<model::Digest> = [1, MEMORY_BYTES_MAX, 3, 4, MEMORY_BYTES_MAX + 1, 5]
            .into_iter()
            .map(|size| model::Digest { hash: [0; 32], size })
            .collect();
        let groups: Vec<Vec<u64>> =
            in_memory(&digests).into_iter().map(|group| group.iter().map(|digest| digest.size).collect()).collect();
        let max = MEMORY_BYTES_MAX;
        assert_eq!(groups, [vec![1], vec![max], vec![3, 4], vec![max + 1], vec![5]]);
        assert!(in_memory(&[]).is_empty());
    }
}
