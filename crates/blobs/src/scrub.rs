//! The scrub: reads everything again, and believes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, Place, cannot};
use crate::index::{Found, Loc};
use crate::log::{Draft, Rule};
use crate::read::{content, decode_list};
use crate::record::{HEADER_BYTES, Header, Kind, array};
use crate::segment::{Segment, Step};
use crate::tag::{Tag, TagState};
use crate::{Error, Function, Key, Verified};

impl Disk {
    pub(crate) fn verify(&self, mut seen: impl FnMut(u64, u64)) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        let mut damaged = HashMap::default();
        let mut segments: Vec<Arc<Segment>> = self.segments().values().cloned().collect();
        segments.sort_unstable_by_key(|segment| segment.id);
        let total = segments.iter().map(|segment| segment.len()).sum();
        let mut done = 0;
        for segment in &segments {
            let whole = self.verify_segment(segment, &mut verified, &mut damaged, |at| seen(done + at, total))?;
            if !whole {
                self.find_damaged(segment, &mut verified, &mut damaged)?;
            }
            done += segment.len();
        }
        seen(done, total);
        self.heal(&segments, &mut damaged)?;
        verified.damaged = damaged.into_values().collect();
        verified.damaged.sort_unstable();
        self.drop_incomplete(&mut verified)?;
        let last = self.log().next_seq - 1;
        self.wait(last)?;
        Ok(verified)
    }

    /// `false` when a part of it is not a record that is right.
    fn verify_segment(
        &self,
        segment: &Arc<Segment>,
        verified: &mut Verified,
        damaged: &mut Damaged,
        mut at: impl FnMut(u64),
    ) -> Result<bool, Error> {
        let failed = cannot("read a segment in", &self.dir);
        let mut scan = segment.scan(0, segment.len());
        let (mut whole, mut told) = (true, 0);
        while let Some(step) = scan.next().map_err(&failed)? {
            let (offset, header, record) = match step {
                Step::Record { offset, header, bytes } => (offset, header, bytes),
                Step::Damaged { offset } => {
                    whole = false;
                    scan.resume(offset).map_err(&failed)?;
                    continue;
                }
            };
            if offset >= told {
                at(offset);
                told = offset + (1 << 20);
            }
            let Some(tag) = Tag::of_record(&header, &record[HEADER_BYTES..]) else { continue };
            let newest = self.index.find(tag).map_err(self.cannot_use_index())?.found;
            let here = |found: &Found| (found.loc.segment, u64::from(found.loc.offset)) == (segment.id, offset);
            let Some(place) = self.place(&self.segments(), newest.filter(here)) else { continue };
            match header.kind {
                Kind::Entry => verified.entries += 1,
                _ => {
                    verified.blobs += 1;
                    verified.bytes += u64::from(header.stored_len);
                    if !is_right(&header, record) {
                        self.damaged(&place, &header.key());
                        damaged.insert(tag, header.key());
                    }
                }
            }
        }
        Ok(whole)
    }

    /// Asks the index what else should be in a segment: a header that is damaged does not say what it was.
    fn find_damaged(&self, segment: &Segment, verified: &mut Verified, damaged: &mut Damaged) -> Result<(), Error> {
        let mut there: Vec<(Tag, Loc)> = Vec::new();
        let scanned = self.index.scan(|tag, loc| there.extend((loc.segment == segment.id).then_some((tag, loc))));
        scanned.map_err(self.cannot_use_index())?;
        for (tag, loc) in there {
            let Some(place) = self.find(tag)?.filter(|place| place.loc == loc) else { continue };
            if self.read(&place)?.is_some() {
                continue;
            }
            if loc.kind == Kind::Entry {
                self.load_entry(&place, tag)?;
                verified.entries_dropped += 1;
            } else {
                let key = self.key_of(&place, tag)?;
                self.damaged(&place, &key);
                // Its own tag: what is left of its key may not be right.
                self.bury(tag, &place)?;
                verified.blobs += 1;
                damaged.insert(tag, key);
            }
        }
        Ok(())
    }

    /// The key of a damaged record, as far as it is known.
    fn key_of(&self, place: &Place, tag: Tag) -> Result<Key, Error> {
        let record = place.segment.read(place.loc.offset, 0).map_err(cannot("read a segment in", &self.dir))?;
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&tag.bytes());
        let written: [u8; 32] = record.get(8..40).map_or(hash, array);
        let key = |function| Key { function, hash: written, size: place.loc.size };
        let right = Function::ALL.into_iter().map(key).find(|key| Tag::of(key) == tag);
        Ok(right.unwrap_or(Key { function: Function::Sha256, hash, size: place.loc.size }))
    }

    /// Looks for another record of what is damaged, and makes that the newest.
    fn heal(&self, segments: &[Arc<Segment>], damaged: &mut Damaged) -> Result<(), Error> {
        let failed = cannot("read a segment in", &self.dir);
        for segment in segments.iter().rev() {
            if damaged.is_empty() {
                return Ok(());
            }
            let mut scan = segment.scan(0, segment.len());
            while let Some(step) = scan.next().map_err(&failed)? {
                let (header, record) = match step {
                    Step::Record { header, bytes, .. } => (header, bytes),
                    Step::Damaged { offset } => {
                        scan.resume(offset).map_err(&failed)?;
                        continue;
                    }
                };
                let blob = matches!(header.kind, Kind::Blob | Kind::List);
                let tag = Tag::of(&header.key());
                if blob && damaged.contains_key(&tag) && is_right(&header, record) {
                    let body = Bytes::copy_from_slice(&record[HEADER_BYTES..]);
                    let seen = self.index.find(tag).map_err(self.cannot_use_index())?;
                    self.append(&[Draft::new(tag, header, body, Rule::IfAbsent, seen)])?;
                    damaged.remove(&tag);
                }
            }
        }
        Ok(())
    }

    fn drop_incomplete(&self, verified: &mut Verified) -> Result<(), Error> {
        let (mut incomplete, mut failed) = (Vec::new(), None);
        self.entries("", |id, entry| match self.all_there(&entry.needs) {
            Ok(true) => {}
            Ok(false) => incomplete.push(id.clone()),
            Err(err) => failed = Some(err),
        })?;
        if let Some(err) = failed {
            return Err(err);
        }
        for id in &incomplete {
            self.remove_entry(id)?;
        }
        verified.entries_dropped += incomplete.len() as u64;
        Ok(())
    }

    /// Whether all keys are there, without asking for them: a scrub is not a reason to keep anything.
    fn all_there(&self, keys: &[Key]) -> Result<bool, Error> {
        for key in keys.iter().filter(|key| !key.is_empty_blob()) {
            let Some(place) = self.find(Tag::of(key))?.filter(|place| place.loc.size == key.size) else {
                return Ok(false);
            };
            let there = match place.loc.kind {
                Kind::List => match self.chunk_list(&place, key) {
                    Ok(chunks) => self.locate(&chunks)?.is_some(),
                    Err(_) => false,
                },
                kind => kind == Kind::Blob,
            };
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

type Damaged = HashMap<Tag, Key, TagState>;

/// Whether a record whose checksum is right holds what its key says.
fn is_right(header: &Header, record: &[u8]) -> bool {
    match header.kind {
        Kind::Blob => {
            content(header, record.to_vec()).is_some_and(|bytes| header.function.key_of(&bytes) == header.key())
        }
        // Its chunks are looked at one by one.
        Kind::List => decode_list(header.function, &record[HEADER_BYTES..])
            .is_some_and(|chunks| chunks.iter().map(|chunk| chunk.size).sum::<u64>() == header.size),
        Kind::Entry | Kind::Tombstone => true,
    }
}
