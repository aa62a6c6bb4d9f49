//! What a step sees, what it leaves, and what comes back from the cache.

mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use agent::{Difference, Foresight, differences};
use model::{AttemptEnd, CacheMode, Cause, ReportKind, Shell};
use world::{World, files_below, sandboxes};

#[test]
fn a_layer_is_seen_by_dependants_and_by_nobody_else() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("a.txt", "from the repository\n").file("gone.txt", "x").begin();
    let write = w.step("write", "echo new > b.txt; echo changed > a.txt; rm gone.txt; mkdir -p d/e; echo deep > d/e/f");
    w.run(write).executed();
    let dependant = w.step("dependant", "cat a.txt b.txt d/e/f; ls").needs(&["write"]);
    w.run(dependant).executed().says(&["changed", "new", "deep", "a.txt", "b.txt", "d"]);
    let further = w.step("further", "cat b.txt").needs(&["dependant"]);
    w.run(further).executed().says(&["new"]);
    let stranger = w.step("stranger", "cat a.txt; ls");
    w.run(stranger).executed().says(&["from the repository", "a.txt", "gone.txt"]);
    assert_eq!(fs::read_to_string(w.path("repo/a.txt")).expect("a.txt"), "from the repository\n");
    assert!(!w.path("repo/b.txt").exists());
}

#[test]
fn what_git_does_not_track_is_not_in_the_workspace() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file(".gitignore", "target/\n*.tmp\n").file("target/x", "x").file("src/a.tmp", "x").file("src/a.rs", "x");
    let git = |arguments: &[&str]| {
        let done = std::process::Command::new("git").args(arguments).current_dir(w.path("repo")).output();
        assert!(done.expect("git").status.success());
    };
    git(&["init", "-q"]);
    w.only("look", "find . -type f | sort; ls -d .git target 2>/dev/null || true")
        .says(&["./.gitignore", "./src/a.rs"]);
}

#[test]
fn two_steps_that_wrote_different_bytes_to_one_path_are_named() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let (one, two) = (w.step("one", "echo 1 > out; echo same > both"), w.step("two", "echo 2 > out; echo same > both"));
    w.run(one).ok();
    w.run(two).ok();
    let both = w.step("both", "cat out").needs(&["one", "two"]);
    let why = w.run(both).broken().to_string();
    assert!(why.starts_with("steps `one` and `two` both wrote `out`, and not the same"), "{why}");
    // What one saw of the other it may change.
    let three = w.step("three", "echo 3 > out").needs(&["one"]);
    w.run(three).ok();
    let fine = w.step("fine", "cat out").needs(&["three", "one"]);
    w.run(fine).ok().says(&["3"]);
    let (away, into) = (w.step("away", "mkdir d; rm -r d; echo file > d"), w.step("into", "mkdir d; echo x > d/x"));
    w.run(away).ok();
    w.run(into).ok();
    let mixed = w.step("mixed", "ls").needs(&["away", "into"]);
    assert!(w.run(mixed).broken().contains("`away` and `into` both wrote `d"));
}

#[test]
fn what_one_step_wrote_where_another_emptied_a_folder_is_named() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("dist/old", "x").begin();
    let into = w.step("into", "echo 2 > dist/b");
    let away = w.step("away", "rm -r dist; mkdir dist; echo 1 > dist/a");
    let again = w.step("again", "rm -r dist; mkdir dist; echo 1 > dist/a; : again");
    for step in [into, away, again] {
        w.run(step).ok();
    }
    let same = w.step("same", "ls dist").needs(&["away", "again"]);
    w.run(same).ok().says(&["a"]);
    let both = w.step("both", "ls dist").needs(&["into", "away"]);
    let why = w.run(both).broken().to_string();
    assert!(why.starts_with("steps `away` and `into` both wrote `dist/b`"), "{why}");
}

