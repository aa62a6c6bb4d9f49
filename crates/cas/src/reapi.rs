//! The messages of the Remote Execution API v2 that we speak, in canonical form.
//!
//! Field numbers are those of `build/bazel/remote/execution/v2/remote_execution.proto`. The structs are written by hand
//! because the dozen we need do not pay for a code generator. Canonical means: fields in tag order (prost does that when
//! they are declared so), children sorted by name, no unknown fields. [`encode`] is the only way to bytes.

use prost::Message;

/// `Digest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Digest {
    /// SHA-256, 64 lower-case hexadecimal digits.
    #[prost(string, tag = "1")]
    pub hash: String,
    /// Length of the content in bytes.
    #[prost(int64, tag = "2")]
    pub size_bytes: i64,
}

/// `Action`: what an attempt executes. Its digest is the cache key.
#[derive(Clone, PartialEq, Message)]
pub struct Action {
    /// The encoded [`Command`].
    #[prost(message, optional, tag = "1")]
    pub command_digest: Option<Digest>,
    /// The root [`Directory`].
    #[prost(message, optional, tag = "2")]
    pub input_root_digest: Option<Digest>,
    /// The result is not to be cached.
    #[prost(bool, tag = "7")]
    pub do_not_cache: bool,
    /// Separates what would otherwise be the same action.
    #[prost(bytes = "vec", tag = "9")]
    pub salt: Vec<u8>,
    /// What it must run on.
    #[prost(message, optional, tag = "10")]
    pub platform: Option<Platform>,
}

/// `Command`.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The argument list.
    #[prost(string, repeated, tag = "1")]
    pub arguments: Vec<String>,
    /// The environment, sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub environment_variables: Vec<EnvironmentVariable>,
    /// As in [`Action::platform`]; for readers of the API before 2.2.
    #[prost(message, optional, tag = "5")]
    pub platform: Option<Platform>,
    /// Below the input root.
    #[prost(string, tag = "6")]
    pub working_directory: String,
    /// What is kept of what it writes, sorted.
    #[prost(string, repeated, tag = "7")]
    pub output_paths: Vec<String>,
}

/// `Command.EnvironmentVariable`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EnvironmentVariable {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `Platform`.
#[derive(Clone, PartialEq, Message)]
pub struct Platform {
    /// Sorted by name, then value.
    #[prost(message, repeated, tag = "1")]
    pub properties: Vec<Property>,
}

/// `Platform.Property`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Property {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `Directory`: one directory of a tree.
#[derive(Clone, PartialEq, Message)]
pub struct Directory {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<FileNode>,
    /// Sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub directories: Vec<DirectoryNode>,
    /// Sorted by name.
    #[prost(message, repeated, tag = "3")]
    pub symlinks: Vec<SymlinkNode>,
    /// Absent in what we write.
    #[prost(message, optional, tag = "5")]
    pub node_properties: Option<NodeProperties>,
}

/// `FileNode`.
#[derive(Clone, PartialEq, Message)]
pub struct FileNode {
    /// One path segment.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Content.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
    /// May be executed.
    #[prost(bool, tag = "4")]
    pub is_executable: bool,
    /// Absent in what we write.
    #[prost(message, optional, tag = "6")]
    pub node_properties: Option<NodeProperties>,
}

/// `DirectoryNode`.
#[derive(Clone, PartialEq, Message)]
pub struct DirectoryNode {
    /// One path segment.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The encoded [`Directory`].
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
}

/// `SymlinkNode`.
#[derive(Clone, PartialEq, Message)]
pub struct SymlinkNode {
    /// One path segment.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where it points, as written.
    #[prost(string, tag = "2")]
    pub target: String,
    /// Absent in what we write.
    #[prost(message, optional, tag = "4")]
    pub node_properties: Option<NodeProperties>,
}

/// `NodeProperties`.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProperties {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub properties: Vec<Property>,
    /// When the file was last written.
    #[prost(message, optional, tag = "2")]
    pub mtime: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds in the second, 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `ActionResult`.
#[derive(Clone, PartialEq, Message)]
pub struct ActionResult {
    /// Files written.
    #[prost(message, repeated, tag = "2")]
    pub output_files: Vec<OutputFile>,
    /// Directories written, each as a `Tree`.
    #[prost(message, repeated, tag = "3")]
    pub output_directories: Vec<OutputDirectory>,
    /// Exit code.
    #[prost(int32, tag = "4")]
    pub exit_code: i32,
    /// The log itself, when a server puts it in; never in what we write.
    #[prost(bytes = "vec", tag = "5")]
    pub stdout_raw: Vec<u8>,
    /// The log.
    #[prost(message, optional, tag = "6")]
    pub stdout_digest: Option<Digest>,
    /// How it was executed.
    #[prost(message, optional, tag = "9")]
    pub execution_metadata: Option<ExecutedActionMetadata>,
    /// Symbolic links written.
    #[prost(message, repeated, tag = "12")]
    pub output_symlinks: Vec<OutputSymlink>,
}

