//! YAML text to a tree of nodes that know their place. What the tree means is not decided here.

mod bytes;
mod codes;
mod fault;
mod scalar;
mod tree;

pub(crate) use bytes::text_of;
pub(crate) use codes::YAML;
pub(crate) use tree::parse;

use model::Span;

pub(crate) use crate::span_map::Style;

/// A node's position in its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// One YAML document. Aliases are edges: a node may be reached on several ways, but never from itself.
#[derive(Debug)]
pub(crate) struct Document {
    nodes: Vec<Node>,
    size: Vec<Size>,
    pub root: NodeId,
}

/// How much a node is with all aliases followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub nodes: usize,
    pub depth: usize,
    /// Of its texts.
    pub bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<NodeId>),
    /// Keys are scalars, each text once.
    Map(Vec<(NodeId, NodeId)>),
}

/// A scalar with its quotes and escapes undone.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub text: String,
    pub style: Style,
    /// Nothing is written at all: `key:`.
    pub missing: bool,
}

impl Document {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Bytes of all its texts, with all aliases followed.
    pub(crate) fn bytes(&self, id: NodeId) -> usize {
        self.size[id.0 as usize].bytes
    }

    /// Where to point when the node as a whole is meant: at its first key or first character, not at all its lines.
    pub(crate) fn head(&self, id: NodeId) -> Span {
        let node = self.node(id);
        match &node.kind {
            Kind::Map(entries) if node.span.start == self.first(entries) => {
                entries.first().map_or(node.span, |(key, _)| self.node(*key).span)
            }
            _ => node.span,
        }
    }

    fn first(&self, entries: &[(NodeId, NodeId)]) -> u32 {
        entries.first().map_or(u32::MAX, |(key, _)| self.node(*key).span.start)
    }
}
