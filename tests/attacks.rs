//! The attack suite: every attack of `dev/attacks`, in a step of the real `pace`, as root and as an ordinary user.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use attacks::stage::{self, Stage, Who};
use attacks::{ATTACKS, Attack};

const PACE: &str = env!("CARGO_BIN_EXE_pace");

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(stage::program)
}

/// Those that are one program in one step.
fn single() -> Vec<&'static Attack> {
    ATTACKS.iter().copied().flatten().filter(|attack| attack.run.is_some()).collect()
}

/// Plays all and says what was seen that must not be.
fn play(who: Who) {
    let attacks = single();
    let mut stage = Stage::new(who, program());
    let seen = stage.under_pace(Path::new(PACE), &attacks);
    let index = usize::from(who == Who::User);
    let wrong: Vec<String> = attacks
        .iter()
        .filter(|attack| {
            let seen = seen[attack.name].as_str();
            seen != attack.sees[index] && Some(seen) != attack.lacking
        })
        .map(|attack| format!("{}\n  must be  {}\n  but is   {}", attack.name, attack.sees[index], seen[attack.name]))
        .collect();
    assert!(wrong.is_empty(), "as {who:?}, {} of {}:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
    assert_eq!(stage.harm(), [""; 0]);
}

#[test]
fn every_attack_is_held_off_where_the_host_is_root() {
    if is_root() {
        play(Who::Root);
    }
}

#[test]
fn every_attack_is_held_off_for_an_ordinary_user() {
    if is_root() {
        play(Who::User);
    }
}

/// Elsewhere it says so and does nothing, unless CI promised that it is.
fn is_root() -> bool {
    let root = stage::is_root();
    assert!(root || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "this test needs root, and CI=true promises it");
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}
