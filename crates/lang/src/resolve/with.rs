//! `with`: what the parameters of a template stand for in one use of it.

use std::collections::BTreeMap;

use model::expr::{Expr, ExprKind, Function, Value};
use model::{Param, ParamKind, Span};

use super::codes::TEMPLATE_PARAM;
use super::typing::{Reader, Scene, both};
use super::unfold::Frame;
use crate::decode::Text;
use crate::diagnostic::{Diagnostic, nearest};
use crate::expr::{self, Type, Types};
use crate::raw::{RawStep, RawTemplate, With};

/// What is known in a frame: its parameters, what they stand for, and under which condition its steps run.
pub(super) struct Bound {
    pub prefix: String,
    pub params: BTreeMap<String, ParamKind>,
    pub bindings: BTreeMap<String, Expr>,
    pub condition: Option<Expr>,
}

/// Binds the parameters of all frames; those around come first.
pub(super) fn bind(scene: &Scene<'_>, reader: &mut Reader<'_>) -> Vec<Bound> {
    let mut bound: Vec<Bound> = Vec::with_capacity(scene.unfolded.frames.len());
    for frame in &scene.unfolded.frames {
        let next = match &frame.of {
            Some((step, template)) => bind_use(scene, reader, frame, step, template, &bound[frame.parent]),
            None => Bound {
                prefix: frame.prefix.clone(),
                params: scene.params.clone(),
                bindings: BTreeMap::new(),
                condition: None,
            },
        };
        bound.push(next);
    }
    bound
}

fn bind_use(
    scene: &Scene<'_>,
    reader: &mut Reader<'_>,
    frame: &Frame,
    step: &RawStep,
    template: &RawTemplate,
    around: &Bound,
) -> Bound {
    let mut texts: Vec<&Text> = step.with.iter().map(|(_, with)| &with.text).collect();
    texts.extend(&step.condition);
    let place = scene.place_of(&texts, &frame.depends_on, &around.prefix, frame.matrix.as_deref());
    let types = place.types(scene, around);
    let condition = step.condition.as_ref().and_then(|text| reader.condition(text, &types));
    let mut bindings = BTreeMap::new();
    for (name, with) in &step.with {
        match template.params.get(&name.value) {
            Some(param) => {
                let value = value(reader, name, with, param, &types);
                // A placeholder after an error, so that the template itself gets no further one.
                let value = value.unwrap_or_else(|| literal(any(param.kind), with.text.span));
                bindings.insert(name.value.clone(), value);
            }
            None => unknown(reader, name, template),
        }
    }
    defaults(reader, step, template, &mut bindings);
    Bound {
        prefix: frame.prefix.clone(),
        params: template.params.iter().map(|(name, param)| (name.clone(), param.kind)).collect(),
        bindings,
        condition: both(around.condition.clone(), condition),
    }
}

fn unknown(reader: &mut Reader<'_>, name: &Text, template: &RawTemplate) {
    let shown: String = name.value.chars().take(60).collect();
    let message = format!("template `{}` has no parameter `{shown}`", template.name.value);
    let near = nearest(&name.value, template.params.keys().map(String::as_str));
    let found = Diagnostic::error(&TEMPLATE_PARAM, name.span, message, "no such parameter");
    reader.out.push(
        found
            .also(template.name.span, "the template")
            .help_if(near.map(|near| format!("there is a parameter `{near}`"))),
    );
}

/// Parameters that `with` does not name.
fn defaults(reader: &mut Reader<'_>, step: &RawStep, template: &RawTemplate, bindings: &mut BTreeMap<String, Expr>) {
    for (name, param) in &template.params {
        if bindings.contains_key(name) {
            continue;
        }
        let at = step.uses.as_ref().map_or(step.head, |uses| uses.span);
        if param.default.is_none() {
            let message = format!("template `{}` wants a value for `{name}`", template.name.value);
            let found = Diagnostic::error(&TEMPLATE_PARAM, at, message, format!("`{name}` is missing"));
            let found = found.also(template.name.span, "the template");
            reader.out.push(found.help(format!("write `with: {{ {name}: … }}`, or give `{name}` a default")));
        }
        bindings.insert(name.clone(), literal(param.default.clone().unwrap_or(any(param.kind)), at));
    }
}

/// The tree that a parameter stands for.
fn value(reader: &mut Reader<'_>, name: &Text, with: &With, param: &Param, types: &Types<'_>) -> Option<Expr> {
    let text = &with.text;
    if param.kind == ParamKind::String {
        if !text.value.contains("${{") {
            allowed(reader, name, text, param);
            return Some(literal(Value::Text(text.value.clone()), text.span));
        }
        let tree = expr::as_expr(reader.template(text, types)?, text.span);
        // Whatever it is, in a text parameter it is text.
        return Some(Expr { span: tree.span, kind: ExprKind::Call(Function::String, vec![tree]) });
    }
    match (param.kind, &with.value) {
        (ParamKind::Boolean, Value::Bool(_)) | (ParamKind::Integer, Value::Int(_)) => {
            Some(literal(with.value.clone(), text.span))
        }
        _ => match only_expression(&text.value) {
            Some((offset, source)) => reader.expression(source, text, offset, Type::of_param(param.kind), types),
            None => {
                let wanted = if param.kind == ParamKind::Boolean { "`true` or `false`" } else { "a whole number" };
                let message = format!("the parameter `{}` wants {wanted}", name.value);
                reader.out.push(Diagnostic::error(&TEMPLATE_PARAM, text.span, message, "this is none"));
                None
            }
        },
    }
}

/// Holds a literal text against the parameter's pattern and choices.
fn allowed(reader: &mut Reader<'_>, name: &Text, text: &Text, param: &Param) {
    if !param.choices.is_empty() && !param.choices.contains(&text.value) {
        let message =
            format!("the parameter `{}` cannot be `{}`", name.value, text.value.chars().take(60).collect::<String>());
        let choices: Vec<String> = param.choices.iter().map(|choice| format!("`{choice}`")).collect();
        let found = Diagnostic::error(&TEMPLATE_PARAM, text.span, message, "not one of its choices");
        reader.out.push(found.help(format!("it is one of {}", choices.join(", "))));
    }
    let pattern = param.pattern.as_ref().and_then(|pattern| regex_lite::Regex::new(pattern).ok());
    if pattern.is_some_and(|pattern| !pattern.is_match(&text.value)) {
        let message = format!("the parameter `{}` does not match its pattern", name.value);
        let found = Diagnostic::error(&TEMPLATE_PARAM, text.span, message, "does not match");
        reader.out.push(found.help(format!("the pattern is `{}`", param.pattern.as_deref().unwrap_or_default())));
    }
}

/// The one expression a text consists of, and where it begins.
fn only_expression(text: &str) -> Option<(usize, &str)> {
    let trimmed = text.trim();
    let source = trimmed.strip_prefix("${{")?.strip_suffix("}}")?;
    if source.contains("${{") {
        return None;
    }
    let lead = text.len() - text.trim_start().len();
    Some((lead + 3, source))
}

fn literal(value: Value, span: Span) -> Expr {
    Expr { span, kind: ExprKind::Literal(value) }
}

fn any(kind: ParamKind) -> Value {
    match kind {
        ParamKind::String => Value::Text(String::new()),
        ParamKind::Boolean => Value::Bool(false),
        ParamKind::Integer => Value::Int(0),
    }
}
