//! Uploads that broke off, kept for a while so that they can go on where they stopped.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blobs::Writer;

use super::names::Upload;

/// Broken uploads in all: each holds an open file.
const KEPT_MAX: usize = 128;
/// Broken uploads of one token, so that nobody pushes out those of the others.
const KEPT_PER_UPLOADER_MAX: usize = 32;
/// Their bytes in all.
const KEPT_BYTES_MAX: u64 = 16 << 30;
/// How long a client may take to come back.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);

/// Uploads that broke off.
#[derive(Default)]
pub(crate) struct Uploads {
    /// Oldest first. A list, because there are few.
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    uploader: String,
    upload: Upload,
    writer: Writer,
    since: Instant,
}

impl Uploads {
    /// Keeps what came of an upload; instead of what came of it before.
    pub(crate) fn keep(&self, uploader: &str, upload: Upload, writer: Writer, now: Instant) {
        let mut gone = self.expired(now);
        let mut kept = self.lock();
        gone.extend(take(&mut kept, uploader, &upload));
        kept.push(Kept { uploader: uploader.into(), upload, writer, since: now });
        while let Some(at) = excess(&kept, uploader) {
            gone.push(kept.remove(at));
        }
        drop(kept);
        // Their files go only now, while nobody waits for the lock.
        drop(gone);
    }

    /// What came of an upload so far, for going on.
    pub(crate) fn take(&self, uploader: &str, upload: &Upload, now: Instant) -> Option<Writer> {
        drop(self.expired(now));
        take(&mut self.lock(), uploader, upload).map(|kept| kept.writer)
    }

    /// Bytes that came of an upload so far.
    pub(crate) fn written(&self, uploader: &str, upload: &Upload, now: Instant) -> Option<u64> {
        drop(self.expired(now));
        self.lock().iter().find(|kept| kept.is(uploader, upload)).map(|kept| kept.writer.written())
    }

    fn expired(&self, now: Instant) -> Vec<Kept> {
        self.lock().extract_if(.., |kept| now.saturating_duration_since(kept.since) > KEPT_FOR).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is(&self, uploader: &str, upload: &Upload) -> bool {
        self.uploader == uploader && self.upload == *upload
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uploads({} kept)", self.lock().len())
    }
}

fn take(kept: &mut Vec<Kept>, uploader: &str, upload: &Upload) -> Option<Kept> {
    kept.iter().position(|kept| kept.is(uploader, upload)).map(|at| kept.remove(at))
}

/// Which one has to go: the oldest of an uploader that has too many, else the oldest of all.
fn excess(kept: &[Kept], uploader: &str) -> Option<usize> {
    let of_uploader = kept.iter().filter(|kept| kept.uploader == uploader).count();
    let bytes: u64 = kept.iter().map(|kept| kept.writer.written()).sum();
    if of_uploader > KEPT_PER_UPLOADER_MAX {
        return kept.iter().position(|kept| kept.uploader == uploader);
    }
    (kept.len() > KEPT_MAX || bytes > KEPT_BYTES_MAX).then_some(0).filter(|_| !kept.is_empty())
}

#[cfg(test)]
mod tests {
    use blobs::{Blobs, Function, Key, Options};

    use super::*;
    use crate::grpc::names::Resource;

    fn upload(number: usize) -> Upload {
        let key: Key = Function::Sha256.key_of(b"four");
        Upload { resource: Resource { instance: String::new(), zstd: false, key }, id: number.to_string() }
    }

    #[test]
    fn broken_uploads_are_bounded_in_number_and_age_and_belong_to_their_uploader() {
        let dir = tempfile::tempdir().expect("dir");
        let blobs = Blobs::open(dir.path(), Options::default()).expect("store");
        let (uploads, start) = (Uploads::default(), Instant::now());
        let keep = |uploader: &str, number| {
            let mut writer = blobs.writer(upload(number).resource.key).expect("writer");
            writer.write(b"fo").expect("written");
            uploads.keep(uploader, upload(number), writer, start);
        };
        keep("other", 0);
        (0..=KEPT_PER_UPLOADER_MAX).for_each(|number| keep("one", number));
        assert_eq!(uploads.written("other", &upload(0), start), Some(2), "pushed out by another uploader");
        assert_eq!(uploads.written("one", &upload(0), start), None, "the oldest goes");
        assert_eq!(uploads.written("one", &upload(1), start), Some(2));
        assert!(uploads.take("third", &upload(1), start).is_none(), "taken by another uploader");
        assert!(uploads.take("one", &upload(1), start).is_some());
        assert!(uploads.take("one", &upload(1), start).is_none(), "taken twice");
        let late = start + KEPT_FOR + Duration::from_secs(1);
        assert_eq!(uploads.written("other", &upload(0), late), None);
    }
}
