//! Attacks on the sandbox: each tries one thing that a step must not be able to do, and says what came of it.
//!
//! An attack is written so that it can succeed: without a sandbox most do (`cargo run -p paceline-attacks --example
//! compare` shows which), and even then it breaks nothing. It never says "did not work": it names the error that the kernel
//! gave, or what it saw instead.

pub mod archive;
mod devices;
pub mod document;
mod files;
pub mod helpers;
mod kernel;
mod leaks;
mod machine;
mod mounts;
mod namespaces;
mod network;
mod privileges;
mod processes;
mod resources;
mod scenes;
pub mod stage;
mod world;

use std::fmt;
use std::io;

pub use world::World;

/// One thing that is tried.
#[derive(Clone, Copy)]
pub struct Attack {
    /// Its name, in `kebab-case`.
    pub name: &'static str,
    /// What is tried, as the end of a sentence that begins with "the step".
    pub tries: &'static str,
    /// What holds it off.
    pub wall: Wall,
    /// What must be seen where the host's user is root, and where it is an ordinary one.
    pub sees: [&'static str; 2],
    /// What is seen instead where the kernel lacks what is attacked.
    pub lacking: Option<&'static str>,
    /// What it does when root runs it without a sandbox.
    pub bare: Bare,
    /// Carries it out. `None`: it takes several steps or runs, see `tests/attacks.rs`.
    pub run: Option<fn(&World) -> Outcome>,
}

/// What happens to an attack without a sandbox, as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// It succeeds: that proves the attack.
    Succeeds,
    /// It depends on the host's kernel and how it was set up.
    Depends,
    /// It would harm the machine and is not tried.
    NotTried,
}

/// What holds an attack off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// A namespace of its own for files: only what is shown is there.
    View,
    /// The root and what is shown of the host cannot be written.
    ReadOnly,
    /// Credentials among what is shown are covered.
    Hidden,
    /// It sees and signals only its own processes.
    Pids,
    /// A network of its own.
    Net,
    /// Shared memory and queues of its own.
    Ipc,
    /// Process 1 of the sandbox cannot be looked into.
    Undumpable,
    /// Nothing that a program is executed from gives it rights.
    NoNewPrivileges,
    /// It has no capability, and its user is one number of a user namespace.
    Capabilities,
    /// The system call filter.
    Filter,
    /// A limit.
    Limit,
    /// When the command ends, process 1 ends, and with it every process.
    Reaper,
    /// What a step wrote is read without following links, and only when nothing runs any more.
    Capture,
    /// Bytes are named by their digest.
    Digests,
    /// Values of secrets are masked before a byte is stored or shown.
    Masking,
    /// Connections are made for the step by a gate outside, to listed hosts and never to the host itself.
    Gate,
    /// Archives are unpacked within their folder, without links, devices and rights.
    Unpacking,
    /// Escape sequences are taken out of what is shown.
    Screen,
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wall::View => "view",
            Wall::ReadOnly => "read-only",
            Wall::Hidden => "covers",
            Wall::Pids => "own processes",
            Wall::Net => "own network",
            Wall::Ipc => "own shared memory",
            Wall::Undumpable => "closed process 1",
            Wall::NoNewPrivileges => "no new privileges",
            Wall::Capabilities => "no capabilities",
            Wall::Filter => "call filter",
            Wall::Limit => "limits",
            Wall::Reaper => "end of process 1",
            Wall::Capture => "careful capture",
            Wall::Digests => "digests",
            Wall::Masking => "masking",
            Wall::Gate => "gate",
            Wall::Unpacking => "careful unpacking",
            Wall::Screen => "harmless output",
        })
    }
}

/// What came of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel refused with this error number.
    Refused(i32),
    /// It was killed by this signal.
    Killed(i32),
    /// The call succeeded, and this was seen instead of harm.
    Harmless(String),
    /// It got what it wanted.
    Escaped(String),
    /// It could not be tried: this was missing.
    Untried(String),
}

