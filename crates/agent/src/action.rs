//! The action of an attempt: what describes it, the digest of that, and what differs between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cas::reapi::{self, EnvironmentVariable, Platform, Property};
use cas::{ChangeKind, Store, StoreError, Tree};
use image::Resolved;
use model::{CacheMode, CommandSpec, Digest, Network, ServiceSpec, Shell};

use crate::images::Resolutions;

/// Changes when the same description would have to mean another result: how the workspace is laid out, what is kept.
const SALT: &str = "paceline-1";
/// A stored action or command; scripts and environments are far smaller.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// An action with what is needed to store it.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) digest: Digest,
    bytes: Vec<u8>,
    command: Vec<u8>,
    tree: Tree,
}

/// An action in the parts that `pace why` compares.
#[derive(Clone, Debug)]
pub struct ActionParts {
    /// The action's digest: the key.
    pub digest: Digest,
    /// The shell with its options, then the script.
    pub arguments: Vec<String>,
    /// Environment, with versions of secrets.
    pub env: BTreeMap<String, String>,
    /// Executor, host fingerprint, network and the like.
    pub platform: BTreeMap<String, String>,
    /// `outputs`.
    pub outputs: Vec<String>,
    /// The input tree.
    pub tree: Tree,
}

/// One difference of two actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The script or its shell.
    Command,
    /// A variable: name, value before, value now.
    Env(String, Option<String>, Option<String>),
    /// A property of the platform: name, value before, value now.
    Platform(String, Option<String>, Option<String>),
    /// `outputs`.
    Outputs,
    /// A file, and what happened to it.
    File(String, ChangeKind),
}

/// What the key takes from the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) executor: &'a str,
    pub(crate) fingerprint: &'a str,
    /// `pass_env`, values of the caller.
    pub(crate) passed: &'a BTreeMap<String, String>,
    /// Versions of secrets by name.
    pub(crate) secrets: &'a BTreeMap<String, String>,
    /// What the command and its services run on.
    pub(crate) images: &'a Resolutions,
}

impl Action {
    /// Of a command over an input tree. The timeout is not in it: longer patience does not make another result.
    pub(crate) fn compose(spec: &CommandSpec, tree: &Tree, around: Surroundings<'_>) -> Action {
        let platform = Platform {
            properties: properties(spec, around)
                .into_iter()
                .map(|(name, value)| Property { name: name.into(), value })
                .collect(),
        }
        .canonical();
        let mut arguments = interpreter(&spec.shell);
        arguments.push(spec.script.clone());
        let command = reapi::Command {
            arguments,
            environment_variables: environment(spec, around),
            platform: Some(platform.clone()),
            working_directory: String::new(),
            output_paths: spec.outputs.iter().flat_map(|globs| globs.texts().map(String::from)).collect(),
        };
        let command = reapi::encode(&command.canonical());
        let action = reapi::Action {
            command_digest: Some((&Store::digest_of(&command)).into()),
            input_root_digest: Some((&tree.digest()).into()),
            do_not_cache: spec.cache == CacheMode::Never,
            salt: salt(spec).into_bytes(),
            platform: Some(platform),
        };
        let bytes = reapi::encode(&action);
        Action { digest: Store::digest_of(&bytes), bytes, command, tree: tree.clone() }
    }

    /// Puts action, command and directories into the store, so that `pace why` can compare with it later.
    pub(crate) fn put(&self, store: &Store) -> Result<(), StoreError> {
        self.tree.put(store)?;
        store.put(&self.command)?;
        store.put(&self.bytes)?;
        Ok(())
    }

    /// The encoded `Action` and `Command`.
    pub(crate) fn messages(&self) -> [&[u8]; 2] {
        [&self.bytes, &self.command]
    }

    /// What the step sees.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn parts(&self) -> Option<ActionParts> {
        let command: reapi::Command = reapi::decode(&self.command).ok()?;
        Some(ActionParts::new(self.digest, command, self.tree.clone()))
    }
}

