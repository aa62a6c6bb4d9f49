//! The table of all diagnostic codes: `P00xx` text, `P01xx` keys, the graph, files and templates, `P02xx` expressions.

use crate::diagnostic::Code;

/// Every table of codes.
const TABLES: &[&[Code]] =
    &[crate::yaml::YAML, crate::keyword::codes::KEYS, crate::resolve::codes::NAMES, crate::expr::CODES];

/// Every code, in order.
pub(crate) fn all() -> impl Iterator<Item = &'static Code> {
    let mut codes: Vec<&'static Code> = TABLES.iter().flat_map(|table| table.iter()).collect();
    codes.sort_by_key(|code| code.code);
    codes.into_iter()
}

/// The explanation of a code as Markdown: what it means, why it is so, an example before and after.
pub fn explain(code: &str) -> Option<&'static str> {
    all().find(|known| known.code.eq_ignore_ascii_case(code)).map(|known| known.explain)
}

/// Every code with its title, in order.
pub fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    all().map(|code| (code.code, code.title))
}
