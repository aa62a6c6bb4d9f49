//! Codes of faults in the text itself.

use crate::diagnostic::codes;

codes! {
    /// Codes of faults in the text itself.
    YAML:
    NOT_TEXT = "P0001", "the file is not a text",
        "A pipeline file is YAML in UTF-8. This one has bytes that no text has, so it is probably another kind of file.",
        "name: ci\n# <0x00>\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    NOT_UTF8 = "P0002", "the file is not UTF-8",
        "Other encodings are not guessed: a wrong guess would change names silently. Save the file as UTF-8; a byte-order mark at its start does no harm.",
        "name: caf<0xE9>\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: café\nsteps:\n  - id: build\n    cmd: make\n";
    TOO_LARGE = "P0003", "the file is too large",
        "A pipeline file has at most 1 MiB. What is larger is data or generated; generated steps belong into an `expand` step, common ones into an `include`d file.",
        "# <1 MiB>\nname: ci\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    EMPTY = "P0004", "the file is empty",
        "A pipeline has at least a name and one step.",
        "# nothing here yet\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    SYNTAX = "P0005", "the file is not YAML",
        "The text breaks a rule of YAML. The most frequent reasons: text with `: ` in it that is not in quotes, a key that does not begin in the column of its neighbours, a value with `${{ }}` inside `[ ]` without quotes.",
        "name: ci\nsteps:\n  - id: build\n    cmd: echo done: yes\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: \"echo done: yes\"\n";
    UNCLOSED = "P0006", "a quote or bracket is not closed",
        "The place shown is where it is opened; where it should have been closed only you know.",
        "name: ci\nsteps:\n  - id: build\n    inputs: [src, Makefile\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    inputs: [src, Makefile]\n    cmd: make\n";
    TAB = "P0007", "a line is indented with a tab",
        "YAML is indented with spaces only, because a tab is as wide as each editor likes.",
        "name: ci\nsteps:\n\t- id: build\n\t  cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    SEVERAL_DOCUMENTS = "P0008", "the file has several YAML documents",
        "One file is one pipeline. Several pipelines of a repository are several files in the folder `.paceline/`.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n---\nname: nightly\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    TAG = "P0009", "a YAML tag",
        "Tags such as `!!str` or `!include` change how a value is read. A pipeline does not need them: text that looks like a number is put in quotes, and files are included with `include`.",
        "name: ci\nsteps:\n  - id: build\n    cmd: !!str make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    BAD_ALIAS = "P0010", "an alias that names nothing",
        "`*name` repeats what an anchor `&name` before it marked. It cannot come before the anchor, and not stand inside of what the anchor marks.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    env: *common\n" =>
        "name: ci\nsteps:\n  - id: lint\n    cmd: make lint\n    env: &common { CGO_ENABLED: \"0\" }\n  - id: build\n    cmd: make\n    env: *common\n";
    TOO_BIG = "P0011", "the file says more than a pipeline may",
        "Aliases that repeat aliases let a short text stand for billions of values. A file has at most 400,000 values with all aliases followed, 10,000 aliases and 64 levels.",
        "name: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ci]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    DUPLICATE_KEY = "P0012", "a key is written twice",
        "Many YAML readers keep the last one silently. Which one was meant only you know.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    cmd: make all\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make all\n";
    MERGE_KEY = "P0013", "a merge key",
        "`<<: *name` was taken out of YAML with version 1.2. What all steps share is written in `defaults` and `env`; steps that look alike are a template.",
        "name: ci\nsteps:\n  - id: lint\n    cmd: make lint\n    env: &common { CGO_ENABLED: \"0\" }\n  - id: build\n    cmd: make\n    env: { <<: *common, GOOS: linux }\n" =>
        "name: ci\nenv: { CGO_ENABLED: \"0\" }\nsteps:\n  - id: lint\n    cmd: make lint\n  - id: build\n    cmd: make\n    env: { GOOS: linux }\n";
    BAD_KEY = "P0014", "a key that is not a text",
        "Keys are words. A list, a map or nothing at all cannot be one; most often a `{{ … }}` of a text template was read as a map.",
        "name: ci\nenv: { {{ NAME }}: value }\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\nenv: { NAME: value }\nsteps:\n  - id: build\n    cmd: make\n";
}