#[test]
fn a_hit_brings_everything_back() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("in", "1");
    let script = "cat in > out; chmod +x out; echo hello; echo k=v >> $PACE_VALUES; echo '<x/>' > r.xml";
    let build = |w: &mut World| {
        let step = w.step("build", script).artifact("app", "out", Some("1.0"));
        step.with(|c| c.reports = [(ReportKind::Junit, "r.xml".to_string())].into())
    };
    w.begin();
    let step = build(&mut w);
    let first = w.run(step);
    first.executed().says(&["hello"]);
    assert!(w.begin().is_empty());
    let step = build(&mut w);
    let second = w.run(step);
    second.cached().says(&["hello"]);
    let (a, b) = (&first.result, &second.result);
    assert_eq!(
        (&a.values, a.action, a.layer, &a.artifacts, &a.reports, &a.tail),
        (&b.values, b.action, b.layer, &b.artifacts, &b.reports, &b.tail)
    );
    assert_eq!(b.values["k"], "v");
    assert_eq!(b.cached.as_ref().map(|from| from.number.0), Some(1));
    let artifact = w.artifacts().join("app-1.0/out");
    assert_eq!(fs::read_to_string(&artifact).expect("artifact"), "1");
    assert_eq!(fs::metadata(&artifact).expect("artifact").permissions().mode() & 0o777, 0o755);
    let log = fs::read_to_string(w.logs().join("0-1.log")).expect("log");
    let (at, text) = log.trim_end().split_once(' ').expect("time and text");
    assert!(at.parse::<u64>().expect("milliseconds") > 1_600_000_000_000 && text == "hello", "{log}");
    let user = w.step("user", "test -x out && cat out").needs(&["build"]);
    w.run(user).executed().says(&["1"]);
    w.file("in", "2").begin();
    let step = build(&mut w);
    w.run(step).executed();
}

#[test]
fn never_and_fresh_execute_and_failures_are_not_recorded() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    for _ in 0..2 {
        w.begin();
        let never = w.step("never", "true").with(|c| c.cache = CacheMode::Never);
        w.run(never).executed();
        let fresh = w.step("fresh", "true").with(|c| c.fresh = true);
        w.run(fresh).executed();
        let failing = w.step("failing", "exit 7");
        assert_eq!(w.run(failing).cause(), &Cause::Exit(7));
    }
    // What was recorded by a fresh execution is there for the next that may look.
    w.only("fresh", "true").cached();
}

#[test]
fn only_inputs_are_visible_and_only_they_are_in_the_key() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("src/a", "a").file("src/b.txt", "b").file("docs/x", "x").file("top", "t").begin();
    let before = fs::metadata(w.path("repo/src/a")).expect("a");
    let make =
        w.step("make", "mkdir -p gen/deep; echo g > gen/g; echo h > gen/deep/h; echo s > src/made; echo t > secretly");
    w.run(make).ok();
    let look = |w: &mut World| {
        let step = w.step("look", "find . -type f | sort; stat -c %Y src/a").needs(&["make"]);
        step.inputs(&["src/**", "!src/b.txt", "gen/g"])
    };
    let step = look(&mut w);
    let seen = w.run(step);
    let mtime = before.mtime().to_string();
    seen.executed().says(&["./gen/g", "./src/a", "./src/made", &mtime]);
    let after = fs::metadata(w.path("repo/src/a")).expect("a");
    assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()), "Git would look again");
    w.file("docs/x", "changed").file("src/b.txt", "changed").begin();
    let make =
        w.step("make", "mkdir -p gen/deep; echo g > gen/g; echo h > gen/deep/h; echo s > src/made; echo t > secretly");
    w.run(make).executed();
    let step = look(&mut w);
    w.run(step).cached();
}

#[test]
fn a_file_that_changes_meanwhile_keeps_the_result_out_of_the_cache() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("in", "1").file("other", "1").begin();
    let slow = w.step("slow", "sleep 0.3; cat in");
    let spec = w.start(slow);
    w.file("in", "22");
    w.wait(&spec).executed();
    let notes = w.begin();
    assert!(notes.iter().any(|n| n.contains("`slow` was not recorded: `in` changed while it ran")), "{notes:?}");
    w.file("in", "1").begin();
    let slow = w.step("slow", "sleep 0.3; cat in");
    w.run(slow).executed();
    w.end();
}

