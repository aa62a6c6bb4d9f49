//! Blobs that must be in the shared cache before anybody hears of them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use model::Digest;
use remote::{Blob, Content, Error};

use super::Far;
use crate::run::lock;

/// How long a blob that was there is taken to be there: far less than servers keep what they confirmed.
const KNOWN_FOR: Duration = Duration::from_secs(10 * 60);
/// Digests that are remembered; then it begins anew.
const KNOWN_MAX: usize = 1_000_000;

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Present(Mutex<(Option<Instant>, HashSet<Digest>)>);

impl Present {
    fn unknown(&self, wanted: impl Iterator<Item = Digest>) -> Vec<Digest> {
        let mut known = lock(&self.0);
        let (since, blobs) = &mut *known;
        if since.is_none_or(|since| since.elapsed() > KNOWN_FOR) || blobs.len() > KNOWN_MAX {
            blobs.clear();
            *since = Some(Instant::now());
        }
        // The blob of no bytes is always there.
        let unknown: HashSet<Digest> = wanted.filter(|digest| digest.size > 0 && !blobs.contains(digest)).collect();
        unknown.into_iter().collect()
    }

    fn learn(&self, digests: Vec<Digest>) {
        lock(&self.0).1.extend(digests);
    }
}

impl Far {
    /// Uploads what of these is not there. Returns when all of it is.
    ///
    /// # Errors
    /// The cache does not answer or refuses, or a blob is neither there nor here.
    pub(crate) fn ensure(&self, wanted: impl Iterator<Item = Digest>) -> Result<(), Error> {
        let unknown = self.present.unknown(wanted);
        if unknown.is_empty() {
            return Ok(());
        }
        let missing = self.remote.missing(&unknown)?;
        let blob = |digest: &Digest| {
            let path = self.store.path_of(digest).ok_or(Error::Missing(*digest))?;
            Ok(Blob { digest: *digest, content: Content::File(path) })
        };
        let blobs: Vec<Blob> = missing.iter().map(blob).collect::<Result<_, Error>>()?;
        if !blobs.is_empty() {
            self.remote.upload(&blobs)?;
        }
        self.present.learn(unknown);
        Ok(())
    }
}
