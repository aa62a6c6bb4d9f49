//! The keyword tables: the decoder, the help for unknown keys, the JSON Schema and the reference page all read them.
//!
//! One keyword is one file with its name, type, text for people, example and reader; small maps stand beside the
//! keyword they belong to.

mod approve;
mod artifacts;
mod caches;
pub(crate) mod codes;
mod concurrency;
mod defaults;
mod env;
mod files;
mod graph;
mod matrix;
mod on;
mod params;
mod reports;
mod resources;
mod retry;
mod runs_on;
mod script;
mod services;
mod sla;
pub(crate) mod step;
mod templates;
mod timeout;
mod top;

pub(crate) use step::Work;
pub(crate) use top::{EXPANDED, INCLUDED, PIPELINE};

use crate::decode::{At, Decoder};

/// One keyword of a map that is decoded into a `T`.
pub(crate) struct Keyword<T: 'static> {
    pub entry: Entry,
    pub read: fn(&mut Decoder<'_>, At, &mut T),
}

/// The keywords of one map.
pub(crate) type Table<T> = &'static [&'static Keyword<T>];

/// What people and editors are told of a keyword.
pub(crate) struct Entry {
    pub name: &'static str,
    pub shape: Shape,
    /// Markdown, one paragraph.
    pub doc: &'static str,
    /// The keyword with a value, as it stands in a file; its first line alone is whole.
    pub example: &'static str,
    pub required: bool,
    /// What it is called in other systems: the help for an unknown key.
    pub also: &'static [&'static str],
}

/// What a value looks like.
pub(crate) enum Shape {
    /// Any text.
    Text,
    /// A text with `${{ }}`.
    Template,
    /// A bare expression of type bool.
    Condition,
    /// A name of letters, digits, `_` and `-`.
    Name,
    Bool,
    Whole(i64, i64),
    Number(f64, f64),
    Duration,
    Size,
    Glob,
    Path,
    /// Text, number, `true` or `false`.
    Scalar,
    /// A map in which nothing is written yet.
    Nothing,
    Words(&'static [&'static str]),
    List(&'static Shape),
    /// A map with free names.
    Named(&'static Shape),
    Map(&'static MapShape),
    Either(&'static [Shape]),
}

/// A map with keywords.
pub(crate) struct MapShape {
    /// What it is called in the reference and in the schema's `$defs`.
    pub name: &'static str,
    pub entries: fn() -> Vec<&'static Entry>,
    /// What free names may hold, where there are some beside the keywords.
    pub rest: Option<&'static Shape>,
}

pub(crate) fn entries<T>(table: Table<T>) -> Vec<&'static Entry> {
    table.iter().map(|keyword| &keyword.entry).collect()
}
