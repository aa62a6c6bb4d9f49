//! Names: contexts, their fields, steps and their values.

use std::ops::Range;

use model::StepId;
use model::expr::{ContextPath, ExprKind, Root, StepField, Value};

use super::check::{Checker, Typed, listed};
use super::parser::{Node, NodeKind};
use super::{Fault, Type, codes, foreign};
use crate::diagnostic::{Code, nearest};

const ROOTS: [(&str, Root); 8] = [
    ("event", Root::Event),
    ("git", Root::Git),
    ("run", Root::Run),
    ("params", Root::Params),
    ("env", Root::Env),
    ("matrix", Root::Matrix),
    ("secrets", Root::Secrets),
    ("values", Root::Values),
];

/// Fields of the contexts that are the same in every pipeline.
const FIELDS: [(Root, &str, Type); 13] = [
    (Root::Event, "kind", Type::String),
    (Root::Event, "title", Type::String),
    (Root::Event, "number", Type::Int),
    (Root::Event, "author", Type::String),
    (Root::Git, "branch", Type::String),
    (Root::Git, "tag", Type::String),
    (Root::Git, "commit", Type::String),
    (Root::Git, "short_sha", Type::String),
    (Root::Git, "message", Type::String),
    (Root::Git, "author", Type::String),
    (Root::Git, "target", Type::String),
    (Root::Run, "id", Type::String),
    (Root::Run, "number", Type::Int),
];

/// Every fixed field of a context.
#[cfg(test)]
pub(super) fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(_, name, _)| *name)
}

/// `root.a.b`, `root["a"].b`: a name and what follows it by literal names.
struct Chain<'n> {
    root: &'n str,
    root_range: Range<usize>,
    names: Vec<(&'n str, Range<usize>)>,
}

