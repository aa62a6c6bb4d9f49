//! Template uses become their steps: `use: t` with id `u` makes steps `u.…`, and a step `u` that waits for them.

use std::collections::HashMap;
use std::rc::Rc;

use model::Span;
use model::limits::{DIAGNOSTICS_MAX, EXPANSION_DEPTH_MAX, STEPS_MAX};

use super::codes::{DUPLICATE_ID, MATRIX_TWICE, TEMPLATE_DEPTH, UNKNOWN_DEPENDENCY, UNKNOWN_TEMPLATE};
use super::load::over;
use crate::decode::{FOUND_MAX, Text};
use crate::diagnostic::{Diagnostic, nearest};
use crate::keyword::Work;
use crate::keyword::codes::LIMIT;
use crate::raw::{RawMatrix, RawStep, RawTemplate};

/// Bytes of the steps after unfolding: as much as ten thousand steps with three kilobytes each.
const UNFOLDED_BYTES_MAX: usize = 32 << 20;

/// All steps, template uses unfolded.
#[derive(Default)]
pub(super) struct Unfolded {
    pub flats: Vec<Flat>,
    /// The pipeline itself, then each use; those around come before those within.
    pub frames: Vec<Frame>,
    /// A bound was passed: not all steps are here.
    pub full: bool,
}

/// One step after unfolding.
pub(super) struct Flat {
    /// With the ids of the uses it stands in: `u.test`.
    pub id: String,
    pub raw: Rc<RawStep>,
    /// What it is: a group stands for a use.
    pub group: bool,
    /// The use it stands in; 0: none.
    pub frame: usize,
    /// Full ids, with the places where they are written.
    pub depends_on: Vec<(String, Span)>,
    /// It has no dependency within its use.
    pub first: bool,
    /// Its own matrix or that of the use around it.
    pub matrix: Option<Rc<RawMatrix>>,
}

/// Where steps stand: the pipeline, or one use of a template.
#[derive(Default)]
pub(super) struct Frame {
    /// What ids in it begin with: `u.`; empty for the pipeline.
    pub prefix: String,
    pub parent: usize,
    /// The use has no dependency within the use around it.
    pub first: bool,
    /// The step with `use`, and its template.
    pub of: Option<(Rc<RawStep>, Rc<RawTemplate>)>,
    /// Full ids of what the use waits for.
    pub depends_on: Vec<(String, Span)>,
    pub matrix: Option<Rc<RawMatrix>>,
    /// Full id of the use whose matrix the steps share, or of the nearest use.
    pub scope: Option<String>,
}

/// Unfolds steps. `prefix`: what all ids begin with (of an expanded file; else empty).
pub(super) fn unfold(
    steps: &[Rc<RawStep>],
    templates: &[Rc<RawTemplate>],
    prefix: &str,
    out: &mut Vec<Diagnostic>,
) -> Unfolded {
    let mut known: HashMap<&str, &Rc<RawTemplate>> = HashMap::new();
    for template in templates {
        known.entry(template.name.value.as_str()).or_insert(template);
    }
    let root = Frame { prefix: prefix.to_string(), ..Frame::default() };
    let unfolded = Unfolded { flats: Vec::with_capacity(steps.len()), frames: vec![root], full: false };
    let mut unfolding = Unfolding { known, out, unfolded, way: Vec::new(), bytes: 0 };
    unfolding.steps(0, steps);
    unfolding.unfolded
}

struct Unfolding<'a> {
    known: HashMap<&'a str, &'a Rc<RawTemplate>>,
    out: &'a mut Vec<Diagnostic>,
    unfolded: Unfolded,
    /// The templates around, outermost first.
    way: Vec<String>,
    bytes: usize,
}

