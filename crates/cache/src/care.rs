//! Looking after a store: who wrote what, and taking out what must not be there.

use blobs::{Blobs, Entry, EntryId, Error, Function};
use serde::Serialize;

use crate::access::Domain;

/// Entries that are listed one by one; of more only the number is told.
pub const LISTED_MAX: usize = 10_000;

/// An entry, and who wrote it when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// What kind of entry: `ac` is an action's result.
    pub kind: String,
    /// Where: `main`, `main/pr/17`.
    pub domain: String,
    /// What it is found by, as hexadecimal digits: an action's digest.
    pub hash: String,
    /// The name of the token, and after it `run` and the run if that was told.
    pub writer: String,
    /// When: seconds since 1970-01-01 UTC.
    pub written: u64,
    /// How many blobs it needs.
    pub needs: usize,
}

impl Written {
    fn of(id: &EntryId, entry: &Entry) -> Written {
        let (kind, domain) = match Domain::of_space(&id.space) {
            Some((kind, domain)) => (kind.to_owned(), domain.to_string()),
            None => (id.space.clone(), String::new()),
        };
        let hash = model::Digest { hash: id.hash, size: 0 }.hex();
        Written { kind, domain, hash, writer: entry.writer.clone(), written: entry.written, needs: entry.needs.len() }
    }
}

/// Entries, the first [`LISTED_MAX`] one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The first ones, by domain and hash.
    pub entries: Vec<Written>,
    /// All of them.
    pub count: usize,
    /// Blobs that go with them, as `hash/size`.
    pub blobs: Vec<String>,
}

impl Found {
    fn add(&mut self, id: &EntryId, entry: &Entry) {
        self.count += 1;
        if self.entries.len() < LISTED_MAX {
            self.entries.push(Written::of(id, entry));
        }
    }
    fn sorted(mut self) -> Found {
        self.entries.sort_by(|a, b| (&a.domain, &a.kind, &a.hash).cmp(&(&b.domain, &b.kind, &b.hash)));
        self
    }
}

/// Who wrote the entries of a hash, in those domains that `visible` says yes to. Reads all entries.
///
/// # Errors
/// The file system refuses.
pub fn who(blobs: &Blobs, hash: [u8; 32], visible: impl Fn(&Domain) -> bool) -> Result<Found, Error> {
    let mut found = Found::default();
    blobs.entries("", |id, entry| {
        let is_visible = || Domain::of_space(&id.space).is_some_and(|(_, domain)| visible(&domain));
        if id.hash == hash && is_visible() {
            found.add(id, entry);
        }
    })?;
    Ok(found.sorted())
}

/// What must not be in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condemned {
    /// Every entry of a writer: a token's name, and with ` run …` after it one run.
    Writer(String),
    /// Content, with every entry that needs it; and the entries that are found by this hash.
    Digest {
        /// The hash.
        hash: [u8; 32],
        /// Length of the content in bytes; any when left out.
        size: Option<u64>,
    },
}

impl Condemned {
    /// Reads `--digest`: `HASH` or `HASH/SIZE`, as clients print digests.
    ///
    /// # Errors
    /// It is neither.
    pub fn digest(text: &str) -> Result<Condemned, String> {
        let (hex, size) = match text.split_once('/') {
            Some((hex, size)) => (hex, Some(size.parse().map_err(|_| format!("`{size}` is no number of bytes"))?)),
            None => (text, None),
        };
        match model::Digest::from_hex(hex, 0) {
            Some(digest) => Ok(Condemned::Digest { hash: digest.hash, size }),
            None => {
                Err(format!("`{}` is no digest: write 64 hexadecimal digits, or those and `/SIZE`", hex.escape_debug()))
            }
        }
    }

    fn concerns(&self, id: &EntryId, entry: &Entry) -> bool {
        match self {
            Condemned::Writer(writer) => {
                entry.writer == *writer || entry.writer.strip_prefix(writer).is_some_and(|rest| rest.starts_with(' '))
            }
            Condemned::Digest { hash, .. } => id.hash == *hash || entry.needs.iter().any(|key| key.hash == *hash),
        }
    }
}

/// Takes out what is condemned, or only says what would go.
///
/// # Errors
/// The file system refuses.
pub fn purge(blobs: &Blobs, condemned: &Condemned, only_say: bool) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut content = std::collections::BTreeSet::new();
    if let Condemned::Digest { hash, size } = condemned {
        let stored = Function::ALL.into_iter().filter_map(|function| blobs.find(function, *hash));
        content.extend(stored.filter(|key| size.is_none_or(|size| size == key.size)));
    }
    let mut judge = |id: &EntryId, entry: &Entry| {
        let goes = condemned.concerns(id, entry);
        if goes {
            found.add(id, entry);
            if let Condemned::Digest { hash, .. } = condemned {
                content.extend(entry.needs.iter().filter(|key| key.hash == *hash).copied());
            }
        }
        goes
    };
    match only_say {
        true => blobs.entries("", |id, entry| {
            judge(id, entry);
        })?,
        false => {
            blobs.purge(judge)?;
        }
    }
    for key in &content {
        if !only_say {
            blobs.remove(key)?;
        }
        found.blobs.push(key.to_string());
    }
    Ok(found.sorted())
}

