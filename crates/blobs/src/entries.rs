//! Entries on the disk.

use bytes::Bytes;

use crate::disk::{Disk, Place};
use crate::index::Found;
use crate::log::{Draft, Rule};
use crate::record::{HEADER_BYTES, Kind};
use crate::tag::Tag;
use crate::write::header;
use crate::{Entry, EntryId, Error, Function, Key, Purged};

impl Disk {
    /// The newest entry, complete or not at all.
    pub(crate) fn entry(&self, id: &EntryId) -> Result<Option<Entry>, Error> {
        let Some(place) = self.find(Tag::of_entry(id))? else { return Ok(None) };
        let Some((found, entry)) = self.load_entry(&place, Tag::of_entry(id))? else { return Ok(None) };
        let complete = found == *id && self.touch(&place) && self.missing(&entry.needs)?.is_empty();
        Ok(complete.then_some(entry))
    }

    pub(crate) fn set_entry(&self, id: &EntryId, entry: &Entry) -> Result<(), Error> {
        self.write_entry(id, entry, Rule::Always)
    }

    pub(crate) fn write_entry(&self, id: &EntryId, entry: &Entry, rule: Rule) -> Result<(), Error> {
        entry.check(id)?;
        if let Some(at) = self.absent(&entry.needs)? {
            return Err(Error::Missing(entry.needs[at]));
        }
        let tag = Tag::of_entry(id);
        let body = Bytes::from(entry.encode(id));
        let name = Key { function: Function::Sha256, hash: id.hash, size: entry.value.len() as u64 };
        let header = header(Kind::Entry, &name, body.len());
        let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
        self.store(&[Draft::new(tag, header, body, rule, seen)], 0)
    }

    /// The first key that is not there. One that the disk does not have yet is there: the entry is written after it.
    fn absent(&self, keys: &[Key]) -> Result<Option<usize>, Error> {
        if self.missing(keys)?.is_empty() {
            return Ok(None);
        }
        let last = self.log().next_seq - 1;
        self.wait(last)?;
        Ok(self.missing(keys)?.first().copied())
    }

    pub(crate) fn remove_entry(&self, id: &EntryId) -> Result<(), Error> {
        let Some(last) = self.bury_entry(id)? else { return Ok(()) };
        self.wait(last)
    }

    fn bury_entry(&self, id: &EntryId) -> Result<Option<u64>, Error> {
        let tag = Tag::of_entry(id);
        self.find(tag)?.map(|place| self.bury(tag, &place)).transpose()
    }

    pub(crate) fn entries(&self, prefix: &str, mut show: impl FnMut(&EntryId, &Entry)) -> Result<(), Error> {
        let mut places = Vec::new();
        let scanned = self.index.scan(|tag, loc| places.extend((loc.kind == Kind::Entry).then_some((tag, loc))));
        scanned.map_err(self.cannot_use_index())?;
        // In the order of the disk; and a place that is both in memory and in a file counts once.
        places.sort_unstable_by_key(|(_, loc)| (loc.segment, loc.offset));
        places.dedup();
        for (tag, loc) in places {
            let newest = self.index.find(tag).map_err(self.cannot_use_index())?.found;
            let place = self.place(&self.segments(), newest.filter(|found: &Found| found.loc == loc));
            let entry = place.map(|place| self.load_entry(&place, tag)).transpose()?.flatten();
            if let Some((id, entry)) = entry.filter(|(id, _)| id.space.starts_with(prefix)) {
                show(&id, &entry);
            }
        }
        Ok(())
    }

    pub(crate) fn purge(&self, mut condemned: impl FnMut(&EntryId, &Entry) -> bool) -> Result<Purged, Error> {
        let mut ids = Vec::new();
        self.entries("", |id, entry| ids.extend(condemned(id, entry).then(|| id.clone())))?;
        let mut last = 0;
        for id in &ids {
            last = last.max(self.bury_entry(id)?.unwrap_or(0));
        }
        self.wait(last)?;
        Ok(Purged { entries: ids })
    }

    /// The entry of a place; a damaged one is taken out.
    pub(crate) fn load_entry(&self, place: &Place, tag: Tag) -> Result<Option<(EntryId, Entry)>, Error> {
        if place.loc.kind != Kind::Entry {
            return Ok(None);
        }
        let Some((header, record)) = self.read(place)? else {
            place.segment.slots.kill(place.loc.ordinal);
            // If it cannot be logged it is found damaged again after the next start.
            let _ = self.bury(tag, place);
            return Ok(None);
        };
        Ok(Entry::decode(header.hash, &Bytes::from(record).slice(HEADER_BYTES..)))
    }
}
