//! Directory trees by content: persistent, so that a tree with a layer over it shares what the layer did not touch.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use model::{Digest, GlobList};

use crate::{Layer, LayerEntry, LayerKind, Store, StoreError, reapi};

/// A directory tree. Cheap to clone.
#[derive(Clone)]
pub struct Tree(Arc<Node>);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEntry {
    /// A file.
    File {
        /// Content.
        digest: Digest,
        /// May be executed.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Arc<str>,
    },
    /// A directory.
    Dir,
}

/// A difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: String,
    /// What.
    pub kind: ChangeKind,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only in the later tree.
    Added,
    /// Only in the earlier tree.
    Removed,
    /// Other bytes, or another target of a symbolic link.
    Content,
    /// Same bytes, but executable or no longer so.
    Executable,
    /// A file became a link, or the like.
    Kind,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A path that cannot be in a tree.
    #[error("`{path}` cannot be in a tree: {reason}")]
    Path {
        /// The path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A stored directory is not one.
    #[error("blob {0} is not a directory message: {1}")]
    Malformed(Digest, &'static str),
    /// A stored tree is larger than any tree we make.
    #[error("the tree has more than {0}")]
    TooLarge(&'static str),
    /// A stored directory could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Directories within directories: deeper than any real project, shallow enough to walk by recursion.
pub const TREE_DEPTH_MAX: usize = 256;
/// Length of a path; Linux takes no longer one in a system call.
pub const PATH_BYTES_MAX: usize = 4096;
/// Files and links of a stored tree. The Linux kernel has 90,000.
pub const TREE_FILES_MAX: usize = 2_000_000;
/// One stored directory message: 300,000 files of a hundred bytes each.
pub const DIRECTORY_BYTES_MAX: usize = 32 << 20;

struct Node {
    /// Sorted by name.
    children: Vec<(Arc<str>, Child)>,
    /// Files and links below.
    leaves: usize,
    digest: OnceLock<Digest>,
}

#[derive(Clone)]
enum Child {
    File { digest: Digest, executable: bool },
    Symlink(Arc<str>),
    Dir(Arc<Node>),
}

impl Tree {
    /// A tree with nothing in it.
    pub fn empty() -> Tree {
        Tree(Node::new(Vec::new()))
    }
    /// A tree of these entries, in any order; directories on the way to them come by themselves.
    ///
    /// # Errors
    /// A path that is absolute, has `..` or an empty segment, is too deep, or stands there twice.
    pub fn from_entries<P: AsRef<str>>(entries: impl IntoIterator<Item = (P, TreeEntry)>) -> Result<Tree, TreeError> {
        let mut entries: Vec<(P, TreeEntry)> = entries.into_iter().collect();
        for (path, _) in &entries {
            check_path(path.as_ref()).map_err(|reason| path_error(path.as_ref(), reason))?;
        }
        if !entries.is_sorted_by(|a, b| path_order(a.0.as_ref(), b.0.as_ref()).is_lt()) {
            entries.sort_by(|a, b| path_order(a.0.as_ref(), b.0.as_ref()));
        }
        Ok(Tree(build(&entries, 0)?))
    }
    /// This tree with a layer laid over it.
    pub fn overlay(&self, layer: &Layer) -> Tree {
        if layer.entries.is_empty() { self.clone() } else { Tree(lay_over(Some(&self.0), &layer.entries, 0)) }
    }
    /// Only what the patterns take in; symbolic links stay links.
    pub fn filter(&self, globs: &GlobList) -> Tree {
        let filter = Filter { globs, grows_only: !globs.0.iter().any(model::Glob::is_negated) };
        Tree(filter.node(&self.0, &mut String::new()).unwrap_or_else(|| Node::new(Vec::new())))
    }
    /// Digest of the root directory message.
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }
    /// Hands every directory message to `visit`, the root first; below a directory only if `visit` says so.
    pub fn directories(&self, visit: &mut dyn FnMut(Digest, &[u8]) -> bool) {
        self.0.directories(visit);
    }
    /// Puts every directory message into the store (not the files), and returns the root's digest.
    ///
    /// # Errors
    /// The store refuses.
    pub fn put(&self, store: &Store) -> Result<Digest, StoreError> {
        let mut failed = None;
        self.directories(&mut |_, message| match store.put(message) {
            Ok(_) => failed.is_none(),
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        });
        failed.map_or_else(|| Ok(self.digest()), Err)
    }
    /// What stands at a path (`/` between segments; empty: the root).
    pub fn get(&self, path: &str) -> Option<TreeEntry> {
        let mut node = &self.0;
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        while let Some(name) = segments.next() {
            match node.child(name)? {
                Child::Dir(below) => node = below,
                leaf => return segments.peek().is_none().then(|| leaf.entry()),
            }
        }
        Some(TreeEntry::Dir)
    }
    /// Everything in it but the root, parents before children, names in byte order.
    pub fn entries(&self) -> Vec<(String, TreeEntry)> {
        let mut entries = Vec::with_capacity(self.0.leaves);
        self.0.walk(&mut String::new(), &mut |path, child| entries.push((path.to_string(), child.entry())));
        entries
    }
    /// Names in the directory at `path`, in byte order; `None` if there is no directory.
    pub fn names(&self, path: &str) -> Option<Vec<Arc<str>>> {
        let mut node = &self.0;
        for name in path.split('/').filter(|segment| !segment.is_empty()) {
            node = match node.child(name)? {
                Child::Dir(below) => below,
                _ => return None,
            };
        }
        Some(node.children.iter().map(|(name, _)| name.clone()).collect())
    }
    /// Files and links in it.
    pub fn len(&self) -> usize {
        self.0.leaves
    }
    /// Whether it has neither files nor links.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What `other`, the later one, has otherwise: files and links only.
    pub fn diff(&self, other: &Tree) -> Vec<Change> {
        let mut changes = Vec::new();
        diff_nodes(Some(&self.0), Some(&other.0), &mut String::new(), &mut changes);
        changes
    }
    /// Reads a tree from stored directory messages.
    ///
    /// # Errors
    /// A directory is missing, damaged or not canonical, or the tree is too deep or too large.
    pub fn load(digest: &Digest, store: &Store) -> Result<Tree, TreeError> {
        Loader { store, known: HashMap::new() }.node(digest, 0).map(Tree)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({} files)", self.len())
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.digest() == other.digest()
    }
}

impl Node {
    fn new(children: Vec<(Arc<str>, Child)>) -> Arc<Node> {
        let leaves = children.iter().map(|(_, child)| child.leaves()).fold(0usize, usize::saturating_add);
        Arc::new(Node { children, leaves, digest: OnceLock::new() })
    }

    fn child(&self, name: &str) -> Option<&Child> {
        let at = self.children.binary_search_by(|(other, _)| other.as_bytes().cmp(name.as_bytes())).ok()?;
        Some(&self.children[at].1)
    }

    fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Store::digest_of(&self.message()))
    }

    /// The REAPI `Directory` message, written straight from the children: this is most of what a tree costs, and
    /// through [`reapi::Directory`] it would cost three allocations a file more. A test holds the two together.
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.children.len() * 100);
        for (name, child) in &self.children {
            if let Child::File { digest, executable } = child {
                put_node(&mut message, FILES, name, digest, *executable);
            }
        }
        for (name, child) in &self.children {
            if let Child::Dir(node) = child {
                put_node(&mut message, DIRECTORIES, name, &node.digest(), false);
            }
        }
        for (name, child) in &self.children {
            if let Child::Symlink(target) = child {
                message.push(SYMLINKS);
                put_varint(&mut message, text_length(name) + text_length(target));
                put_text(&mut message, FIRST, name.as_bytes());
                put_text(&mut message, SECOND, target.as_bytes());
            }
        }
        message
    }

    fn directories(&self, visit: &mut dyn FnMut(Digest, &[u8]) -> bool) {
        if !visit(self.digest(), &self.message()) {
            return;
        }
        for (_, child) in &self.children {
            if let Child::Dir(node) = child {
                node.directories(visit);
            }
        }
    }

    fn walk(&self, path: &mut String, visit: &mut dyn FnMut(&str, &Child)) {
        for (name, child) in &self.children {
            let length = push_name(path, name);
            visit(path, child);
            if let Child::Dir(node) = child {
                node.walk(path, visit);
            }
            path.truncate(length);
        }
    }
}

