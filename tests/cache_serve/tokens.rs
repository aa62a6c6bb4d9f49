//! Who may do what, seen by clients of the real server.

use remote::Error;

use crate::server::{Place, blob, digest, result};

/// Refused, and not for want of an answer.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, because: &str) {
    let error = answer.expect_err("refused");
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains(because), "{error:?}");
}

#[test]
fn a_pull_request_reads_what_everybody_trusts_and_writes_where_nobody_else_looks() {
    let place = Place::new();
    let main = place.token(&["--name", "ci-main", "--instance", "main", "--rights", "write"]);
    let pr = place.token(&["--name", "ci-pr", "--instance", "main", "--rights", "write", "--domain", "pr/*"]);
    let seventeen = place.token(&["--name", "pr-17", "--instance", "main", "--rights", "write", "--domain", "pr/17"]);
    let server = place.serves(&["--tokens", &place.arg("tokens.toml")]);
    let (trusted, poisoned) = (digest(b"trusted action"), digest(b"poisoned action"));
    let (good, bad) = (b"good".to_vec(), b"bad".to_vec());

    let at_main = server.client("main", Some(&main));
    at_main.upload(&[blob(good.clone())]).expect("main uploads");
    at_main.set_action(&trusted, &result(&[digest(&good)])).expect("main writes");

    let at_pr = server.client("main/pr/17", Some(&pr));
    assert!(at_pr.action(&trusted, None).expect("asked").is_some(), "a pull request does not read through");
    at_pr.upload(&[blob(bad.clone())]).expect("a pull request uploads");
    for action in [&trusted, &poisoned] {
        at_pr.set_action(action, &result(&[digest(&bad)])).expect("a pull request writes to itself");
    }
    // Asked as the owner of one overlay, the instance itself is that overlay.
    let own = server.client("main", Some(&seventeen));
    assert!(own.action(&poisoned, None).expect("asked").is_some());

    assert!(at_main.action(&poisoned, None).expect("asked").is_none(), "main sees what a pull request wrote");
    let seen = at_main.action(&trusted, None).expect("asked").expect("there");
    assert!(!contains(&seen, digest(&bad).hex().as_bytes()), "main sees what a pull request wrote over its own");
    let other = server.client("main/pr/18", Some(&pr));
    assert!(other.action(&poisoned, None).expect("asked").is_none(), "another pull request sees it");
    refused(server.client("main", Some(&pr)).set_action(&poisoned, &result(&[])), "may not write results");
    refused(server.client("main/pr/18", Some(&seventeen)).action(&trusted, None), "pr/17");
    refused(server.client("other", Some(&main)).action(&trusted, None), "instance");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn who_may_only_bring_content_makes_nobody_trust_anything() {
    let place = Place::new();
    let builder = place.token(&["--name", "builder", "--rights", "content"]);
    let reader = place.token(&["--name", "reader", "--rights", "read"]);
    let server = place.serves(&["--tokens", &place.arg("tokens.toml")]);
    let action = digest(b"action");
    let client = server.client("main", Some(&builder));
    client.upload(&[blob(b"content".to_vec())]).expect("content");
    refused(client.set_action(&action, &result(&[digest(b"content")])), "`builder` may not write results");
    let client = server.client("main", Some(&reader));
    assert_eq!(client.missing(&[digest(b"content")]).expect("asked"), []);
    refused(client.upload(&[blob(b"more".to_vec())]), "`reader` may not upload content");
    assert!(!client.limits().expect("told").may_update);
}

#[test]
fn writes_that_are_denied_can_be_forgotten_instead() {
    let place = Place::new();
    let reader = place.token(&["--name", "reader", "--rights", "read"]);
    let server = place.serves(&["--tokens", &place.arg("tokens.toml"), "--denied-writes", "drop"]);
    let client = server.client("main", Some(&reader));
    assert!(client.limits().expect("told").may_update, "Bazel would stop");
    client.upload(&[blob(b"content".to_vec())]).expect("accepted");
    assert_eq!(client.missing(&[digest(b"content")]).expect("asked"), [digest(b"content")], "it was stored");
    client.set_action(&digest(b"action"), &result(&[])).expect("accepted");
    assert!(client.action(&digest(b"action"), None).expect("asked").is_none(), "it was stored");
}

#[test]
fn tokens_come_end_and_go_while_the_server_runs() {
    let place = Place::new();
    let tokens = place.arg("tokens.toml");
    place.token(&["--name", "first"]);
    let server = place.serves(&["--tokens", &tokens]);
    let asks = |token: Option<&str>| server.client("", token).missing(&[digest(b"x")]);
    refused(asks(None), "Bearer");
    refused(asks(Some("pace_nonsense")), "not known here");
    let late = place.token(&["--name", "late"]);
    let short = place.token(&["--name", "short", "--expires", "1s"]);
    // The file is looked at once a second.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    asks(Some(&late)).expect("a token made later counts");
    refused(asks(Some(&short)), "ended at");
    place.pace(&["cache", "token", "revoke", "late", "--tokens", &tokens]).code(0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    refused(asks(Some(&late)), "revoked");
    let listed = place.pace(&["cache", "token", "ls", "--tokens", &tokens]).code(0);
    assert!(listed.out.contains("first") && !listed.out.contains("late"), "{}", listed.out);
    let file = std::fs::read_to_string(&tokens).expect("read");
    assert!(!file.contains(&short) && !listed.out.contains(&short), "a secret is kept");
    place.pace(&["cache", "token", "new", "--name", "first", "--tokens", &tokens]).code(2).says("there is a token");
    place.pace(&["cache", "token", "new", "--name", "x"]).code(2).says("--tokens");
}

#[test]
fn an_instance_that_is_not_served_says_which_are() {
    let place = Place::new();
    let server = place.serves(&["--instance", "", "--instance", "main"]);
    server.client("", None).missing(&[digest(b"x")]).expect("served");
    server.client("main/pr/3", None).missing(&[digest(b"x")]).expect("served");
    refused(server.client("other", None).missing(&[digest(b"x")]), "served are ``, `main`");
}

#[test]
fn only_caretakers_look_after_the_whole_store() {
    let place = Place::new();
    let tokens = place.arg("tokens.toml");
    let all = place.token(&["--name", "all", "--rights", "write"]);
    let one = place.token(&["--name", "one", "--instance", "main", "--rights", "write"]);
    let server = place.serves(&["--tokens", &tokens]);
    let asks = |token: &str, what: &[&str]| {
        let url = server.url();
        let args = [&["cache"], what, &["--url", &url, "--token-env", "T"]].concat();
        let output = place.command(&args).env("T", token).output().expect("pace starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(asks(&all, &["verify"]).0, Some(0));
    assert_eq!(asks(&one, &["stats"]).0, Some(0));
    for what in [&["verify"][..], &["gc"], &["purge", "--writer", "all"]] {
        let (code, said) = asks(&one, what);
        assert_eq!(code, Some(13), "{what:?}: {said}");
        assert!(said.contains("--instance '*'"), "{said}");
    }
    assert_eq!(asks("pace_wrong", &["stats"]).0, Some(13));
}
