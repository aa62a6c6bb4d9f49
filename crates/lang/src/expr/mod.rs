//! Expressions: CEL source to a checked [`Expr`], and texts with `${{ }}`.
//!
//! source → tokens ([`lexer`]) → syntax tree ([`parser`]) → typed tree ([`check`], [`context`], [`call`]).

mod call;
mod check;
mod codes;
mod context;
mod foreign;
mod fuzz;
mod lexer;
mod parser;
mod template;
#[cfg(test)]
mod tests;
mod trust;
mod types;

use std::ops::Range;

use model::Span;
use model::expr::Expr;
use model::limits::EXPR_BYTES_MAX;

use crate::diagnostic::{Code, Diagnostic};
use crate::span_map::SpanMap;

pub(crate) use codes::TABLE as CODES;
pub use fuzz::fuzz_expression;
pub(crate) use template::{as_expr, template};
pub(crate) use trust::{Trust, collect_env_calls, collect_hash_calls, is_untrusted, template_is_untrusted, weight};
pub use types::Type;
pub(crate) use types::Types;

/// Reads and checks a bare expression, such as the text of `if`. `want` is the type its place asks for.
/// `None` when something was reported.
pub(crate) fn expression(
    source: &str,
    at: &SpanMap,
    want: Option<Type>,
    types: &Types<'_>,
    out: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let place = Place { map: at, base: 0 };
    if let Some(fault) = foreign::wrapped(source) {
        out.push(place.report(fault));
        return None;
    }
    read(source, &place, want, types, out)
}

/// Reads and checks one expression that begins at `place.base` of the scalar.
fn read(
    source: &str,
    place: &Place<'_>,
    want: Option<Type>,
    types: &Types<'_>,
    out: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    if source.len() > EXPR_BYTES_MAX {
        let message = format!("an expression is at most {EXPR_BYTES_MAX} bytes long, this one has {}", source.len());
        let fault = Fault::new(&codes::LIMIT, 0..source.len(), message, "too long")
            .help("let a step compute it and hand it on through `$PACE_VALUES`");
        out.push(place.report(fault));
        return None;
    }
    match parser::parse(source) {
        Ok(node) => check::check(&node, source, place, want, types, out),
        Err(fault) => {
            out.push(place.report(fault));
            None
        }
    }
}

/// Where in the file an expression's source stands.
struct Place<'a> {
    map: &'a SpanMap,
    base: usize,
}

impl Place<'_> {
    fn span(&self, range: &Range<usize>) -> Span {
        self.map.span(self.base + range.start..self.base + range.end)
    }

    fn report(&self, fault: Fault) -> Diagnostic {
        let mut report = Diagnostic::error(fault.code, self.span(&fault.range), fault.message, fault.label);
        for (range, label) in fault.also {
            report = report.also(self.span(&range), label);
        }
        fault.help.into_iter().fold(report, Diagnostic::help)
    }
}

/// A diagnostic whose places are still ranges of the expression's source.
#[derive(Debug)]
struct Fault {
    code: &'static Code,
    range: Range<usize>,
    message: String,
    label: String,
    also: Vec<(Range<usize>, String)>,
    help: Vec<String>,
}

impl Fault {
    fn new(code: &'static Code, range: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Fault { code, range, message: message.into(), label: label.into(), also: Vec::new(), help: Vec::new() }
    }

    fn also(mut self, range: Range<usize>, label: impl Into<String>) -> Self {
        self.also.push((range, label.into()));
        self
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    fn help_if(mut self, help: Option<String>) -> Self {
        self.help.extend(help);
        self
    }
}
