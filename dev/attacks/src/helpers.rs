//! What an attack has another copy of this program do.

use std::process::ExitCode;

/// `helper WORD`: says something about the process that it became.
pub fn help(args: &[String]) -> ExitCode {
    match args.first().map(String::as_str) {
        Some("users") => {
            let (real, effective) = crate::kernel::users();
            println!("{}", if real == effective { "same".into() } else { format!("user {effective}") });
        }
        Some("groups") => println!("{}", groups()),
        Some("capabilities") => println!("{}", status("CapEff").unwrap_or_default()),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn groups() -> String {
    let all = status("Gid").unwrap_or_default();
    let mut ids = all.split_whitespace();
    match (ids.next(), ids.next()) {
        (Some(real), Some(effective)) if real == effective => "same".into(),
        (_, effective) => format!("group {}", effective.unwrap_or("?")),
    }
}

fn status(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).map(ToOwned::to_owned)
}
