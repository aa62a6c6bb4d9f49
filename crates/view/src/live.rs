//! The live tree: what a run looks like on a terminal at one moment.
//!
//! A frame is never wider and never taller than asked. Where there is no room, what is quiet folds first: matrix
//! instances under their step, then finished steps into a count, then waiting ones; what failed and what runs goes last.

mod fold;
mod header;
mod row;

use model::{Fact, Outcome, RunEvent, Timestamp};

use crate::ansi::{self, Style};
use crate::run::RunView;
pub(crate) use row::{Symbol, cached_words};

/// The lines of one moment: at most `height`, each at most `width` columns.
pub fn frame(view: &RunView, now: Timestamp, width: usize, height: usize, style: Style) -> Vec<String> {
    if height == 0 {
        return Vec::new();
    }
    let mut lines = vec![header::header(view, now, width, style)];
    let rows = fold::rows(view, height - 1).into_iter();
    let rows: Vec<row::Parts> = rows.map(|row| row::parts(view, row, now)).collect();
    let name_columns = rows.iter().map(|row| ansi::width(&row.name)).max().unwrap_or(0).min(width / 2);
    let time_columns = rows.iter().map(|row| row.time.len()).max().unwrap_or(0);
    lines.extend(rows.iter().map(|row| row.line(name_columns, time_columns, style)));
    lines.iter().map(|line| ansi::fit(line, width, style)).collect()
}