#[cfg(test)]
mod tests {
    use blobs::Key;
    use bytes::Bytes;

    use super::*;

    fn store() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path(), blobs::Options::default()).unwrap();
        (folder, blobs)
    }

    fn write(blobs: &Blobs, domain: &str, hash: u8, writer: &str, needs: &[Key]) -> EntryId {
        let id = EntryId { space: Domain::parse(domain).space("ac"), hash: [hash; 32] };
        let entry = Entry { value: Bytes::from("v"), needs: needs.to_vec(), writer: writer.into(), written: 5 };
        blobs.set_entry(&id, entry).unwrap();
        id
    }

    fn blob(blobs: &Blobs, text: &'static str) -> Key {
        let key = Function::Sha256.key_of(text.as_bytes());
        blobs.put_many(&[(key, text.into())]).pop().unwrap().unwrap();
        key
    }

    #[test]
    fn what_a_writer_wrote_goes_and_what_others_wrote_stays() {
        let (_folder, blobs) = store();
        let gone = [write(&blobs, "main", 1, "bad", &[]), write(&blobs, "main/pr/3", 2, "bad run 9", &[])];
        let stays = [write(&blobs, "main", 3, "badger", &[]), write(&blobs, "main", 4, "good", &[])];
        let condemned = Condemned::Writer("bad".into());
        let said = purge(&blobs, &condemned, true).unwrap();
        assert!(gone.iter().all(|id| blobs.entry(id).is_some()), "a rehearsal took something out");
        assert_eq!(purge(&blobs, &condemned, false).unwrap(), said);
        let writers: Vec<&str> = said.entries.iter().map(|entry| entry.writer.as_str()).collect();
        assert_eq!((said.count, writers), (2, vec!["bad", "bad run 9"]));
        assert!(gone.iter().all(|id| blobs.entry(id).is_none()));
        assert!(stays.iter().all(|id| blobs.entry(id).is_some()));
    }

    #[test]
    fn a_run_goes_alone() {
        let (_folder, blobs) = store();
        let (nine, ten) = (write(&blobs, "main", 1, "ci run 9", &[]), write(&blobs, "main", 2, "ci run 10", &[]));
        purge(&blobs, &Condemned::Writer("ci run 9".into()), false).unwrap();
        assert!(blobs.entry(&nine).is_none() && blobs.entry(&ten).is_some());
    }

    #[test]
    fn condemned_content_goes_with_what_needs_it() {
        let (_folder, blobs) = store();
        let (bad, good) = (blob(&blobs, "bad"), blob(&blobs, "good"));
        let needs_bad = write(&blobs, "main", 1, "w", &[bad, good]);
        let needs_good = write(&blobs, "main", 2, "w", &[good]);
        let condemned = Condemned::digest(&bad.hex()).unwrap();
        assert_eq!(purge(&blobs, &condemned, false).unwrap().blobs, [bad.to_string()]);
        assert!(blobs.entry(&needs_bad).is_none() && blobs.entry(&needs_good).is_some());
        assert_eq!(blobs.missing(&[bad, good]), [0]);
        let alone = blob(&blobs, "alone");
        purge(&blobs, &Condemned::digest(&alone.to_string()).unwrap(), false).unwrap();
        assert_eq!(blobs.missing(&[alone]), [0]);
    }

    #[test]
    fn who_wrote_an_entry_is_told_where_the_asker_may_look() {
        let (_folder, blobs) = store();
        write(&blobs, "main", 1, "ci run 9", &[]);
        write(&blobs, "secret", 1, "other", &[]);
        let found = who(&blobs, [1; 32], |domain| domain.instance == "main").unwrap();
        assert_eq!(found.count, 1);
        assert_eq!((found.entries[0].writer.as_str(), found.entries[0].written), ("ci run 9", 5));
    }

    #[test]
    fn digests_read_as_clients_print_them() {
        assert!(Condemned::digest(&"a".repeat(64)).is_ok());
        assert!(Condemned::digest(&format!("{}/12", "a".repeat(64))).is_ok());
        for text in ["", "abc", "A", &format!("{}/x", "a".repeat(64))] {
            assert!(Condemned::digest(text).is_err(), "{text}");
        }
    }
}
