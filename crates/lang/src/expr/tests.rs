//! Scenes of expressions: sources and their values, sources and what is said about them, bounds, trust.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use model::expr::{Expr, Template, evaluate, evaluate_bool, render};
use model::limits::{EXPR_DEPTH_MAX, EXPR_TREE_DEPTH_MAX};
use model::{ParamKind, Span};
use proptest::prelude::*;

use super::fuzz::Sample;
use super::{
    Trust, Type, Types, as_expr, collect_env_calls, collect_hash_calls, expression, fuzz_expression, is_untrusted,
    template, template_is_untrusted,
};
use crate::diagnostic::Diagnostic;
use crate::span_map::SpanMap;

fn exact(source: &str) -> SpanMap {
    SpanMap::exact(Span { file: 0, start: 0, end: source.len() as u32 })
}

fn checked_as(source: &str, want: Option<Type>, types: &Types<'_>) -> Result<Expr, Vec<Diagnostic>> {
    let mut out = Vec::new();
    let expr = expression(source, &exact(source), want, types, &mut out);
    expr.ok_or(out)
}

fn checked(source: &str) -> Expr {
    let sample = Sample::new();
    checked_as(source, None, &sample.types()).unwrap_or_else(|out| panic!("{source}: {out:#?}"))
}

fn text_of(source: &str) -> Template {
    let sample = Sample::new();
    let mut out = Vec::new();
    template(source, &exact(source), &sample.types(), &mut out).unwrap_or_else(|| panic!("{source}: {out:#?}"))
}

/// The value of an expression as it reads in a text, or `error: …`.
fn value(source: &str) -> String {
    let sample = Sample::new();
    match evaluate(&checked(source), &sample.scope()) {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {}", error.message),
    }
}

fn rendered(source: &str) -> String {
    let sample = Sample::new();
    render(&text_of(source), &sample.scope()).unwrap_or_else(|error| format!("error: {}", error.message))
}

