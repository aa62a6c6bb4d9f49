//! What is to be executed: an `Action` with its `Command`, read and checked.

use std::ffi::OsString;
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Function, Key};
use cache::execution::Fault;
use prost::Message;

use crate::os;
use crate::path::path_problem;

/// Bytes of one message: the arguments of a command have at most 2 MiB, a directory of 100,000 files some ten.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What is to be executed.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where, below the workspace.
    pub(crate) folder: String,
    pub(crate) outputs: Vec<Output>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) network: bool,
    pub(crate) input_root: Key,
}

/// What is wanted back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Below the working directory.
    pub(crate) path: String,
    pub(crate) kind: Wanted,
}

/// What an output has to be, by the field that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `output_paths`: whatever is there.
    Any,
    /// `output_files`.
    File,
    /// `output_directories`.
    Directory,
}

impl Order {
    /// Reads the action and its command.
    ///
    /// # Errors
    /// One of them is missing or makes no sense.
    pub(crate) fn read(blobs: &Blobs, action: &Key) -> Result<Order, Fault> {
        let function = action.function;
        let read: api::Action = message(blobs, action, "an Action")?;
        let input_root = digest(function, read.input_root_digest.as_ref(), "the action's input root")?;
        let command_key = digest(function, read.command_digest.as_ref(), "the action's command")?;
        let command: api::Command = message(blobs, &command_key, "a Command")?;
        let timeout = read.timeout.map(timeout).transpose()?.filter(|timeout| !timeout.is_zero());
        let network = platform(&read, &command)?;
        if command.arguments.is_empty() {
            return Err(Fault::Invalid("the command has no arguments, so there is no program to execute".into()));
        }
        let folder = command.working_directory.clone();
        let outputs = outputs(&command);
        let paths = outputs.iter().map(|output| &output.path).chain([&folder]);
        if let Some(problem) = paths.filter_map(|path| path_problem(path)).next() {
            return Err(Fault::Invalid(problem));
        }
        Ok(Order {
            argv: command.arguments.iter().map(|argument| os(argument)).collect(),
            env: command.environment_variables.iter().map(|var| (os(&var.name), os(&var.value))).collect(),
            folder,
            outputs,
            timeout,
            network,
            input_root,
        })
    }
}

/// Reads a message that is a blob.
pub(crate) fn message<M: Message + Default>(blobs: &Blobs, key: &Key, what: &str) -> Result<M, Fault> {
    let bytes = match blobs.get(key, MESSAGE_BYTES_MAX) {
        Err(error @ blobs::Error::TooLarge { .. }) => return Err(Fault::Invalid(error.to_string())),
        bytes => bytes?,
    };
    M::decode(bytes).map_err(|error| Fault::Invalid(format!("blob {key} is not {what}: {error}")))
}

/// Reads a digest that has to be there.
pub(crate) fn digest(function: Function, digest: Option<&api::Digest>, of: &str) -> Result<Key, Fault> {
    let read = |digest: &api::Digest| Key::from_hex(function, &digest.hash, u64::try_from(digest.size_bytes).ok()?);
    digest.and_then(read).ok_or_else(|| {
        Fault::Invalid(format!("{of} has no digest, or one that is not 64 hexadecimal digits and a size"))
    })
}

fn timeout(value: bazel_remote_apis::google::protobuf::Duration) -> Result<Duration, Fault> {
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Fault::Invalid("the action's timeout is negative".into())),
    }
}

/// Whether the network is wanted. What this server does not know it cannot promise.
#[allow(deprecated)]
fn platform(action: &api::Action, command: &api::Command) -> Result<bool, Fault> {
    let mut network = false;
    for property in action.platform.iter().chain(&command.platform).flat_map(|platform| &platform.properties) {
        match (property.name.as_str(), property.value.to_ascii_lowercase().as_str()) {
            ("network", "none") | ("OSFamily", "linux") => {}
            ("network", "host") => network = true,
            ("ISA" | "Arch", isa) if isa == ARCHITECTURE.0 || isa == ARCHITECTURE.1 => {}
            (name, value) => {
                return Err(Fault::Unmet(format!(
                    "the action asks for the platform property {name}={value:?}; this server has OSFamily=linux, \
                     ISA={} and network=none or host",
                    ARCHITECTURE.0
                )));
            }
        }
    }
    Ok(network)
}

/// How the protocol's lexicon and how compilers call this processor.
const ARCHITECTURE: (&str, &str) =
    if cfg!(target_arch = "aarch64") { ("arm-a64", "aarch64") } else { ("x86-64", "x86_64") };

/// `output_paths` where it is used, else its two predecessors.
#[allow(deprecated)]
fn outputs(command: &api::Command) -> Vec<Output> {
    let all = |paths: &[String], kind| -> Vec<Output> {
        paths.iter().map(|path| Output { path: path.clone(), kind }).collect()
    };
    if !command.output_paths.is_empty() {
        return all(&command.output_paths, Wanted::Any);
    }
    [all(&command.output_files, Wanted::File), all(&command.output_directories, Wanted::Directory)].concat()
}
