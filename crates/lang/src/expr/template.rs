//! Texts with `${{ }}` in them.

use model::Span;
use model::expr::{BinaryOp, Expr, ExprKind, Function, Template, TemplatePart, Value};

use super::{Fault, Place, Types, codes, read};
use crate::diagnostic::Diagnostic;
use crate::span_map::SpanMap;

/// Reads a text with `${{ expression }}` in it; `$${{` stands for `${{` itself. Reports what is wrong in every one of
/// its expressions. `None` when something was reported.
pub(crate) fn template(source: &str, at: &SpanMap, types: &Types<'_>, out: &mut Vec<Diagnostic>) -> Option<Template> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut fine = true;
    let mut from = 0;
    while let Some(open) = source[from..].find("${{").map(|found| from + found) {
        if source[from..open].ends_with('$') {
            plain.push_str(&source[from..open - 1]);
            plain.push_str("${{");
            from = open + 3;
            continue;
        }
        plain.push_str(&source[from..open]);
        let start = open + 3;
        let Some(length) = expression_length(&source[start..]) else {
            let fault = Fault::new(&codes::UNCLOSED, open..start, "`${{` is not closed", "no `}}` follows")
                .help("write `$${{` if the text itself is meant");
            out.push(Place { map: at, base: 0 }.report(fault));
            return None;
        };
        let place = Place { map: at, base: start };
        match read(&source[start..start + length], &place, None, types, out) {
            Some(expr) => {
                if !plain.is_empty() {
                    parts.push(TemplatePart::Text(std::mem::take(&mut plain)));
                }
                parts.push(TemplatePart::Expr(expr));
            }
            None => fine = false,
        }
        from = start + length + 2;
    }
    plain.push_str(&source[from..]);
    if !plain.is_empty() {
        parts.push(TemplatePart::Text(plain));
    }
    fine.then_some(Template { parts })
}

/// How long the expression is at whose start `source` begins: up to the `}}` that is not inside a text or a map.
fn expression_length(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut braces = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if braces == 0 && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'}' => braces = braces.saturating_sub(1),
            b'{' => braces += 1,
            b'"' | b'\'' => match text_length(source, at) {
                Some(length) => at += length - 1,
                // A text that does not end: close at the next `}}`, so that the error is about the text.
                None => break,
            },
            _ => {}
        }
        at += 1;
    }
    source.find("}}")
}

/// Length of the text literal whose quote stands at `at`.
fn text_length(source: &str, at: usize) -> Option<usize> {
    let (before, rest) = source.split_at(at);
    let raw = before.ends_with(['r', 'R']);
    let quote = if rest.starts_with("\"\"\"") || rest.starts_with("'''") { &rest[..3] } else { &rest[..1] };
    let bytes = rest.as_bytes();
    let mut end = quote.len();
    while end < bytes.len() {
        if rest.as_bytes()[end..].starts_with(quote.as_bytes()) {
            return Some(end + quote.len());
        }
        match bytes[end] {
            b'\\' if !raw => end += 2,
            b'\n' | b'\r' if quote.len() == 1 => return None,
            _ => end += 1,
        }
    }
    None
}

/// The template as one expression: the expression itself if it is nothing else, or all parts as one text.
pub(crate) fn as_expr(template: Template, span: Span) -> Expr {
    let mut exprs: Vec<Expr> = template.parts.into_iter().map(|part| part_expr(part, span)).collect();
    match (exprs.pop(), exprs.is_empty()) {
        (None, _) => Expr { span, kind: ExprKind::Literal(Value::Text(String::new())) },
        (Some(only), true) => only,
        (Some(last), false) => {
            exprs.push(last);
            sum(exprs.into_iter().map(as_text).collect(), span)
        }
    }
}

fn part_expr(part: TemplatePart, span: Span) -> Expr {
    match part {
        TemplatePart::Text(text) => Expr { span, kind: ExprKind::Literal(Value::Text(text)) },
        TemplatePart::Expr(expr) => expr,
    }
}

fn as_text(expr: Expr) -> Expr {
    if matches!(expr.kind, ExprKind::Literal(Value::Text(_))) {
        return expr;
    }
    Expr { span: expr.span, kind: ExprKind::Call(Function::String, vec![expr]) }
}

/// Balanced, so that a text of many parts does not make a deep tree.
fn sum(mut exprs: Vec<Expr>, span: Span) -> Expr {
    if exprs.len() > 1 {
        let right = sum(exprs.split_off(exprs.len() / 2), span);
        let left = sum(exprs, span);
        return Expr { span, kind: ExprKind::Binary(BinaryOp::Add, Box::new(left), Box::new(right)) };
    }
    exprs.pop().unwrap_or(Expr { span, kind: ExprKind::Literal(Value::Text(String::new())) })
}
