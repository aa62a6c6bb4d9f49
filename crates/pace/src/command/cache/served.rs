//! Looking after a served cache: in its folder while nobody serves it, or by asking the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blobs::Blobs;
use cache::admin::{gc_row, stats_row, verified_row};
use cache::care::{self, Condemned};
use serde_json::{Value, json};

use super::far::Far;
use crate::cli::{Output, StoreArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;

/// A served cache.
pub enum Served {
    /// Its folder.
    Folder(PathBuf),
    /// Its server.
    Far(Far),
}

impl Served {
    /// Which one is meant; `None` is the cache of this user.
    pub fn of(args: &StoreArgs, root: &Path) -> Result<Option<Served>, Failure> {
        Ok(match (&args.url, &args.data, args.served) {
            (Some(url), ..) => Some(Served::Far(Far::new(url, args.token_env.as_deref(), args.ca.as_deref())?)),
            (None, Some(data), _) => Some(Served::Folder(data.clone())),
            (None, None, true) => Some(Served::Folder(root.join("served"))),
            (None, None, false) => None,
        })
    }

    /// Sizes and counts.
    pub fn stats(&self, screen: &mut Screen) -> Ended {
        let row = match self {
            Served::Folder(folder) => stats_row(&open(folder)?.stats()),
            Served::Far(far) => far.ask("GET", "stats")?,
        };
        show(&row, screen);
        Ok(Exit::Green)
    }

    /// Makes room.
    pub fn gc(&self, bytes_max: Option<u64>, age_max: Option<Duration>, screen: &mut Screen) -> Ended {
        let row = match self {
            Served::Folder(folder) => {
                let blobs = open(folder)?;
                let before = blobs.stats();
                gc_row(&before, &blobs.collect(bytes_max, age_max).map_err(Failure::infrastructure)?)
            }
            Served::Far(far) => {
                let mut query = Vec::new();
                query.extend(bytes_max.map(|bytes| format!("bytes_max={bytes}")));
                query.extend(age_max.map(|age| format!("age_seconds_max={}", age.as_secs())));
                far.ask("POST", &format!("gc?{}", query.join("&")))?
            }
        };
        show(&row, screen);
        Ok(Exit::Green)
    }

    /// Reads everything again. Damage is an exit code of its own.
    pub fn verify(&self, screen: &mut Screen) -> Ended {
        let row = match self {
            Served::Folder(folder) => {
                let blobs = open(folder)?;
                let verified = blobs.verify(|done, all| progress(screen, done, all));
                verified_row(&verified.map_err(Failure::infrastructure)?)
            }
            Served::Far(far) => far.follow("verify", |line| {
                if let (Some(done), Some(all)) = (line["bytes_done"].as_u64(), line["bytes_all"].as_u64()) {
                    progress(screen, done, all);
                }
            })?,
        };
        screen.clear();
        show(&row, screen);
        let damage = ["damaged_blobs", "entries_dropped"].iter().filter_map(|key| row[*key].as_u64()).sum::<u64>();
        if damage == 0 {
            return Ok(Exit::Green);
        }
        screen.warning("what was damaged is gone from the cache; clients upload it again when they need it");
        Ok(Exit::Infrastructure)
    }

    /// Takes out what is condemned.
    pub fn purge(&self, writer: Option<&str>, digest: Option<&str>, dry_run: bool, screen: &mut Screen) -> Ended {
        let condemned = match (writer, digest) {
            (Some(writer), _) => Condemned::Writer(writer.to_owned()),
            (None, Some(digest)) => Condemned::digest(digest).map_err(Failure::usage)?,
            (None, None) => return Err(Failure::usage("name a --writer or a --digest")),
        };
        let found = match self {
            Served::Folder(folder) => {
                json!(care::purge(&open(folder)?, &condemned, dry_run).map_err(Failure::infrastructure)?)
            }
            Served::Far(far) => {
                let what = match (writer, digest) {
                    (Some(writer), _) => format!("writer={}", super::far::escaped(writer)),
                    (None, digest) => format!("digest={}", super::far::escaped(digest.unwrap_or_default())),
                };
                far.ask("POST", &format!("purge?{what}&dry_run={dry_run}"))?
            }
        };
        list(&found, if dry_run { "would go" } else { "gone" }, screen);
        Ok(Exit::Green)
    }

    /// Says who wrote the entries of a digest.
    pub fn who(&self, digest: &str, screen: &mut Screen) -> Ended {
        let Condemned::Digest { hash, .. } = Condemned::digest(digest).map_err(Failure::usage)? else {
            return Err(Failure::internal("a digest was read as a writer"));
        };
        let found = match self {
            Served::Folder(folder) => {
                json!(care::who(&open(folder)?, hash, |_| true).map_err(Failure::infrastructure)?)
            }
            Served::Far(far) => far.ask("GET", &format!("who/{}", model::Digest { hash, size: 0 }.hex()))?,
        };
        list(&found, "found", screen);
        match found["count"].as_u64() {
            Some(0) | None => Err(Failure::refused("nobody wrote an entry for this digest that you may read")),
            Some(_) => Ok(Exit::Green),
        }
    }
}

/// Opened as it is: nothing goes by being looked at.
fn open(folder: &Path) -> Result<Blobs, Failure> {
    if !folder.is_dir() {
        return Err(Failure::usage(format!("there is no cache in {}", folder.display()))
            .help("name the folder that `pace cache serve` says it serves, with --data"));
    }
    let options = blobs::Options { bytes_max: u64::MAX / 4, ..blobs::Options::default() };
    Blobs::open(folder, options).map_err(|error| {
        let help = "ask its server with --url instead";
        match error {
            blobs::Error::InUse { .. } => Failure::infrastructure(error).help(help),
            error => Failure::infrastructure(error),
        }
    })
}

fn progress(screen: &mut Screen, done: u64, all: u64) {
    if screen.is_live() {
        screen.draw(&[format!("read {} of {}", model::Bytes(done), model::Bytes(all))]);
    }
}

/// A row of numbers; what is not a number is shown to scripts only.
fn show(row: &Value, screen: &mut Screen) {
    if screen.output == Output::Json {
        return screen.text(&row.to_string());
    }
    let mut text = String::new();
    lines(row, "", &mut text);
    screen.text(&text);
}

fn lines(row: &Value, before: &str, text: &mut String) {
    for (name, value) in row.as_object().into_iter().flatten() {
        let shown = format!("{before}{}", name.replace('_', " "));
        match value.as_u64() {
            Some(bytes) if name.contains("bytes") => text.push_str(&format!("{shown:<26} {}\n", model::Bytes(bytes))),
            Some(number) => text.push_str(&format!("{shown:<26} {number}\n")),
            None if value.is_object() => lines(value, &format!("{shown} "), text),
            None => {
                for item in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    text.push_str(&format!("{shown:<26} {item}\n"));
                }
            }
        }
    }
}

fn list(found: &Value, word: &str, screen: &mut Screen) {
    if screen.output == Output::Json {
        return screen.text(&found.to_string());
    }
    let mut text = String::new();
    for entry in found["entries"].as_array().into_iter().flatten() {
        let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let when = cache::access::moment(entry["written"].as_u64().unwrap_or_default());
        text.push_str(&format!(
            "{} {} `{}` by {} at {when}\n",
            word("kind"),
            word("hash"),
            word("domain"),
            word("writer")
        ));
    }
    for blob in found["blobs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("blob {blob}\n"));
    }
    let blobs = found["blobs"].as_array().map_or(0, Vec::len);
    text.push_str(&format!("{} entries and {blobs} blobs {word}\n", found["count"].as_u64().unwrap_or_default()));
    screen.text(&text);
}