#[test]
fn a_step_gets_its_environment_and_nothing_else() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.env.insert("PASSED".into(), "through".into());
    w.env.insert("LEAKED".into(), "never".into());
    w.secrets.insert("TOKEN".into(), "tok-123456".into());
    w.begin();
    let step = w.step("env", "env | cut -d= -f1 | sort | tr '\\n' ' '; echo; echo $PASSED $PACE_WORKSPACE $TMPDIR $PACE_RUN_ID; pwd; test $HOME = ~ && touch ~/x && ls ~");
    let step = step.secret("TOKEN").with(|c| {
        c.pass_env = vec!["PASSED".into(), "ABSENT".into()];
        std::sync::Arc::make_mut(&mut c.run_env).insert("PACE_RUN_ID".into(), "r1".into());
    });
    let seen = w.run(step);
    let lines = &seen.ok().lines;
    let names: Vec<&str> = lines[0].split_whitespace().collect();
    for name in ["CI", "HOME", "PACE_RUN_ID", "PACE_VALUES", "PACE_WORKSPACE", "PASSED", "PATH", "TMPDIR", "TOKEN"] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
    assert!(!names.contains(&"LEAKED") && !names.contains(&"ABSENT"), "{names:?}");
    assert_eq!(lines[1..3], ["through /workspace /tmp r1", "/workspace"]);
    // A new home each time: nothing in it but what was made just now and mount points of toolchains.
    let again = w.step("again", "ls ~/x 2>&1 | tail -1");
    assert!(w.run(again).ok().lines[0].contains("No such file"), "homes are private");
}

#[test]
fn what_is_passed_is_in_the_key_and_a_secret_only_by_version() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.secrets.insert("TOKEN".into(), "value-one".into());
    let action = |w: &mut World, passed: &str| {
        w.agent = None;
        w.env.insert("PASSED".into(), passed.into());
        w.begin();
        let step = w.step("s", "true").secret("TOKEN").with(|c| c.pass_env = vec!["PASSED".into()]);
        w.agent().action_of(&step.spec()).expect("an action")
    };
    let (one, two) = (action(&mut w, "1"), action(&mut w, "2"));
    assert_ne!(one.digest, two.digest);
    assert_eq!(differences(&one, &two, 10), [Difference::Env("PASSED".into(), Some("1".into()), Some("2".into()))]);
    w.secrets.insert("TOKEN".into(), "value-two".into());
    let three = action(&mut w, "2");
    assert_ne!(two.digest, three.digest);
    assert!(!format!("{three:?}").contains("value-two") && three.env.contains_key("PACE_SECRET_VERSION_TOKEN"));
}

#[test]
fn scripts_of_any_length_run_in_their_shell() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    let long = format!("{}echo end\n", "# filling up what an argument may hold\n".repeat(8000));
    assert!(long.len() > 256 << 10);
    w.only("long", &long).ok().says(&["end"]);
    assert_eq!(w.only("stops", "false; echo never").cause(), &Cause::Exit(1));
    assert_eq!(w.only("unset", "echo $nothing_here").cause(), &Cause::Exit(2));
    w.begin();
    let bash = w.step("bash", "false | true; echo never").with(|c| c.shell = Shell::Bash);
    assert_eq!(w.run(bash).cause(), &Cause::Exit(1));
    let argv = w.step("argv", "one\ntwo\n").with(|c| c.shell = Shell::Argv(vec!["wc".into(), "-l".into()]));
    assert!(w.run(argv).ok().lines[0].starts_with("2 "));
    let absent = w.step("absent", "x").with(|c| c.shell = Shell::Argv(vec!["no-such-program".into()]));
    assert!(matches!(w.run(absent).cause(), Cause::Refused(why) if why.contains("no-such-program")));
}

