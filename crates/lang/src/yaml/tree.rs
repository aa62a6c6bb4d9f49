//! Parser events to the tree, within bounds, with every fault of the tree itself found in one go.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, options};
use model::Span;
use model::limits::{FILE_BYTES_MAX, YAML_ALIASES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};

use super::codes::{BAD_ALIAS, BAD_KEY, DUPLICATE_KEY, EMPTY, MERGE_KEY, SEVERAL_DOCUMENTS, TAG, TOO_BIG};
use super::{Document, Kind, Node, NodeId, Scalar, Size, Style, fault};
use crate::decode::FOUND_MAX;
use crate::diagnostic::Diagnostic;

/// Bytes of all texts with aliases followed: no honest file repeats itself eight times over.
const TEXT_BYTES_MAX: usize = 8 * FILE_BYTES_MAX;

/// Reads one document. `None`: there is no tree, and `out` says why.
pub(crate) fn parse(file: u16, text: &str, out: &mut Vec<Diagnostic>) -> Option<Document> {
    let mut builder = Builder {
        file,
        text,
        out,
        nodes: Vec::new(),
        size: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        aliases: 0,
        last: 0,
        root: None,
        documents: 0,
    };
    let options = options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: YAML_DEPTH_MAX,
        block_nesting_limit: YAML_DEPTH_MAX,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, at) = match event {
            Ok(event) => event,
            Err(error) => {
                let opened: Vec<Span> = builder.open.iter().filter(|open| open.flow).map(|open| open.span).collect();
                let fault = fault::explain(file, text, &error, &opened, builder.last);
                builder.out.push(fault);
                return None;
            }
        };
        let range = at.byte_range().unwrap_or(0..0);
        let span = Span { file, start: range.start as u32, end: range.end as u32 };
        if let Some(tag) = at.tag_span().and_then(|tag| tag.byte_range()) {
            builder.tag(Span { file, start: tag.start as u32, end: tag.end as u32 });
        }
        if !builder.event(event, span) {
            return None;
        }
        builder.last = builder.last.max(span.end);
    }
    let Some(root) = builder.root else {
        let at = Span { file, start: 0, end: 0 };
        let help = "the smallest pipeline is a `name` and one step with `id` and `cmd`; `pace init` writes a first one";
        builder.out.push(Diagnostic::error(&EMPTY, at, "the file is empty", "nothing is here").help(help));
        return None;
    };
    Some(Document { nodes: builder.nodes, size: builder.size, root })
}

struct Builder<'a> {
    file: u16,
    text: &'a str,
    out: &'a mut Vec<Diagnostic>,
    nodes: Vec<Node>,
    size: Vec<Size>,
    open: Vec<Open>,
    anchors: HashMap<usize, NodeId>,
    aliases: usize,
    /// End of the last event, where the search for an unclosed quote begins.
    last: u32,
    root: Option<NodeId>,
    documents: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    span: Span,
    flow: bool,
    map: bool,
    anchor: usize,
    children: Vec<NodeId>,
}