/// A diagnostic as the tables of this file show it: code and message, the source with the place under it, the rest.
fn shown(source: &str, report: &Diagnostic) -> String {
    let mut shown = format!("{} {}\n", report.code, report.message);
    let marks = |shown: &mut String, span: &Span, sign: &str, label: &str| {
        let (start, end) = (span.start as usize, span.end as usize);
        let column = source[..start].chars().count();
        let width = source[start..end].chars().count().max(1);
        let _ = writeln!(shown, "  {}{} {label}", " ".repeat(column), sign.repeat(width));
    };
    let _ = writeln!(shown, "  {source}");
    marks(&mut shown, &report.primary.0, "^", &report.primary.1);
    for (span, label) in &report.labels {
        marks(&mut shown, span, "-", label);
    }
    for help in &report.help {
        let _ = writeln!(shown, "  help: {help}");
    }
    shown.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn expressions_have_the_values_that_cel_says() {
    let mut wrong = Vec::new();
    for line in include_str!("values.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (source, wanted) = line.split_once(" =>").unwrap_or_else(|| panic!("no => in {line}"));
        let found = value(source);
        if found != wanted.trim_start() {
            wrong.push(format!("{source} => {found}, not {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `errors.txt` holds blocks: `> source` (an `if`) or `$ source` (a text), and all that is said about it.
#[test]
fn what_is_wrong_is_said_exactly() {
    let sample = Sample::new();
    let table = include_str!("errors.txt");
    let mut found = String::new();
    for line in table.lines() {
        if let Some(source) = line.strip_prefix("> ") {
            let reports = checked_as(source, Some(Type::Bool), &sample.types()).err().unwrap_or_default();
            let shown: String = reports.iter().map(|report| shown(source, report)).collect();
            let _ = write!(found, "{line}\n{shown}\n");
        } else if let Some(source) = line.strip_prefix("$ ") {
            let mut out = Vec::new();
            template(source, &exact(source), &sample.types(), &mut out);
            let shown: String = out.iter().map(|report| shown(source, report)).collect();
            let _ = write!(found, "{line}\n{shown}\n");
        }
    }
    let first = table.lines().zip(found.lines()).position(|(wanted, found)| wanted != found);
    if let Some(line) = first {
        let around = |text: &str| text.lines().skip(line.saturating_sub(3)).take(9).collect::<Vec<_>>().join("\n");
        panic!("line {}: wanted\n{}\n\nfound\n{}", line + 1, around(table), around(&found));
    }
    assert_eq!(table.trim_end().lines().count(), found.trim_end().lines().count());
}

#[test]
fn every_code_of_expressions_has_a_line_in_the_table_of_errors() {
    let table = include_str!("errors.txt");
    for code in super::CODES {
        assert!(table.contains(code.code), "{} {}", code.code, code.title);
    }
}

/// Lines of the guide's blocks of this kind.
fn guide(kind: &str) -> Vec<&'static str> {
    let mut inside = false;
    let lines = include_str!("../../../../docs/expressions.md").lines();
    lines
        .filter(|line| {
            let fence = line.starts_with("```");
            inside = if fence { *line == format!("```{kind}") } else { inside };
            inside && !fence
        })
        .collect()
}

#[test]
fn every_line_of_the_guide_is_true() {
    let lines = guide("cel");
    assert!(lines.len() > 40, "{} lines", lines.len());
    for line in lines {
        let (source, wanted) = line.split_once(" → ").unwrap_or_else(|| panic!("no → in {line}"));
        assert_eq!(value(source), wanted, "{source}");
    }
}

fn load(pipeline: &str) -> (Option<model::Pipeline>, crate::Report) {
    crate::load("paceline.yaml", pipeline.as_bytes(), &mut |_| Err(crate::ReadError::NotFound))
}

#[test]
fn every_pipeline_of_the_guide_is_clean() {
    let lines = guide("yaml").join("\n");
    let pipelines: Vec<String> = lines.split("name: ").skip(1).map(|rest| format!("name: {rest}\n")).collect();
    assert_eq!(pipelines.len(), 2);
    for pipeline in pipelines {
        let (_, report) = load(&pipeline);
        assert!(report.diagnostics().is_empty(), "{}", report.render(false, 100));
    }
}

#[test]
fn a_branch_name_reaches_a_script_through_its_environment_only() {
    let pipeline = "name: x\nsteps:\n  - id: a\n    cmd: echo \"${{ git.branch }} ${{ git.short_sha }}\"\n";
    let (pipeline, _) = load(pipeline);
    let model::StepKind::Cmd(cmd) = &pipeline.expect("clean").steps[0].kind else { panic!("a cmd") };
    let sample = Sample::new();
    let script = render(&cmd.cmd, &sample.scope()).expect("renders");
    assert!(!script.contains("release/1.2") && script.contains("0123456"), "{script}");
    let handed: Vec<_> = cmd.cmd_env.values().map(|value| render(value, &sample.scope())).collect();
    assert_eq!(handed, [Ok("release/1.2".to_string())]);
    let (_, report) = load("name: x\nsteps:\n  - id: a\n    cmd: echo '${{ git.branch }}'\n");
    assert!(report.has_errors());
}

#[test]
fn the_guide_tells_the_bounds_and_the_names_that_hold() {
    use model::limits::{EXPR_BYTES_MAX, EXPR_COST_MAX, EXPR_TEXT_BYTES_MAX};
    let guide = include_str!("../../../../docs/expressions.md");
    let bounds = [EXPR_BYTES_MAX, EXPR_DEPTH_MAX, EXPR_TREE_DEPTH_MAX, EXPR_COST_MAX as usize, EXPR_TEXT_BYTES_MAX];
    assert_eq!(bounds, [4096, 32, 200, 100_000, 1 << 20], "then the guide and the text of P0206 need new numbers");
    for name in super::call::names().chain(super::context::field_names()) {
        assert!(guide.contains(name), "{name} is missing in the guide");
    }
}

#[test]
fn texts_with_expressions_are_filled_in() {
    let cases = [
        ("", ""),
        ("plain", "plain"),
        ("go-${{ hash('go.sum') }}", "go-abc123"),
        ("a${{1}}b${{ 2 }}c", "a1b2c"),
        ("$${{ git.branch }}", "${{ git.branch }}"),
        ("${{ \"}}\" }}.${{ '}}' }}", "}}.}}"),
        ("${{ \"a\\\"}}\" }}", "a\"}}"),
        ("${{ r\"\\\" }}x", "\\x"),
        ("${{ {\"a\": {\"b\": 1}} }}", "{\"a\":{\"b\":1}}"),
        ("${{ {\"a\": {\"b\": 1}}.a.b }}}}", "1}}"),
        ("${{ matrix.race ? \"-race\" : \"\" }} ./...", "-race ./..."),
        ("$PATH ${HOME} {{ x }} $$ }}", "$PATH ${HOME} {{ x }} $$ }}"),
        ("é${{ \"ü\" }}", "éü"),
        ("${{ git.message }}", "Fix $(whoami)"),
    ];
    for (source, wanted) in cases {
        assert_eq!(rendered(source), wanted, "{source}");
    }
}

#[test]
fn a_value_is_never_read_again() {
    assert_eq!(rendered("${{ '$' + '{{ git.branch }}' }}"), "${{ git.branch }}");
}

#[test]
fn every_expression_of_a_text_is_checked() {
    let sample = Sample::new();
    let source = "${{ gti.branch }} ${{ git.tga }} ${{ git.tag }}";
    let mut out = Vec::new();
    assert_eq!(template(source, &exact(source), &sample.types(), &mut out), None);
    assert_eq!(out.iter().map(|report| report.code).collect::<Vec<_>>(), ["P0210", "P0211"]);
}

#[test]
fn nesting_and_rows_are_bounded_and_what_cel_asks_for_is_within() {
    let sample = Sample::new();
    let code = |source: &str| checked_as(source, None, &sample.types()).map_err(|out| out[0].code).map(|_| ());
    let parens = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    let row = |n: usize, sign: &str, item: &str| vec![item; n].join(sign);
    assert_eq!(code(&parens(EXPR_DEPTH_MAX - 1)), Ok(()));
    assert_eq!(code(&parens(EXPR_DEPTH_MAX)), Err("P0206"));
    assert_eq!(code(&parens(2000)), Err("P0206"));
    assert_eq!(code(&format!("{}true", "!".repeat(EXPR_DEPTH_MAX - 1))), Ok(()));
    assert_eq!(code(&format!("{}true", "!".repeat(3000))), Err("P0206"));
    assert_eq!(code(&row(EXPR_TREE_DEPTH_MAX, "+", "1")), Ok(()));
    assert_eq!(code(&row(EXPR_TREE_DEPTH_MAX + 1, "+", "1")), Err("P0206"));
    assert_eq!(code(&row(33, "||", "true")), Ok(()));
    assert_eq!(code(&format!("[{}]", row(100, ",", "1"))), Ok(()));
    assert_eq!(code(&"1".repeat(5000)), Err("P0206"));
    assert_eq!(code(&format!("matrix.mixed{}", ".a".repeat(EXPR_TREE_DEPTH_MAX - 2))), Ok(()));
    assert_eq!(code(&format!("matrix.mixed{}", ".a".repeat(EXPR_TREE_DEPTH_MAX - 1))), Err("P0206"));
    assert_eq!(code(&"[".repeat(4000)), Err("P0206"));
}

#[test]
fn the_longest_row_is_evaluated_on_a_small_stack() {
    let row = vec!["1"; EXPR_TREE_DEPTH_MAX].join("+");
    let run = move || value(&row);
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("a thread");
    assert_eq!(thread.join().expect("it ends"), EXPR_TREE_DEPTH_MAX.to_string());
}

#[test]
fn evaluation_ends_within_its_cost_and_size() {
    let ten = "[1,2,3,4,5,6,7,8,9,0]";
    let nested = (0..6).fold("1".to_string(), |body, n| format!("{ten}.map(v{n}, {body})"));
    assert!(value(&nested).contains("more than 100000 evaluation steps"), "{}", value(&nested));
    let doubled =
        (0..12).fold("'0123456789abcdef'".to_string(), |text, _| format!("{text}.replace('0', '{}')", "0".repeat(40)));
    assert!(value(&doubled).contains("grows over 1048576 bytes"), "{}", value(&doubled));
    let text = (0..20).fold("'x'".to_string(), |text, n| format!("[{text}].map(v{n}, v{n} + v{n})[0]"));
    assert_eq!(value(&format!("size({text})")), (1 << 20).to_string());
    let joined = format!("[{text}, 'y'].join('')");
    assert!(value(&joined).contains("grows over 1048576 bytes"));
    let split = format!("size({text}.split(''))");
    assert!(value(&split).contains("more than 100000 evaluation steps"));
    let matched = format!("{text}.matches('(a?){{20}}$')");
    assert!(value(&matched).contains("more than 100000 evaluation steps"));
    let sample = Sample::new();
    let rendered = render(&text_of(&format!("${{{{ {text} }}}}.")), &sample.scope());
    assert!(rendered.is_err_and(|error| error.message.contains("grows over 1048576 bytes")));
}

#[test]
fn a_parameter_of_a_template_is_replaced_by_what_it_stands_for() {
    let sample = Sample::new();
    let bindings: BTreeMap<String, Expr> = [
        ("dir".to_string(), as_expr(text_of("svc/${{ matrix.go }}/${{ run.number }}"), Span::default())),
        ("flag".to_string(), checked("matrix.race")),
        ("lock".to_string(), as_expr(text_of("go.sum"), Span::default())),
    ]
    .into();
    let params = [
        ("dir".to_string(), ParamKind::String),
        ("flag".to_string(), ParamKind::Boolean),
        ("lock".to_string(), ParamKind::String),
    ];
    let params = params.into();
    let types = Types { params: &params, bindings: &bindings, ..sample.types() };
    let value =
        |source: &str| evaluate(&checked_as(source, None, &types).expect(source), &sample.scope()).expect(source);
    assert_eq!(value("params.flag ? params.dir : ''").to_string(), "svc/1.23/42");
    assert_eq!(value("hash(params.lock)").to_string(), "abc123");
    assert!(checked_as("hash(params.dir)", None, &types).is_err_and(|out| out[0].code == "P0225"));
}

#[test]
fn templates_within_templates_do_not_grow_without_bound() {
    let sample = Sample::new();
    let kinds = [("x".to_string(), ParamKind::String)].into();
    let mut tree = checked("'x'");
    let mut refused = None;
    for _ in 0..4 {
        let bindings = [("x".to_string(), tree.clone())].into();
        let types = Types { params: &kinds, bindings: &bindings, ..sample.types() };
        match checked_as(&format!("[{}].join('')", ["params.x"; 100].join(",")), None, &types) {
            Ok(larger) => tree = larger,
            Err(out) => refused = Some(out[0].code),
        }
    }
    assert_eq!(refused, Some("P0206"));
}

#[test]
fn steps_of_a_template_name_each_other_without_its_prefix() {
    let sample = Sample::new();
    let types = Types { scope: "deploy.", ..sample.types() };
    let outcome = checked_as("steps.test.outcome", None, &types).expect("deploy.test");
    assert_eq!(evaluate(&outcome, &sample.scope()).expect("outcome").to_string(), "failure");
    assert!(checked_as("steps.build.outcome", None, &types).is_ok());
}

#[test]
fn what_a_stranger_can_set_is_untrusted() {
    let params = Sample::new().kinds;
    let untrusted_env: BTreeSet<String> = ["MODE".to_string()].into();
    let trust = Trust { params: &params, untrusted_env: &untrusted_env };
    let untrusted = [
        "git.branch",
        "git.tag",
        "git.message",
        "git.author",
        "git.target",
        "event.title",
        "event.author",
        "params.version",
        "steps.build.values.version",
        "env(\"HOME\")",
        "env.MODE",
        "\"x\" + git.branch",
        "git.branch.lowerAscii()",
        "git.branch.split(\"/\")",
        "git.branch.split(\"/\")[0]",
        "[git.branch].join(\"\")",
        "run.number > 3 ? git.branch : \"x\"",
        "{\"a\": git.branch}.a",
        "{git.branch: 1}",
        "string(git.branch)",
        "[1].map(x, git.branch)",
        "[git.branch].filter(x, true)",
        "[git.branch].map(x, x)",
        "\"a\".replace(\"a\", git.tag)",
        "semver(git.tag).major > 1 ? \"x\" : git.tag",
        "\"x\".replace(\"x\", env(\"HOME\")).trim()",
    ];
    for source in untrusted {
        assert!(is_untrusted(&checked(source), &trust), "{source}");
    }
    let trusted = [
        "\"x\"",
        "1",
        "git.branch == \"x\"",
        "size(git.branch)",
        "git.branch.startsWith(\"x\")",
        "matrix.go",
        "env.GOOS",
        "run.id",
        "run.number",
        "git.commit",
        "git.short_sha",
        "hash(\"go.sum\")",
        "semver(git.tag)",
        "semver(git.tag).pre",
        "params.deploy",
        "params.count",
        "params.count + 1",
        "event.kind",
        "event.number",
        "steps.build.outcome",
        "git.branch == \"main\" ? \"x\" : \"y\"",
        "has(steps.build.values.version)",
        "int(git.tag)",
        "bool(git.tag)",
        "!(git.branch == \"x\")",
        "git.branch.split(\"/\").exists(x, x == \"a\")",
        "secrets.TOKEN",
        "matrix.go + \"x\"",
    ];
    for source in trusted {
        assert!(!is_untrusted(&checked(source), &trust), "{source}");
    }
    assert!(template_is_untrusted(&text_of("a ${{ 1 }} ${{ git.tag }}"), &trust));
    assert!(!template_is_untrusted(&text_of("a ${{ 1 }} git.tag"), &trust));
}

#[test]
fn calls_that_must_be_answered_before_planning_are_found() {
    let expr =
        checked("[hash('a', 'b')].map(x, has({'k': env('A')}.k) ? x + hash('a', 'b') : hash('c'))[0] + env('B')");
    let (mut hashes, mut names) = (BTreeSet::new(), BTreeSet::new());
    collect_hash_calls(&expr, &mut hashes);
    collect_env_calls(&expr, &mut names);
    assert_eq!(hashes, [vec!["a".to_string(), "b".to_string()], vec!["c".to_string()]].into());
    assert_eq!(names, ["A".to_string(), "B".to_string()].into());
}

#[test]
fn places_are_exact_inside_a_text_with_escapes() {
    let sample = Sample::new();
    let file = r#"cmd: "é\n${{ git.brnach }}""#;
    let whole = Span { file: 3, start: 5, end: file.len() as u32 };
    let map = SpanMap::of_scalar(file, whole, crate::span_map::Style::Double, "é\n${{ git.brnach }}");
    let mut out = Vec::new();
    template("é\n${{ git.brnach }}", &map, &sample.types(), &mut out);
    let span = out[0].primary.0;
    assert_eq!((span.file, &file[span.start as usize..span.end as usize]), (3, "brnach"));
}

#[test]
fn a_condition_is_true_or_false() {
    let sample = Sample::new();
    let condition = checked_as("matrix.mixed", Some(Type::Bool), &sample.types()).expect("dyn may be a bool");
    let error = evaluate_bool(&condition, &sample.scope()).expect_err("it is an int");
    assert_eq!(error.message, "the condition is of type int, not true or false");
}

/// Pieces that mutations are made of: everything the language has, and what breaks it.
const PIECES: &[&str] = &[
    "git.branch",
    "steps.go-test.values.x",
    "matrix.mixed",
    "${{",
    "}}",
    "$${{",
    "\"",
    "'",
    "\"\"\"",
    "r\"",
    "\\",
    "\\u00e9",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ":",
    "?",
    "==",
    "!=",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "<",
    " in ",
    " and ",
    ".map(x, ",
    ".filter(x, ",
    ".all(x, ",
    "has(",
    "size(",
    ".split(\"\")",
    ".replace(\"\", \"xx\")",
    ".matches(\"(a*)*\")",
    "9223372036854775807",
    "9223372036854775808",
    "0x",
    "1e999",
    "1.5",
    "null",
    "true",
    "é",
    "\u{0}",
    "\n",
    "`",
    "steps",
    "semver(\"1.2.3\")",
    "hash(\"go.sum\")",
    "env(\"HOME\")",
    "params.",
    "int(",
    "double(",
    "string(",
    ".join(",
];

fn mutated(random: &mut dyn FnMut() -> usize) -> Vec<u8> {
    let table = include_str!("values.txt");
    let sources: Vec<&str> =
        table.lines().filter_map(|line| line.split_once(" =>")).map(|(source, _)| source).collect();
    let mut bytes = sources[random() % sources.len()].as_bytes().to_vec();
    for _ in 0..random() % 8 {
        let at = random() % (bytes.len() + 1);
        match random() % 4 {
            0 if !bytes.is_empty() => {
                bytes.remove(at % bytes.len());
            }
            1 if !bytes.is_empty() => {
                let index = at % bytes.len();
                bytes[index] = (random() % 256) as u8;
            }
            2 => {
                let other = sources[random() % sources.len()].as_bytes();
                bytes.splice(at..at, other.iter().copied());
            }
            _ => {
                bytes.splice(at..at, PIECES[random() % PIECES.len()].bytes());
            }
        }
    }
    bytes
}

#[test]
fn no_mutation_of_a_source_makes_a_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize
    };
    for _ in 0..5000 {
        fuzz_expression(&mutated(&mut random));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_refused_or_evaluated(source in "\\PC{0,200}") {
        fuzz_expression(source.as_bytes());
    }

    #[test]
    fn any_row_of_pieces_is_refused_or_evaluated(pieces in prop::collection::vec(0..PIECES.len(), 0..40)) {
        let source: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        fuzz_expression(source.as_bytes());
    }

    #[test]
    fn any_bytes_are_refused_or_evaluated(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_expression(&bytes);
    }
}