impl ActionParts {
    /// Reads a stored action; `None` when a part of it is gone or damaged.
    pub(crate) fn load(digest: &Digest, store: &Store) -> Option<ActionParts> {
        let action: reapi::Action = reapi::decode(&store.get(digest, MESSAGE_BYTES_MAX).ok()?).ok()?;
        let command = store.get(&action.command_digest?.value()?, MESSAGE_BYTES_MAX).ok()?;
        let tree = Tree::load(&action.input_root_digest?.value()?, store).ok()?;
        Some(ActionParts::new(*digest, reapi::decode(&command).ok()?, tree))
    }

    fn new(digest: Digest, command: reapi::Command, tree: Tree) -> ActionParts {
        ActionParts {
            digest,
            arguments: command.arguments,
            env: command.environment_variables.into_iter().map(|variable| (variable.name, variable.value)).collect(),
            platform: command
                .platform
                .map(|platform| platform.properties.into_iter().map(|p| (p.name, p.value)).collect())
                .unwrap_or_default(),
            outputs: command.output_paths,
            tree,
        }
    }
}

/// What differs from `before` to `now`: command, environment, platform, outputs, then at most `files_max` files.
pub fn differences(before: &ActionParts, now: &ActionParts, files_max: usize) -> Vec<Difference> {
    let mut found = Vec::new();
    if before.arguments != now.arguments {
        found.push(Difference::Command);
    }
    let env = changed(&before.env, &now.env);
    found.extend(env.map(|(name, was, is)| Difference::Env(name, was, is)));
    let platform = changed(&before.platform, &now.platform);
    found.extend(platform.map(|(name, was, is)| Difference::Platform(name, was, is)));
    if before.outputs != now.outputs {
        found.push(Difference::Outputs);
    }
    let files = before.tree.diff(&now.tree).into_iter().take(files_max);
    found.extend(files.map(|change| Difference::File(change.path, change.kind)));
    found
}

fn changed<'a>(
    before: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (String, Option<String>, Option<String>)> + 'a {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .map(|name| (name.clone(), before.get(name).cloned(), now.get(name).cloned()))
        .filter(|(_, was, is)| was != is)
}

/// What is kept of the result and has no field in the API. `outputs` are patterns in order; sorted, as the API wants
/// them, different lists would be one.
fn salt(spec: &CommandSpec) -> String {
    let mut salt = format!("{SALT}\n");
    for pattern in spec.outputs.iter().flat_map(|globs| globs.texts()) {
        let _ = writeln!(salt, "output {pattern}");
    }
    for artifact in &spec.artifacts {
        let _ = writeln!(salt, "artifact {}", artifact.path);
    }
    for (kind, path) in &spec.reports {
        let _ = writeln!(salt, "report {} {path}", kind.word());
    }
    salt
}

/// The program that reads the script, with its options.
pub(crate) fn interpreter(shell: &Shell) -> Vec<String> {
    let words: &[&str] = match shell {
        Shell::Sh => &["sh", "-eu"],
        Shell::Bash => &["bash", "-euo", "pipefail"],
        Shell::Python => &["python3"],
        Shell::Argv(words) => return words.clone(),
    };
    words.iter().map(ToString::to_string).collect()
}

fn environment(spec: &CommandSpec, around: Surroundings<'_>) -> Vec<EnvironmentVariable> {
    let mut env = around.passed.clone();
    env.extend(spec.keyed_env());
    env.extend(around.secrets.iter().map(|(name, version)| (format!("PACE_SECRET_VERSION_{name}"), version.clone())));
    env.into_iter().map(|(name, value)| EnvironmentVariable { name, value }).collect()
}

/// Keys of caches are not among them: a cache may make a step faster, not different.
fn properties(spec: &CommandSpec, around: Surroundings<'_>) -> Vec<(&'static str, String)> {
    let network = match &spec.network {
        Network::None => "none".to_string(),
        Network::Full => "full".to_string(),
        Network::Hosts(hosts) => hosts.join(","),
    };
    let root = match &around.images.step {
        Some(image) => ("image", image.manifest.hex()),
        None => ("host", around.fingerprint.to_string()),
    };
    let mut properties = vec![
        ("executor", around.executor.to_string()),
        ("shell", interpreter(&spec.shell).join(" ")),
        ("network", network),
        root,
    ];
    for (service, image) in spec.services.iter().zip(&around.images.services) {
        properties.push(("service", described(service, image.as_ref())));
    }
    properties
}