impl Builder<'_> {
    /// `false`: reading on makes no sense.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        use granit_parser::StructureStyle::Flow;
        match event {
            Event::DocumentStart(..) => self.document(span),
            Event::Scalar(text, style, anchor, _) => {
                let missing = span.start == span.end && style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.into_owned(), style: style_of(style), missing };
                let size = Size { nodes: 1, depth: 1, bytes: scalar.text.len() };
                self.close(span, Kind::Scalar(scalar), anchor, size)
            }
            Event::SequenceStart(style, anchor, _) => self.open(span, style == Flow, false, anchor),
            Event::MappingStart(style, anchor, _) => self.open(span, style == Flow, true, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::UnresolvedAlias(name) => {
                if self.out.len() >= FOUND_MAX {
                    return false;
                }
                let message = format!("the alias `*{name}` has no anchor `&{name}` before it");
                self.out.push(Diagnostic::error(&BAD_ALIAS, span, message, "no such anchor"));
                let nothing = Scalar { text: String::new(), style: Style::Plain, missing: true };
                self.close(span, Kind::Scalar(nothing), 0, Size { nodes: 1, depth: 1, bytes: 0 })
            }
            _ => true,
        }
    }

    fn document(&mut self, span: Span) -> bool {
        self.documents += 1;
        if self.documents > 1 {
            let at = Span { end: span.end.min(span.start + 3), ..span };
            self.out.push(
                Diagnostic::error(
                    &SEVERAL_DOCUMENTS,
                    at,
                    "a pipeline file is one YAML document",
                    "a second one begins",
                )
                .help("write a file for each pipeline, in the folder `.paceline/`"),
            );
        }
        self.documents == 1
    }

    fn tag(&mut self, at: Span) {
        if self.out.len() >= FOUND_MAX {
            return;
        }
        self.out.push(
            Diagnostic::error(&TAG, at, "a pipeline has no YAML tags", "a tag")
                .help("leave it out; to make a number a text, put it in quotes"),
        );
    }

    fn open(&mut self, span: Span, flow: bool, map: bool, anchor: usize) -> bool {
        if self.open.len() >= YAML_DEPTH_MAX {
            let message = format!("lists and maps are nested more than {YAML_DEPTH_MAX} deep");
            self.out.push(Diagnostic::error(&TOO_BIG, span, message, "one too many"));
            return false;
        }
        self.open.push(Open { span, flow, map, anchor, children: Vec::new() });
        true
    }

    fn end(&mut self, span: Span) -> bool {
        let Some(open) = self.open.pop() else { return true };
        let sizes = open.children.iter().map(|child| self.size[child.0 as usize]);
        let size = sizes.fold(Size { nodes: 1, depth: 1, bytes: 0 }, |sum, child| Size {
            nodes: sum.nodes + child.nodes,
            depth: sum.depth.max(child.depth + 1),
            bytes: sum.bytes + child.bytes,
        });
        let last = open.children.last().map_or(open.span.end, |child| self.nodes[child.0 as usize].span.end);
        let end = if open.flow { span.end } else { last.max(open.span.start) };
        let span = Span { end, ..open.span };
        let kind = if open.map { Kind::Map(self.entries(&open.children)) } else { Kind::List(open.children) };
        self.close(span, kind, open.anchor, size)
    }

    /// Pairs of key and value; keys that cannot be keys and keys that were there before are told and left out.
    fn entries(&mut self, children: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let mut entries = Vec::with_capacity(children.len() / 2);
        let mut seen: HashMap<String, Span> = HashMap::new();
        for pair in children.chunks_exact(2) {
            if self.out.len() >= FOUND_MAX {
                break;
            }
            let node = &self.nodes[pair[0].0 as usize];
            let at = node.span;
            let Kind::Scalar(Scalar { text, missing: false, .. }) = &node.kind else {
                let found = Diagnostic::error(&BAD_KEY, at, "a key is a single word or text", "this is none")
                    .help("text that begins with `{` or `[` wants quotes around it");
                self.out.push(found);
                continue;
            };
            if text == "<<" {
                let found =
                    Diagnostic::error(&MERGE_KEY, at, "the merge key `<<` is not part of YAML 1.2", "a merge key")
                        .help("write common keys once in `defaults`, or make the steps a template");
                self.out.push(found);
                continue;
            }
            match seen.get(text) {
                Some(first) => {
                    let found =
                        Diagnostic::error(&DUPLICATE_KEY, at, format!("the key `{text}` is written twice"), "again")
                            .also(*first, "first here")
                            .help("keep one of them");
                    self.out.push(found);
                }
                None => {
                    seen.insert(text.clone(), at);
                    entries.push((pair[0], pair[1]));
                }
            }
        }
        entries
    }

    fn alias(&mut self, anchor: usize, span: Span) -> bool {
        self.aliases += 1;
        if self.aliases > YAML_ALIASES_MAX {
            let message = format!("the file has more than {YAML_ALIASES_MAX} aliases");
            self.out.push(Diagnostic::error(&TOO_BIG, span, message, "one too many"));
            return false;
        }
        let Some(&target) = self.anchors.get(&anchor) else {
            let name = self.text.get(span.start as usize..span.end as usize).unwrap_or("*");
            let message = format!("the alias `{name}` stands inside of what it names");
            self.out.push(Diagnostic::error(&BAD_ALIAS, span, message, "it would contain itself"));
            return false;
        };
        self.attach(target, span)
    }

    /// Adds a finished node to the arena and to what it stands in.
    fn close(&mut self, span: Span, kind: Kind, anchor: usize, size: Size) -> bool {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { span: Span { file: self.file, ..span }, kind });
        self.size.push(size);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id, span)
    }

    fn attach(&mut self, id: NodeId, at: Span) -> bool {
        let Size { nodes, depth, bytes } = self.size[id.0 as usize];
        if nodes > YAML_NODES_MAX {
            let message = format!("with its aliases followed, the file has more than {YAML_NODES_MAX} values");
            self.out.push(Diagnostic::error(&TOO_BIG, at, message, "here it is over"));
            return false;
        }
        if bytes > TEXT_BYTES_MAX {
            let message = format!("with its aliases followed, the file has more than {TEXT_BYTES_MAX} bytes of text");
            self.out.push(Diagnostic::error(&TOO_BIG, at, message, "here it is over"));
            return false;
        }
        if depth > YAML_DEPTH_MAX {
            let message = format!("with its aliases followed, the file is nested more than {YAML_DEPTH_MAX} deep");
            self.out.push(Diagnostic::error(&TOO_BIG, at, message, "here it is over"));
            return false;
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.root = Some(id),
        }
        true
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::Single,
        ScalarStyle::DoubleQuoted => Style::Double,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    }
}
