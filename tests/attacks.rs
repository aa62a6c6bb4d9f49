//! The attack suite: every attack of `dev/attacks`, in steps of the real `pace`, as root and as an ordinary user.

#[path = "attacks/captured.rs"]
mod captured;
#[path = "attacks/images.rs"]
mod images;
#[path = "attacks/leaks.rs"]
mod leaks;
#[path = "attacks/lifetime.rs"]
mod lifetime;
#[path = "attacks/limits.rs"]
mod limits;
#[path = "attacks/networks.rs"]
mod networks;
#[path = "attacks/scene.rs"]
mod scene;

use std::path::Path;

use attacks::stage::{Stage, Who};
use attacks::{Attack, Bare, all, single};

use scene::{PACE, is_root, program};

/// Plays all that are one program in one step, and says what was seen that must not be.
fn play(who: Who) {
    let attacks = single();
    let mut stage = Stage::new(who, program());
    let seen = stage.under_pace(Path::new(PACE), &attacks);
    let index = usize::from(who == Who::User);
    let is_wrong = |attack: &&&Attack| {
        let seen = seen[attack.name].as_str();
        seen != attack.sees[index] && Some(seen) != attack.lacking
    };
    let wrong: Vec<String> = attacks
        .iter()
        .filter(is_wrong)
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

/// An attack that succeeds nowhere would be no attack.
#[test]
fn without_a_sandbox_they_succeed() {
    if !is_root() {
        return;
    }
    let attacks: Vec<&Attack> = single().into_iter().filter(|attack| attack.bare == Bare::Succeeds).collect();
    assert!(attacks.len() >= 80, "{} are said to", attacks.len());
    let seen = Stage::new(Who::Root, program()).bare(&attacks);
    let failed: Vec<_> = seen.iter().filter(|(_, line)| !line.starts_with("ESCAPED")).collect();
    // A host that is itself in a container, or locked down, holds some off.
    assert!(failed.len() * 3 < attacks.len(), "{} of {} do not: {failed:#?}", failed.len(), attacks.len());
}

#[test]
fn every_scene_of_the_table_is_played() {
    let scenes = all().filter(|attack| attack.run.is_none()).map(|attack| attack.name);
    let sources = [
        include_str!("attacks/captured.rs"),
        include_str!("attacks/images.rs"),
        include_str!("attacks/leaks.rs"),
        include_str!("attacks/lifetime.rs"),
        include_str!("attacks/limits.rs"),
        include_str!("attacks/networks.rs"),
    ];
    let played =
        sources.iter().flat_map(|text| text.split("scene(\"").skip(1)).filter_map(|rest| rest.split('"').next());
    let (mut told, mut played): (Vec<_>, Vec<_>) = (scenes.collect(), played.collect());
    told.sort_unstable();
    played.sort_unstable();
    assert_eq!(told, played);
}