/// The line that stays above the tree when a step ended: `✓ build 3.2s`. `None` for all other facts, and for steps
/// that nobody asked for.
pub fn finished_line(view: &RunView, fact: &Fact, width: usize, style: Style) -> Option<String> {
    let RunEvent::StepEnded { node, outcome, .. } = &fact.event else { return None };
    let step = view.step(*node).filter(|step| !step.silent)?;
    if matches!(outcome, Outcome::Skipped(model::Skip::NotSelected)) {
        return None;
    }
    let row = row::step_parts(step, step.name.to_string(), fact.at);
    Some(ansi::fit(&row.line(0, 0, style), width, style))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use model::{Cause, NodeIx, RunOutcome, Skip};

    use super::*;
    use crate::scene::{Scene, exit};

    /// Eight instances in every state.
    fn busy() -> Scene {
        let mut scene = Scene::new("deps build:deps lint:deps test[3]:build deploy:build deploy.push:build ship:test");
        scene.inside("deploy.push", "deploy").retries("build", 3);
        scene.request().leases("deps").hits("deps", 34.0).leases("build").leases("lint");
        scene.at(1.0).fails("lint", exit(2), &[]).at(2.0).fails_for_now("build", exit(75), 1.0);
        scene.at(3.0).leases("build").at(5.0).succeeds("build");
        scene.leases("test[1/3]").leases("test[2/3]").at(17.2).succeeds("test[1/3]");
        scene.prints("test[2/3]", "\x1b[32mok\x1b[0m  github.com/x/y/z/with/a/long/path  0.4s\x1b[2J");
        scene.waits(&[("test[3/3]", "waits for a free slot"), ("ship", "waits for `test`")]);
        scene
    }

    #[test]
    fn the_whole_tree_where_there_is_room() {
        assert_snapshot!(busy().frame(80, 24), @"
        ci-build run #12 · 4 of 8 done · 1 cached · 1 failed · 17s  ██████████░░░░░░░░░░
        ✓ deps          cached (took 34s in run #11)
        ✓ build   5.0s  attempt 2 of 3
        ✗ lint    1.0s  exit code 2
        ● test          1 of 3 done, 1 running
          ✓ [1/3]  12s
          ● [2/3]  12s  ok  github.com/x/y/z/with/a/long/path  0.4s
          ○ [3/3]       waits for a free slot
        ○ deploy
          ○ push
        ○ ship          waits for `test`
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_lines_and_never_wraps() {
        assert_snapshot!(busy().frame(40, 24), @"
        #12 4/8 17s
        ✓ deps          cached (took 34s in run…
        ✓ build   5.0s  attempt 2 of 3
        ✗ lint    1.0s  exit code 2
        ● test          1 of 3 done, 1 running
          ✓ [1/3]  12s
          ● [2/3]  12s  ok  github.com/x/y/z/wi…
          ○ [3/3]       waits for a free slot
        ○ deploy
          ○ push
        ○ ship          waits for `test`
        ");
    }

    #[test]
    fn a_low_terminal_folds_what_is_quiet() {
        assert_snapshot!(busy().frame(80, 8), @"
        ci-build run #12 · 4 of 8 done · 1 cached · 1 failed · 17s  ██████████░░░░░░░░░░
        ✓ deps         cached (took 34s in run #11)
        ✓ build  5.0s  attempt 2 of 3
        ✗ lint   1.0s  exit code 2
        ● test         1 of 3 done, 1 running
        ○ deploy
          ○ push
        ○ ship         waits for `test`
        ");
        assert_snapshot!(busy().frame(80, 6), @"
        ci-build run #12 · 4 of 8 done · 1 cached · 1 failed · 17s  ██████████░░░░░░░░░░
        ✗ lint        1.0s  exit code 2
        ● test              1 of 3 done, 1 running
        ○ deploy.push
        ○ ship              waits for `test`
        ✓ 2 finished
        ");
    }

    #[test]
    fn the_smallest_terminal_shows_what_failed_and_what_runs() {
        assert_snapshot!(busy().frame(20, 5), @"
        #12 4/8 17s
        ✗ lint       1.0s  …
        ● test             …
        ✓ 2 finished
        ○ 2 waiting
        ");
    }

    #[test]
    fn ascii_terminals_get_ascii() {
        let scene = busy();
        let lines = frame(scene.view(), scene.now(), 80, 24, Style::PLAIN);
        assert!(lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
        assert_snapshot!(lines[1..5].join("\n"), @"
        + deps          cached (took 34s in run #11)
        + build   5.0s  attempt 2 of 3
        x lint    1.0s  exit code 2
        * test          1 of 3 done, 1 running
        ");
    }

    #[test]
    fn the_estimate_is_shown_when_every_step_ran_before() {
        let mut scene = Scene::new("a b");
        scene.took_before("a", 40.0).took_before("b", 20.0).request().leases("a").leases("b").at(10.0);
        assert_snapshot!(scene.frame(80, 1), @"ci-build run #12 · 0 of 2 done · 10s · about 30s left  ████████░░░░░░░░░░░░░░░░");
        scene.at(20.0).succeeds("b").at(50.0);
        assert_snapshot!(scene.frame(80, 1), @"ci-build run #12 · 1 of 2 done · 50s  ██████████████████████░░");
    }

    #[test]
    fn no_estimate_is_made_up_for_steps_that_never_ran() {
        let mut scene = Scene::new("a b");
        scene.took_before("a", 40.0).request().leases("a").at(10.0);
        assert!(!scene.frame(80, 9).contains("left"), "{}", scene.frame(80, 9));
    }

    #[test]
    fn a_template_use_is_busy_while_its_steps_are() {
        let mut scene = busy();
        assert_snapshot!(scene.leases("deploy.push").frame(60, 24).lines().skip(8).take(2).collect::<String>(), @"● deploy  ● push   0ms");
    }

    #[test]
    fn steps_that_were_made_during_the_run_are_shown_with_their_maker() {
        let mut scene = Scene::new("more last");
        scene.request().leases("more").expands("more", &["more.a", "more.b"]).leases("more.b");
        assert_snapshot!(scene.frame(60, 24), @"
        ci-build run #12 · 0 of 4 done · 0ms  ░░░░░░░░░░░░░░░░░░░░░░
        ● more     0ms
          ○ more.a
          ● more.b 0ms
        ○ last
        ");
    }

    #[test]
    fn steps_of_an_expansion_are_shown_once_however_often_it_is_told() {
        let mut scene = Scene::new("more last");
        scene.request().leases("more").expands("more", &["more.a"]).expands("more", &["more.a"]);
        assert_eq!(scene.frame(60, 24).matches("more.a").count(), 1);
    }

    #[test]
    fn finished_steps_leave_a_line_behind() {
        let mut scene = busy();
        let style = Style { color: false, unicode: true };
        let facts = scene.facts();
        let lines: Vec<String> = facts.iter().filter_map(|fact| finished_line(scene.view(), fact, 80, style)).collect();
        assert_snapshot!(lines.join("\n"), @"
        ✓ deps  cached (took 34s in run #11)
        ✗ lint 1.0s  exit code 2
        ✓ build 5.0s  attempt 2 of 3
        ✓ test[1/3] 12s
        ");
    }

    #[test]
    fn reasons_are_those_that_hold_now() {
        let mut scene = busy();
        scene.waits(&[("ship", "waits for a person")]);
        let text = scene.frame(80, 24);
        assert!(text.contains("waits for a person") && !text.contains("waits for a free slot"), "{text}");
    }

    #[test]
    fn frames_fit_every_terminal_whatever_steps_print() {
        let mut scene = busy();
        scene.prints("test[2/3]", &format!("\x1b]0;x\x07\x1b[1;1H\r\u{202e}日本{}", "\u{301}x".repeat(1 << 20)));
        scene.tell(RunEvent::StepEnded {
            node: NodeIx(8),
            outcome: Outcome::Skipped(Skip::RunFailed("a\x1b[2J\n\nb".into())),
            values: Default::default(),
        });
        let style = Style { color: true, unicode: true };
        for (width, height) in (0..90).flat_map(|width| (0..14).map(move |height| (width, height))) {
            let lines = frame(scene.view(), scene.now(), width, height, style);
            assert!(lines.len() <= height, "{width}x{height}: {} lines", lines.len());
            for line in lines {
                assert!(ansi::width(&line) <= width, "{width}x{height}: {line:?}");
                assert!(!line.contains("\x1b[1;1H") && !line.contains(['\n', '\r', '\x07', '\u{202e}']), "{line:?}");
            }
        }
    }

    #[test]
    fn ten_thousand_steps_fit_a_frame() {
        let mut scene = Scene::new("first wide[1000] last[8999]");
        scene.request().leases("first").succeeds("first");
        for n in 1..=100 {
            scene.leases(&format!("wide[{n}/1000]"));
        }
        scene.fails("wide[7/1000]", Cause::Exit(1), &[]);
        let lines = frame(scene.view(), scene.now(), 80, 24, Style::PLAIN);
        assert_eq!(lines.len(), 4);
        assert_snapshot!(lines.join("\n"), @"
        ci-build run #12, 2 of 10000 done, 1 failed, 0ms  ........................
        + first 0ms
        x wide       1 of 1000 done, 1 failed, 99 running
        - last       0 of 8999 done
        ");
        let steps: Vec<String> = (0..10_000).map(|n| format!("s{n}")).collect();
        let mut scene = Scene::new(&steps.join(" "));
        scene.request();
        steps[..50].iter().for_each(|step| {
            scene.leases(step);
        });
        scene.fails("s49", Cause::Exit(1), &[]);
        assert_snapshot!(scene.frame(60, 5), @"
        ci-build run #12 · 1 of 10000 done · 1 failed · 0ms
        ✗ s49     0ms  exit code 1
        ● s0      0ms
        ● s1      0ms
        ○ 48 more
        ");
    }

    #[test]
    fn memory_stays_flat_whatever_a_step_prints() {
        let mut scene = Scene::new("a");
        scene.request().leases("a");
        let mut view = scene.view().clone();
        let text = "error: ".to_owned() + &"x".repeat(1 << 20);
        for _ in 0..200 {
            view.log(&crate::LogLine {
                at: scene.now(),
                node: NodeIx(0),
                attempt: model::AttemptNo(1),
                text: text.clone(),
            });
        }
        let step = &view.steps()[0];
        let kept: usize = step.tail().iter().map(|line| line.len()).sum();
        assert!(step.tail().len() == model::TAIL_LINES_MAX && kept <= 40 * 4096 && step.last_line.len() <= 512);
        assert!(step.error_lines().len() <= crate::run::ERROR_LINES_MAX);
    }

    #[test]
    fn a_cancelled_run_says_that_it_stops_and_an_ended_one_how() {
        let mut scene = busy();
        assert!(scene.cancels("Ctrl-C").frame(80, 1).contains("stopping"));
        assert!(scene.ends(RunOutcome::Cancelled).frame(80, 1).contains("17s · cancelled"));
    }
}
