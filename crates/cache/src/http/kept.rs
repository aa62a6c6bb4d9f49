//! What HTTP clients store under names of their own: an entry with a few notes, and a body in it or in blobs.

use std::sync::Arc;

use blobs::{Entry, EntryId, Function, Key};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::receive::Stored;
use super::refusal::Refusal;
use super::send::Content;
use crate::Service;
use crate::access::Access;
use crate::service::{blocking, now};

/// What a client wants to get back with a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// Turborepo: its signature of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// Turborepo: how long the work took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<String>,
}

/// What was found under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) notes: Notes,
    pub(crate) content: Content,
    /// Seconds since 1970-01-01 UTC.
    pub(crate) written: u64,
}

/// A kind of names, and the name.
#[derive(Clone, Debug)]
pub(crate) struct Name<'a> {
    pub(crate) kind: &'static str,
    /// Any text; entries are named by its hash.
    pub(crate) name: &'a str,
}

impl Name<'_> {
    fn hash(&self) -> [u8; 32] {
        Function::Sha256.key_of(self.name.as_bytes()).hash
    }
}

/// The newest body under a name that is whole, in the caller's domain or below it.
pub(crate) async fn look_up(service: &Arc<Service>, access: &Access, name: &Name<'_>) -> Option<Kept> {
    let (blobs, ids) = (service.blobs.clone(), access.domain.look_up(name.kind, name.hash()));
    blocking(move || ids.iter().find_map(|id| blobs.entry(id)).as_ref().and_then(read)).await
}

/// An entry under its own id, when it is whole.
pub(crate) async fn read_entry(service: &Arc<Service>, id: EntryId) -> Option<Kept> {
    let blobs = service.blobs.clone();
    blocking(move || blobs.entry(&id).as_ref().and_then(read)).await
}

/// Stores a body under a name.
pub(crate) async fn keep(
    service: &Arc<Service>,
    access: &Access,
    name: &Name<'_>,
    notes: &Notes,
    stored: Stored,
) -> Result<(), Refusal> {
    let id = EntryId { space: access.domain.space(name.kind), hash: name.hash() };
    let (inline, needs) = match stored {
        Stored::Inline(bytes) => (bytes, Vec::new()),
        Stored::Blob(key) => (Bytes::new(), vec![key]),
    };
    write_entry(service, access, id, notes, &inline, needs).await
}

/// Stores a body under an entry's id: bytes, or blobs one after another.
pub(crate) async fn write_entry(
    service: &Arc<Service>,
    access: &Access,
    id: EntryId,
    notes: &Notes,
    inline: &[u8],
    needs: Vec<Key>,
) -> Result<(), Refusal> {
    let mut value = serde_json::to_vec(notes).unwrap_or_default();
    value.push(b'\n');
    value.extend_from_slice(inline);
    let entry = Entry { value: value.into(), needs, writer: access.writer.clone(), written: now() };
    let blobs = service.blobs.clone();
    Ok(blocking(move || blobs.set_entry(&id, entry)).await?)
}

/// Forgets what stands under a name in the caller's own domain; whether there was something.
pub(crate) async fn forget(service: &Arc<Service>, access: &Access, name: &Name<'_>) -> Result<bool, Refusal> {
    let id = EntryId { space: access.domain.space(name.kind), hash: name.hash() };
    let blobs = service.blobs.clone();
    Ok(blocking(move || {
        let was = blobs.entry(&id).is_some();
        blobs.remove_entry(&id).map(|()| was)
    })
    .await?)
}

fn read(entry: &Entry) -> Option<Kept> {
    let end = entry.value.iter().position(|byte| *byte == b'\n')?;
    let notes = serde_json::from_slice(&entry.value[..end]).ok()?;
    let content = match entry.needs.is_empty() {
        true => Content::Inline(entry.value.slice(end + 1..)),
        false => Content::Blobs(entry.needs.clone()),
    };
    Some(Kept { notes, content, written: entry.written })
}
