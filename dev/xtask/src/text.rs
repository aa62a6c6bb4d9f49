//! What stands in no file: paths of somebody's machine, marks of unfinished work, tests that are switched off, spaces at
//! the end of a line.

use crate::repository::{Problem, Repository};

/// Written in two halves so that this file does not hold what it looks for.
const MACHINE_PATHS: [&str; 6] = [
    concat!("/work", "/main"),
    concat!("/work", "/shared"),
    concat!("/tmp", "/brief"),
    concat!("/tmp", "/target"),
    concat!("/tmp", "/bash_jobs"),
    concat!("/home", "/user/"),
];
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const SWITCHED_OFF: &str = concat!("#[ign", "ore");
/// The one reason to leave a test out: another test starts it, in a process that it may fill or break.
const RUN_BY: &str = concat!("#[ign", "ore = \"run by `");

/// Every line of every text file.
pub fn check(repository: &Repository) -> Vec<Problem> {
    repository.files.iter().flat_map(|(path, text)| lines(path, text)).collect()
}

fn lines(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut say = |what: &str| problems.push(Problem::at(path, index + 1, what));
        if MACHINE_PATHS.iter().any(|machine| line.contains(machine)) {
            say("holds a path of somebody's machine");
        }
        if MARKS.iter().any(|mark| has_word(line, mark)) {
            say("holds a mark of unfinished work: finish it or file it");
        }
        let code = line.trim_start();
        if path.ends_with(".rs") && code.starts_with(SWITCHED_OFF) && !code.starts_with(RUN_BY) {
            say("switches a test off");
        }
        if line.ends_with([' ', '\t']) {
            say("ends in a space");
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        problems.push(Problem::of(path, "ends without a line end"));
    }
    problems
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(is_part)
            && !line[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_line() {
        let text = format!("fine\nsee {}/x\n// {} later\n{}]\nspace \n", MACHINE_PATHS[0], MARKS[0], SWITCHED_OFF);
        let found: Vec<String> = lines("a.rs", &text).iter().map(Problem::to_string).collect();
        let places: Vec<&str> = found.iter().map(|line| &line[..6]).collect();
        assert_eq!(places, ["a.rs:2", "a.rs:3", "a.rs:4", "a.rs:5"]);
    }

    #[test]
    fn words_that_only_look_like_marks_pass() {
        let text = format!("mktemp {}{}\n/workspace\n{RUN_BY}a_test` in a process of its own\"]\n", MARKS[2], MARKS[2]);
        assert_eq!(lines("a.rs", &text), []);
    }

    #[test]
    fn a_file_ends_with_a_line_end() {
        assert_eq!(lines("a", "x").len(), 1);
        assert_eq!(lines("a", ""), []);
    }
}
