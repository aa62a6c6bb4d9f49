//! A run as JUnit XML: one suite, one case for each step instance.

use std::time::Duration;

use model::{Cause, Outcome};

use crate::ansi;
use crate::json::iso;
use crate::run::{RunView, StepState, StepView};

/// The document. Steps that are allowed to fail count as skipped, for a JUnit reader knows no word for them; causes
/// outside the step (lost, infrastructure, refused) are errors, not failures.
pub fn render(view: &RunView) -> String {
    let steps: Vec<&StepView> = view.steps().iter().filter(|step| !step.silent).collect();
    let verdicts: Vec<Verdict> = steps.iter().map(|step| verdict(step)).collect();
    let count = |wanted: &str| verdicts.iter().filter(|verdict| verdict.element == wanted).count();
    let name = attribute(view.pipeline());
    let totals = format!(
        r#"name="{name}" tests="{}" failures="{}" errors="{}" skipped="{}" time="{}""#,
        steps.len(),
        count("failure"),
        count("error"),
        count("skipped"),
        seconds(view.took().unwrap_or_default()),
    );
    let when = iso(view.requested_at());
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    xml.push_str(&format!("<testsuites {totals}>\n  <testsuite {totals} timestamp=\"{when}\">\n"));
    for (step, verdict) in steps.iter().zip(&verdicts) {
        case(step, verdict, &name, &mut xml);
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

struct Verdict {
    /// Empty: it passed.
    element: &'static str,
    kind: &'static str,
    message: String,
    output: bool,
}

fn verdict(step: &StepView) -> Verdict {
    let skipped = |message: String| Verdict { element: "skipped", kind: "", message, output: false };
    match &step.state {
        StepState::Done { outcome: Outcome::Succeeded { .. }, .. } => {
            Verdict { element: "", kind: "", message: String::new(), output: false }
        }
        StepState::Done { outcome: Outcome::Failed { cause, allowed: true }, .. } => {
            skipped(format!("failed, which is allowed: {cause}"))
        }
        StepState::Done { outcome: Outcome::Failed { cause, .. }, .. } => {
            let element = if is_outside(cause) { "error" } else { "failure" };
            Verdict { element, kind: crate::json::cause_kind(cause), message: cause.to_string(), output: true }
        }
        StepState::Done { outcome: Outcome::Skipped(skip), .. } => skipped(skip.to_string()),
        StepState::Done { outcome: Outcome::Cancelled, .. } => skipped("cancelled".to_owned()),
        _ => skipped("did not end".to_owned()),
    }
}

fn is_outside(cause: &Cause) -> bool {
    matches!(cause, Cause::Lost(_) | Cause::Infrastructure(_) | Cause::Refused(_))
}

fn case(step: &StepView, verdict: &Verdict, pipeline: &str, xml: &mut String) {
    let time = seconds(step.took().unwrap_or_default());
    let name = attribute(&step.name);
    xml.push_str(&format!(r#"    <testcase classname="{pipeline}" name="{name}" time="{time}""#));
    if verdict.element.is_empty() {
        xml.push_str("/>\n");
        return;
    }
    xml.push_str(&format!(">\n      <{} message=\"{}\"", verdict.element, attribute(&verdict.message)));
    if !verdict.kind.is_empty() {
        xml.push_str(&format!(r#" type="{}""#, verdict.kind));
    }
    if verdict.output {
        let tail: Vec<String> = step.tail().into_iter().map(ansi::strip).collect();
        xml.push_str(&format!(">{}</{}>\n", escaped(&tail.join("\n")), verdict.element));
    } else {
        xml.push_str("/>\n");
    }
    xml.push_str("    </testcase>\n");
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn attribute(text: &str) -> String {
    // A reader turns a bare line break in an attribute into a space.
    escaped(&ansi::strip_lines(text)).replace('\n', "&#10;").replace('\t', "&#9;")
}

/// What XML 1.0 cannot hold at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            '\0'..=' ' | '\u{fffe}' | '\u{ffff}' if c != ' ' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use model::RunOutcome;

    use super::*;
    use crate::scene::{Scene, exit};

    fn scene() -> Scene {
        let mut scene = Scene::new("build lint:build test:build ship:test net");
        scene.allows("lint").request().leases("build").at(1.5).succeeds("build");
        scene.leases("lint").leases("test").leases("net").at(4.0).fails("lint", exit(1), &[]);
        scene.fails("test", exit(101), &["a < b && \x1b[31m\"c\"\x1b[0m", "nul \0 ]]> \u{ffff} end"]);
        scene.fails("net", Cause::Infrastructure("the disk is full".into()), &[]).skips("ship", "test");
        scene.ends(RunOutcome::Failed);
        scene
    }

    #[test]
    fn a_run_is_a_suite_and_a_step_a_case() {
        assert_snapshot!(render(scene().view()), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="ci-build" tests="5" failures="1" errors="1" skipped="2" time="4.000">
          <testsuite name="ci-build" tests="5" failures="1" errors="1" skipped="2" time="4.000" timestamp="2026-11-21T09:58:02.000000Z">
            <testcase classname="ci-build" name="build" time="1.500"/>
            <testcase classname="ci-build" name="lint" time="2.500">
              <skipped message="failed, which is allowed: exit code 1"/>
            </testcase>
            <testcase classname="ci-build" name="test" time="2.500">
              <failure message="exit code 101" type="exit">a &lt; b &amp;&amp; &quot;c&quot;
        nul ^@ ]]&gt; � end</failure>
            </testcase>
            <testcase classname="ci-build" name="ship" time="0.000">
              <skipped message="`test` failed"/>
            </testcase>
            <testcase classname="ci-build" name="net" time="2.500">
              <error message="the disk is full" type="infrastructure"></error>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn the_document_is_well_formed_whatever_the_steps_printed() {
        let mut scene = scene();
        let hostile: String = (0u32..0x3000).filter_map(char::from_u32).chain(['\u{fffe}', '\u{ffff}']).collect();
        scene.leases("build").fails("build", Cause::Broken(hostile.clone()), &[&hostile]);
        check_well_formed(&render(scene.view()));
    }

    /// Every element closed in order, nothing bare that XML forbids.
    fn check_well_formed(xml: &str) {
        let allowed = |c: char| matches!(c, '\n' | '\t' | ' '..) && !matches!(c, '\u{fffe}' | '\u{ffff}');
        assert!(xml.chars().all(allowed));
        let mut open = Vec::new();
        for part in xml.split('<').skip(2) {
            let (tag, text) = part.split_once('>').expect("a tag ends");
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{tag}");
            let name = tag.trim_matches('/').split([' ', '/']).next().unwrap_or_default();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (_, false) => open.push(name),
                _ => {}
            }
        }
        assert!(open.is_empty());
    }
}