impl Child {
    fn leaves(&self) -> usize {
        match self {
            Child::Dir(node) => node.leaves,
            _ => 1,
        }
    }

    fn entry(&self) -> TreeEntry {
        match self {
            Child::File { digest, executable } => TreeEntry::File { digest: *digest, executable: *executable },
            Child::Symlink(target) => TreeEntry::Symlink { target: target.clone() },
            Child::Dir(_) => TreeEntry::Dir,
        }
    }
}

// Keys of the protobuf wire format: field number, then 2 for "length and bytes" or 0 for "number".
const FILES: u8 = 1 << 3 | 2;
const DIRECTORIES: u8 = 2 << 3 | 2;
const SYMLINKS: u8 = 3 << 3 | 2;
const FIRST: u8 = 1 << 3 | 2;
const SECOND: u8 = 2 << 3 | 2;
const SIZE: u8 = 2 << 3;
const EXECUTABLE: u8 = 4 << 3;

/// A `FileNode` or `DirectoryNode`.
fn put_node(message: &mut Vec<u8>, field: u8, name: &str, digest: &Digest, executable: bool) {
    const HASH_LENGTH: u64 = 2 + 64;
    let size_length = if digest.size == 0 { 0 } else { 1 + varint_length(digest.size) };
    let digest_length = HASH_LENGTH + size_length;
    message.push(field);
    put_varint(
        message,
        text_length(name) + 1 + varint_length(digest_length) + digest_length + 2 * u64::from(executable),
    );
    put_text(message, FIRST, name.as_bytes());
    message.push(SECOND);
    put_varint(message, digest_length);
    put_text(message, FIRST, &hex_of(digest));
    if digest.size > 0 {
        message.push(SIZE);
        put_varint(message, digest.size);
    }
    if executable {
        message.extend([EXECUTABLE, 1]);
    }
}

