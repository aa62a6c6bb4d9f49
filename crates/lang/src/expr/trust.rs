//! Which values a stranger can set, and which calls a pipeline makes that must be answered before it is planned.

use std::collections::{BTreeMap, BTreeSet};

use model::ParamKind;
use model::expr::{
    BinaryOp, ContextPath, Expr, ExprKind, Function, Macro, Root, StepField, Template, TemplatePart, Value,
};

/// What is known about names when their trust is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Trust<'a> {
    /// The pipeline's parameters: those that are numbers and booleans do no harm. (Parameters of templates are gone:
    /// [`super::Types::bindings`] replaced them.)
    pub params: &'a BTreeMap<String, ParamKind>,
    /// Names in `env` whose own text is untrusted ([`template_is_untrusted`]): `env.BRANCH` is as bad as `git.branch`.
    pub untrusted_env: &'a BTreeSet<String>,
}

/// Whether a stranger can set any of the text that the expression yields. Such text must not be pasted into a script.
///
/// Numbers, booleans, versions and digests have no room for a command, so whatever makes them out of untrusted text
/// (comparisons, `size`, `semver`, `hash`) is trusted; so is a choice between literals by an untrusted condition.
pub(crate) fn is_untrusted(expr: &Expr, trust: &Trust<'_>) -> bool {
    let any = |exprs: &[Expr]| exprs.iter().any(|expr| is_untrusted(expr, trust));
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Has(_) | ExprKind::Unary(..) => false,
        // What a variable holds is judged where the macro takes it from.
        ExprKind::Local(_) => false,
        ExprKind::Context(path) => path_is_untrusted(path, trust),
        ExprKind::Field(of, _) | ExprKind::Index(of, _) => is_untrusted(of, trust),
        ExprKind::Binary(BinaryOp::Add, left, right) => is_untrusted(left, trust) || is_untrusted(right, trust),
        ExprKind::Binary(..) => false,
        ExprKind::Choice(_, yes, no) => is_untrusted(yes, trust) || is_untrusted(no, trust),
        ExprKind::List(items) => any(items),
        ExprKind::Map(entries) => {
            entries.iter().any(|(key, value)| is_untrusted(key, trust) || is_untrusted(value, trust))
        }
        ExprKind::Call(function, arguments) => match function {
            Function::Env => true,
            Function::String
            | Function::LowerAscii
            | Function::UpperAscii
            | Function::Replace
            | Function::Split
            | Function::Trim
            | Function::Join => any(arguments),
            Function::Hash
            | Function::Semver
            | Function::Size
            | Function::Int
            | Function::Double
            | Function::Bool
            | Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::Matches => false,
        },
        ExprKind::Macro(Macro::Map | Macro::Filter, over, _, body) => {
            is_untrusted(over, trust) || is_untrusted(body, trust)
        }
        ExprKind::Macro(Macro::All | Macro::Exists | Macro::ExistsOne, ..) => false,
    }
}

/// Whether a stranger can set any of the text between the template's own.
pub(crate) fn template_is_untrusted(template: &Template, trust: &Trust<'_>) -> bool {
    template.parts.iter().any(|part| matches!(part, TemplatePart::Expr(expr) if is_untrusted(expr, trust)))
}

fn path_is_untrusted(path: &ContextPath, trust: &Trust<'_>) -> bool {
    match path {
        ContextPath::Step(_, StepField::Outcome) => false,
        ContextPath::Step(_, StepField::Value(_)) => true,
        ContextPath::Of(root, name) => match root {
            Root::Event => !matches!(name.as_str(), "kind" | "number"),
            Root::Git => !matches!(name.as_str(), "commit" | "short_sha"),
            Root::Params => !matches!(trust.params.get(name), Some(ParamKind::Boolean | ParamKind::Integer)),
            Root::Env => trust.untrusted_env.contains(name),
            // The administrators of the project set its values.
            Root::Run | Root::Matrix | Root::Secrets | Root::Values => false,
        },
    }
}

/// Adds the glob list of every `hash(…)` call.
pub(crate) fn collect_hash_calls(expr: &Expr, into: &mut BTreeSet<Vec<String>>) {
    walk(expr, &mut |expr| {
        if let ExprKind::Call(Function::Hash, arguments) = &expr.kind {
            into.insert(literals(arguments));
        }
    });
}

/// Adds the name of every `env("NAME")` call.
pub(crate) fn collect_env_calls(expr: &Expr, into: &mut BTreeSet<String>) {
    walk(expr, &mut |expr| {
        if let ExprKind::Call(Function::Env, arguments) = &expr.kind {
            into.extend(literals(arguments));
        }
    });
}

fn literals(arguments: &[Expr]) -> Vec<String> {
    let text = |argument: &Expr| match &argument.kind {
        ExprKind::Literal(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    arguments.iter().filter_map(text).collect()
}

/// Visits every node of the tree.
pub(super) fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    visit(expr);
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Context(_) | ExprKind::Local(_) => {}
        ExprKind::Field(of, _) | ExprKind::Unary(_, of) | ExprKind::Has(of) => walk(of, visit),
        ExprKind::Index(left, right) | ExprKind::Binary(_, left, right) | ExprKind::Macro(_, left, _, right) => {
            walk(left, visit);
            walk(right, visit);
        }
        ExprKind::Choice(condition, yes, no) => {
            for part in [condition, yes, no] {
                walk(part, visit);
            }
        }
        ExprKind::List(items) | ExprKind::Call(_, items) => items.iter().for_each(|item| walk(item, visit)),
        ExprKind::Map(entries) => {
            for (key, value) in entries {
                walk(key, visit);
                walk(value, visit);
            }
        }
    }
}

/// What a copy of a tree costs: its nodes, and a unit more for every sixteen bytes of text in it.
pub(crate) fn weight(expr: &Expr) -> usize {
    let mut units = 0;
    walk(expr, &mut |node| {
        units += 1;
        if let ExprKind::Literal(Value::Text(text)) = &node.kind {
            units += text.len() / 16;
        }
    });
    units
}

/// Levels and nodes of a tree.
pub(super) fn measure(expr: &Expr) -> (usize, usize) {
    let mut nodes = 0;
    walk(expr, &mut |_| nodes += 1);
    (depth(expr), nodes)
}

fn depth(expr: &Expr) -> usize {
    let deepest = |exprs: &mut dyn Iterator<Item = &Expr>| exprs.map(depth).max().unwrap_or(0);
    1 + match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Context(_) | ExprKind::Local(_) => 0,
        ExprKind::Field(of, _) | ExprKind::Unary(_, of) | ExprKind::Has(of) => depth(of),
        ExprKind::Index(left, right) | ExprKind::Binary(_, left, right) | ExprKind::Macro(_, left, _, right) => {
            depth(left).max(depth(right))
        }
        ExprKind::Choice(condition, yes, no) => depth(condition).max(depth(yes)).max(depth(no)),
        ExprKind::List(items) | ExprKind::Call(_, items) => deepest(&mut items.iter()),
        ExprKind::Map(entries) => deepest(&mut entries.iter().flat_map(|(key, value)| [key, value])),
    }
}
