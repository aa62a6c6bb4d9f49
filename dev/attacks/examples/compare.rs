//! Plays every attack under `pace` as root and as an ordinary user, bubblewrap, crun and nothing at all, and prints a table.
//!
//! Needs root. `cargo run -p paceline-attacks --example compare [-- PACE]`; without a path it takes `pace` from the target
//! folder. Exits with 1 when too few attacks succeed unprotected: then they prove nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use attacks::stage::{self, Stage, Who};
use attacks::{Attack, Bare, single};

type Column = (&'static str, BTreeMap<String, String>);

fn main() -> ExitCode {
    if !stage::is_root() {
        eprintln!("compare needs root: it plays the attacks as root and as an ordinary user");
        return ExitCode::from(2);
    }
    let program = stage::program();
    let pace = std::env::args_os().nth(1).map_or_else(beside, PathBuf::from);
    let single = single();
    let harmless: Vec<&Attack> = single.iter().copied().filter(|attack| attack.bare != Bare::NotTried).collect();
    let mut root = Stage::new(Who::Root, &program);
    let mut columns: Vec<Column> = Vec::new();
    if pace.exists() {
        columns.push(("pace, root", root.under_pace(&pace, &single)));
        columns.push(("pace, user", Stage::new(Who::User, &program).under_pace(&pace, &single)));
    }
    if has("bwrap") {
        columns.push(("bubblewrap", root.under_bubblewrap(&single)));
    }
    if has("crun") {
        columns.extend(root.under_crun(&single).ok().map(|column| ("crun", column)));
    }
    columns.push(("nothing", root.bare(&harmless)));
    print(&single, &columns);
    verdict(&single, &columns)
}

fn beside() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors().nth(2).map(|dir| dir.join("pace")).unwrap_or_default()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn print(attacks: &[&Attack], columns: &[Column]) {
    print!("{:28}", "attack");
    columns.iter().for_each(|(name, _)| print!(" {name:24}"));
    println!();
    for attack in attacks {
        print!("{:28}", attack.name);
        for (_, column) in columns {
            let cell: String = column.get(attack.name).map_or("-", String::as_str).chars().take(24).collect();
            print!(" {cell:24}");
        }
        println!();
    }
}

/// Every attack that is said to work unprotected does, and the sandbox lets none through.
fn verdict(attacks: &[&Attack], columns: &[Column]) -> ExitCode {
    let mut right = true;
    for (name, column) in columns {
        let escaped: Vec<&str> =
            column.iter().filter(|(_, line)| line.starts_with("ESCAPED")).map(|(name, _)| name.as_str()).collect();
        println!("{name}: {} of {} succeed", escaped.len(), column.len());
        if name.starts_with("pace") && !escaped.is_empty() {
            println!("  {}", escaped.join(" "));
            right = false;
        }
    }
    let Some((_, bare)) = columns.last() else { return ExitCode::FAILURE };
    for attack in attacks.iter().filter(|attack| attack.bare == Bare::Succeeds) {
        let line = bare.get(attack.name).map_or("-", String::as_str);
        if !line.starts_with("ESCAPED") {
            println!("{} is said to work unprotected, but: {line}", attack.name);
            right = false;
        }
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
