//! Draws an index without the blobs it speaks of, to measure what an index of that size costs. Reading such a blob says
//! that it is damaged.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::checkpoint::sync_dir;
use crate::index::Loc;
use crate::index::run::Builder;
use crate::manifest::{Manifest, SegmentState};
use crate::policy::Queue;
use crate::record::{HEADER_BYTES, Kind};
use crate::segment::Segment;
use crate::tag::Tag;
use crate::{Function, Key};

/// Bytes of a blob.
const BLOB_BYTES: u32 = 1024;
const RECORD_BYTES: u64 = HEADER_BYTES as u64 + BLOB_BYTES as u64;
/// Records of a segment.
const SEGMENT_RECORDS: u64 = 400_000;
/// Places of the runs behind the first, as a store in use has them.
const LATER_RUNS: [u64; 4] = [1 << 20, 400_000, 90_000, 65_536];

/// The key of one blob of a drawing.
pub fn key(number: u64) -> Key {
    let hash = blake3::hash(&number.to_le_bytes());
    Key { function: Function::Blake3, hash: *hash.as_bytes(), size: u64::from(BLOB_BYTES) }
}

/// Draws a store of so many blobs in an empty folder.
///
/// # Errors
/// The file system refuses.
pub fn draw(dir: &Path, blobs: u64) -> io::Result<()> {
    let (segments_dir, index_dir) = (dir.join("segments"), dir.join("index"));
    fs::create_dir_all(&segments_dir)?;
    fs::create_dir_all(&index_dir)?;
    let mut manifest = Manifest { next_seq: blobs + 1, ..Manifest::default() };
    for first in (0..blobs).step_by(SEGMENT_RECORDS as usize) {
        let (id, records) = (manifest.next_segment, SEGMENT_RECORDS.min(blobs - first));
        let len = records * RECORD_BYTES;
        File::create(Segment::path(&segments_dir, id, Queue::Small))?.set_len(len)?;
        manifest.next_segment += 1;
        manifest.segments.push(SegmentState {
            id,
            main: false,
            sealed: true,
            len,
            records: records as u32,
            written_ms: 0,
            touched_ms: 0,
            blobs: records,
            blob_bytes: records * u64::from(BLOB_BYTES),
            entries: 0,
            dead: 0,
        });
    }
    let mut end = blobs;
    for count in LATER_RUNS.iter().rev().filter(|count| **count * 4 < blobs) {
        draw_run(&index_dir, &mut manifest, end - count..end)?;
        end -= count;
    }
    draw_run(&index_dir, &mut manifest, 0..end)?;
    sync_dir(&index_dir)?;
    manifest.write(dir)
}

fn draw_run(dir: &Path, manifest: &mut Manifest, numbers: std::ops::Range<u64>) -> io::Result<()> {
    let id = manifest.next_run;
    let mut builder = Builder::create(dir, id, numbers.end - numbers.start)?;
    let mut tags: Vec<(Tag, u64)> = numbers.map(|number| (Tag::of(&key(number)), number)).collect();
    tags.sort_unstable();
    for (tag, number) in tags {
        let ordinal = (number % SEGMENT_RECORDS) as u32;
        builder.push(
            tag,
            &Loc {
                segment: (number / SEGMENT_RECORDS) as u32,
                offset: ordinal * RECORD_BYTES as u32,
                ordinal,
                stored_len: BLOB_BYTES,
                size: u64::from(BLOB_BYTES),
                kind: Kind::Blob,
            },
        )?;
    }
    builder.finish()?;
    manifest.next_run += 1;
    manifest.runs.push(id);
    Ok(())
}