impl<'n> Chain<'n> {
    fn of(node: &'n Node) -> Option<Chain<'n>> {
        match &node.kind {
            NodeKind::Name(root) => Some(Chain { root, root_range: node.range.clone(), names: Vec::new() }),
            NodeKind::Select(of, name, range) => Chain::of(of)?.with(name, range.clone()),
            NodeKind::Index(of, key) => match &key.kind {
                NodeKind::Literal(Value::Text(name)) => Chain::of(of)?.with(name, key.range.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    fn with(mut self, name: &'n str, range: Range<usize>) -> Option<Self> {
        self.names.push((name, range));
        Some(self)
    }

    fn text(&self) -> String {
        let names = self.names.iter().map(|(name, _)| *name);
        std::iter::once(self.root).chain(names).collect::<Vec<_>>().join(".")
    }
}

impl Checker<'_> {
    /// What a node is, if it names something outside the expression; `Some(None)` when that was reported as wrong.
    pub(super) fn context(&mut self, node: &Node) -> Option<Option<Typed>> {
        let chain = Chain::of(node)?;
        if self.is_local(chain.root) {
            return None;
        }
        if chain.root == "steps" {
            return self.step(node, &chain);
        }
        let Some((_, root)) = ROOTS.into_iter().find(|(word, _)| *word == chain.root) else {
            return Some(self.unknown_root(&chain));
        };
        match chain.names.as_slice() {
            [] => Some(self.bare(&chain)),
            [(name, range)] => Some(self.of(node, root, name, range)),
            _ => None,
        }
    }

    fn unknown_root<T>(&mut self, chain: &Chain<'_>) -> Option<T> {
        let path = chain.text();
        let foreign = foreign::context(&path);
        let roots: Vec<&str> = ROOTS.iter().map(|(word, _)| *word).chain(["steps"]).collect();
        let locals = self.locals.iter().map(|(name, _)| name.as_str());
        let near = nearest(chain.root, roots.iter().copied().chain(locals)).map(|near| format!("there is `{near}`"));
        let all = || format!("an expression can name {}; a text stands in quotes", listed(roots.iter().copied()));
        let mut range = chain.root_range.clone();
        if foreign.is_some() {
            range.end = chain.names.last().map_or(range.end, |(_, last)| last.end);
        }
        let help = foreign.or(near).unwrap_or_else(all);
        let message = format!("there is no `{}`", chain.root);
        self.report(Fault::new(&codes::UNKNOWN, range, message, "not a name that is known here").help(help))
    }

    fn bare<T>(&mut self, chain: &Chain<'_>) -> Option<T> {
        let root = chain.root;
        let message = format!("`{root}` is not a value itself");
        let help = match root {
            "env" => "ask for one of its variables: `env.NAME`, or for the caller's: `env(\"NAME\")`".to_string(),
            "steps" => "ask for `steps.<id>.outcome` or `steps.<id>.values.<key>`".to_string(),
            _ => format!("ask for one of its fields by a literal name: `{root}.name`"),
        };
        let fault = Fault::new(&codes::NO_FIELD, chain.root_range.clone(), message, "a context, not a value");
        self.report(fault.help(help))
    }

    fn of(&mut self, node: &Node, root: Root, name: &str, range: &Range<usize>) -> Option<Typed> {
        let ty = match root {
            Root::Event | Root::Git | Root::Run => {
                FIELDS.into_iter().find(|(of, field, _)| *of == root && *field == name).map(|(_, _, ty)| ty)
            }
            Root::Params => self.types.params.get(name).map(|kind| Type::of_param(*kind)),
            Root::Env => self.types.env.contains(name).then_some(Type::String),
            Root::Matrix => self.types.matrix.get(name).cloned(),
            Root::Secrets => self.types.secrets.contains(name).then_some(Type::String),
            // The server knows them, and whoever checks a file here does not.
            Root::Values => Some(Type::String),
        };
        if root == Root::Params
            && let Some(tree) = self.types.bindings.get(name)
        {
            return self.substitute(node, tree, ty.unwrap_or(Type::Dyn));
        }
        match ty {
            Some(ty) => self.typed(node, ExprKind::Context(ContextPath::Of(root, name.to_string())), ty),
            None => self.unknown_name(root, name, range),
        }
    }

    fn unknown_name<T>(&mut self, root: Root, name: &str, range: &Range<usize>) -> Option<T> {
        let types = self.types;
        let names: Vec<&str> = match root {
            Root::Event | Root::Git | Root::Run => {
                FIELDS.iter().filter(|(of, ..)| *of == root).map(|(_, field, _)| *field).collect()
            }
            Root::Params => types.params.keys().map(String::as_str).collect(),
            Root::Env => types.env.iter().map(String::as_str).collect(),
            Root::Matrix => types.matrix.keys().map(String::as_str).collect(),
            Root::Secrets => types.secrets.iter().map(String::as_str).collect(),
            Root::Values => Vec::new(),
        };
        let (code, message, label): (&'static Code, _, _) = match root {
            Root::Event | Root::Git | Root::Run => {
                let word = ROOTS.iter().find(|(_, of)| *of == root).map_or("", |(word, _)| word);
                (&codes::NO_FIELD, format!("`{word}` has no field `{name}`"), "no such field")
            }
            Root::Params => (&codes::NO_PARAM, format!("there is no parameter `{name}`"), "not declared in `params`"),
            Root::Env => (&codes::NO_ENV, format!("there is no variable `{name}` in `env`"), "not set in `env`"),
            Root::Matrix => (&codes::NO_AXIS, format!("the matrix has no axis `{name}`"), "not an axis of this step"),
            Root::Secrets | Root::Values => {
                (&codes::NO_SECRET, format!("there is no secret `{name}` here"), "not in `secrets`")
            }
        };
        let near = self.nearest(name, names.iter().copied()).map(|near| format!("there is `{near}`"));
        let fault = Fault::new(code, range.clone(), message, label);
        let fault = match (near, names.is_empty()) {
            (Some(near), _) => fault.help(near),
            (None, false) => fault.help(format!("there is {}", listed(names.into_iter()))),
            (None, true) => fault.help(nothing(root)),
        };
        let caller = (root == Root::Env).then(|| format!("the caller's own variable is `env(\"{name}\")`"));
        self.report(fault.help_if(caller))
    }

    fn step(&mut self, node: &Node, chain: &Chain<'_>) -> Option<Option<Typed>> {
        if chain.names.is_empty() {
            return Some(self.bare(chain));
        }
        let Some((id, length)) = self.step_id(chain) else { return Some(self.unknown_step(chain)) };
        let path = match &chain.names[length..] {
            [("outcome", _)] => StepField::Outcome,
            [("values", _), (key, _)] => StepField::Value((*key).to_string()),
            [("outcome", _), _, ..] | [("values", _), _, _, ..] => return None,
            rest => return Some(self.not_a_field(chain, &id, length, rest)),
        };
        let first = chain.names[0].1.start;
        let last = chain.names[length - 1].1.end;
        if !self.types.ancestors.contains(&id) {
            return Some(self.not_an_ancestor(chain, length, first..last));
        }
        let path = ContextPath::Step(StepId::new(id), path);
        Some(self.typed(node, ExprKind::Context(path), Type::String))
    }

    /// The step that the names begin with, and of how many names its id is made: ids of template steps have dots.
    fn step_id(&self, chain: &Chain<'_>) -> Option<(String, usize)> {
        let id = |length: usize| {
            let name = chain.names[..length].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(".");
            let scoped = format!("{}{name}", self.types.scope);
            [scoped, name].into_iter().find(|id| self.types.all_steps.contains(id))
        };
        let ends = |length: &usize| matches!(chain.names.get(*length), None | Some(("outcome" | "values", _)));
        let longest_first = (1..=chain.names.len()).rev();
        let found = longest_first.clone().filter(ends).find_map(|length| Some((id(length)?, length)));
        found.or_else(|| longest_first.clone().find_map(|length| Some((id(length)?, length))))
    }

    fn unknown_step<T>(&mut self, chain: &Chain<'_>) -> Option<T> {
        let ends = |name: &str| matches!(name, "outcome" | "values" | "outputs" | "result" | "conclusion");
        let length = chain.names.iter().position(|(name, _)| ends(name)).unwrap_or(1).max(1);
        let (first, last) = (chain.names[0].1.start, chain.names[length - 1].1.end);
        let written = self.step_name(chain, length);
        let scope = self.types.scope;
        let known = self.types.all_steps.iter().map(|id| id.strip_prefix(scope).unwrap_or(id));
        let near = self.nearest(&written, known.clone()).map(|near| format!("there is a step `{near}`"));
        let all = known.clone().next().map(|_| format!("there is {}", listed(known)));
        let message = format!("there is no step `{written}`");
        let fault = Fault::new(&codes::NO_STEP, first..last, message, "no step has this id");
        self.report(fault.help_if(near.or(all)))
    }

    fn step_name(&self, chain: &Chain<'_>, length: usize) -> String {
        chain.names[..length].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(".")
    }

    fn not_a_field<T>(
        &mut self,
        chain: &Chain<'_>,
        id: &str,
        length: usize,
        rest: &[(&str, Range<usize>)],
    ) -> Option<T> {
        let name = self.step_name(chain, length);
        let whole = chain.root_range.start..chain.names[chain.names.len() - 1].1.end;
        let fault = match rest.first() {
            None => Fault::new(&codes::STEP_FIELD, whole, format!("the step `{id}` is not a value itself"), "a step")
                .help(format!("ask for `steps.{name}.outcome` or `steps.{name}.values.<key>`")),
            Some(("values", _)) => {
                Fault::new(&codes::STEP_FIELD, whole, "`values` is asked by a key", "no key follows")
                    .help(format!("ask for one: `steps.{name}.values.<key>`, or `has(steps.{name}.values.<key>)`"))
            }
            Some((field, range)) => {
                let message = format!("a step has no field `{field}`");
                let help = match *field {
                    "outputs" | "output" | "value" => format!("that is `steps.{name}.values.<key>` here"),
                    "result" | "conclusion" | "status" => format!("that is `steps.{name}.outcome` here"),
                    _ => match nearest(field, ["outcome", "values"]) {
                        Some(near) => format!("there is `{near}`"),
                        None => "a step has `outcome` and `values`".to_string(),
                    },
                };
                Fault::new(&codes::STEP_FIELD, range.clone(), message, "no such field").help(help)
            }
        };
        self.report(fault)
    }

    fn not_an_ancestor<T>(&mut self, chain: &Chain<'_>, length: usize, range: Range<usize>) -> Option<T> {
        let name = self.step_name(chain, length);
        let message = format!("step `{name}` need not have ended here");
        let fault = Fault::new(&codes::NOT_AN_ANCESTOR, range, message, "not among the steps this one depends on");
        self.report(fault.help(format!("add `{name}` to this step's `depends_on`")))
    }
}

fn nothing(root: Root) -> &'static str {
    match root {
        Root::Params => "declare it under `params:` at the top of the pipeline",
        Root::Env => "set it under `env:` of the pipeline or the step",
        Root::Matrix => "this step has no `matrix`",
        Root::Secrets => "name it in the step's `secrets:`",
        Root::Event | Root::Git | Root::Run | Root::Values => "",
    }
}