#[test]
fn malformed_values_and_a_values_file_that_is_a_link_are_refused() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    assert!(w.only("bad", "echo nonsense > $PACE_VALUES").broken().starts_with("line 1 of the file of $PACE_VALUES"));
    assert!(w.only("link", "ln -sf /etc/passwd $PACE_VALUES").broken().contains("symbolic link"));
    assert!(w.only("pipe", "rm $PACE_VALUES; mkfifo $PACE_VALUES").broken().contains("not a regular file"));
    assert!(w.only("big", "head -c 100000 /dev/zero > $PACE_VALUES").broken().contains("longer than 65536 bytes"));
    w.only("none", "rm $PACE_VALUES").ok();
}

#[test]
fn the_network_is_loopback_unless_asked_for() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.only("none", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").ok().says(&["lo"]);
    w.begin();
    let image = w.step("image", "true").with(|c| c.image = Some("oci:no-such-folder".into()));
    assert!(
        matches!(w.run(image).cause(), Cause::Refused(why) | Cause::Infrastructure(why) if why.contains("no-such-folder"))
    );
    let secret = w.step("secret", "true").secret("NOBODY");
    assert!(matches!(w.run(secret).cause(), Cause::Refused(why) if why.contains("`NOBODY`")));
}

#[test]
fn a_named_cache_grows_with_success_only_and_is_in_no_layer() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let mut use_cache = |script: &str| {
        let step = w.step("use", script).cache("target", "k").cache("~/.deep/cache", "home").with(|c| c.fresh = true);
        w.run(step)
    };
    let first =
        use_cache("ls target ~/.deep/cache | wc -l; echo 1 > target/one; echo 1 > ~/.deep/cache/one; echo x > out");
    first.executed();
    assert_eq!(first.result.layer.map(|layer| layer.files), Some(1), "the layer is `out` only");
    assert_eq!(use_cache("cat target/one; echo 2 > target/two; exit 1").cause(), &Cause::Exit(1));
    use_cache("ls target; ls ~/.deep/cache; rm target/one").ok().says(&["one", "one"]);
    use_cache("ls target").ok().says(&[]);
}

#[test]
fn outputs_narrow_the_layer_and_are_promises() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let narrow = w.step("narrow", "mkdir bin; echo b > bin/app; echo j > junk").outputs(&["bin/**"]);
    let seen = w.run(narrow);
    assert_eq!(seen.ok().result.layer.map(|layer| layer.files), Some(1));
    let after = w.step("after", "find . -type f").needs(&["narrow"]);
    w.run(after).ok().says(&["./bin/app"]);
    let promise = w.step("promise", "true").outputs(&["dist/app"]);
    assert!(w.run(promise).broken().contains("wrote no `dist/app`"));
    let wild = w.step("wild", "true").outputs(&["dist/*.tar"]);
    w.run(wild).ok();
    let lone = w.step("lone", "true").artifact("app", "nowhere", None);
    assert!(w.run(lone).broken().contains("the artifact `app` is not there"));
    let nobody = w.step("nobody", "echo x > x").with(|c| c.has_dependants = false);
    assert_eq!(w.run(nobody).ok().result.layer, None, "nobody can read it");
}

#[test]
fn an_artifact_may_be_a_folder_or_come_from_the_repository() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("LICENSE", "free\n").file("site/old", "o").begin();
    let step = w.step("pack", "echo i > site/index; mkdir site/sub; echo s > site/sub/s; ln -s /etc/passwd site/link");
    let step =
        step.artifact("site", "./site/", None).artifact("licence", "LICENSE", Some("../../1")).outputs(&["none*"]);
    let seen = w.run(step);
    seen.ok();
    let mut names: Vec<String> = files_below(&w.artifacts())
        .iter()
        .map(|path| path.strip_prefix(w.artifacts()).expect("below").display().to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["licence-.._.._1/LICENSE", "site/index", "site/old", "site/sub/s"]);
    // What lies there is the user's: writing to it must not reach the store.
    fs::write(w.artifacts().join("site/index"), "overwritten").expect("writable");
    w.begin();
    let step = w.step("pack", "echo i > site/index; mkdir site/sub; echo s > site/sub/s; ln -s /etc/passwd site/link");
    let step =
        step.artifact("site", "./site/", None).artifact("licence", "LICENSE", Some("../../1")).outputs(&["none*"]);
    w.run(step).cached();
    assert_eq!(fs::read_to_string(w.artifacts().join("site/index")).expect("index"), "i\n");
}