fn put_text(message: &mut Vec<u8>, field: u8, text: &[u8]) {
    if !text.is_empty() {
        message.push(field);
        put_varint(message, text.len() as u64);
        message.extend_from_slice(text);
    }
}

fn text_length(text: &str) -> u64 {
    let length = text.len() as u64;
    if length == 0 { 0 } else { 1 + varint_length(length) + length }
}

pub(crate) fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn varint_length(value: u64) -> u64 {
    u64::from((70 - (value | 1).leading_zeros()) / 7)
}

fn hex_of(digest: &Digest) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 64];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest.hash) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    hex
}

/// Appends a name to a path; returns the length to go back to.
fn push_name(path: &mut String, name: &str) -> usize {
    let length = path.len();
    if length > 0 {
        path.push('/');
    }
    path.push_str(name);
    length
}

/// Order segment by segment: a directory comes right before what is in it. (`/` sorts before every other byte.)
pub(crate) fn path_order(a: &str, b: &str) -> Ordering {
    let rank = |text: &str, at: usize| text.as_bytes().get(at).map(|byte| if *byte == b'/' { 0 } else { *byte });
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    rank(a, same).cmp(&rank(b, same))
}

/// Whether a path stays below the root it is joined to, and within our bounds.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Err("it is longer than 4096 bytes");
    }
    let mut depth = 0;
    for segment in path.split('/') {
        check_name(segment)?;
        depth += 1;
    }
    if depth > TREE_DEPTH_MAX { Err("it is more than 256 directories deep") } else { Ok(()) }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it has an empty segment"),
        "." | ".." => Err("it has a `.` or `..` segment"),
        _ if name.bytes().any(|byte| byte == 0 || byte == b'/') => Err("a name has a NUL or a `/`"),
        _ => Ok(()),
    }
}

