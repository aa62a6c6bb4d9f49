//! A report for people: each finding with its excerpt, in the way rustc does it.

use std::fmt::Write;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use model::Span;

use crate::diagnostic::{Diagnostic, Severity};
use crate::report::{Report, Source};

/// Places further apart than this are shown as two excerpts.
const GAP_LINES_MAX: usize = 30;
/// What is shown of one line: a pipeline has no reason for longer ones, garbage has.
const LINE_BYTES_MAX: usize = 400;

const CYAN: &str = "\u{1b}[1;36m";
const DIM: &str = "\u{1b}[2m";
const OFF: &str = "\u{1b}[0m";

impl Report {
    /// All findings as text, `width` columns wide (0: 100), with or without colours.
    pub fn render(&self, color: bool, width: usize) -> String {
        let width = if width == 0 { 100 } else { width.clamp(40, 400) };
        let base = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = base.term_width(width).decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for (number, diagnostic) in self.diagnostics().iter().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            let group = self.group(diagnostic);
            text.push_str(&renderer.render(&[group]));
            text.push('\n');
            tail(&mut text, diagnostic, color);
        }
        if self.left_out() > 0 {
            // Writing to a String does not fail.
            let _ =
                writeln!(text, "\n… and {} more; the first {} are shown", self.left_out(), self.diagnostics().len());
        }
        text
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
        group.elements(self.excerpts(diagnostic))
    }

    /// The places in clusters: the primary one's first, then the others by file and line.
    fn excerpts<'a>(&'a self, diagnostic: &'a Diagnostic) -> Vec<Snippet<'a, Annotation<'a>>> {
        let mut places: Vec<(Span, &str, bool)> =
            diagnostic.labels.iter().map(|(span, label)| (*span, label.as_str(), false)).collect();
        places.push((diagnostic.primary.0, diagnostic.primary.1.as_str(), true));
        places.sort_by_key(|(span, _, _)| *span);
        let mut clusters: Vec<Vec<(Span, &str, bool)>> = Vec::new();
        for place in places {
            match clusters.last_mut() {
                Some(cluster) if self.near(cluster[cluster.len() - 1].0, place.0) => cluster.push(place),
                _ => clusters.push(vec![place]),
            }
        }
        clusters.sort_by_key(|cluster| !cluster.iter().any(|(_, _, primary)| *primary));
        clusters.iter().filter_map(|cluster| self.excerpt(cluster)).collect()
    }

    fn near(&self, a: Span, b: Span) -> bool {
        let Some(source) = self.sources.file(a.file).filter(|_| a.file == b.file) else { return false };
        source.line_of(b.start).abs_diff(source.line_of(a.start)) <= GAP_LINES_MAX
    }

    fn excerpt<'a>(&'a self, cluster: &[(Span, &'a str, bool)]) -> Option<Snippet<'a, Annotation<'a>>> {
        let source = self.sources.file(cluster.first()?.0.file)?;
        let window = Window::around(source, cluster);
        let snippet = Snippet::source(window.text(source)).line_start(window.first_line + 1).path(source.path.as_str());
        Some(snippet.annotations(cluster.iter().map(|(span, label, primary)| {
            let kind = if *primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(window.range(source, *span));
            if label.is_empty() { annotation } else { annotation.label(*label) }
        })))
    }
}

/// The lines of a file that an excerpt shows.
struct Window {
    first_line: usize,
    start: usize,
    end: usize,
}

impl Window {
    fn around(source: &Source, cluster: &[(Span, &str, bool)]) -> Self {
        let first = cluster.iter().map(|(span, _, _)| span.start).min().unwrap_or(0);
        let last = cluster.iter().map(|(span, _, _)| span.start).max().unwrap_or(first);
        let first_line = source.line_of(first);
        let start = source.line_start(first_line);
        let end = source.line_start(source.line_of(last) + 1);
        if end - start > LINE_BYTES_MAX * (GAP_LINES_MAX + 1) * cluster.len().max(1) || end - start > 1 << 16 {
            // One endless line: a stretch of it, and columns that count from where the stretch begins.
            let start = floor(&source.text, (first as usize).saturating_sub(40));
            return Window { first_line, start, end: floor(&source.text, start + LINE_BYTES_MAX) };
        }
        Window { first_line, start, end }
    }

    fn text<'a>(&self, source: &'a Source) -> &'a str {
        source.text.get(self.start..self.end).unwrap_or("").trim_end_matches(['\n', '\r'])
    }

    /// The span within the window, cut to its line: a block is marked where it begins.
    fn range(&self, source: &Source, span: Span) -> std::ops::Range<usize> {
        let text = self.text(source);
        let start = (span.start as usize).clamp(self.start, self.start + text.len()) - self.start;
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let end = (span.end as usize).saturating_sub(self.start).clamp(start, line_end);
        start..end
    }
}

/// The nearest character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// What to do next, and where to read more.
fn tail(text: &mut String, diagnostic: &Diagnostic, color: bool) {
    let (cyan, dim, off) = if color { (CYAN, DIM, OFF) } else { ("", "", "") };
    for help in &diagnostic.help {
        let _ = writeln!(text, "{cyan}help{off}: {help}");
    }
    let _ = writeln!(text, "{dim}see: pace explain {}{off}", diagnostic.code);
}