#[test]
fn an_artifact_may_be_the_whole_workspace() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("a", "1").begin();
    let all = w.step("all", "mkdir d; echo 2 > d/b").artifact("all", ".", None);
    w.run(all).ok();
    for path in ["all/a", "all/d/b"] {
        assert!(w.artifacts().join(path).is_file(), "{path}");
    }
}

#[test]
fn verify_compares_what_comes_out_with_what_is_cached() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    let verify = |w: &mut World, script: &str| {
        let step = w.step("v", script).with(|c| c.verify = true);
        w.run(step)
    };
    w.only("v", "echo same > out").executed();
    w.only("w", "cat /proc/sys/kernel/random/uuid > out; echo fixed > fixed").executed();
    w.begin();
    let same = verify(&mut w, "echo same > out");
    assert!(same.executed().noted("reproducible: the same 1 files as in run #1"), "{same:?}");
    let other = verify(&mut w, "cat /proc/sys/kernel/random/uuid > out; echo fixed > fixed");
    let why = other.broken();
    assert!(why.contains("not reproducible") && why.contains("`out`") && !why.contains("fixed"), "{why}");
}

#[test]
fn the_same_action_with_another_outcome_is_called_flaky() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let script = "test -e ~/c/seen || { exit 3; }";
    let coin = |w: &mut World| w.step("coin", script).cache("~/c", "coin").with(|c| c.fresh = true);
    let step = coin(&mut w);
    assert_eq!(w.run(step).cause(), &Cause::Exit(3));
    let fill = w.step("fill", "touch ~/c/seen").cache("~/c", "coin");
    w.run(fill).ok();
    let step = coin(&mut w);
    let seen = w.run(step);
    assert!(
        seen.ok().noted("flaky: with the very same inputs this step has succeeded once and failed once"),
        "{seen:?}"
    );
}

#[test]
fn a_damaged_entry_heals() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    let make = |w: &mut World| w.step("make", "echo precious > out; echo log");
    w.begin();
    let step = make(&mut w);
    w.run(step).executed();
    w.begin();
    // Same length, so that only the digest shows it.
    let mut damaged = 0;
    for blob in files_below(&w.path("cache/cas")) {
        if fs::read(&blob).expect("a blob") == b"precious\n" {
            fs::write(&blob, "PRECIOUS\n").expect("damage");
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let step = make(&mut w);
    w.run(step).cached();
    let read = w.step("read", "cat out").needs(&["make"]);
    let seen = w.run(read);
    seen.executed().says(&["precious"]);
    assert!(seen.noted("step `make` was damaged, so it was executed again"), "{seen:?}");
    w.begin();
    let step = make(&mut w);
    w.run(step).cached();
    let read = w.step("read", "cat out").needs(&["make"]);
    w.run(read).cached();
}

#[test]
fn a_damaged_log_or_record_is_a_miss() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.only("s", "echo some words for the log").executed();
    w.begin();
    for blob in files_below(&w.path("cache/cas")) {
        let bytes = fs::read(&blob).expect("a blob");
        if bytes.ends_with(b"some words for the log\n") {
            fs::write(&blob, vec![b'x'; bytes.len()]).expect("damage");
        }
    }
    let step = w.step("s", "echo some words for the log");
    w.run(step).executed();
    w.only("s", "echo some words for the log").cached();
}

