//! The documents: every pipeline in them and in the examples checks, every local link leads somewhere.

use lang::ReadError;

use crate::repository::{Problem, Repository};

/// All pipelines and links.
pub fn check(repository: &Repository) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in repository.markdown() {
        problems.extend(links(repository, path, text));
        // The generated pages show parts and mistakes on purpose; the tests of `lang` run those.
        let written_by_hand = path.starts_with("docs/") && !path.starts_with("docs/reference/");
        if path == "README.md" || written_by_hand {
            problems.extend(pipelines(path, text));
        }
    }
    for (path, text) in repository.files.iter().filter(|(path, _)| is_pipeline(path)) {
        problems.extend(pipeline_file(repository, path, text));
    }
    problems
}

fn is_pipeline(path: &str) -> bool {
    path == "paceline.yaml" || (path.starts_with("examples/") && path.ends_with("/paceline.yaml"))
}

fn pipeline_file(repository: &Repository, path: &str, text: &str) -> Option<Problem> {
    let folder = path.strip_suffix("paceline.yaml").unwrap_or_default();
    let mut read = |wanted: &str| {
        repository.text(&format!("{folder}{wanted}")).map(|text| text.as_bytes().to_vec()).ok_or(ReadError::NotFound)
    };
    let (_, report) = lang::load("paceline.yaml", text.as_bytes(), &mut read);
    report.has_errors().then(|| Problem::of(path, format!("does not check:\n{}", report.render(false, 100))))
}

/// Blocks marked `yaml` are whole pipelines; `yaml fragment` is a part of one.
fn pipelines(path: &str, text: &str) -> Vec<Problem> {
    let whole = blocks(text).into_iter().filter(|block| block.mark == "yaml");
    whole
        .filter_map(|block| {
            let (_, report) = lang::load("paceline.yaml", block.body.as_bytes(), &mut |_| Err(ReadError::NotFound));
            let what = || format!("this pipeline does not check:\n{}", report.render(false, 100));
            report.has_errors().then(|| Problem::at(path, block.line, what()))
        })
        .collect()
}

/// A fenced block: what stands after its opening fence, the line of the fence, the text inside.
struct Block {
    mark: String,
    line: usize,
    body: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(mark)) => {
                open = Some(Block { mark: mark.trim().to_string(), line: index + 1, body: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn links(repository: &Repository, path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block {
            continue;
        }
        for target in targets(line) {
            if let Some(what) = broken(repository, path, text, target) {
                problems.push(Problem::at(path, index + 1, what));
            }
        }
    }
    problems
}

/// The `target` of every `[text](target)` outside of back quotes.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, opening)| {
        let is_code = line[..at].matches('`').count() % 2 == 1;
        let rest = &line[at + opening.len()..];
        rest.find(')').filter(|_| !is_code).map(|end| &rest[..end])
    })
}

fn broken(repository: &Repository, from: &str, own_text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_string() } else { resolve(from, file) };
    if !repository.holds(&path) {
        return Some(format!("links to `{target}`, which does not exist"));
    }
    let text = if file.is_empty() { own_text } else { repository.text(&path).unwrap_or_default() };
    let leads = anchor.is_empty() || text.lines().any(|line| line.starts_with('#') && slug(line) == anchor);
    (!leads).then(|| format!("links to `{target}`, but no heading there makes `#{anchor}`"))
}

/// Joins a relative path to the folder of a file.
fn resolve(from: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A heading's anchor as forges make it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        let file = |path: &str, text: &str| (path.to_string(), text.to_string());
        let files = vec![file("README.md", "# What it is\n"), file("docs/a.md", "# A\n"), file("docs/b/c.md", "# C\n")];
        Repository { root: "/nowhere".into(), files }
    }

    #[test]
    fn links_that_lead_nowhere_are_named() {
        let text = "[a](a.md) [up](../README.md#what-it-is) [b](b) [web](https://example.com/x)\n\
                    [gone](gone.md)\n`[code](nothing)`\n```\n[code](nothing)\n```\n[anchor](a.md#b)\n";
        let found: Vec<String> = links(&repository(), "docs/x.md", text).iter().map(Problem::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/x.md:2: links to `gone.md`, which does not exist",
                "docs/x.md:7: links to `a.md#b`, but no heading there makes `#b`",
            ]
        );
    }

    #[test]
    fn only_whole_pipelines_are_checked() {
        let text = "```yaml\nname: a\nsteps: [{ id: a, cmd: echo }]\n```\n```yaml fragment\nsteps: 7\n```\n";
        assert_eq!(pipelines("x.md", text), []);
        let problems = pipelines("x.md", "text\n```yaml\nname: a\nstepz: []\n```\n");
        assert!(problems[0].to_string().starts_with("x.md:2: this pipeline does not check"), "{problems:?}");
    }

    #[test]
    fn headings_make_anchors_as_forges_do() {
        assert_eq!(slug("## Why did `it` run again?"), "why-did-it-run-again");
    }
}
