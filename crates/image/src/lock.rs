//! `paceline.lock`: which digest each image name stood for when a person last looked.
//!
//! A line each, `NAME sha256:…`, sorted: two people who lock different images do not meet in one line, and what changed
//! reads like a sentence in a review.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::document::printable;
use crate::error::io_error;
use crate::{ImageError, Reference, Sum};

/// The file's name, beside the pipeline file.
pub const LOCK_FILE: &str = "paceline.lock";
/// Its size: ten thousand images.
const LOCK_BYTES_MAX: usize = 2 << 20;
const HEAD: &str = "# Which digest each image stands for. Written by `pace image lock`; commit it, do not edit it.\n";

/// What is locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    images: BTreeMap<String, Sum>,
}

impl Lock {
    /// Nothing is locked.
    pub fn empty() -> Lock {
        Lock::default()
    }
    /// Reads the file; one that is not there locks nothing.
    ///
    /// # Errors
    /// It cannot be read, or has a line that is none of ours.
    pub fn read(path: &Path) -> Result<Lock, ImageError> {
        let bytes = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::empty()),
            opened => opened.and_then(|file| crate::registry::read_at_most(file, LOCK_BYTES_MAX as u64)),
        };
        let bytes = bytes.map_err(io_error("read", path))?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| ImageError::Lock {
            file: path.display().to_string(),
            why: "it is larger than 2 MiB or not a text; `pace image lock` writes a new one".into(),
        })?;
        Lock::parse(&text).map_err(|why| ImageError::Lock { file: path.display().to_string(), why })
    }
    /// Reads the text of one.
    ///
    /// # Errors
    /// A sentence about the line that is none of ours.
    pub fn parse(text: &str) -> Result<Lock, String> {
        let mut images = BTreeMap::new();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("line {number}, `{}`, {why}", printable(line));
            let (name, sum) = line.split_once(' ').ok_or_else(|| wrong("is not a name and a digest"))?;
            let sum = Sum::parse(sum.trim()).ok_or_else(|| wrong("has no digest like `sha256:…`"))?;
            let known = Reference::parse(name).map_err(|error| format!("line {number}: {error}"))?;
            if images.insert(known.to_string(), sum).is_some_and(|other| other != sum) {
                return Err(wrong("locks a name a second time; keep the line that is right, or lock again"));
            }
        }
        Ok(Lock { images })
    }
    /// The text of the file: sorted, a line for each image.
    pub fn render(&self) -> String {
        let lines = self.images.iter().map(|(name, sum)| format!("{name} {sum}\n"));
        HEAD.to_owned() + &lines.collect::<String>()
    }
    /// Writes the file, as a whole or not at all.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), ImageError> {
        let beside = path.with_extension(format!("lock.{}", std::process::id()));
        let written = std::fs::write(&beside, self.render()).and_then(|()| std::fs::rename(&beside, path));
        written.map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            io_error("write", path)(error)
        })
    }
    /// What a reference stands for.
    pub fn sum(&self, reference: &Reference) -> Option<Sum> {
        self.images.get(&reference.to_string()).copied()
    }
    /// Locks a reference; returns what it stood for before.
    pub fn set(&mut self, reference: &Reference, sum: Sum) -> Option<Sum> {
        self.images.insert(reference.to_string(), sum)
    }
    /// Keeps only these references.
    pub fn keep_only(&mut self, references: &[Reference]) {
        let names: Vec<String> = references.iter().map(Reference::to_string).collect();
        self.images.retain(|name, _| names.contains(name));
    }
    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Sum)> {
        self.images.iter().map(|(name, sum)| (name.as_str(), *sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_a_sorted_list_that_reads_back() {
        let mut lock = Lock::empty();
        for name in ["b.example.com/x:1", "debian:12", "a.example.com/y"] {
            lock.set(&Reference::parse(name).expect("reference"), Sum::of(name.as_bytes()));
        }
        let text = lock.render();
        let names: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["a.example.com/y:latest", "b.example.com/x:1", "docker.io/library/debian:12"]);
        assert_eq!(Lock::parse(&text), Ok(lock.clone()));
        assert_eq!(Lock::parse(&text).expect("lock").render(), text);
        assert_eq!(
            lock.sum(&Reference::parse("docker.io/library/debian:12").expect("reference")),
            Some(Sum::of(b"debian:12"))
        );
    }

    #[test]
    fn a_lock_with_a_line_that_is_none_is_refused() {
        let sum = Sum::of(b"x");
        let other = Sum::of(b"y");
        for (text, says) in [
            ("debian:12".to_string(), "line 1, `debian:12`, is not a name and a digest"),
            ("\n\ndebian:12 sha256:1".into(), "line 3, `debian:12 sha256:1`, has no digest like `sha256:…`"),
            (format!("UPPER {sum}"), "line 1: `UPPER` names no image"),
            (format!("a.b/x {sum}\na.b/x:latest {other}"), "locks a name a second time"),
            ("<<<<<<< HEAD".into(), "has no digest"),
        ] {
            let error = Lock::parse(&text).expect_err(&text);
            assert!(error.contains(says), "{error}");
        }
    }
}
