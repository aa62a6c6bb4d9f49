//! `attacks list` names all attacks, `attacks table` prints the page of the guide, `attacks NAME…` carries them out.

use std::process::ExitCode;

use attacks::{World, all, document, find, helpers};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("list") => list(),
        Some("table") => print!("{}", document::page()),
        // What is in a step's script, where the image has nothing but this program.
        Some("script") => return script(args.get(1)),
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
    for attack in all() {
        println!("{}: {}", attack.name, attack.tries);
    }
}

/// A line is names of attacks, or `helper` and what it does.
fn script(path: Option<&String>) -> ExitCode {
    let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<String>>());
    let codes = lines.map(|words| match words.split_first() {
        Some((first, rest)) if first == "helper" => helpers::help(rest),
        _ => carry_out(&words),
    });
    codes.fold(ExitCode::SUCCESS, |all, code| if code == ExitCode::SUCCESS { all } else { code })
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
