//! The program as a user meets it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn csvsum(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_csvsum"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A child that refuses its arguments closes the pipe before reading: not this test's business.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("the binary ends")
}

#[test]
fn a_column_is_summed_up() {
    let output = csvsum(&["--column", "price"], "item,price\napple,1.5\npear,2.5\n");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "count 2\nmin 1.5\nmax 2.5\nmean 2.000\nmedian 2\n");
}

#[test]
fn a_wrong_column_is_an_error() {
    let output = csvsum(&["-c", "cost"], "item,price\n");
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "csvsum: there is no column cost; there are item, price\n");
}
