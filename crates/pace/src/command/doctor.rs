//! `pace doctor`: what this host can enforce, and what to do about the rest.

use sandbox::{Ability, CgroupLayout};

use crate::cli::{DoctorArgs, Output};
use crate::exit::{Ended, Exit};
use crate::folders::Folders;
use crate::history::cannot;
use crate::screen::Screen;

/// One line of the report.
struct Finding {
    what: &'static str,
    ability: Ability,
    /// Without it `pace run` does not work as it should.
    needed: bool,
}

/// Tries everything out; exit 11 if steps cannot be isolated here.
pub fn run(_: &DoctorArgs, screen: &mut Screen) -> Ended {
    let folders = Folders::find()?;
    std::fs::create_dir_all(&folders.cache).map_err(|error| cannot("make", &folders.cache, &error))?;
    let host = sandbox::probe(&folders.cache);
    let cgroups = match host.cgroups {
        CgroupLayout::V2 => "version 2",
        CgroupLayout::Hybrid => "hybrid (version 1 controllers)",
        CgroupLayout::V1 => "version 1",
        CgroupLayout::None => "none",
    };
    let findings = [
        Finding { what: "sandbox", ability: host.sandbox, needed: true },
        Finding { what: "user namespaces", ability: host.user_namespaces, needed: true },
        Finding { what: "overlay on the cache folder", ability: host.overlay, needed: true },
        Finding { what: "overlay in memory", ability: host.overlay_tmpfs, needed: false },
        Finding { what: "system call filter", ability: host.seccomp, needed: true },
        Finding { what: "limits by control groups", ability: host.limits, needed: false },
        Finding {
            what: "git",
            ability: program("git", "files are then listed by .gitignore alone, and commit and branch are unknown"),
            needed: false,
        },
    ];
    if screen.output == Output::Json {
        screen.text(&as_json(&host.kernel, cgroups, &findings));
    } else {
        screen.text(&as_text(&host.kernel, cgroups, &findings, &folders, screen));
    }
    let broken = findings.iter().any(|finding| finding.needed && matches!(finding.ability, Ability::No { .. }));
    Ok(if broken { Exit::Infrastructure } else { Exit::Green })
}

fn as_text(kernel: &str, cgroups: &str, findings: &[Finding], folders: &Folders, screen: &Screen) -> String {
    let style = screen.style();
    let (yes, partly, no) = if style.unicode { ("✓", "~", "✗") } else { ("ok", "~~", "no") };
    let mut text = format!("kernel {kernel}, control groups: {cgroups}\n");
    for finding in findings {
        match &finding.ability {
            Ability::Yes => text.push_str(&format!("{yes} {}\n", finding.what)),
            Ability::BestEffort { how: what, advice } | Ability::No { why: what, advice } => {
                let mark = if matches!(finding.ability, Ability::No { .. }) { no } else { partly };
                text.push_str(&format!("{mark} {}: {what}\n", finding.what));
                if !advice.is_empty() {
                    text.push_str(&format!("    {advice}\n"));
                }
            }
        }
    }
    if findings[0].ability != Ability::Yes {
        text.push_str("steps can still be run without any isolation: pace run --executor process\n");
    }
    text.push_str(&format!("cache: {}\nstate: {}\n", folders.cache.display(), folders.state.display()));
    text
}

fn as_json(kernel: &str, cgroups: &str, findings: &[Finding]) -> String {
    let abilities: Vec<_> = findings
        .iter()
        .map(|finding| match &finding.ability {
            Ability::Yes => serde_json::json!({ "what": finding.what, "works": true, "needed": finding.needed }),
            Ability::BestEffort { how, advice } => {
                serde_json::json!({ "what": finding.what, "works": true, "best_effort": true, "needed": finding.needed, "how": how, "advice": advice })
            }
            Ability::No { why, advice } => {
                serde_json::json!({ "what": finding.what, "works": false, "needed": finding.needed, "why": why, "advice": advice })
            }
        })
        .collect();
    serde_json::json!({ "kernel": kernel, "cgroups": cgroups, "abilities": abilities }).to_string()
}

fn program(name: &str, without: &str) -> Ability {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    match found {
        true => Ability::Yes,
        false => Ability::No { why: "it is not on PATH".into(), advice: without.into() },
    }
}
