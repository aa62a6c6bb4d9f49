//! The page of the guide: what is tried, what holds it off, what is seen.

use crate::{Attack, SUBJECTS, all};

const HEAD: &str = "# Every attack of the suite

Each is a real program that runs in a step of the real `pace`, as root and as an ordinary user; the tests hold what it saw
against this table. Written by the code (`cargo run -p xtask -- generate`). What the walls are, and what is not defended
against, says [the threat model](../security.md).

`refused E…` is the error that the kernel gave. Where two are named, the first is seen where the host's user is root, the
second for an ordinary user; what is in brackets is seen where the host's kernel lacks what is attacked, or has no landlock.
";

/// The whole page.
pub fn page() -> String {
    let mut text = format!("{HEAD}\n{} attacks.\n", all().count());
    for (title, attacks) in SUBJECTS {
        text.push_str(&format!("\n## {title}\n\n| attack | the step … | wall | seen |\n| --- | --- | --- | --- |\n"));
        for attack in *attacks {
            text.push_str(&format!("| `{}` | {} | {} | {} |\n", attack.name, attack.tries, attack.wall, seen(attack)));
        }
    }
    text
}

fn seen(attack: &Attack) -> String {
    let [root, user] = attack.sees;
    let mut text = root.to_string();
    if user != root {
        text.push_str(&format!(", {user}"));
    }
    if let Some(lacking) = attack.lacking {
        text.push_str(&format!(" ({lacking})"));
    }
    text
}