fn path_error(path: &str, reason: &'static str) -> TreeError {
    TreeError::Path { path: path.to_string(), reason }
}

/// The first segment of `path` from `offset` on, and whether it is the last one.
fn segment(path: &str, offset: usize) -> (&str, bool) {
    match path[offset..].find('/') {
        Some(length) => (&path[offset..offset + length], false),
        None => (&path[offset..], true),
    }
}

/// How many of `paths` (sorted) begin with the same segment as the first one.
fn group_length<'a>(name: &str, paths: impl Iterator<Item = &'a str>, offset: usize) -> usize {
    let same = |path: &&str| {
        let rest = &path.as_bytes()[offset..];
        rest.starts_with(name.as_bytes()) && rest.get(name.len()).is_none_or(|byte| *byte == b'/')
    };
    paths.take_while(same).count()
}

fn build<P: AsRef<str>>(mut entries: &[(P, TreeEntry)], offset: usize) -> Result<Arc<Node>, TreeError> {
    let mut children = Vec::new();
    while let Some((path, entry)) = entries.first() {
        let (name, last) = segment(path.as_ref(), offset);
        let (group, rest) = entries.split_at(group_length(name, entries.iter().map(|e| e.0.as_ref()), offset));
        entries = rest;
        let below = if last { &group[1..] } else { group };
        let dir = !last || *entry == TreeEntry::Dir;
        let twice = below.first().is_some_and(|(other, _)| segment(other.as_ref(), offset).1);
        if twice || (!dir && !below.is_empty()) {
            return Err(path_error(path.as_ref(), "it stands there twice, or both as a file and as a directory"));
        }
        let child = match entry {
            TreeEntry::File { digest, executable } if last => Child::File { digest: *digest, executable: *executable },
            TreeEntry::Symlink { target } if last => Child::Symlink(target.clone()),
            _ => Child::Dir(build(below, offset + name.len() + 1)?),
        };
        children.push((Arc::from(name), child));
    }
    Ok(Node::new(children))
}

/// Merges the sorted children of a directory with the sorted entries of a layer below it.
fn lay_over(base: Option<&Arc<Node>>, mut entries: &[LayerEntry], offset: usize) -> Arc<Node> {
    let mut old = base.map_or(&[][..], |node| &node.children[..]);
    let mut children = Vec::with_capacity(old.len() + 1);
    while let Some(first) = entries.first() {
        let (name, last) = segment(&first.path, offset);
        let (group, rest) = entries.split_at(group_length(name, entries.iter().map(|e| e.path.as_str()), offset));
        entries = rest;
        let before = old.partition_point(|(other, _)| other.as_bytes() < name.as_bytes());
        children.extend_from_slice(&old[..before]);
        old = &old[before..];
        let mut under = None;
        if let Some(((other, child), rest)) = old.split_first()
            && **other == *name
        {
            under = Some(child);
            old = rest;
        }
        let below = if last { &group[1..] } else { group };
        if let Some(child) = lay_child(under, last.then_some(&first.kind), below, offset + name.len() + 1) {
            children.push((Arc::from(name), child));
        }
    }
    children.extend_from_slice(old);
    Node::new(children)
}

fn lay_child(under: Option<&Child>, kind: Option<&LayerKind>, below: &[LayerEntry], offset: usize) -> Option<Child> {
    let merged = match (kind, under) {
        (Some(LayerKind::Whiteout), _) => return None,
        (Some(LayerKind::File { digest, executable, .. }), _) => {
            return Some(Child::File { digest: *digest, executable: *executable });
        }
        (Some(LayerKind::Symlink { target }), _) => return Some(Child::Symlink(target.as_str().into())),
        (Some(LayerKind::OpaqueDir), _) => None,
        (Some(LayerKind::Dir) | None, Some(Child::Dir(node))) => Some(node),
        (Some(LayerKind::Dir) | None, _) => None,
    };
    let node = lay_over(merged, below, offset);
    // Deleting something below a directory that is not there makes no directory.
    (kind.is_some() || under.is_some() || !node.children.is_empty()).then_some(Child::Dir(node))
}

