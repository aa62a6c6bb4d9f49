//! Syntax tree to typed tree: every operator with its types, every finding with its place.

use model::expr::{BinaryOp, ContextPath, Expr, ExprKind, Root, StepField, UnaryOp, Value};
use model::limits::{DIAGNOSTICS_MAX, EXPR_NODES_MAX, EXPR_TREE_DEPTH_MAX};

use super::parser::{Node, NodeKind};
use super::{Fault, Place, Type, Types, codes, trust};
use crate::diagnostic::{Diagnostic, nearest};

/// The typed tree, if nothing is wrong with it.
pub(super) fn check(
    node: &Node,
    source: &str,
    place: &Place<'_>,
    want: Option<Type>,
    types: &Types<'_>,
    out: &mut Vec<Diagnostic>,
) -> Option<Expr> {
    let mut checker = Checker { source, place, types, out, locals: Vec::new(), depth: 0, nodes: 0 };
    let found = checker.node(node)?;
    match want {
        Some(want) if !found.ty.fits(&want) => checker.wants(node, &found.ty, &want),
        _ => Some(found.expr),
    }
}

/// A checked expression and its type.
pub(super) struct Typed {
    pub expr: Expr,
    pub ty: Type,
}

/// Everything a check knows. A function that returns `None` has reported why.
pub(super) struct Checker<'a> {
    pub source: &'a str,
    pub place: &'a Place<'a>,
    pub types: &'a Types<'a>,
    pub out: &'a mut Vec<Diagnostic>,
    /// Variables of the macros around, the innermost last.
    pub locals: Vec<(String, Type)>,
    depth: usize,
    nodes: usize,
}

