//! Every bound is an error that names it, soon and once.

use std::fmt::Write;

use model::limits::{DIAGNOSTICS_MAX, STEPS_MAX};

use crate::{Repository, pipeline, shows};

fn first_line(text: impl AsRef<[u8]>) -> String {
    shows(text).lines().next().unwrap_or("").to_string()
}

#[test]
fn a_mebibyte_of_brackets_is_one_error() {
    let text = "[".repeat(1 << 20);
    assert_eq!(first_line(&text), "error: lists and maps are nested more than 64 deep");
    assert!(shows(&text).len() < 1000, "the excerpt is a stretch of the line");
    for opening in ["{a: ", "- ", "? "] {
        assert!(first_line(opening.repeat(100_000)).contains("64 deep"), "{opening}");
    }
    assert!(first_line("[".repeat((1 << 20) + 1)).contains("has at most 1048576"));
}

#[test]
fn an_alias_bomb_is_one_error() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_string();
    for (this, last) in ('b'..='i').zip('a'..) {
        let _ =
            writeln!(bomb, "{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]");
    }
    assert_eq!(first_line(&bomb), "error: with its aliases followed, the file has more than 400000 values");
    let text = format!("a: &a '{}'\nb: [{}]", "x".repeat(500_000), "*a,".repeat(100));
    assert!(first_line(text).contains("bytes of text"));
    let text = format!("a: &a x\nb: [{}]", "*a,".repeat(10_001));
    assert!(first_line(text).contains("more than 10000 aliases"));
}

#[test]
fn ten_thousand_steps_are_fine_and_one_more_is_not() {
    let steps = |count: usize| -> String {
        let mut text = "name: ci\nsteps:\n".to_string();
        for step in 0..count {
            let _ = writeln!(text, "- {{ id: s{step}, cmd: x }}");
        }
        text
    };
    assert_eq!(pipeline(&steps(STEPS_MAX)).steps.len(), STEPS_MAX);
    assert_eq!(first_line(steps(STEPS_MAX + 1)), "error: the pipeline has more than 10000 steps");
}

#[test]
fn a_thousand_cells_are_fine_and_one_more_is_not() {
    let axis = |name: &str, count: usize| {
        let values: Vec<String> = (0..count).map(|value| value.to_string()).collect();
        format!("{name}: [{}]", values.join(","))
    };
    let matrix = |axes: String| format!("name: ci\nsteps:\n- id: a\n  cmd: x\n  matrix: {{ {axes} }}\n");
    pipeline(&matrix(axis("a", 1000)));
    assert!(first_line(matrix(axis("a", 1001))).contains("1001 cells; a step has at most 1000"));
    let huge: Vec<String> = ('a'..='z').map(|name| axis(&name.to_string(), 1000)).collect();
    assert!(first_line(matrix(huge.join(", "))).contains("more cells than can be counted"));
}

#[test]
fn templates_do_not_grow_without_bound() {
    let mut text = "name: ci\nsteps:\n".to_string();
    for step in 0..60 {
        let _ = writeln!(text, "- {{ id: u{step}, use: a, with: {{ p: \"${{{{ git.branch }}}}\" }} }}");
    }
    text.push_str("templates:\n");
    let twice = "${{ params.p + params.p + params.p + params.p + params.p + params.p }}";
    for (outer, inner) in [("a", "b"), ("b", "c"), ("c", "d")] {
        let uses: Vec<String> =
            (0..4).map(|step| format!("{{ id: s{step}, use: {inner}, with: {{ p: \"{twice}\" }} }}")).collect();
        let _ = writeln!(text, "  {outer}: {{ params: {{ p: {{}} }}, steps: [{}] }}", uses.join(", "));
    }
    text.push_str("  d: { params: { p: {} }, steps: [{ id: z, cmd: \"echo ${{ params.p }}\" }] }\n");
    assert_eq!(
        first_line(text),
        "error: with templates and parameters put in, the expressions of the pipeline are too large"
    );
}

#[test]
fn includes_and_templates_have_a_depth() {
    let mut repository = Repository::default();
    for file in 1..=9 {
        repository = repository.with(&format!("{file}.yaml"), &format!("include: [{}.yaml]\n", file + 1));
    }
    let (_, report) = repository.load("name: ci\ninclude: [1.yaml]\nsteps: [{ id: a, cmd: x }]\n");
    assert!(report.render(false, 100).contains("more than 8 deep"), "{}", report.render(false, 100));
    let deep = "name: ci\nsteps: [{ id: u, use: a }]\ntemplates:\n  a: { steps: [{ id: s, use: b }] }\n  b: { steps: [{ id: s, use: c }] }\n  c: { steps: [{ id: s, use: d }] }\n  d: { steps: [{ id: s, use: e }] }\n  e: { steps: [{ id: s, cmd: x }] }\n";
    assert!(shows(deep).contains("more than 4 deep: a → b → c → d → e"), "{}", shows(deep));
}

#[test]
fn the_rest_of_a_thousand_faults_is_counted() {
    let mut text = "name: ci\nsteps:\n- { id: a, cmd: x }\n".to_string();
    for key in 0..500 {
        let _ = writeln!(text, "key{key}: 1");
    }
    let (_, report) = Repository::default().load(&text);
    assert_eq!((report.errors(), report.diagnostics().len()), (500, DIAGNOSTICS_MAX));
    assert!(report.render(false, 100).ends_with("… and 400 more; the first 100 are shown\n"));
}

#[test]
fn a_circle_of_ten_thousand_and_unknown_names_everywhere_are_found() {
    let mut circle = "name: ci\nsteps:\n".to_string();
    let mut unknown = circle.clone();
    for step in 0..STEPS_MAX {
        let _ = writeln!(circle, "- {{ id: s{step}, cmd: x, depends_on: [s{}] }}", (step + 1) % STEPS_MAX);
        let _ = writeln!(unknown, "- {{ id: s{step}, cmd: x, depends_on: [t{step}x] }}");
    }
    assert!(first_line(circle).starts_with("error: steps wait for each other: s0 → s1"));
    assert!(first_line(unknown).contains("which does not exist"));
}