struct Filter<'a> {
    globs: &'a GlobList,
    /// Without `!` patterns, a directory that is taken in is taken in whole.
    grows_only: bool,
}

impl Filter<'_> {
    fn node(&self, node: &Arc<Node>, path: &mut String) -> Option<Arc<Node>> {
        if self.grows_only && !path.is_empty() && self.globs.matches(path) {
            return Some(node.clone());
        }
        let mut children = Vec::new();
        for (name, child) in &node.children {
            let length = push_name(path, name);
            if let Some(child) = self.child(child, path) {
                children.push((name.clone(), child));
            }
            path.truncate(length);
        }
        (!children.is_empty()).then(|| Node::new(children))
    }

    fn child(&self, child: &Child, path: &mut String) -> Option<Child> {
        let Child::Dir(node) = child else {
            return self.globs.matches(path).then(|| child.clone());
        };
        let below = self.globs.may_match_below(path).then(|| self.node(node, path)).flatten();
        match below {
            Some(node) => Some(Child::Dir(node)),
            // An empty directory counts as much as a file that is named.
            None if node.leaves == 0 && self.globs.matches(path) => Some(child.clone()),
            None => None,
        }
    }
}

fn diff_nodes(old: Option<&Arc<Node>>, new: Option<&Arc<Node>>, path: &mut String, changes: &mut Vec<Change>) {
    if let (Some(old), Some(new)) = (old, new)
        && (Arc::ptr_eq(old, new) || old.digest() == new.digest())
    {
        return;
    }
    let children = |node: Option<&Arc<Node>>| node.map_or_else(Vec::new, |node| node.children.clone());
    let (old, new) = (children(old), children(new));
    let (mut o, mut n) = (0, 0);
    while o < old.len() || n < new.len() {
        let order = match (old.get(o), new.get(n)) {
            (Some((a, _)), Some((b, _))) => a.as_bytes().cmp(b.as_bytes()),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        let left = order.is_le().then(|| &old[o]);
        let right = order.is_ge().then(|| &new[n]);
        o += usize::from(left.is_some());
        n += usize::from(right.is_some());
        let Some((name, _)) = left.or(right) else { return };
        let length = push_name(path, name);
        diff_children(left.map(|(_, child)| child), right.map(|(_, child)| child), path, changes);
        path.truncate(length);
    }
}

fn diff_children(old: Option<&Child>, new: Option<&Child>, path: &mut String, changes: &mut Vec<Change>) {
    let kind = match (old, new) {
        (Some(Child::Dir(old)), Some(Child::Dir(new))) => return diff_nodes(Some(old), Some(new), path, changes),
        (Some(Child::Dir(old)), None) => return diff_nodes(Some(old), None, path, changes),
        (None, Some(Child::Dir(new))) => return diff_nodes(None, Some(new), path, changes),
        (Some(Child::Dir(old)), Some(_)) => {
            diff_nodes(Some(old), None, path, changes);
            ChangeKind::Added
        }
        (Some(_), Some(Child::Dir(new))) => {
            changes.push(Change { path: path.clone(), kind: ChangeKind::Removed });
            return diff_nodes(None, Some(new), path, changes);
        }
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(Child::File { digest: a, executable: x }), Some(Child::File { digest: b, executable: y })) => {
            match (a == b, x == y) {
                (true, true) => return,
                (true, false) => ChangeKind::Executable,
                (false, _) => ChangeKind::Content,
            }
        }
        (Some(Child::Symlink(a)), Some(Child::Symlink(b))) if a == b => return,
        (Some(Child::Symlink(_)), Some(Child::Symlink(_))) => ChangeKind::Content,
        _ => ChangeKind::Kind,
    };
    changes.push(Change { path: path.clone(), kind });
}

