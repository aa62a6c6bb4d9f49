//! Calls: the table of functions and methods, their types, and the macros.

use model::expr::{Expr, ExprKind, Function, Macro, Semver, Value, check_pattern};

use super::check::{Checker, Typed};
use super::parser::{Call, Node, NodeKind};
use super::{Fault, Type, codes, foreign};
use crate::diagnostic::nearest;

/// How a function is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// `f(x)`.
    Function,
    /// `x.f()`.
    Method,
    Both,
}

/// What an argument may be.
#[derive(Clone, Copy, PartialEq)]
enum Slot {
    Text,
    /// A text in the source itself.
    Literal,
    Texts,
    /// Text, list, map.
    Sized,
    Scalar,
    /// Text or number.
    Numeric,
    /// Text or bool.
    Truth,
    /// Text or version.
    Version,
}

struct Form {
    name: &'static str,
    function: Function,
    style: Style,
    /// Of a method the first is what stands before the dot.
    slots: &'static [Slot],
    /// How many of the slots must be filled.
    required: usize,
    /// How the call looks, for messages.
    shape: &'static str,
}

const fn form(
    name: &'static str,
    function: Function,
    style: Style,
    slots: &'static [Slot],
    required: usize,
    shape: &'static str,
) -> Form {
    Form { name, function, style, slots, required, shape }
}

/// `hash` takes as many globs as this: more than any list of lock files.
const GLOBS: [Slot; 32] = [Slot::Literal; 32];

const FORMS: [Form; 18] = [
    form("hash", Function::Hash, Style::Function, &GLOBS, 1, "hash(\"glob\", …)"),
    form("semver", Function::Semver, Style::Function, &[Slot::Version], 1, "semver(text)"),
    form("env", Function::Env, Style::Function, &[Slot::Literal], 1, "env(\"NAME\")"),
    form("size", Function::Size, Style::Both, &[Slot::Sized], 1, "size(x)"),
    form("string", Function::String, Style::Function, &[Slot::Scalar], 1, "string(x)"),
    form("int", Function::Int, Style::Function, &[Slot::Numeric], 1, "int(x)"),
    form("double", Function::Double, Style::Function, &[Slot::Numeric], 1, "double(x)"),
    form("bool", Function::Bool, Style::Function, &[Slot::Truth], 1, "bool(x)"),
    form("contains", Function::Contains, Style::Method, &[Slot::Text; 2], 2, "text.contains(part)"),
    form("startsWith", Function::StartsWith, Style::Method, &[Slot::Text; 2], 2, "text.startsWith(start)"),
    form("endsWith", Function::EndsWith, Style::Method, &[Slot::Text; 2], 2, "text.endsWith(end)"),
    form("matches", Function::Matches, Style::Both, &[Slot::Text; 2], 2, "text.matches(r\"pattern\")"),
    form("lowerAscii", Function::LowerAscii, Style::Method, &[Slot::Text], 1, "text.lowerAscii()"),
    form("upperAscii", Function::UpperAscii, Style::Method, &[Slot::Text], 1, "text.upperAscii()"),
    form("replace", Function::Replace, Style::Method, &[Slot::Text; 3], 3, "text.replace(part, by)"),
    form("split", Function::Split, Style::Method, &[Slot::Text; 2], 2, "text.split(separator)"),
    form("trim", Function::Trim, Style::Method, &[Slot::Text], 1, "text.trim()"),
    form("join", Function::Join, Style::Method, &[Slot::Texts, Slot::Text], 1, "list.join(separator)"),
];

const MACROS: [(&str, Macro); 5] = [
    ("all", Macro::All),
    ("exists", Macro::Exists),
    ("exists_one", Macro::ExistsOne),
    ("filter", Macro::Filter),
    ("map", Macro::Map),
];

