//! The files of the repository, and a problem with one of them.

use std::fmt;
use std::path::{Path, PathBuf};

/// Largest file that is looked into; lock files and data of tests stay below.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// The text files of the repository that git does not ignore, by path from its root.
pub struct Repository {
    /// Where it lies.
    pub root: PathBuf,
    /// Paths with `/` and contents, sorted by path.
    pub files: Vec<(String, String)>,
}

impl Repository {
    /// Reads the repository that this crate was compiled in.
    ///
    /// # Errors
    /// A sentence that names the file that cannot be read.
    pub fn open() -> Result<Repository, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .map_err(|error| format!("cannot find the root of the repository: {error}"))?;
        let mut files = Vec::new();
        // `require_git`: a copy without `.git` (a step's workspace) has the same files.
        let walk = ignore::WalkBuilder::new(&root)
            .hidden(false)
            .require_git(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        for entry in walk {
            let entry = entry.map_err(|error| format!("cannot list the repository: {error}"))?;
            let small = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_BYTES_MAX);
            if !small {
                continue;
            }
            let bytes = std::fs::read(entry.path())
                .map_err(|error| format!("cannot read {}: {error}", entry.path().display()))?;
            if let (Ok(path), Ok(text)) = (entry.path().strip_prefix(&root), String::from_utf8(bytes)) {
                files.push((path.to_string_lossy().into_owned(), text));
            }
        }
        files.sort();
        Ok(Repository { root, files })
    }

    /// The text of a file, if it is there.
    pub fn text(&self, path: &str) -> Option<&str> {
        let at = self.files.binary_search_by(|(known, _)| known.as_str().cmp(path)).ok()?;
        Some(&self.files[at].1)
    }

    /// Whether a file or a folder is there.
    pub fn holds(&self, path: &str) -> bool {
        path.is_empty() || self.text(path).is_some() || {
            let folder = format!("{path}/");
            let at = self.files.partition_point(|(known, _)| *known < folder);
            self.files.get(at).is_some_and(|(known, _)| known.starts_with(&folder)) || self.root.join(path).is_file()
        }
    }

    /// The Rust files of the crates, with the folders of their tests and examples.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .filter(|(path, _)| path.ends_with(".rs") && (path.starts_with("crates/") || path.starts_with("dev/")))
    }

    /// The Markdown files.
    pub fn markdown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).filter(|(path, _)| path.ends_with(".md"))
    }
}

/// Something that does not keep a rule.
#[derive(Debug, PartialEq)]
pub struct Problem {
    path: String,
    line: usize,
    what: String,
}

impl Problem {
    /// At a line, counted from 1.
    pub fn at(path: &str, line: usize, what: impl Into<String>) -> Problem {
        Problem { path: path.to_string(), line, what: what.into() }
    }
    /// With a file as a whole.
    pub fn of(path: &str, what: impl Into<String>) -> Problem {
        Problem::at(path, 0, what)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}
