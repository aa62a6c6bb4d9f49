//! Everything that was found in a pipeline and its included files.

use std::collections::HashSet;
use std::sync::Arc;

use model::Span;
use model::limits::DIAGNOSTICS_MAX;

use crate::diagnostic::{Diagnostic, Severity};

/// The texts that were read, by [`Span::file`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
}

#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Path in the repository.
    pub path: String,
    /// Its text, without a byte-order mark.
    pub text: Arc<str>,
    line_starts: Vec<u32>,
}

/// A place as people count: lines and columns from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub line: usize,
    pub column: usize,
}

impl Sources {
    /// Adds a text; its number is what spans of it carry.
    pub(crate) fn add(&mut self, path: &str, text: Arc<str>) -> u16 {
        let breaks = text.bytes().zip(1u32..).filter(|(byte, _)| *byte == b'\n').map(|(_, next)| next);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        self.files.push(Source { path: path.to_string(), text, line_starts });
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    pub(crate) fn file(&self, file: u16) -> Option<&Source> {
        self.files.get(usize::from(file))
    }

    pub(crate) fn text(&self, file: u16) -> &str {
        self.file(file).map_or("", |source| &source.text)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|source| source.path.as_str())
    }
}

impl Source {
    /// The line an offset is on, counted from 0.
    pub(crate) fn line_of(&self, offset: u32) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// First byte of a line, counted from 0; the end of the text for lines behind it.
    pub(crate) fn line_start(&self, line: usize) -> usize {
        self.line_starts.get(line).map_or(self.text.len(), |start| *start as usize)
    }

    pub(crate) fn place(&self, offset: u32) -> Place {
        let line = self.line_of(offset);
        let before = self.text.get(self.line_start(line)..offset as usize).unwrap_or("");
        Place { line: line + 1, column: before.chars().count() + 1 }
    }
}

/// What was found. Sorted by place; at most [`DIAGNOSTICS_MAX`] are kept, the rest is counted.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub(crate) sources: Sources,
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    left_out: usize,
}

impl Report {
    pub(crate) fn new(sources: Sources, found: Vec<Diagnostic>) -> Self {
        let mut seen = HashSet::new();
        let mut diagnostics: Vec<Diagnostic> = found
            .into_iter()
            // The same text reached by two aliases or two uses of a template is one fault.
            .filter(|d| seen.insert((d.primary.0, d.code, d.message.clone())))
            .collect();
        diagnostics.sort_by_key(|d| (d.severity, d.primary.0));
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
        let left_out = diagnostics.len().saturating_sub(DIAGNOSTICS_MAX);
        diagnostics.truncate(DIAGNOSTICS_MAX);
        diagnostics.sort_by_key(|d| d.primary.0);
        Report { sources, diagnostics, errors, left_out }
    }

    /// The pipeline must not run.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors, those beyond the bound included.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// The findings, by place; at most [`DIAGNOSTICS_MAX`].
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many findings are not among [`Report::diagnostics`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Paths of the files that were read, the pipeline first; [`Span::file`] counts in this order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.sources.paths()
    }

    /// Path, line and column (both from 1, in characters) of the start of a span.
    pub fn place(&self, span: Span) -> Option<(&str, usize, usize)> {
        let source = self.sources.file(span.file)?;
        let place = source.place(span.start);
        Some((&source.path, place.line, place.column))
    }
}
