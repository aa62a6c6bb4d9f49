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

/// All of it.
struct Report<'a> {
    kernel: &'a str,
    cgroups: &'a str,
    landlock_abi: u32,
    findings: &'a [Finding],
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
    let needed = |what, ability| Finding { what, ability, needed: true };
    let wanted = |what, ability| Finding { what, ability, needed: false };
    let without_git = "files are then listed by .gitignore alone, and commit and branch are unknown";
    let findings = [
        needed("sandbox", host.sandbox),
        needed("user namespaces", host.user_namespaces),
        needed("overlay on the cache folder", host.overlay),
        wanted("overlay in memory", host.overlay_tmpfs),
        needed("system call filter", host.seccomp),
        wanted("landlock", host.landlock),
        wanted("networks of their own for steps", host.networks),
        wanted("packet filter in them", host.packet_filter),
        wanted("limits by control groups", host.limits),
        wanted("limit of memory", host.held.memory),
        wanted("limit of cpu", host.held.cpu),
        wanted("limit of pids", host.held.pids),
        wanted("limit of io_weight", host.held.io),
        wanted("limit of open_files", host.held.open_files),
        wanted("limit of file_size", host.held.file_size),
        wanted("limit of disk", host.held.disk),
        wanted("git", program("git", without_git)),
    ];
    let report = Report { kernel: &host.kernel, cgroups, landlock_abi: host.landlock_abi, findings: &findings };
    if screen.output == Output::Json {
        screen.text(&as_json(&report));
    } else {
        screen.text(&as_text(&report, &folders, screen));
    }
    let broken = findings.iter().any(|finding| finding.needed && matches!(finding.ability, Ability::No { .. }));
    Ok(if broken { Exit::Infrastructure } else { Exit::Green })
}

fn as_text(report: &Report, folders: &Folders, screen: &Screen) -> String {
    let Report { kernel, cgroups, findings, .. } = report;
    let style = screen.style();
    let (yes, partly, no) = if style.unicode { ("✓", "~", "✗") } else { ("ok", "~~", "no") };
    let mut text = format!("kernel {kernel}, control groups: {cgroups}\n");
    for finding in *findings {
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

fn as_json(report: &Report) -> String {
    let Report { kernel, cgroups, landlock_abi, findings } = report;
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
    serde_json::json!({ "kernel": kernel, "cgroups": cgroups, "landlock_abi": landlock_abi, "abilities": abilities })
        .to_string()
}

fn program(name: &str, without: &str) -> Ability {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    match found {
        true => Ability::Yes,
        false => Ability::No { why: "it is not on PATH".into(), advice: without.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_tells_what_works_what_works_by_best_effort_and_what_does_not() {
        let finding = |what, ability| Finding { what, ability, needed: false };
        let findings = [
            finding("a", Ability::Yes),
            finding("b", Ability::BestEffort { how: "by looking".into(), advice: "be root".into() }),
            finding("c", Ability::No { why: "it is off".into(), advice: "switch it on".into() }),
        ];
        let report = Report { kernel: "6.1", cgroups: "none", landlock_abi: 4, findings: &findings };
        let json: serde_json::Value = serde_json::from_str(&as_json(&report)).expect("is JSON");
        assert_eq!(json["landlock_abi"], 4);
        assert_eq!(json["abilities"][0]["works"], true);
        assert_eq!(
            (&json["abilities"][1]["works"], &json["abilities"][1]["how"]),
            (&true.into(), &"by looking".into())
        );
        assert_eq!(
            (&json["abilities"][2]["works"], &json["abilities"][2]["why"]),
            (&false.into(), &"it is off".into())
        );
    }
}
