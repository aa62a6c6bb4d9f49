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

/// The name among `known` that a person who wrote `written` most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; long garbage is not worth the quadratic time.
    if written.len() > 100 {
        return None;
    }
    let bound = (written.chars().count() / 3).max(1);
    let fold = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let folded = fold(written);
    known
        .into_iter()
        .filter(|name| name.len() <= 100 && *name != written && name.len().abs_diff(written.len()) <= 4 * bound)
        .filter_map(|name| Some((distance(&folded, &fold(name), bound)?, name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits from one word to the other: insert, delete, replace, swap neighbours; case and `-`/`_` do not count. `None`:
/// more than `bound`.
fn distance(a: &[char], b: &[char], bound: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > bound {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        // Two rows, because a swap reaches back over one.
        if row.iter().chain(&last).all(|edits| *edits > bound) {
            return None;
        }
        before = std::mem::replace(&mut last, row);
    }
    Some(last[b.len()]).filter(|edits| *edits <= bound)
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
