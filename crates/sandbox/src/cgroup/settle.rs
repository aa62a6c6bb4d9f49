//! Where in a version 2 tree we may make groups. A group that hands controllers down has no processes of its own, so not
//! everywhere that we may write is a place to settle.

use std::path::PathBuf;

use super::dir::Dir;
use super::tree::{Controller, LEAF, Mounted};

/// What we look for. `cgroup.controllers` names them so.
const WANTED: [(&str, Controller); 4] =
    [("memory", Controller::Memory), ("cpu", Controller::Cpu), ("pids", Controller::Pids), ("io", Controller::Io)];

/// A group in which we may make others.
struct Candidate {
    dir: Dir,
    /// Of [`WANTED`].
    controllers: Vec<(&'static str, Controller)>,
    /// Has no processes, or may have some all the same because it is the root of all.
    free: bool,
}

/// The nearest group above us with the most controllers, and what it has besides the abilities of every group.
pub fn base(mounted: &Mounted) -> Result<(Dir, Vec<Controller>), String> {
    let own = mounted.own().ok_or("our own control group is not visible here")?;
    let mut candidates = candidates(mounted, own.clone());
    if candidates.is_empty() {
        return Err(format!("this user may not make control groups in {}", own.display()));
    }
    let chosen = candidates.swap_remove(choice(&candidates));
    if !chosen.free && !chosen.controllers.is_empty() {
        move_to_leaf(&chosen.dir)?;
    }
    let mut controllers = vec![Controller::CpuTime, Controller::Freezer];
    controllers.extend(chosen.controllers.iter().filter(|(name, _)| enable(&chosen.dir, name)).map(|(_, one)| *one));
    Ok((chosen.dir, controllers))
}

/// Our own group and those above it, as far as we may write.
fn candidates(mounted: &Mounted, own: PathBuf) -> Vec<Candidate> {
    let mut all = Vec::new();
    // We moved there before.
    let own = if own.file_name().is_some_and(|name| name == LEAF) { own.parent().unwrap_or(&own) } else { &own };
    for path in own.ancestors().take_while(|path| path.starts_with(&mounted.mount)) {
        let Ok(dir) = Dir::open(path.to_owned()) else { break };
        if !crate::probe::is_writable(path) || !crate::probe::is_writable(&path.join("cgroup.procs")) {
            break;
        }
        let text = dir.read("cgroup.controllers").unwrap_or_default();
        let controllers = WANTED.into_iter().filter(|(name, _)| text.split_whitespace().any(|word| word == *name));
        // Only the root of all has no type.
        let free = !dir.has("cgroup.type") || dir.read("cgroup.procs").is_ok_and(|text| text.is_empty());
        all.push(Candidate { controllers: controllers.collect(), free, dir });
    }
    all
}

/// A group with nobody but us in it is ours (a service, a scope of systemd): we stay. Else the nearest free one. Else our
/// own, which then is all of a container or was given to this user with all that is in it.
fn choice(candidates: &[Candidate]) -> usize {
    let most = candidates.iter().map(|one| one.controllers.len()).max().unwrap_or(0);
    let alone = candidates[0].dir.processes() == [std::process::id().cast_signed()];
    let good = |one: &Candidate| one.controllers.len() == most && one.free;
    if alone && candidates[0].controllers.len() == most {
        return 0;
    }
    candidates.iter().position(good).or_else(|| candidates.iter().position(|one| one.free)).unwrap_or(0)
}

/// Moves all processes of a group into a leaf of it. They keep their limits: those are set on the group.
fn move_to_leaf(dir: &Dir) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot move our processes out of {}: {error}", dir.path().display());
    let leaf = dir.make(LEAF).or_else(|_| dir.below(LEAF)).map_err(failed)?;
    // New ones may come while we move; a few rounds and everybody is over.
    for _ in 0..10 {
        let processes = dir.processes();
        if processes.is_empty() {
            return Ok(());
        }
        for pid in processes {
            // It may have ended meanwhile.
            let _ = leaf.write("cgroup.procs", &pid.to_string());
        }
    }
    Err(failed(std::io::Error::other("some of them may not be moved")))
}

/// One by one, because one that is refused would take the others with it.
fn enable(dir: &Dir, name: &str) -> bool {
    let on = dir.read("cgroup.subtree_control").unwrap_or_default();
    on.split_whitespace().any(|word| word == name) || dir.write("cgroup.subtree_control", &format!("+{name}")).is_ok()
}