/// `OutputFile`.
#[derive(Clone, PartialEq, Message)]
pub struct OutputFile {
    /// Below the working directory.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Content.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
    /// May be executed.
    #[prost(bool, tag = "4")]
    pub is_executable: bool,
    /// The content itself, when a server puts it in; never in what we write.
    #[prost(bytes = "vec", tag = "5")]
    pub contents: Vec<u8>,
}

/// `OutputDirectory`.
#[derive(Clone, PartialEq, Message)]
pub struct OutputDirectory {
    /// Below the working directory.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The encoded `Tree`.
    #[prost(message, optional, tag = "3")]
    pub tree_digest: Option<Digest>,
}

/// `OutputSymlink`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OutputSymlink {
    /// Below the working directory.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Where it points, as written.
    #[prost(string, tag = "2")]
    pub target: String,
}

/// `ExecutedActionMetadata`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecutedActionMetadata {
    /// Who executed it.
    #[prost(string, tag = "1")]
    pub worker: String,
    /// When it ended.
    #[prost(message, optional, tag = "4")]
    pub worker_completed_timestamp: Option<Timestamp>,
    /// What only we understand.
    #[prost(message, repeated, tag = "11")]
    pub auxiliary_metadata: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    /// Which message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl From<&model::Digest> for Digest {
    fn from(digest: &model::Digest) -> Self {
        Digest { hash: digest.hex(), size_bytes: i64::try_from(digest.size).unwrap_or(i64::MAX) }
    }
}

impl Digest {
    /// As a value; `None` if it is not a SHA-256 and a size.
    pub fn value(&self) -> Option<model::Digest> {
        model::Digest::from_hex(&self.hash, u64::try_from(self.size_bytes).ok()?)
    }
}

impl Command {
    /// Sorts what the specification wants sorted.
    pub fn canonical(mut self) -> Self {
        self.environment_variables.sort_by(|a, b| a.name.cmp(&b.name));
        self.output_paths.sort();
        self.output_paths.dedup();
        self.platform = self.platform.map(Platform::canonical);
        self
    }
}

impl Platform {
    /// Sorts what the specification wants sorted.
    pub fn canonical(mut self) -> Self {
        self.properties.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        self
    }
}

/// A message's bytes; what its digest is made of.
pub fn encode(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Reads a message.
///
/// # Errors
/// The bytes are no such message.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, prost::DecodeError> {
    M::decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_encoded_byte_for_byte_as_the_specification_says() {
        let digest = Some(Digest { hash: "ab".to_string(), size_bytes: 300 });
        let directory = Directory {
            files: vec![FileNode {
                name: "b".into(),
                digest: digest.clone(),
                is_executable: true,
                node_properties: None,
            }],
            directories: vec![DirectoryNode { name: "d".into(), digest }],
            symlinks: vec![SymlinkNode { name: "l".into(), target: "b".into(), node_properties: None }],
            node_properties: None,
        };
        // By hand: 0a = field 1, bytes; 12 = field 2, bytes; 1a = field 3, bytes; 10 = field 2, varint (ac 02 = 300);
        // 20 = field 4, varint.
        let digest_bytes = [0x0a, 0x02, b'a', b'b', 0x10, 0xac, 0x02];
        let mut expected = vec![0x0a, 14, 0x0a, 1, b'b', 0x12, 7];
        expected.extend(digest_bytes);
        expected.extend([0x20, 1]);
        expected.extend([0x12, 12, 0x0a, 1, b'd', 0x12, 7]);
        expected.extend(digest_bytes);
        expected.extend([0x1a, 6, 0x0a, 1, b'l', 0x12, 1, b'b']);
        assert_eq!(encode(&directory), expected);
    }

    #[test]
    fn an_action_puts_salt_and_platform_where_the_specification_says() {
        let platform = Platform { properties: vec![Property { name: "a".into(), value: "b".into() }] };
        let action = Action { do_not_cache: true, salt: vec![7], platform: Some(platform), ..Action::default() };
        // 38 = field 7, varint; 4a = field 9, bytes; 52 = field 10, bytes.
        assert_eq!(encode(&action), [0x38, 1, 0x4a, 1, 7, 0x52, 8, 0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b']);
        assert_eq!(decode::<Action>(&encode(&action)).expect("own bytes"), action);
    }

    #[test]
    fn a_command_is_the_same_in_whatever_order_it_was_written() {
        let variable = |name: &str| EnvironmentVariable { name: name.into(), value: String::new() };
        let one = Command { environment_variables: vec![variable("B"), variable("A")], ..Command::default() };
        let other = Command { environment_variables: vec![variable("A"), variable("B")], ..Command::default() };
        assert_eq!(encode(&one.canonical()), encode(&other.canonical()));
    }
}
