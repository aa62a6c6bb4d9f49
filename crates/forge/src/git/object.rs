//! Commits and trees as git stores them.

use model::Timestamp;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its full id.
    pub commit: String,
    /// Its parents.
    pub parents: Vec<String>,
    /// The author's name.
    pub author: String,
    /// `Name <address>`.
    pub author_full: String,
    /// When it was committed.
    pub committed: Timestamp,
    /// The whole message.
    pub message: String,
    pub(super) tree: String,
}

impl CommitInfo {
    /// First line of the message.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// Reads a commit's text.
    pub(super) fn read(commit: &str, bytes: &[u8]) -> Option<CommitInfo> {
        let text = String::from_utf8_lossy(bytes);
        let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let lines = |key: &'static str| head.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '));
        let author_full = lines("author").next().map(|line| without_time(line).0).unwrap_or_default();
        Some(CommitInfo {
            commit: commit.to_owned(),
            parents: lines("parent").map(str::to_owned).collect(),
            author: author_full.split(" <").next().unwrap_or_default().to_owned(),
            author_full: author_full.to_owned(),
            committed: Timestamp(lines("committer").next().map(|line| without_time(line).1).unwrap_or_default()),
            message: message.trim_end().to_owned(),
            tree: lines("tree").next()?.to_owned(),
        })
    }
}

/// `Name <address>` and microseconds of `Name <address> 1700000000 +0100`.
fn without_time(line: &str) -> (&str, u64) {
    let Some(end) = line.rfind('>') else { return (line, 0) };
    let seconds = line[end + 1..].split_whitespace().next().and_then(|seconds| seconds.parse::<u64>().ok());
    (&line[..=end], seconds.unwrap_or_default().saturating_mul(1_000_000))
}

/// One name in a folder of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without folders.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Id of its content.
    pub id: String,
}

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its content is where it points.
    Link,
    /// A commit of another repository.
    Submodule,
}

impl EntryKind {
    fn of_mode(mode: u32) -> Option<EntryKind> {
        Some(match mode & 0o170_000 {
            0o040_000 => EntryKind::Folder,
            0o100_000 if mode & 0o100 != 0 => EntryKind::Executable,
            0o100_000 => EntryKind::File,
            0o120_000 => EntryKind::Link,
            0o160_000 => EntryKind::Submodule,
            _ => return None,
        })
    }
}

/// Reads a tree: `mode name NUL id` again and again. `id_bytes` is 20 or 32.
pub(super) fn entries(mut bytes: &[u8], id_bytes: usize) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let mode = u32::from_str_radix(std::str::from_utf8(&bytes[..space]).ok()?, 8).ok()?;
        let name = String::from_utf8_lossy(bytes.get(space + 1..end)?).into_owned();
        let id = bytes.get(end + 1..end + 1 + id_bytes)?;
        let id = id.iter().fold(String::with_capacity(id_bytes * 2), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
            text
        });
        entries.push(Entry { name, kind: EntryKind::of_mode(mode)?, id });
        bytes = &bytes[end + 1 + id_bytes..];
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_with_author_time_and_message() {
        let text = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent aa\nparent bb\n\
            author A <x> Tester <a@example.com> 1700000000 +0100\ncommitter C <c@example.com> 1700000001 +0000\n\nfirst\n\nbody\n";
        let info = CommitInfo::read("cc", text).unwrap();
        assert_eq!((info.parents.len(), info.title(), info.author.as_str()), (2, "first", "A"));
        assert_eq!(
            (info.author_full.as_str(), info.committed.0),
            ("A <x> Tester <a@example.com>", 1_700_000_001_000_000)
        );
        assert_eq!(CommitInfo::read("cc", b"no commit"), None);
    }

    #[test]
    fn a_tree_that_is_cut_off_is_none() {
        let whole = [b"100644 a\0".as_slice(), &[7; 20]].concat();
        assert_eq!(entries(&whole, 20).unwrap()[0].id, "07".repeat(20));
        for end in 1..whole.len() {
            assert_eq!(entries(&whole[..end], 20), None, "{end}");
        }
    }
}
