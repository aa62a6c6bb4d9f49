//! A diagnostic: what is wrong in a pipeline, where, and what to do about it.

use model::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The pipeline does not run.
    Error,
    /// It runs, but probably not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, such as `P0104`; `pace explain` knows it.
    pub code: &'static str,
    /// What is wrong: a sentence without a full stop, names in backticks.
    pub message: String,
    /// The place that is wrong, and a short word on it (may be empty).
    pub primary: (Span, String),
    /// Other places that belong to it.
    pub labels: Vec<(Span, String)>,
    /// What to do next, one sentence each.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at a place. `label` says why the marked text is wrong, in a few words.
    pub(crate) fn error(code: &Code, at: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            code: code.code,
            message: message.into(),
            primary: (at, label.into()),
            labels: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning at a place.
    pub(crate) fn warning(code: &Code, at: Span, message: impl Into<String>, label: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(code, at, message, label) }
    }

    /// Adds another place.
    pub(crate) fn also(mut self, at: Span, label: impl Into<String>) -> Self {
        self.labels.push((at, label.into()));
        self
    }

    /// Adds what to do next.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds what to do next, if there is something to say.
    pub(crate) fn help_if(mut self, text: Option<String>) -> Self {
        self.help.extend(text);
        self
    }
}

/// A kind of diagnostic with its long explanation. Made by [`codes!`] only.
#[derive(Debug)]
pub(crate) struct Code {
    /// `P0104`.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// Markdown: what it means, why it is so, an example before and after.
    pub explain: &'static str,
}

/// Declares codes: a constant for each, and a table of all of them.
///
/// Both examples are whole pipelines, where a line `# file: PATH` begins a further file; a test checks that the first yields the code and the second yields nothing.
macro_rules! codes {
    ($(#[$doc:meta])* $table:ident: $($name:ident = $code:literal, $title:literal, $why:literal, $before:literal => $after:literal;)+) => {
        $(
            #[doc = $title]
            pub(crate) const $name: $crate::diagnostic::Code = $crate::diagnostic::Code {
                code: $code,
                title: $title,
                explain: concat!(
                    "# ", $code, ": ", $title, "\n\n", $why,
                    "\n\nBefore:\n\n```yaml\n", $before, "```\n\nAfter:\n\n```yaml\n", $after, "```\n"
                ),
            };
        )+
        $(#[$doc])*
        pub(crate) const $table: &[$crate::diagnostic::Code] = &[$($name),+];
    };
}
pub(crate) use codes;

/// Names longer than this are garbage, and not worth quadratic time.
const NAME_BYTES_MAX: usize = 100;
/// Names that are compared letter by letter, among those that have about the same letters.
const CANDIDATES_MAX: usize = 2_000;

/// The name among `known` that a person who wrote `written` most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > NAME_BYTES_MAX {
        return None;
    }
    // A third of the letters may be wrong.
    let bound = (written.chars().count() / 3).max(1);
    let letters = letters_of(written);
    let near = |name: &&str| {
        name.len() <= NAME_BYTES_MAX
            && *name != written
            && name.len().abs_diff(written.len()) <= bound
            && (letters_of(name) ^ letters).count_ones() as usize <= 2 * bound
    };
    let mut rows = [const { [0u8; NAME_BYTES_MAX + 1] }; 3];
    known
        .into_iter()
        .filter(near)
        .take(CANDIDATES_MAX)
        .map(|name| (distance(written.as_bytes(), name.as_bytes(), &mut rows), name))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, name)| name)
}

/// Case and `-`/`_` do not count.
fn folded(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

/// A bit for each letter that occurs.
fn letters_of(name: &str) -> u64 {
    name.bytes().fold(0, |bits, byte| bits | 1 << (folded(byte) % 64))
}

/// Edits from one word to the other: insert, delete, replace, swap neighbours. Three rows, because a swap reaches back
/// over one.
fn distance(a: &[u8], b: &[u8], rows: &mut [[u8; NAME_BYTES_MAX + 1]; 3]) -> usize {
    let [before, last, row] = rows;
    let (mut before, mut last, mut row) = (before, last, row);
    for (cell, j) in last[..=b.len()].iter_mut().zip(0u8..) {
        *cell = j;
    }
    for i in 1..=a.len() {
        row[0] = i as u8;
        for j in 1..=b.len() {
            let same = folded(a[i - 1]) == folded(b[j - 1]);
            let mut best = (last[j - 1] + u8::from(!same)).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) && folded(a[i - 2]) == folded(b[j - 1]) {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        (before, last, row) = (last, row, before);
    }
    usize::from(last[b.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_what_was_meant() {
        assert_eq!(nearest("biuld", ["test", "build", "builder"]), Some("build"));
        assert_eq!(nearest("dependsOn", ["depends_on", "id"]), Some("depends_on"));
        assert_eq!(nearest("pass-env", ["env", "pass_env"]), Some("pass_env"));
        assert_eq!(nearest("xyzzy", ["test", "build"]), None);
    }
}
