//! The table of all diagnostic codes: `P00xx` text, `P01xx` shape and graph, `P02xx` expressions (in `expr::codes`).

use crate::diagnostic::Code;

/// Every table of codes.
const TABLES: &[&[Code]] = &[crate::expr::CODES];

/// Every code, in order.
pub(crate) fn all() -> impl Iterator<Item = &'static Code> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The explanation of a code as Markdown: what it means, why it is so, an example before and after.
pub fn explain(code: &str) -> Option<&'static str> {
    all().find(|known| known.code.eq_ignore_ascii_case(code)).map(|known| known.explain)
}

/// Every code with its title, in order.
pub fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    all().map(|code| (code.code, code.title))
}