#[test]
fn what_would_be_cached_is_foreseen_and_explained() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("in", "1").file("deep/x", "1").begin();
    let a = |w: &mut World| w.step("a", "cp in out");
    let b = |w: &mut World| w.step("b", "cat out").needs(&["a"]);
    let (first, second) = (a(&mut w).spec(), b(&mut w).spec());
    assert_eq!(w.agent().foresee(&first), Foresight::Executes("it was never recorded here".into()));
    assert_eq!(w.agent().foresee(&second), Foresight::Open(first.node));
    w.agent().execute(first.clone());
    w.wait(&first).executed();
    w.agent().execute(second.clone());
    w.wait(&second).executed();
    w.begin();
    let (first, second) = (a(&mut w).spec(), b(&mut w).spec());
    assert!(matches!(w.agent().foresee(&first), Foresight::Cached { from, .. } if from.number.0 == 1));
    assert!(matches!(w.agent().foresee(&second), Foresight::Cached { .. }));
    w.file("in", "2").file("deep/y", "1").begin();
    let first = a(&mut w).spec();
    assert_eq!(w.agent().foresee(&first), Foresight::Executes("its command, environment or inputs changed".into()));
    let before = w.agent().last_action(&w.run_id(), "a").expect("the last action");
    let now = w.agent().action_of(&first).expect("the action");
    assert_eq!(
        differences(&before, &now, 10),
        [
            Difference::File("deep/y".into(), cas::ChangeKind::Added),
            Difference::File("in".into(), cas::ChangeKind::Content)
        ]
    );
}

#[test]
fn a_fragment_is_read_from_the_workspace() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("ci/static.yaml", "steps: []\n").begin();
    let make = w.step(
        "make",
        "mkdir gen; echo 'steps: [x]' > gen/more.yaml; ln -s more.yaml gen/link; printf '\\377' > gen/bad",
    );
    w.run(make).ok();
    let mut read = |path: &str| {
        let spec = w.step("read", "").needs(&["make"]).reads(path);
        w.agent().execute(spec.clone());
        w.wait(&spec)
    };
    assert_eq!(read("gen/more.yaml").ok().result.text.as_deref(), Some("steps: [x]\n"));
    assert_eq!(read("./ci/static.yaml").ok().result.text.as_deref(), Some("steps: []\n"));
    assert!(read("nowhere").broken().contains("not in the workspace"));
    assert!(read("gen/link").broken().contains("not a file"));
    assert!(read("gen/bad").broken().contains("not UTF-8"));
    assert!(read("gen").broken().contains("not a file"));
}

#[test]
fn scratch_is_empty_after_the_run_and_failed_sandboxes_can_be_opened() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.file("in", "repo\n").file(".gitignore", "no\n").begin();
    let make = w.step("make", "echo layer > made");
    w.run(make).ok();
    let fails = w.step("fails", "cat made; echo half > half; exit 1").needs(&["make"]);
    let spec = w.start(fails);
    assert_eq!(w.wait(&spec).cause(), &Cause::Exit(1));
    let run = w.run_id();
    let notes = w.end();
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(
        files_below(&w.path("cache/scratch"))
            .iter()
            .filter(|path| path.is_file() && path.to_string_lossy().contains("upper"))
            .count(),
        0
    );
    let shell = w.agent().open_kept(&run, "fails").expect("a shell");
    assert!(shell.spec.terminal);
    assert_eq!(
        run_inside(shell.spec, "cat in made half /run/pace/script"),
        "repo\nlayer\nhalf\ncat made; echo half > half; exit 1"
    );
    assert!(w.agent().open_kept(&run, "make").is_err());
    w.begin();
    let make = w.step("make", "echo layer > made");
    w.run(make).cached();
    let look = w.step("look", "true").needs(&["make"]).spec();
    let shell = w.agent().open_shell(&look).expect("a shell");
    assert_eq!(run_inside(shell.spec, "cat made"), "layer\n");
    for _ in 0..7 {
        w.begin();
        let fails = w.step("fails", "exit 1");
        w.run(fails);
    }
    w.end();
    assert_eq!(fs::read_dir(w.path("state/failed")).expect("failed").count(), agent::KEPT_RUNS_MAX);
}

