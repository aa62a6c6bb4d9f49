//! `attacks list` names all attacks, `attacks table` prints them for the guide, `attacks NAME…` carries them out.

use std::process::ExitCode;

use attacks::{ATTACKS, World, document, find, helpers};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("list") => list(),
        Some("table") => print!("{}", document::table()),
        Some("helper") => return helpers::help(&args[1..]),
        Some(_) => return carry_out(&args),
        None => {
            eprintln!("usage: attacks list | table | NAME…");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn list() {
    for attack in ATTACKS.iter().copied().flatten() {
        println!("{}: {}", attack.name, attack.tries);
    }
}

/// One line each. An attack that succeeds is for the reader of the line, not an error of this program.
fn carry_out(names: &[String]) -> ExitCode {
    let world = World::from_env();
    for name in names {
        let Some(attack) = find(name) else {
            eprintln!("no attack is called `{name}`; `attacks list` names them");
            return ExitCode::from(2);
        };
        match attack.run {
            Some(run) => println!("{name}: {}", run(&world)),
            None => println!("{name}: a scene of several steps, played by tests/attacks.rs"),
        }
    }
    ExitCode::SUCCESS
}