impl Checker<'_> {
    pub(super) fn node(&mut self, node: &Node) -> Option<Typed> {
        self.depth += 1;
        self.nodes += 1;
        let typed = match self.context(node) {
            Some(found) => found,
            None => self.form(node),
        };
        self.depth -= 1;
        typed
    }

    /// The source text of a node, for messages.
    pub(super) fn text(&self, node: &Node) -> &str {
        let text = self.source.get(node.range.clone()).unwrap_or("");
        if text.len() > 80 || text.contains('\n') { "…" } else { text }
    }

    /// The nearest name, as long as somebody will see it: among many steps the search takes its time.
    pub(super) fn nearest<'n>(&self, written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        if self.out.len() < DIAGNOSTICS_MAX { nearest(written, known) } else { None }
    }

    pub(super) fn report<T>(&mut self, fault: Fault) -> Option<T> {
        let report = self.place.report(fault);
        self.out.push(report);
        None
    }

    #[expect(clippy::unnecessary_wraps, reason = "the counterpart of report")]
    pub(super) fn typed(&self, node: &Node, kind: ExprKind, ty: Type) -> Option<Typed> {
        Some(Typed { expr: Expr { span: self.place.span(&node.range), kind }, ty })
    }

    pub(super) fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|(local, _)| local == name)
    }

    /// Puts the tree that a template's parameter stands for in its place.
    pub(super) fn substitute(&mut self, node: &Node, tree: &Expr, ty: Type) -> Option<Typed> {
        let (depth, nodes) = trust::measure(tree);
        self.nodes += nodes;
        if self.nodes > EXPR_NODES_MAX || self.depth + depth > EXPR_TREE_DEPTH_MAX {
            let message = format!(
                "with what the template's parameters stand for, this expression has more than {EXPR_NODES_MAX} parts \
                 or {EXPR_TREE_DEPTH_MAX} levels"
            );
            return self.report(Fault::new(&codes::LIMIT, node.range.clone(), message, "grows too large here"));
        }
        Some(Typed { expr: tree.clone(), ty })
    }

    fn form(&mut self, node: &Node) -> Option<Typed> {
        match &node.kind {
            NodeKind::Literal(value) => self.typed(node, ExprKind::Literal(value.clone()), Type::of_value(value)),
            NodeKind::Name(name) => self.local(node, name),
            NodeKind::Select(of, name, range) => self.select(node, of, name, range),
            NodeKind::Index(of, key) => self.index(node, of, key),
            NodeKind::Unary(op, of) => self.unary(node, *op, of),
            NodeKind::Binary(op, left, right, at) => {
                let (left_typed, right_typed) = (self.node(left), self.node(right));
                let ty = self.operator(*op, at, (left, left_typed.as_ref()?), (right, right_typed.as_ref()?))?;
                let (left, right) = (Box::new(left_typed?.expr), Box::new(right_typed?.expr));
                self.typed(node, ExprKind::Binary(*op, left, right), ty)
            }
            NodeKind::Choice(condition, yes, no) => self.choice(node, condition, yes, no),
            NodeKind::List(items) => self.list(node, items),
            NodeKind::Map(entries) => self.map(node, entries),
            NodeKind::Call(call) => self.call(node, call),
        }
    }

    fn local(&mut self, node: &Node, name: &str) -> Option<Typed> {
        // The check of contexts before this has refused every name that is not a variable.
        let ty = self.locals.iter().rev().find(|(local, _)| local == name).map_or(Type::Dyn, |(_, ty)| ty.clone());
        self.typed(node, ExprKind::Local(name.to_string()), ty)
    }

    fn select(&mut self, node: &Node, of: &Node, name: &str, range: &std::ops::Range<usize>) -> Option<Typed> {
        const VERSION: [&str; 5] = ["major", "minor", "patch", "pre", "build"];
        let of_typed = self.node(of)?;
        let ty = match (&of_typed.ty, name) {
            (Type::Map(value), _) => (**value).clone(),
            (Type::Dyn, _) => Type::Dyn,
            (Type::Semver, "major" | "minor" | "patch") => Type::Int,
            (Type::Semver, "pre" | "build") => Type::String,
            (Type::Semver, _) => {
                let message = format!("a version has no field `{name}`");
                let help = nearest(name, VERSION).map(|near| format!("there is `{near}`"));
                let all = "a version has `major`, `minor`, `patch`, `pre` and `build`".to_string();
                let fault = Fault::new(&codes::NO_FIELD, range.clone(), message, "no such field");
                return self.report(fault.help(help.unwrap_or(all)));
            }
            (ty, _) => {
                let message = format!("`{}` is of type {ty} and has no fields", self.text(of));
                let fault = Fault::new(&codes::NO_FIELD, range.clone(), message, "only maps and versions have fields");
                return self.report(fault.help_if(super::call::method_hint(name)));
            }
        };
        self.typed(node, ExprKind::Field(Box::new(of_typed.expr), name.to_string()), ty)
    }

    fn index(&mut self, node: &Node, of: &Node, key: &Node) -> Option<Typed> {
        let (of_typed, key_typed) = (self.node(of), self.node(key));
        let (of_typed, key_typed) = (of_typed?, key_typed?);
        let (ty, wanted) = match &of_typed.ty {
            Type::List(item) => ((**item).clone(), Type::Int),
            Type::Map(value) => ((**value).clone(), Type::String),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            ty => {
                let message =
                    format!("`{}` is of type {ty}, and only lists and maps are asked with `[…]`", self.text(of));
                return self.report(Fault::new(&codes::WRONG_TYPE, of.range.clone(), message, format!("{ty} here")));
            }
        };
        if !key_typed.ty.fits(&wanted) {
            let (of_type, found) = (of_typed.ty, key_typed.ty);
            let message =
                format!("{} is asked with {}, this is of type {found}", of_type.with_article(), wanted.with_article());
            return self.report(Fault::new(&codes::WRONG_TYPE, key.range.clone(), message, format!("{found} here")));
        }
        self.typed(node, ExprKind::Index(Box::new(of_typed.expr), Box::new(key_typed.expr)), ty)
    }

    fn unary(&mut self, node: &Node, op: UnaryOp, of: &Node) -> Option<Typed> {
        let typed = self.node(of)?;
        let fine = match op {
            UnaryOp::Not => typed.ty.fits(&Type::Bool),
            UnaryOp::Minus => typed.ty.fits(&Type::Int) || typed.ty.fits(&Type::Double),
        };
        if !fine {
            let (sign, wanted) = if op == UnaryOp::Not { ("!", "a bool") } else { ("-", "a number") };
            let message = format!("`{sign}` wants {wanted}, this is of type {}", typed.ty);
            let fault = Fault::new(&codes::WRONG_TYPE, of.range.clone(), message, format!("{} here", typed.ty));
            let hint = (op == UnaryOp::Not).then(|| self.bool_hint(of, &typed.ty)).flatten();
            return self.report(fault.help_if(hint));
        }
        let ty = if op == UnaryOp::Not { Type::Bool } else { typed.ty };
        self.typed(node, ExprKind::Unary(op, Box::new(typed.expr)), ty)
    }

    fn choice(&mut self, node: &Node, condition: &Node, yes: &Node, no: &Node) -> Option<Typed> {
        let condition_typed = self.node(condition);
        let (yes_typed, no_typed) = (self.node(yes), self.node(no));
        let condition = self.bool(condition, condition_typed?);
        let (yes_typed, no_typed) = (yes_typed?, no_typed?);
        if !yes_typed.ty.fits(&no_typed.ty) {
            let message = format!("a choice has values of one type, these are {} and {}", yes_typed.ty, no_typed.ty);
            let fault = Fault::new(&codes::DIFFERENT_TYPES, no.range.clone(), message, format!("{} here", no_typed.ty));
            return self.report(fault.also(yes.range.clone(), format!("{} here", yes_typed.ty)));
        }
        let ty = Type::common([yes_typed.ty, no_typed.ty]);
        let (yes, no) = (Box::new(yes_typed.expr), Box::new(no_typed.expr));
        self.typed(node, ExprKind::Choice(Box::new(condition?), yes, no), ty)
    }

    fn list(&mut self, node: &Node, items: &[Node]) -> Option<Typed> {
        let typed: Vec<Option<Typed>> = items.iter().map(|item| self.node(item)).collect();
        let typed: Vec<Typed> = typed.into_iter().collect::<Option<_>>()?;
        let ty = Type::common(typed.iter().map(|item| item.ty.clone()));
        let items = typed.into_iter().map(|item| item.expr).collect();
        self.typed(node, ExprKind::List(items), Type::List(Box::new(ty)))
    }

    fn map(&mut self, node: &Node, entries: &[(Node, Node)]) -> Option<Typed> {
        let mut made = Vec::new();
        let mut types = Vec::new();
        let mut fine = true;
        for (key_node, value) in entries {
            let (key, value) = (self.node(key_node), self.node(value));
            let (Some(key), Some(value)) = (key, value) else {
                fine = false;
                continue;
            };
            if !key.ty.fits(&Type::String) {
                let message = format!("a key of a map is a string, this is of type {}", key.ty);
                let fault = Fault::new(&codes::WRONG_TYPE, key_node.range.clone(), message, format!("{} here", key.ty));
                self.report::<()>(fault);
                fine = false;
            }
            types.push(value.ty);
            made.push((key.expr, value.expr));
        }
        let ty = Type::Map(Box::new(Type::common(types)));
        if fine { self.typed(node, ExprKind::Map(made), ty) } else { None }
    }

    /// The expression, if it is a bool.
    pub(super) fn bool(&mut self, node: &Node, typed: Typed) -> Option<Expr> {
        if typed.ty.fits(&Type::Bool) { Some(typed.expr) } else { self.wants(node, &typed.ty, &Type::Bool) }
    }

    fn wants<T>(&mut self, node: &Node, found: &Type, want: &Type) -> Option<T> {
        let message = format!("{} is wanted here, this is of type {found}", want.with_article());
        let fault = Fault::new(&codes::WANTED, node.range.clone(), message, format!("{found} here"));
        let hint = match want {
            Type::Bool => self.bool_hint(node, found),
            Type::String if matches!(found, Type::Int | Type::Double | Type::Bool | Type::Semver) => {
                Some(format!("make it a text: `string({})`", self.text(node)))
            }
            _ => None,
        };
        self.report(fault.help_if(hint))
    }

    /// The source text of a node, fit to stand beside an operator.
    fn operand(&self, node: &Node) -> String {
        let text = self.text(node);
        let whole = text.starts_with('(') && text.ends_with(')');
        match node.kind {
            NodeKind::Choice(..) | NodeKind::Binary(..) if !whole => format!("({text})"),
            _ => text.to_string(),
        }
    }

    /// How to make a condition of something that is none.
    fn bool_hint(&self, node: &Node, found: &Type) -> Option<String> {
        let (text, operand) = (self.text(node), self.operand(node));
        match (&node.kind, found) {
            (NodeKind::Literal(Value::Text(word)), _) if word == "true" || word == "false" => {
                Some(format!("leave the quotes away: `{word}`"))
            }
            (_, Type::String) => Some(format!("compare it with something, such as `{operand} != \"\"`")),
            (_, Type::Int) => Some(format!("compare it with something, such as `{operand} != 0`")),
            (_, Type::List(_) | Type::Map(_)) => Some(format!("ask how many there are: `size({text}) > 0`")),
            _ => None,
        }
    }

    /// The type of `left op right`.
    fn operator(
        &mut self,
        op: BinaryOp,
        at: &std::ops::Range<usize>,
        left: (&Node, &Typed),
        right: (&Node, &Typed),
    ) -> Option<Type> {
        let (l, r) = (&left.1.ty, &right.1.ty);
        match op {
            BinaryOp::And | BinaryOp::Or => {
                let check = |checker: &mut Self, (node, typed): (&Node, &Typed)| {
                    if typed.ty.fits(&Type::Bool) { Some(()) } else { checker.wants(node, &typed.ty, &Type::Bool) }
                };
                let both = (check(self, left), check(self, right));
                both.0.and(both.1).map(|()| Type::Bool)
            }
            BinaryOp::Equal | BinaryOp::NotEqual => {
                if !l.fits(r) {
                    return self.different(op, left, right);
                }
                self.never(left, right)?;
                self.never(right, left)?;
                Some(Type::Bool)
            }
            BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::GreaterEqual => {
                if !l.fits(r) {
                    return self.different(op, left, right);
                }
                if matches!(l, Type::List(_) | Type::Map(_) | Type::Null) {
                    let message = format!("values of type {l} have no order");
                    return self.report(Fault::new(
                        &codes::WRONG_TYPE,
                        at.clone(),
                        message,
                        "nothing is smaller or larger",
                    ));
                }
                Some(Type::Bool)
            }
            BinaryOp::In => self.membership(left, right),
            BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => {
                self.arithmetic(op, at, left, right)
            }
        }
    }

    fn membership(&mut self, left: (&Node, &Typed), right: (&Node, &Typed)) -> Option<Type> {
        let (l, r) = (&left.1.ty, &right.1.ty);
        let fine = match r {
            Type::List(item) => l.fits(item),
            Type::Map(_) => l.fits(&Type::String),
            Type::Dyn => true,
            _ => {
                let message = format!("`in` wants a list or a map on its right, this is of type {r}");
                let fault = Fault::new(&codes::WRONG_TYPE, right.0.range.clone(), message, format!("{r} here"));
                let hint = (*r == Type::String && *l == Type::String)
                    .then(|| format!("write `{}.contains({})`", self.text(right.0), self.text(left.0)));
                return self.report(fault.help_if(hint));
            }
        };
        if !fine {
            let message = format!("{} is never in {}", l.with_article(), r.with_article());
            let fault = Fault::new(&codes::DIFFERENT_TYPES, left.0.range.clone(), message, format!("{l} here"));
            return self.report(fault.also(right.0.range.clone(), format!("{r} here")));
        }
        Some(Type::Bool)
    }

    fn arithmetic(
        &mut self,
        op: BinaryOp,
        at: &std::ops::Range<usize>,
        left: (&Node, &Typed),
        right: (&Node, &Typed),
    ) -> Option<Type> {
        let (l, r) = (&left.1.ty, &right.1.ty);
        let can = |ty: &Type| match ty {
            Type::Int | Type::Dyn => true,
            Type::Double => op != BinaryOp::Remainder,
            Type::String | Type::List(_) => op == BinaryOp::Add,
            _ => false,
        };
        if can(l) && can(r) && l.fits(r) {
            return Some(if l == r { l.clone() } else { joined(l, r) });
        }
        let sign = &self.source[at.clone()];
        let message = format!("`{sign}` cannot take {} and {}", l.with_article(), r.with_article());
        let hint = match (l, r) {
            (Type::String, Type::Int | Type::Double | Type::Bool | Type::Semver) if op == BinaryOp::Add => {
                Some(format!("make it a text: `string({})`", self.text(right.0)))
            }
            (Type::Int | Type::Double | Type::Bool | Type::Semver, Type::String) if op == BinaryOp::Add => {
                Some(format!("make it a text: `string({})`", self.text(left.0)))
            }
            (Type::Int, Type::Double) => Some(format!("make both doubles: `double({})`", self.text(left.0))),
            (Type::Double, Type::Int) => Some(format!("make both doubles: `double({})`", self.text(right.0))),
            _ => None,
        };
        let fault = Fault::new(&codes::WRONG_TYPE, at.clone(), message, "")
            .also(left.0.range.clone(), format!("{l} here"))
            .also(right.0.range.clone(), format!("{r} here"));
        self.report(fault.help_if(hint))
    }

    fn different<T>(&mut self, op: BinaryOp, left: (&Node, &Typed), right: (&Node, &Typed)) -> Option<T> {
        let (l, r) = (&left.1.ty, &right.1.ty);
        let equality = matches!(op, BinaryOp::Equal | BinaryOp::NotEqual);
        let never = if equality { "they are never equal" } else { "there is no order between them" };
        let message = format!("{} and {} cannot be compared: {never}", l.with_article(), r.with_article());
        let hint = self.comparison_hint(op, left, right).or_else(|| self.comparison_hint(op, right, left));
        let fault = Fault::new(&codes::DIFFERENT_TYPES, right.0.range.clone(), message, format!("{r} here"))
            .also(left.0.range.clone(), format!("{l} here"));
        self.report(fault.help_if(hint))
    }

    /// What was probably meant by comparing `value` with something of another type.
    fn comparison_hint(&self, op: BinaryOp, value: (&Node, &Typed), other: (&Node, &Typed)) -> Option<String> {
        let text = self.text(value.0);
        match (&value.1.ty, &other.0.kind, &other.1.ty) {
            (Type::Bool, NodeKind::Literal(Value::Text(word)), _) if word == "true" || word == "false" => {
                let not = if (word == "true") == (op == BinaryOp::Equal) { "" } else { "!" };
                Some(format!("`{text}` is true or false itself: write `{not}{}`", self.operand(value.0)))
            }
            (Type::Int, NodeKind::Literal(Value::Text(number)), _) if number.parse::<i64>().is_ok() => {
                Some(format!("leave the quotes away: `{number}`"))
            }
            (Type::String, _, Type::Int) if !matches!(value.0.kind, NodeKind::Literal(_)) => {
                Some(format!("make it a number: `int({text})`"))
            }
            (Type::Int, _, Type::Double) => Some(format!("make it a double: `double({text})`")),
            (Type::String, _, Type::Semver) => Some(format!("make it a version: `semver({text})`")),
            (_, NodeKind::Literal(Value::Null), _) => Some(match &value.1.ty {
                Type::String => format!("nothing is null here; what is not known is an empty text: `{text} == \"\"`"),
                _ => "nothing is null here".to_string(),
            }),
            _ => None,
        }
    }

    /// Refuses a comparison with a word that the value never is.
    fn never(&mut self, value: (&Node, &Typed), with: (&Node, &Typed)) -> Option<()> {
        const KINDS: &[&str] = &["manual", "push", "pull_request", "schedule"];
        const OUTCOMES: &[&str] = &["success", "failure", "skipped", "cancelled"];
        let (ExprKind::Context(path), ExprKind::Literal(Value::Text(word))) = (&value.1.expr.kind, &with.1.expr.kind)
        else {
            return Some(());
        };
        let words = match path {
            ContextPath::Of(Root::Event, field) if field == "kind" => KINDS,
            ContextPath::Step(_, StepField::Outcome) => OUTCOMES,
            _ => return Some(()),
        };
        if words.contains(&word.as_str()) {
            return Some(());
        }
        let message = format!("`{}` is never `{word}`", self.text(value.0));
        let fault = Fault::new(&codes::NEVER, with.0.range.clone(), message, "not one of its words");
        let near = nearest(word, words.iter().copied()).map(|near| format!("there is `{near}`"));
        let all = format!("it is {}", listed(words.iter().copied()));
        self.report(fault.help(near.unwrap_or(all)))
    }
}

/// The type of a sum of two types that fit but are not the same: one of them is not known.
fn joined(left: &Type, right: &Type) -> Type {
    match (left, right) {
        (Type::List(_), _) | (_, Type::List(_)) => Type::List(Box::new(Type::Dyn)),
        _ => Type::Dyn,
    }
}

/// `a`, `b` or `c`; a long list is cut.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 9;
    let mut names: Vec<String> = names.take(SHOWN + 1).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        names[SHOWN] = "others".to_string();
    }
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} or {last}", names.join(", ")),
        Some(only) => only,
        None => String::new(),
    }
}
