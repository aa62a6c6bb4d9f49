//! `pace cache`: sizes, clean-up and verification of the local cache, and of caches that are served.

use std::path::Path;
use std::time::{Duration, SystemTime};

use cas::gc;
use image::Images;
use model::Bytes;
use model::units::{parse_bytes, parse_duration};

use crate::cli::{CacheArgs, CacheCommand, Output};
use crate::exit::{Ended, Exit, Failure};
use crate::folders::Folders;
use crate::history::cannot;
use crate::screen::Screen;

mod far;
mod served;
mod token;

use served::Served;

/// What the cache of this user keeps at most when nobody says otherwise.
const MAX_SIZE: &str = "20GiB";
/// How long it keeps what nobody uses.
const MAX_AGE: &str = "30d";

/// One of its commands.
pub fn run(args: &CacheArgs, screen: &mut Screen) -> Ended {
    let root = Folders::find()?.cache;
    std::fs::create_dir_all(&root).map_err(|error| cannot("make", &root, &error))?;
    if let Some(ended) = of_served(&args.what, &root, screen)? {
        return Ok(ended);
    }
    match &args.what {
        CacheCommand::Serve(args) => return super::serve::run(args, &root, screen),
        CacheCommand::Token { what } => return token::run(what, screen),
        CacheCommand::Path => screen.text(&root.display().to_string()),
        CacheCommand::Purge { .. } | CacheCommand::Who { .. } => {
            return Err(Failure::usage("nobody said which cache: the one of this user knows no writers")
                .help("name a served one with --data, --served or --url"));
        }
        CacheCommand::Stats(_) => {
            let stats = gc::stats(&root).map_err(Failure::infrastructure)?;
            let images = images(&root)?.usage();
            show(
                screen,
                &[
                    ("blobs", stats.blobs),
                    ("blob_bytes", stats.blob_bytes),
                    ("actions", stats.actions),
                    ("named_caches", stats.named),
                    ("named_bytes", stats.named_bytes),
                    ("image_layers", images.layers),
                    ("image_bytes", images.layer_bytes + images.partial_bytes),
                    ("scratch_bytes", stats.scratch_bytes),
                    ("damaged", stats.damaged),
                ],
            );
        }
        CacheCommand::Gc { max_size, max_age, dry_run, .. } => {
            let bytes_max = size(max_size.as_deref().unwrap_or(MAX_SIZE))?;
            let age_max = Some(time(max_age.as_deref().unwrap_or(MAX_AGE))?);
            // Images first, with half of the room: so neither side can push out all of the other, and both fit together.
            let now = SystemTime::now();
            let keep = image::Keep { bytes_max: Some(bytes_max / 2), age_max };
            let layers = images(&root)?.gc(keep, now, *dry_run).map_err(Failure::infrastructure)?;
            let keep = gc::Keep { bytes_max: Some(bytes_max.saturating_sub(layers.bytes_left)), age_max };
            let report = gc::gc(&root, keep, now, *dry_run).map_err(Failure::infrastructure)?;
            show(
                screen,
                &[
                    (if *dry_run { "would_free_bytes" } else { "freed_bytes" }, report.bytes + layers.bytes),
                    ("blobs", report.blobs),
                    ("actions", report.actions),
                    ("named_caches", report.named),
                    ("image_layers", layers.layers),
                    ("scratch", report.scratch),
                    ("pinned", report.pinned + layers.pinned),
                    ("left_bytes", report.bytes_left + layers.bytes_left),
                ],
            );
        }
        CacheCommand::Verify(_) => {
            let verified = gc::verify(&root).map_err(Failure::infrastructure)?;
            let damaged = verified.damaged.len() as u64;
            show(
                screen,
                &[
                    ("blobs", verified.blobs),
                    ("bytes", verified.bytes),
                    ("damaged_blobs", damaged),
                    ("damaged_records", verified.records),
                ],
            );
            if damaged + verified.records > 0 {
                screen.warning("what was damaged is gone from the cache; it will be made again when it is needed");
            }
        }
    }
    Ok(Exit::Green)
}

/// Does it to a served cache, if one is named.
fn of_served(what: &CacheCommand, root: &Path, screen: &mut Screen) -> Result<Option<Exit>, Failure> {
    let (CacheCommand::Stats(store)
    | CacheCommand::Gc { store, .. }
    | CacheCommand::Verify(store)
    | CacheCommand::Purge { store, .. }
    | CacheCommand::Who { store, .. }) = what
    else {
        return Ok(None);
    };
    let Some(served) = Served::of(store, root)? else { return Ok(None) };
    let ended = match what {
        CacheCommand::Stats(_) => served.stats(screen),
        CacheCommand::Gc { max_size, max_age, .. } => {
            let bytes_max = max_size.as_deref().map(size).transpose()?;
            served.gc(bytes_max, max_age.as_deref().map(time).transpose()?, screen)
        }
        CacheCommand::Verify(_) => served.verify(screen),
        CacheCommand::Purge { writer, digest, dry_run, .. } => {
            served.purge(writer.as_deref(), digest.as_deref(), *dry_run, screen)
        }
        CacheCommand::Who { digest, .. } => served.who(digest, screen),
        CacheCommand::Path | CacheCommand::Token { .. } | CacheCommand::Serve(_) => return Ok(None),
    };
    ended.map(Some)
}

fn size(text: &str) -> Result<u64, Failure> {
    parse_bytes(text).map(|bytes| bytes.0).map_err(|why| Failure::usage(format!("--max-size {text}: {why}")))
}

fn time(text: &str) -> Result<Duration, Failure> {
    parse_duration(text).map_err(|why| Failure::usage(format!("--max-age {text}: {why}")))
}

fn images(root: &Path) -> Result<Images, Failure> {
    Images::open(root, image::Options::new(Path::new("/"))).map_err(Failure::infrastructure)
}

fn show(screen: &mut Screen, rows: &[(&str, u64)]) {
    if screen.output == Output::Json {
        let object: serde_json::Map<_, _> =
            rows.iter().map(|(name, value)| ((*name).to_string(), (*value).into())).collect();
        return screen.text(&serde_json::Value::Object(object).to_string());
    }
    let text: String = rows
        .iter()
        .map(|(name, value)| match name.ends_with("bytes") {
            true => format!("{:<18} {}\n", name.replace('_', " "), Bytes(*value)),
            false => format!("{:<18} {value}\n", name.replace('_', " ")),
        })
        .collect();
    screen.text(&text);
}