/// What a script says in a sandbox that was made for a person.
fn run_inside(mut spec: sandbox::Spec, script: &str) -> String {
    use std::io::Read;
    let (mut output, writer) = std::io::pipe().expect("a pipe");
    spec.argv = ["sh", "-c", script].map(Into::into).into();
    spec.terminal = false;
    spec.stdout = Some(writer.into());
    let mut child = spec.spawn().expect("a sandbox");
    let mut text = String::new();
    output.read_to_string(&mut text).expect("output");
    child.wait().expect("its end");
    text
}

#[test]
fn a_home_and_a_desk_are_as_new_for_every_attempt() {
    if !sandboxes() {
        return;
    }
    let mut w = World::new();
    w.begin();
    let look = "ls -A $TMPDIR; cat $PACE_VALUES; ls -d ~/left 2>/dev/null || true; ls /run/pace";
    // Nothing left behind, then something in each place in turn.
    for (turn, leave) in [
        "true",
        "touch ~/left",
        "mkdir ~/left",
        "echo k=v > $PACE_VALUES",
        "touch /run/pace/left",
        "ln -sf /etc/hostname /run/pace/script",
    ]
    .iter()
    .enumerate()
    {
        let leaves = w.step(&format!("leaves{turn}"), leave);
        w.run(leaves).ok();
        for again in 0..2 {
            let step = w.step(&format!("look{turn}-{again}"), &format!("{look}; test {turn}{again}"));
            w.run(step).ok().says(&["script", "values"]);
        }
    }
}

#[test]
fn two_agents_share_one_cache() {
    if !sandboxes() {
        return;
    }
    let mut worlds = [World::new(), World::new()];
    let cache = worlds[0].path("cache");
    fs::create_dir(&cache).expect("cache");
    std::os::unix::fs::symlink(&cache, worlds[1].path("cache")).expect("link");
    std::thread::scope(|scope| {
        for w in &mut worlds {
            scope.spawn(move || {
                for turn in 0..5 {
                    w.begin();
                    for step in 0..4 {
                        let step = w.step(&format!("s{step}"), &format!("echo {turn}{step} > out; cat out"));
                        w.run(step).ok();
                    }
                }
                w.end();
            });
        }
    });
}

#[test]
fn the_process_executor_works_in_a_copy() {
    let mut w = World::of(agent::Executor::Process);
    w.file("a.txt", "one\n").file("gone", "x").begin();
    let write = w.step("write", "echo two >> a.txt; rm gone; echo new > b; pwd; echo k=v > $PACE_VALUES");
    let seen = w.run(write);
    assert!(Path::new(&seen.executed().lines[0]).is_absolute());
    assert_eq!(seen.result.values["k"], "v");
    let read = w.step("read", "cat a.txt b; ls; echo spoiled > b").needs(&["write"]);
    w.run(read).executed().says(&["one", "two", "new", "a.txt", "b"]);
    let again = w.step("again", "cat b").needs(&["write"]);
    w.run(again).executed().says(&["new"]);
    assert_eq!(fs::read_to_string(w.path("repo/a.txt")).expect("a"), "one\n");
    w.begin();
    let write = w.step("write", "echo two >> a.txt; rm gone; echo new > b; pwd; echo k=v > $PACE_VALUES");
    w.run(write).cached();
    let fails = w.step("fails", "kill -9 $$");
    assert_eq!(w.run(fails).cause(), &Cause::Signal(9));
    let any = w.step("any", "true").spec();
    let why = w.agent().open_shell(&any).expect_err("no sandbox").to_string();
    assert!(why.contains("process executor"), "{why}");
    assert_eq!(w.only("end", "true").result.end, AttemptEnd::Succeeded);
}
