//! The table of the guide: what is tried, what holds it off, what is seen.

use crate::ATTACKS;

/// Rows of Markdown, by subject.
pub fn table() -> String {
    let mut text =
        String::from("| attack | the step … | what holds it off | what is seen |\n| --- | --- | --- | --- |\n");
    for attack in ATTACKS.iter().copied().flatten() {
        let [root, user] = attack.sees;
        let seen = if root == user { root.to_string() } else { format!("{root}; as an ordinary user {user}") };
        text.push_str(&format!("| `{}` | {} | {} | {seen} |\n", attack.name, attack.tries, attack.wall));
    }
    text
}