struct Loader<'a> {
    store: &'a Store,
    /// Directories that stand in several places are read once, so that no small store makes a huge tree slowly.
    known: HashMap<Digest, Arc<Node>>,
}

impl Loader<'_> {
    fn node(&mut self, digest: &Digest, depth: usize) -> Result<Arc<Node>, TreeError> {
        if depth > TREE_DEPTH_MAX {
            return Err(TreeError::TooLarge("256 directories within each other"));
        }
        if let Some(node) = self.known.get(digest) {
            return Ok(node.clone());
        }
        if self.known.len() >= TREE_FILES_MAX {
            return Err(TreeError::TooLarge("2,000,000 directories"));
        }
        let malformed = |reason| TreeError::Malformed(*digest, reason);
        let message = self.store.get(digest, DIRECTORY_BYTES_MAX)?;
        let directory: reapi::Directory = reapi::decode(&message).map_err(|_| malformed("it does not decode"))?;
        let mut children = self.children(directory, digest, depth)?;
        children.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        if children.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(malformed("a name stands there twice"));
        }
        let node = Node::new(children);
        if node.leaves > TREE_FILES_MAX {
            return Err(TreeError::TooLarge("2,000,000 files"));
        }
        if node.digest() != *digest {
            return Err(malformed("it is not in canonical form"));
        }
        self.known.insert(*digest, node.clone());
        Ok(node)
    }

    fn children(
        &mut self,
        directory: reapi::Directory,
        of: &Digest,
        depth: usize,
    ) -> Result<Vec<(Arc<str>, Child)>, TreeError> {
        let malformed = |reason| TreeError::Malformed(*of, reason);
        let named = |name: String| check_name(&name).map(|()| Arc::<str>::from(name)).map_err(malformed);
        let value = |digest: Option<reapi::Digest>| {
            digest.and_then(|digest| digest.value()).ok_or_else(|| malformed("a node has no digest"))
        };
        let mut children = Vec::new();
        for file in directory.files {
            let child = Child::File { digest: value(file.digest)?, executable: file.is_executable };
            children.push((named(file.name)?, child));
        }
        for link in directory.symlinks {
            children.push((named(link.name)?, Child::Symlink(link.target.into())));
        }
        for below in directory.directories {
            children.push((named(below.name)?, Child::Dir(self.node(&value(below.digest)?, depth + 1)?)));
        }
        Ok(children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> TreeEntry {
        TreeEntry::File { digest: Store::digest_of(text.as_bytes()), executable: false }
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::from_entries(files.iter().map(|(path, text)| (*path, file(text)))).expect("tree")
    }

    fn layer(entries: &[(&str, Option<&str>)]) -> Layer {
        let kind = |text: &Option<&str>| match text {
            Some(text) => LayerKind::File { digest: Store::digest_of(text.as_bytes()), executable: false, mtime_ns: 0 },
            None => LayerKind::Whiteout,
        };
        Layer {
            entries: entries
                .iter()
                .map(|(path, text)| LayerEntry { path: path.to_string(), kind: kind(text) })
                .collect(),
        }
    }

    fn globs(patterns: &[&str]) -> GlobList {
        GlobList(patterns.iter().map(|text| model::Glob::parse(text).expect("pattern")).collect())
    }

    fn paths(tree: &Tree) -> Vec<String> {
        tree.entries().into_iter().filter(|(_, entry)| *entry != TreeEntry::Dir).map(|(path, _)| path).collect()
    }

    #[test]
    fn the_order_of_entries_does_not_matter() {
        let a = tree(&[("a", "1"), ("a-b", "2"), ("c/d", "3"), ("c-d", "4")]);
        let b = tree(&[("c/d", "3"), ("c-d", "4"), ("a-b", "2"), ("a", "1")]);
        assert_eq!(a.digest(), b.digest());
        assert_eq!(paths(&a), ["a", "a-b", "c/d", "c-d"]);
    }

    #[test]
    fn the_empty_tree_is_the_empty_message() {
        assert_eq!(Tree::empty().digest(), Store::digest_of(b""));
    }

    #[test]
    fn a_directory_is_written_as_the_message_it_stands_for() {
        for size in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1] {
            let name = "n".repeat(1 + size as usize % 200);
            let digest = Digest { hash: [0xa5; 32], size };
            let entries = [
                (format!("f{name}"), TreeEntry::File { digest, executable: size % 2 == 1 }),
                (format!("l{name}"), TreeEntry::Symlink { target: name.as_str().into() }),
                (format!("e{name}"), TreeEntry::Symlink { target: "".into() }),
                (format!("d{name}/x"), file("x")),
            ];
            let tree = Tree::from_entries(entries).expect("tree");
            let message = tree.0.message();
            let directory: reapi::Directory = reapi::decode(&message).expect("a directory");
            assert_eq!(reapi::encode(&directory), message, "size {size}");
            assert_eq!((directory.files.len(), directory.directories.len(), directory.symlinks.len()), (1, 1, 2));
            assert_eq!(directory.files[0].digest.as_ref().and_then(reapi::Digest::value), Some(digest));
        }
    }

    #[test]
    fn paths_that_lead_out_or_stand_twice_are_refused() {
        for bad in ["", "/a", "../a", "a/../b", "a//b", "a/.", "a\0b"] {
            assert!(Tree::from_entries([(bad, file("x"))]).is_err(), "{bad:?}");
        }
        assert!(Tree::from_entries([("a", file("x")), ("a", file("x"))]).is_err());
        assert!(Tree::from_entries([("a", file("x")), ("a/b", file("x"))]).is_err());
        assert!(Tree::from_entries([("a/b", file("x")), ("a", file("x"))]).is_err());
        assert!(Tree::from_entries([("a/b", file("x")), ("a", TreeEntry::Dir)]).is_ok());
        assert!(Tree::from_entries([("a/".repeat(300) + "b", file("x"))]).is_err());
    }

    #[test]
    fn a_layer_adds_replaces_and_deletes() {
        let base = tree(&[("a/x", "1"), ("a/y", "2"), ("b/z", "3"), ("c", "4")]);
        let over = base.overlay(&layer(&[("a/x", Some("9")), ("b", None), ("d/e/f", Some("5")), ("q/gone", None)]));
        assert_eq!(over, tree(&[("a/x", "9"), ("a/y", "2"), ("c", "4"), ("d/e/f", "5")]));
        assert_eq!(base, tree(&[("a/x", "1"), ("a/y", "2"), ("b/z", "3"), ("c", "4")]), "the lower tree is as it was");
    }

    #[test]
    fn an_opaque_directory_hides_and_a_plain_one_merges() {
        let base = tree(&[("d/old", "1"), ("f", "2")]);
        let entry = |path: &str, kind| LayerEntry { path: path.into(), kind };
        let kind = LayerKind::File { digest: Store::digest_of(b"n"), executable: false, mtime_ns: 0 };
        let over = |dir| base.overlay(&Layer { entries: vec![entry("d", dir), entry("d/new", kind.clone())] });
        assert_eq!(paths(&over(LayerKind::Dir)), ["d/new", "d/old", "f"]);
        assert_eq!(paths(&over(LayerKind::OpaqueDir)), ["d/new", "f"]);
        let replaced = base.overlay(&Layer { entries: vec![entry("f", LayerKind::Dir), entry("f/g", kind.clone())] });
        assert_eq!(paths(&replaced), ["d/old", "f/g"], "a directory takes a file's place");
    }

    #[test]
    fn a_layer_shares_what_it_does_not_touch() {
        let base = tree(&[("a/x", "1"), ("b/y", "2")]);
        let over = base.overlay(&layer(&[("a/x", Some("9"))]));
        let shared = |tree: &Tree| match tree.0.child("b") {
            Some(Child::Dir(node)) => node.clone(),
            _ => panic!("no directory"),
        };
        assert!(Arc::ptr_eq(&shared(&base), &shared(&over)));
    }

    #[test]
    fn a_filter_keeps_what_is_named_and_links_as_links() {
        let mut entries = tree(&[("src/a.go", "1"), ("src/b.md", "2"), ("go.mod", "3"), ("x/go.mod", "4")]).entries();
        entries.push(("src/link".into(), TreeEntry::Symlink { target: "/etc/passwd".into() }));
        entries.push(("src/empty".into(), TreeEntry::Dir));
        let tree = Tree::from_entries(entries).expect("tree");
        assert_eq!(paths(&tree.filter(&globs(&["src/**", "!*.md"]))), ["src/a.go", "src/link"]);
        assert_eq!(paths(&tree.filter(&globs(&["/go.mod"]))), ["go.mod"]);
        assert_eq!(tree.filter(&globs(&["nothing"])).digest(), Tree::empty().digest());
        let whole = tree.filter(&globs(&["src"]));
        assert_eq!(whole.get("src/empty"), Some(TreeEntry::Dir));
        assert_eq!(whole.get("src/link"), Some(TreeEntry::Symlink { target: "/etc/passwd".into() }));
        assert_eq!(whole.get("src/a.go/x"), None);
    }

    #[test]
    fn a_difference_names_each_path_once_and_how() {
        let old = tree(&[("same/a", "1"), ("gone/b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]);
        let mut entries = tree(&[("same/a", "1"), ("c", "9"), ("d/x", "6"), ("new", "7")]).entries();
        entries.push(("e".into(), TreeEntry::File { digest: Store::digest_of(b"5"), executable: true }));
        let changes = old.diff(&Tree::from_entries(entries).expect("tree"));
        let seen: Vec<(&str, ChangeKind)> = changes.iter().map(|c| (c.path.as_str(), c.kind)).collect();
        use ChangeKind::*;
        assert_eq!(
            seen,
            [("c", Content), ("d", Removed), ("d/x", Added), ("e", Executable), ("gone/b", Removed), ("new", Added)]
        );
        assert!(old.diff(&old.clone()).is_empty());
    }

    #[test]
    fn a_stored_tree_loads_again() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(dir.path()).expect("store");
        let tree = tree(&[("a/b/c", "1"), ("a/d", "2"), ("e", "3")]);
        let root = tree.put(&store).expect("put");
        let loaded = Tree::load(&root, &store).expect("load");
        assert_eq!((loaded.entries(), loaded.len()), (tree.entries(), 3));
        let missing = Store::digest_of(b"not there");
        assert!(matches!(Tree::load(&missing, &store), Err(TreeError::Store(StoreError::Missing(_)))));
    }

    #[test]
    fn a_stored_tree_with_traps_in_it_is_refused() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Store::open(dir.path()).expect("store");
        let put = |directory: reapi::Directory| store.put(&reapi::encode(&directory)).expect("put");
        let node = |name: &str| reapi::FileNode {
            name: name.into(),
            digest: Some((&Store::digest_of(b"x")).into()),
            is_executable: false,
            node_properties: None,
        };
        for files in [vec![node("..")], vec![node("a/b")], vec![node("b"), node("a")], vec![node("a"), node("a")]] {
            let digest = put(reapi::Directory { files, ..Default::default() });
            assert!(matches!(Tree::load(&digest, &store), Err(TreeError::Malformed(..))));
        }
        let garbage = store.put(b"\xff\xff garbage").expect("put");
        assert!(matches!(Tree::load(&garbage, &store), Err(TreeError::Malformed(..))));
        // Forty levels of "twice the one below" would be 10^12 files.
        let mut below = put(reapi::Directory { files: vec![node("f")], ..Default::default() });
        for _ in 0..40 {
            let twice =
                ["a", "b"].map(|name| reapi::DirectoryNode { name: name.into(), digest: Some((&below).into()) });
            below = put(reapi::Directory { directories: twice.to_vec(), ..Default::default() });
        }
        assert!(matches!(Tree::load(&below, &store), Err(TreeError::TooLarge(_))));
    }
}
