//! `include`: other files of the repository, each taken in once, within bounds.

use std::collections::HashMap;

use model::Span;
use model::limits::{INCLUDE_DEPTH_MAX, INCLUDES_MAX};

use super::codes::{INCLUDE_LOOP, INCLUDE_OUTSIDE, INCLUDE_UNREADABLE};
use super::load::decode;
use crate::decode::Text;
use crate::diagnostic::Diagnostic;
use crate::keyword::INCLUDED;
use crate::keyword::codes::DUPLICATE_NAME;
use crate::raw::RawFile;
use crate::report::Sources;

/// Why a file of the repository could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// There is no such file.
    NotFound,
    /// The path, or a link on it, leaves the repository.
    Outside,
    /// It is larger than [`model::limits::FILE_BYTES_MAX`].
    TooLarge,
    /// Anything else, said as a clause: "permission denied".
    Other(String),
}

/// Takes in what a pipeline includes: steps, templates and env are appended to its own.
pub(super) fn follow(
    path: &str,
    file: &mut RawFile,
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>, ReadError>,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) {
    let root = normal(path).unwrap_or_else(|| path.to_string());
    let mut walk = Walk { read, sources, out, seen: vec![root.clone()], way: vec![(root, Span::default())] };
    let wanted = std::mem::take(&mut file.include);
    for entry in &wanted {
        walk.take_in(entry, file);
    }
}

struct Walk<'a> {
    read: &'a mut dyn FnMut(&str) -> Result<Vec<u8>, ReadError>,
    sources: &'a mut Sources,
    out: &'a mut Vec<Diagnostic>,
    /// Every file that was taken in, the pipeline first.
    seen: Vec<String>,
    /// The files that led here, each with the place that includes it.
    way: Vec<(String, Span)>,
}

impl Walk<'_> {
    fn take_in(&mut self, entry: &Text, into: &mut RawFile) {
        let Some(path) = normal(&entry.value) else { return self.outside(entry) };
        if self.way.iter().any(|(on_way, _)| *on_way == path) {
            return self.goes_round(&path, entry.span);
        }
        if self.seen.contains(&path) {
            return;
        }
        if self.way.len() > INCLUDE_DEPTH_MAX || self.seen.len() > INCLUDES_MAX {
            let message =
                format!("files include files more than {INCLUDE_DEPTH_MAX} deep, or more than {INCLUDES_MAX} in all");
            self.out.push(Diagnostic::error(&INCLUDE_LOOP, entry.span, message, "one too many"));
            return;
        }
        self.seen.push(path.clone());
        let Some(bytes) = self.bytes(&path, entry) else { return };
        let Some(mut raw) = decode(&path, &bytes, "an included file", INCLUDED, self.sources, self.out) else { return };
        let wanted = std::mem::take(&mut raw.include);
        self.merge(raw, into);
        self.way.push((path, entry.span));
        for entry in &wanted {
            self.take_in(entry, into);
        }
        self.way.pop();
    }

    fn bytes(&mut self, path: &str, entry: &Text) -> Option<Vec<u8>> {
        let why = match (self.read)(path) {
            Ok(bytes) => return Some(bytes),
            Err(ReadError::Outside) => {
                self.outside(entry);
                return None;
            }
            Err(ReadError::NotFound) => "the repository has no such file".to_string(),
            Err(ReadError::TooLarge) => "it is larger than 1 MiB".to_string(),
            Err(ReadError::Other(why)) => why,
        };
        let message = format!("cannot include `{path}`: {why}");
        let found = Diagnostic::error(&INCLUDE_UNREADABLE, entry.span, message, "this file");
        self.out.push(found.help("paths count from the root of the repository"));
        None
    }

    fn outside(&mut self, entry: &Text) {
        let shown: String = entry.value.chars().take(100).collect();
        let message = format!("cannot include `{shown}`: it leads out of the repository");
        let found = Diagnostic::error(&INCLUDE_OUTSIDE, entry.span, message, "outside");
        self.out.push(found.help("copy the file into the repository; paths count from its root"));
    }

    fn goes_round(&mut self, path: &str, at: Span) {
        let from = self.way.iter().position(|(on_way, _)| on_way == path).unwrap_or(0);
        let names: Vec<&str> = self.way[from..].iter().map(|(name, _)| name.as_str()).chain([path]).collect();
        let message = format!("files include each other without end: {}", names.join(" → "));
        let mut found = Diagnostic::error(&INCLUDE_LOOP, at, message, format!("includes `{path}` again"));
        for (name, span) in self.way[from + 1..].iter().take(INCLUDE_DEPTH_MAX) {
            found = found.also(*span, format!("includes `{name}`"));
        }
        self.out.push(found);
    }

    fn merge(&mut self, from: RawFile, into: &mut RawFile) {
        let mut variables: HashMap<&str, Span> =
            into.env.iter().map(|(name, _)| (name.value.as_str(), name.span)).collect();
        let mut templates: HashMap<&str, Span> =
            into.templates.iter().map(|template| (template.name.value.as_str(), template.name.span)).collect();
        for (name, _) in &from.env {
            if let Some(first) = variables.insert(&name.value, name.span) {
                self.out.push(twice("variable", name, first));
            }
        }
        for template in &from.templates {
            if let Some(first) = templates.insert(&template.name.value, template.name.span) {
                self.out.push(twice("template", &template.name, first));
            }
        }
        into.env.extend(from.env);
        into.templates.extend(from.templates);
        into.steps.extend(from.steps);
    }
}

fn twice(what: &str, name: &Text, first: Span) -> Diagnostic {
    let message = format!("two files have a {what} `{}`", name.value);
    let found = Diagnostic::error(&DUPLICATE_NAME, name.span, message, "again").also(first, "first here");
    found.help("keep one of them, or rename one")
}

/// A path below the root of the repository, without `.` and `..`. `None`: it leads out of it.
fn normal(path: &str) -> Option<String> {
    if path.starts_with(['/', '~', '\\']) || path.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