impl Outcome {
    /// A failure is a refusal; a success is an escape that `what` describes.
    fn of<T>(result: io::Result<T>, what: &str) -> Outcome {
        match result {
            Ok(_) => Outcome::Escaped(what.into()),
            Err(error) => error.into(),
        }
    }

    fn harmless(what: impl Into<String>) -> Outcome {
        Outcome::Harmless(what.into())
    }

    fn escaped(what: impl Into<String>) -> Outcome {
        Outcome::Escaped(what.into())
    }

    /// The first that is not a refusal like the first one; all alike are one.
    fn all(outcomes: impl IntoIterator<Item = (&'static str, Outcome)>) -> Outcome {
        let mut first: Option<Outcome> = None;
        for (name, outcome) in outcomes {
            match &first {
                None if matches!(outcome, Outcome::Escaped(_)) => return outcome,
                None => first = Some(outcome),
                Some(first) if *first == outcome => {}
                Some(_) => return Outcome::Escaped(format!("{name} is different: {outcome}")),
            }
        }
        first.unwrap_or_else(|| Outcome::Untried("nothing was tried".into()))
    }
}

impl From<io::Error> for Outcome {
    fn from(error: io::Error) -> Outcome {
        error.raw_os_error().map_or_else(|| Outcome::Untried(error.to_string()), Outcome::Refused)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Refused(errno) => write!(f, "refused {}", kernel::errno_name(*errno)),
            Outcome::Killed(signal) => write!(f, "killed by {}", kernel::signal_name(*signal)),
            Outcome::Harmless(what) => write!(f, "harmless: {what}"),
            Outcome::Escaped(what) => write!(f, "ESCAPED: {what}"),
            Outcome::Untried(what) => write!(f, "untried: {what}"),
        }
    }
}

const fn attack(
    name: &'static str,
    tries: &'static str,
    wall: Wall,
    sees: &'static str,
    run: fn(&World) -> Outcome,
) -> Attack {
    Attack { name, tries, wall, sees: [sees; 2], lacking: None, bare: Bare::Succeeds, run: Some(run) }
}

const fn scene(name: &'static str, tries: &'static str, wall: Wall, sees: &'static str) -> Attack {
    Attack { name, tries, wall, sees: [sees; 2], lacking: None, bare: Bare::NotTried, run: None }
}

impl Attack {
    const fn as_user(mut self, sees: &'static str) -> Attack {
        self.sees[1] = sees;
        self
    }
    const fn lacking(mut self, sees: &'static str) -> Attack {
        self.lacking = Some(sees);
        self
    }
    const fn bare(mut self, bare: Bare) -> Attack {
        self.bare = bare;
        self
    }
}

/// The subjects, and the attacks of each.
pub const SUBJECTS: &[(&str, &[Attack])] = &[
    ("Files", files::ATTACKS),
    ("Devices and terminals", devices::ATTACKS),
    ("Mounts, and what the kernel lets be set in files", mounts::ATTACKS),
    ("Namespaces and control groups", namespaces::ATTACKS),
    ("Rights", privileges::ATTACKS),
    ("Processes", processes::ATTACKS),
    ("The machine", machine::ATTACKS),
    ("The network", network::ATTACKS),
    ("Leaks", leaks::ATTACKS),
    ("Resources", resources::ATTACKS),
    ("Several steps, runs and projects", scenes::ATTACKS),
];

/// Every attack.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    SUBJECTS.iter().flat_map(|(_, attacks)| *attacks)
}

/// Every attack that is one program in one step.
pub fn single() -> Vec<&'static Attack> {
    all().filter(|attack| attack.run.is_some()).collect()
}

/// The attack of this name.
pub fn find(name: &str) -> Option<&'static Attack> {
    all().find(|attack| attack.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_attacks_have_one_name_and_every_one_says_what_must_be_seen() {
        let mut names: Vec<_> = all().map(|attack| attack.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count >= 200, "{count} attacks");
        for attack in all() {
            for sees in attack.sees.into_iter().chain(attack.lacking) {
                let exact = ["refused E", "killed by SIG", "harmless: "].iter().any(|start| sees.starts_with(start));
                assert!(exact, "{}: `{sees}`", attack.name);
            }
        }
    }
}
