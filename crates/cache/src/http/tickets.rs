//! URLs that let in whoever knows them: one upload or download each, for some hours, and gone after a restart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blobs::Key;
use bytes::Bytes;
use http::StatusCode;

use super::refusal::Refusal;
use super::send::Content;
use crate::access::Access;

/// How long one is good for, in seconds: GitHub's own steps may take six hours.
const SECONDS: u64 = 6 * 3600;
/// Tickets at a time; the oldest go.
const TICKETS_MAX: usize = 10_000;
/// Blocks of one upload; Azure has the same bound.
const BLOCKS_MAX: usize = 50_000;
/// Blocks of all uploads that are under way: about 200 bytes of memory each.
const ALL_BLOCKS_MAX: usize = 200_000;
/// Length of a block's name in bytes; Azure has the same bound.
const BLOCK_NAME_BYTES_MAX: usize = 128;

/// What a URL is good for.
#[derive(Clone, Debug)]
pub(crate) enum Ticket {
    Upload(Box<Upload>),
    Download(Content),
}

/// A cache that is being uploaded.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) access: Access,
    /// Where its key will stand.
    pub(crate) space: String,
    pub(crate) key: String,
    /// It is accepted and forgotten.
    pub(crate) is_dropped: bool,
    blocks: BTreeMap<String, Key>,
    body: Option<Content>,
}

impl Upload {
    pub(crate) fn new(access: Access, space: String, key: String, is_dropped: bool) -> Upload {
        Upload { access, space, key, is_dropped, blocks: BTreeMap::new(), body: None }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tickets: HashMap<String, Ticket>,
    /// When each expires, the first first.
    order: VecDeque<(u64, String)>,
    blocks: usize,
}

impl Tickets {
    /// Makes one. Its name cannot be guessed.
    pub(crate) fn issue(&self, ticket: Ticket, now: u64) -> Result<String, Refusal> {
        let name = secret()?;
        let mut inner = self.lock();
        inner.expire(now);
        while inner.order.len() >= TICKETS_MAX {
            inner.drop_first();
        }
        inner.order.push_back((now + SECONDS, name.clone()));
        inner.tickets.insert(name.clone(), ticket);
        Ok(name)
    }

    /// What one is good for, if it is.
    pub(crate) fn look(&self, name: &str, now: u64) -> Option<Ticket> {
        let mut inner = self.lock();
        inner.expire(now);
        // Without the blocks: they may be many, and nobody who looks needs them.
        match inner.tickets.get(name)? {
            Ticket::Download(content) => Some(Ticket::Download(content.clone())),
            Ticket::Upload(upload) => {
                let Upload { access, space, key, is_dropped, .. } = &**upload;
                let upload = Upload::new(access.clone(), space.clone(), key.clone(), *is_dropped);
                Some(Ticket::Upload(Box::new(upload)))
            }
        }
    }