/// What to say when a function's name stands where a field was read.
pub(super) fn method_hint(name: &str) -> Option<String> {
    FORMS.iter().find(|form| form.name == name).map(|form| format!("that is a function: `{}`", form.shape))
}

/// Every function and macro.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.name).chain(MACROS.map(|(name, _)| name)).chain(["has"])
}

impl Slot {
    fn takes(self, ty: &Type) -> bool {
        let one_of = |types: &[Type]| types.iter().any(|wanted| ty.fits(wanted));
        match self {
            Slot::Text | Slot::Literal => one_of(&[Type::String]),
            Slot::Texts => one_of(&[Type::List(Box::new(Type::String))]),
            Slot::Sized => matches!(ty, Type::String | Type::List(_) | Type::Map(_) | Type::Dyn),
            Slot::Scalar => !matches!(ty, Type::List(_) | Type::Map(_) | Type::Null),
            Slot::Numeric => one_of(&[Type::Int, Type::Double, Type::String]),
            Slot::Truth => one_of(&[Type::Bool, Type::String]),
            Slot::Version => one_of(&[Type::String, Type::Semver]),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Slot::Text | Slot::Literal => "a string",
            Slot::Texts => "a list<string>",
            Slot::Sized => "a string, list or map",
            Slot::Scalar => "a string, number, bool or version",
            Slot::Numeric => "a string or number",
            Slot::Truth => "a string or bool",
            Slot::Version => "a string or version",
        }
    }
}

fn result(function: Function) -> Type {
    match function {
        Function::Semver => Type::Semver,
        Function::Size | Function::Int => Type::Int,
        Function::Double => Type::Double,
        Function::Bool | Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => {
            Type::Bool
        }
        Function::Split => Type::List(Box::new(Type::String)),
        Function::Hash
        | Function::Env
        | Function::String
        | Function::LowerAscii
        | Function::UpperAscii
        | Function::Replace
        | Function::Trim
        | Function::Join => Type::String,
    }
}