impl Unfolding<'_> {
    /// Unfolds the steps of a frame.
    fn steps(&mut self, frame: usize, steps: &[Rc<RawStep>]) {
        let ids = self.unique(steps);
        for step in steps {
            let Some(id) = &step.id else { continue };
            // The second step of an id was told of; its dependants mean the first.
            if ids.get(id.value.as_str()).is_none_or(|first| *first != id.span) || self.unfolded.full {
                continue;
            }
            let mut depends_on = self.dependencies(frame, step, id, &ids);
            let first = depends_on.is_empty();
            if first {
                depends_on.clone_from(&self.unfolded.frames[frame].depends_on);
            }
            self.step(frame, step, id, depends_on, first);
        }
    }

    /// Each id with its first place; a second place is an error.
    fn unique<'s>(&mut self, steps: &'s [Rc<RawStep>]) -> HashMap<&'s str, Span> {
        let mut ids: HashMap<&str, Span> = HashMap::with_capacity(steps.len());
        for id in steps.iter().filter_map(|step| step.id.as_ref()) {
            match ids.get(id.value.as_str()) {
                Some(_) if self.out.len() >= FOUND_MAX => {}
                Some(first) => {
                    let message = format!("two steps have the id `{}`", id.value);
                    let found = Diagnostic::error(&DUPLICATE_ID, id.span, message, "again").also(*first, "first here");
                    self.out.push(found.help("give one of them another id"));
                }
                None => {
                    ids.insert(&id.value, id.span);
                }
            }
        }
        ids
    }

    /// Full ids of what a step waits for by its own words.
    fn dependencies(
        &mut self,
        frame: usize,
        step: &RawStep,
        id: &Text,
        ids: &HashMap<&str, Span>,
    ) -> Vec<(String, Span)> {
        let mut depends_on: Vec<(String, Span)> = Vec::with_capacity(step.depends_on.len());
        let mut seen = std::collections::HashSet::new();
        for name in &step.depends_on {
            if !ids.contains_key(name.value.as_str()) {
                self.unknown(frame, id, name, ids);
            } else if seen.insert(name.value.as_str()) {
                depends_on.push((format!("{}{}", self.unfolded.frames[frame].prefix, name.value), name.span));
            }
        }
        depends_on
    }

    fn unknown(&mut self, frame: usize, id: &Text, name: &Text, ids: &HashMap<&str, Span>) {
        if self.out.len() >= FOUND_MAX {
            return;
        }
        let shown: String = name.value.chars().take(100).collect();
        let message = format!("step `{}` depends on `{shown}`, which does not exist", id.value);
        let found = Diagnostic::error(&UNKNOWN_DEPENDENCY, name.span, message, "no step has this id");
        let of_use = name.value.split_once('.').filter(|(of, _)| ids.contains_key(of));
        // The search looks at every id; beyond what is shown it would be for nobody.
        let near = if self.out.len() < DIAGNOSTICS_MAX { nearest(&name.value, ids.keys().copied()) } else { None };
        let help = match (near, of_use) {
            (Some(near), _) => Some(format!("there is a step `{near}`")),
            (None, Some((of, _))) => Some(format!("depend on `{of}`: it is done when all its steps are")),
            (None, None) if frame != 0 => Some("steps of a template depend on steps of the template only".to_string()),
            (None, None) if !self.unfolded.frames[0].prefix.is_empty() => Some(
                "steps of an expanded file depend on steps of the file only; they start after the step that expands it"
                    .to_string(),
            ),
            (None, None) => None,
        };
        self.out.push(found.help_if(help));
    }

    fn step(&mut self, frame: usize, step: &Rc<RawStep>, id: &Text, depends_on: Vec<(String, Span)>, first: bool) {
        let around = &self.unfolded.frames[frame];
        let full = format!("{}{}", around.prefix, id.value);
        let matrix = match (&step.matrix, &around.matrix) {
            (Some(own), Some(_)) => {
                let found = Diagnostic::error(
                    &MATRIX_TWICE,
                    own.span,
                    format!("step `{full}` has a matrix within a matrix"),
                    "a second one",
                );
                self.out.push(found.help("put the axes into the matrix of the `use`"));
                around.matrix.clone()
            }
            (own, around) => own.as_ref().or(around.as_ref()).cloned(),
        };
        if !self.fits(step, matrix.as_deref()) {
            return;
        }
        if step.key(Work::Use.word()).is_some() && step.key(Work::Cmd.word()).is_none() {
            return self.template(frame, step, full, depends_on, first, matrix);
        }
        self.unfolded.flats.push(Flat { id: full, raw: step.clone(), group: false, frame, depends_on, first, matrix });
    }

    /// Holds the bounds on how much a pipeline unfolds to.
    fn fits(&mut self, step: &RawStep, matrix: Option<&RawMatrix>) -> bool {
        let values = matrix.map_or(0, |matrix| {
            let axes: usize = matrix.matrix.axes.iter().map(|(_, values)| values.len()).sum();
            axes + 10 * (matrix.matrix.exclude.len() + matrix.matrix.include.len())
        });
        self.bytes += 64 + step.bytes + 64 * values;
        if self.unfolded.flats.len() >= STEPS_MAX {
            over(step.head, "steps", self.out);
            self.unfolded.full = true;
        } else if self.bytes > UNFOLDED_BYTES_MAX {
            let message = format!("the steps have more than {UNFOLDED_BYTES_MAX} bytes with all templates unfolded");
            self.out.push(Diagnostic::error(&LIMIT, step.head, message, "here it is over"));
            self.unfolded.full = true;
        }
        !self.unfolded.full
    }

    /// A use: its steps, and a group under its own id.
    fn template(
        &mut self,
        frame: usize,
        step: &Rc<RawStep>,
        full: String,
        depends_on: Vec<(String, Span)>,
        first: bool,
        matrix: Option<Rc<RawMatrix>>,
    ) {
        let (mut inner, scope) = (Vec::new(), self.unfolded.frames[frame].scope.clone());
        let shared = self.unfolded.frames[frame].matrix.clone();
        if let Some(template) = step.uses.as_ref().and_then(|name| self.known(name, frame)) {
            let carries = step.matrix.is_some() || shared.is_none();
            let within = Frame {
                prefix: format!("{full}."),
                parent: frame,
                first,
                of: Some((step.clone(), template.clone())),
                depends_on: depends_on.clone(),
                matrix,
                scope: if carries { Some(full.clone()) } else { scope },
            };
            let number = self.unfolded.frames.len();
            self.unfolded.frames.push(within);
            self.bytes += template.params.values().map(default_bytes).sum::<usize>();
            self.way.push(template.name.value.clone());
            let from = self.unfolded.flats.len();
            self.steps(number, &template.steps);
            self.way.pop();
            let own = self.unfolded.flats[from..].iter().filter(|flat| flat.frame == number);
            inner = own.map(|flat| (flat.id.clone(), step.head)).collect();
        }
        if inner.is_empty() {
            inner = depends_on;
        }
        // Within a use with a matrix the group has the matrix too: its neighbours wait for it cell by cell.
        self.unfolded.flats.push(Flat {
            id: full,
            raw: step.clone(),
            group: true,
            frame,
            depends_on: inner,
            first,
            matrix: shared,
        });
    }

    fn known(&mut self, name: &Text, frame: usize) -> Option<Rc<RawTemplate>> {
        let Some(template) = self.known.get(name.value.as_str()).copied() else {
            let shown: String = name.value.chars().take(100).collect();
            let found = Diagnostic::error(
                &UNKNOWN_TEMPLATE,
                name.span,
                format!("there is no template `{shown}`"),
                "no template has this name",
            );
            let help = match nearest(&name.value, self.known.keys().copied()) {
                Some(near) => format!("there is a template `{near}`"),
                None => "write it under `templates`, or `include` the file that has it".to_string(),
            };
            self.out.push(found.help(help));
            return None;
        };
        let round = self.way.iter().position(|on_way| *on_way == name.value);
        if round.is_none() && self.way.len() < EXPANSION_DEPTH_MAX {
            return Some(template.clone());
        }
        let names: Vec<&str> =
            self.way[round.unwrap_or(0)..].iter().map(String::as_str).chain([name.value.as_str()]).collect();
        let message = match round {
            Some(_) => format!("templates use each other without end: {}", names.join(" → ")),
            None => format!("templates use templates more than {EXPANSION_DEPTH_MAX} deep: {}", names.join(" → ")),
        };
        let mut found = Diagnostic::error(&TEMPLATE_DEPTH, name.span, message, format!("uses `{}`", name.value));
        if let Some((around, _)) = &self.unfolded.frames[frame].of
            && let Some(uses) = around.uses.as_ref().filter(|uses| uses.span != name.span)
        {
            found = found.also(uses.span, format!("uses `{}`", uses.value));
        }
        self.out.push(found);
        None
    }
}

fn default_bytes(param: &model::Param) -> usize {
    match &param.default {
        Some(model::expr::Value::Text(text)) => 64 + text.len(),
        _ => 64,
    }
}