    /// One block of an upload came.
    pub(crate) fn add_block(&self, name: &str, block: &str, key: Key) -> Result<(), Refusal> {
        if block.is_empty() || block.len() > BLOCK_NAME_BYTES_MAX {
            return Err(Refusal::bad(format!("a block's name has 1 to {BLOCK_NAME_BYTES_MAX} bytes")));
        }
        let mut inner = self.lock();
        if inner.blocks >= ALL_BLOCKS_MAX {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many blocks are under way; try again later",
            ));
        }
        let blocks = &mut inner.upload(name)?.blocks;
        if blocks.len() >= BLOCKS_MAX {
            return Err(Refusal::bad(format!("an upload has at most {BLOCKS_MAX} blocks")));
        }
        if blocks.insert(block.into(), key).is_none() {
            inner.blocks += 1;
        }
        Ok(())
    }

    /// The blocks of an upload, in this order, are its body.
    pub(crate) fn set_blocks(&self, name: &str, list: &[String]) -> Result<(), Refusal> {
        if list.len() > BLOCKS_MAX {
            return Err(Refusal::bad(format!("an upload has at most {BLOCKS_MAX} blocks")));
        }
        let mut inner = self.lock();
        let upload = inner.upload(name)?;
        let key = |block: &String| {
            let key = upload.blocks.get(block).copied();
            key.ok_or_else(|| Refusal::bad(format!("block `{block}` is in the list, but was not uploaded")))
        };
        upload.body = Some(Content::Blobs(list.iter().map(key).collect::<Result<_, _>>()?));
        Ok(())
    }

    /// The body of an upload came, all at once.
    pub(crate) fn set_body(&self, name: &str, body: Content) -> Result<(), Refusal> {
        self.lock().upload(name)?.body = Some(body);
        Ok(())
    }

    /// Ends the newest upload of a key whose body came, and gives what came.
    pub(crate) fn finish(&self, space: &str, key: &str) -> Option<(String, Content)> {
        let mut inner = self.lock();
        let is_it = |name: &String| match inner.tickets.get(name) {
            Some(Ticket::Upload(upload)) => upload.space == space && upload.key == key && upload.body.is_some(),
            _ => false,
        };
        let at = inner.order.iter().rposition(|(_, name)| is_it(name))?;
        let (_, name) = inner.order.remove(at)?;
        match inner.forget(&name) {
            Some(Ticket::Upload(upload)) => upload.body.map(|body| (name, body)),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn upload(&mut self, name: &str) -> Result<&mut Upload, Refusal> {
        match self.tickets.get_mut(name) {
            Some(Ticket::Upload(upload)) => Ok(upload),
            _ => Err(Refusal::missing("the upload is over, or its time is")),
        }
    }
    fn expire(&mut self, now: u64) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_first();
        }
    }
    fn drop_first(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.forget(&name);
        }
    }
    fn forget(&mut self, name: &str) -> Option<Ticket> {
        let ticket = self.tickets.remove(name);
        if let Some(Ticket::Upload(upload)) = &ticket {
            self.blocks -= upload.blocks.len();
        }
        ticket
    }
}

/// The body of an upload as it is kept with its entry.
pub(crate) fn parts(content: Content) -> (Bytes, Vec<Key>) {
    match content {
        Content::Inline(bytes) => (bytes, Vec::new()),
        Content::Blobs(keys) => (Bytes::new(), keys),
    }
}

/// 256 bits of chance as 64 hexadecimal digits.
fn secret() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    let failed = |error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read /dev/urandom: {error}"));
    read.map_err(failed)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use blobs::Function;

    use super::*;
    use crate::access::{Domain, Rights};

    fn upload() -> Ticket {
        let domain = Domain::parse("main");
        let access = Access { domain, rights: Rights::Write, writer: "ci".into(), drop_denied: false };
        Ticket::Upload(Box::new(Upload::new(access, "space".into(), "key".into(), false)))
    }

    #[test]
    fn an_upload_is_the_blocks_of_its_list_in_order_and_ends_once() {
        let tickets = Tickets::default();
        let name = tickets.issue(upload(), 0).unwrap();
        let [a, b] = [b"a", b"b"].map(|bytes| Function::Sha256.key_of(bytes));
        tickets.add_block(&name, "x", a).unwrap();
        tickets.add_block(&name, "y", b).unwrap();
        assert!(tickets.finish("space", "key").is_none(), "not before the list");
        assert!(tickets.set_blocks(&name, &["z".into()]).is_err());
        tickets.set_blocks(&name, &["y".into(), "x".into(), "y".into()]).unwrap();
        let (_, body) = tickets.finish("space", "key").unwrap();
        assert_eq!(body, Content::Blobs(vec![b, a, b]));
        assert!(tickets.finish("space", "key").is_none());
        assert_eq!(tickets.lock().blocks, 0);
    }

    #[test]
    fn tickets_expire_and_are_bounded() {
        let tickets = Tickets::default();
        let first = tickets.issue(upload(), 0).unwrap();
        let second = tickets.issue(upload(), 10).unwrap();
        assert!(tickets.look(&first, SECONDS - 1).is_some());
        assert!(tickets.look(&first, SECONDS).is_none());
        assert!(tickets.look(&second, SECONDS).is_some());
        for _ in 0..TICKETS_MAX {
            tickets.issue(upload(), SECONDS).unwrap();
        }
        assert!(tickets.look(&second, SECONDS).is_none());
        assert_eq!(tickets.lock().tickets.len(), TICKETS_MAX);
    }
}