impl Checker<'_> {
    pub(super) fn call(&mut self, node: &Node, call: &Call) -> Option<Typed> {
        let of_macro = MACROS.into_iter().find(|(name, _)| *name == call.name);
        match (&call.target, of_macro) {
            (Some(target), Some((_, kind))) => return self.fold(node, target, call, kind),
            (None, _) if call.name == "has" => return self.has(node, call),
            _ => {}
        }
        let Some(form) = FORMS.iter().find(|form| form.name == call.name) else {
            return self.unknown_function(call);
        };
        self.style(call, form)?;
        let arguments: Vec<&Node> = call.target.as_deref().into_iter().chain(&call.arguments).collect();
        self.count(call, form, arguments.len())?;
        let typed: Vec<Option<Typed>> = arguments.iter().map(|argument| self.node(argument)).collect();
        let typed: Vec<Typed> = typed.into_iter().collect::<Option<_>>()?;
        let mut fine = Some(());
        for ((argument, typed), slot) in arguments.iter().zip(&typed).zip(form.slots) {
            fine = self.argument(form, argument, typed, *slot).and(fine);
        }
        fine?;
        let exprs: Vec<Expr> = typed.into_iter().map(|typed| typed.expr).collect();
        self.literals(form, &arguments, &exprs)?;
        self.typed(node, ExprKind::Call(form.function, exprs), result(form.function))
    }

    fn unknown_function<T>(&mut self, call: &Call) -> Option<T> {
        let names = FORMS.iter().map(|form| form.name).chain(MACROS.map(|(name, _)| name)).chain(["has"]);
        let near = || {
            let near = nearest(&call.name, names)?;
            let shape = FORMS.iter().find(|form| form.name == near).map_or(near, |form| form.shape);
            Some(format!("there is `{shape}`"))
        };
        let of_macro = || {
            let known = MACROS.iter().any(|(name, _)| *name == call.name);
            known.then(|| format!("it stands behind a list: `list.{}(x, …)`", call.name))
        };
        let help = of_macro().or_else(|| foreign::function(&call.name).map(String::from)).or_else(near);
        let message = format!("there is no function `{}`", call.name);
        let fault = Fault::new(&codes::NO_FUNCTION, call.name_range.clone(), message, "not a function of expressions");
        self.report(fault.help_if(help))
    }

    fn style(&mut self, call: &Call, form: &Form) -> Option<()> {
        let fine = match form.style {
            Style::Function => call.target.is_none(),
            Style::Method => call.target.is_some(),
            Style::Both => true,
        };
        if fine {
            return Some(());
        }
        let written = if call.target.is_some() { "behind a dot" } else { "like a function" };
        let message = format!("`{}` is not called {written}", call.name);
        let fault = Fault::new(&codes::ARGUMENTS, call.name_range.clone(), message, "");
        let help = match (call.arguments.as_slice(), form.style) {
            ([of, rest @ ..], Style::Method) if form.slots.len() == call.arguments.len() => {
                let rest: Vec<&str> = rest.iter().map(|node| self.text(node)).collect();
                format!("write `{}.{}({})`", self.text(of), form.name, rest.join(", "))
            }
            _ => format!("write `{}`", form.shape),
        };
        self.report(fault.help(help))
    }

    fn count(&mut self, call: &Call, form: &Form, found: usize) -> Option<()> {
        if (form.required..=form.slots.len()).contains(&found) {
            return Some(());
        }
        let receiver = usize::from(call.target.is_some());
        let (least, most, found) = (form.required - receiver, form.slots.len() - receiver, found - receiver);
        let wanted = match (least, most) {
            (0, 0) => "no argument".to_string(),
            (1, 1) => "one argument".to_string(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        let message = format!("`{}` takes {wanted}, not {found}", form.name);
        let fault = Fault::new(&codes::ARGUMENTS, call.name_range.clone(), message, "");
        self.report(fault.help(format!("write `{}`", form.shape)))
    }

    fn argument(&mut self, form: &Form, node: &Node, typed: &Typed, slot: Slot) -> Option<()> {
        if !slot.takes(&typed.ty) {
            let message = format!("`{}` wants {} here, this is of type {}", form.name, slot.words(), typed.ty);
            let fault = Fault::new(&codes::WRONG_TYPE, node.range.clone(), message, format!("{} here", typed.ty));
            let hint = (slot == Slot::Text && matches!(typed.ty, Type::Int | Type::Double | Type::Bool | Type::Semver))
                .then(|| format!("make it a text: `string({})`", self.text(node)));
            return self.report(fault.help_if(hint));
        }
        if slot == Slot::Literal && !matches!(typed.expr.kind, ExprKind::Literal(_)) {
            let message =
                format!("`{}` wants a text in quotes here, not a value that is known only when it runs", form.name);
            let fault = Fault::new(&codes::NOT_LITERAL, node.range.clone(), message, "not a literal text");
            return self.report(fault.help("what it reads must be known before the run is planned"));
        }
        Some(())
    }

    /// What is known to be wrong about literal arguments before anything runs.
    fn literals(&mut self, form: &Form, nodes: &[&Node], exprs: &[Expr]) -> Option<()> {
        for (index, (node, expr)) in nodes.iter().zip(exprs).enumerate() {
            let ExprKind::Literal(Value::Text(text)) = &expr.kind else { continue };
            let wrong = match (form.function, index) {
                (Function::Matches, 1) => check_pattern(text)
                    .err()
                    .map(|why| ("regular expression", why.lines().last().unwrap_or("").to_string())),
                (Function::Semver, 0) => Semver::parse(text).err().map(|why| ("version", why.to_string())),
                (Function::Hash, _) => model::Glob::parse(text).err().map(|why| ("glob", why.to_string())),
                (Function::Env, _) if !is_variable(text) => {
                    Some(("name of a variable", "it is made of letters, digits and `_`".to_string()))
                }
                _ => None,
            };
            if let Some((what, why)) = wrong {
                let message = format!("this is not a {what}: {why}");
                return self.report(Fault::new(&codes::BAD_TEXT, node.range.clone(), message, format!("not a {what}")));
            }
        }
        Some(())
    }

    fn has(&mut self, node: &Node, call: &Call) -> Option<Typed> {
        let [of] = call.arguments.as_slice() else {
            let message = format!("`has` takes one argument, not {}", call.arguments.len());
            let fault = Fault::new(&codes::MACRO, call.name_range.clone(), message, "");
            return self.report(fault.help("write `has(steps.build.values.key)` or `has(map.key)`"));
        };
        let typed = self.node(of)?;
        if !matches!(of.kind, NodeKind::Select(..)) && !matches!(typed.expr.kind, ExprKind::Context(_)) {
            let message = "`has` asks whether a field is there, and this is not a field";
            let fault = Fault::new(&codes::MACRO, of.range.clone(), message, "not written like `x.field`");
            return self.report(fault.help("to look into a list or the keys of a map, write `key in map`"));
        }
        self.typed(node, ExprKind::Has(Box::new(typed.expr)), Type::Bool)
    }

    fn fold(&mut self, node: &Node, target: &Node, call: &Call, kind: Macro) -> Option<Typed> {
        let over = self.node(target);
        let (name, body) = self.macro_parts(call, kind)?;
        let over = over?;
        let item = match &over.ty {
            Type::List(item) => (**item).clone(),
            Type::Map(_) => Type::String,
            Type::Dyn => Type::Dyn,
            ty => {
                let message = format!("`{}` goes over a list or the keys of a map, this is of type {ty}", call.name);
                let fault = Fault::new(&codes::WRONG_TYPE, target.range.clone(), message, format!("{ty} here"));
                return self.report(fault);
            }
        };
        self.locals.push((name.to_string(), item.clone()));
        let body_typed = self.node(body);
        self.locals.pop();
        let body_typed = body_typed?;
        let (ty, body) = match kind {
            Macro::Map => (Type::List(Box::new(body_typed.ty)), body_typed.expr),
            Macro::Filter => (Type::List(Box::new(item)), self.bool(body, body_typed)?),
            Macro::All | Macro::Exists | Macro::ExistsOne => (Type::Bool, self.bool(body, body_typed)?),
        };
        self.typed(node, ExprKind::Macro(kind, Box::new(over.expr), name.to_string(), Box::new(body)), ty)
    }

    /// The variable and the body of a macro.
    fn macro_parts<'c>(&mut self, call: &'c Call, kind: Macro) -> Option<(&'c str, &'c Node)> {
        let shape = format!("write `list.{}(x, …)`", call.name);
        let [variable, body] = call.arguments.as_slice() else {
            let message = format!(
                "`{}` takes a variable and an expression: two arguments, not {}",
                call.name,
                call.arguments.len()
            );
            let fault = Fault::new(&codes::MACRO, call.name_range.clone(), message, "");
            let three = (kind == Macro::Map && call.arguments.len() == 3)
                .then(|| "filter first: `list.filter(x, condition).map(x, value)`".to_string());
            return self.report(fault.help(three.unwrap_or(shape)));
        };
        let NodeKind::Name(name) = &variable.kind else {
            let message = format!("the first argument of `{}` is the name of its variable", call.name);
            return self.report(Fault::new(&codes::MACRO, variable.range.clone(), message, "not a name").help(shape));
        };
        if ["event", "git", "run", "params", "env", "matrix", "secrets", "steps"].contains(&name.as_str()) {
            let message = format!("`{name}` is a context and cannot be a variable as well");
            let fault = Fault::new(&codes::MACRO, variable.range.clone(), message, "already taken");
            return self.report(fault.help(shape));
        }
        Some((name, body))
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