/// All that can change what a service does, quoted so that no two services look alike.
fn described(service: &ServiceSpec, image: Option<&Resolved>) -> String {
    let image = image.map(|image| image.manifest.hex());
    format!("{:?} {image:?} {:?} {:?}", service.id, service.cmd, service.env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::command;

    fn digest_on(spec: &CommandSpec, secrets: &[(&str, &str)], images: &Resolutions) -> Digest {
        let secrets = secrets.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect();
        let passed = &BTreeMap::new();
        let around = Surroundings { executor: "sandbox", fingerprint: "f", passed, secrets: &secrets, images };
        Action::compose(spec, &Tree::empty(), around).digest
    }

    fn digest(spec: &CommandSpec, secrets: &[(&str, &str)]) -> Digest {
        digest_on(spec, secrets, &Resolutions::default())
    }

    fn image(content: &[u8]) -> Option<Resolved> {
        Some(Resolved {
            reference: image::Reference::parse("debian").expect("a name"),
            sum: image::Sum::of(b"index"),
            manifest: Store::digest_of(content),
        })
    }

    #[test]
    fn what_an_image_is_counts_and_not_its_name() {
        let service = |cmd: &str| ServiceSpec {
            id: "db".into(),
            image: Some("postgres".into()),
            cmd: Some(cmd.into()),
            env: BTreeMap::new(),
            ready: None,
        };
        let spec = CommandSpec { services: vec![service("run")], ..command("make") };
        let on =
            |step, beside| digest_on(&spec, &[], &Resolutions { step: image(step), services: vec![image(beside)] });
        assert_eq!(on(b"1", b"2"), on(b"1", b"2"));
        assert_ne!(on(b"1", b"2"), on(b"other", b"2"));
        assert_ne!(on(b"1", b"2"), on(b"1", b"other"));
        let other = CommandSpec { services: vec![service("other")], ..command("make") };
        let images = || Resolutions { step: None, services: vec![image(b"2")] };
        assert_ne!(digest_on(&spec, &[], &images()), digest_on(&other, &[], &images()));
    }

    #[test]
    fn everything_that_can_change_the_result_changes_the_key() {
        let plain = command("make");
        let mut variants = vec![plain.clone(); 5];
        variants[0].script = "make all".into();
        variants[1].shell = Shell::Bash;
        variants[2].env = std::sync::Arc::new([("GOOS".into(), "linux".into())].into());
        variants[3].network = Network::Full;
        variants[4].outputs = Some(crate::testing::globs(&["bin/**"]));
        for variant in &variants {
            assert_ne!(digest(variant, &[]), digest(&plain, &[]), "{variant:?}");
        }
        assert_ne!(digest(&plain, &[("TOKEN", "1")]), digest(&plain, &[("TOKEN", "2")]));
    }

    #[test]
    fn what_cannot_change_the_result_leaves_the_key_alone() {
        let plain = command("make");
        let mut other = plain.clone();
        other.run_env = std::sync::Arc::new([("PACE_RUN_ID".into(), "r9".into())].into());
        other.fresh = true;
        other.has_dependants = false;
        other.caches = vec![model::CacheSpec { path: "~/c".into(), key: "k".into(), fallback: Vec::new() }];
        assert_eq!(digest(&plain, &[]), digest(&other, &[]));
    }

    #[test]
    fn the_order_of_output_patterns_is_in_the_key() {
        let (mut one, mut other) = (command("make"), command("make"));
        one.outputs = Some(crate::testing::globs(&["a", "!b"]));
        other.outputs = Some(crate::testing::globs(&["!b", "a"]));
        assert_ne!(digest(&one, &[]), digest(&other, &[]));
    }
}
