//! Codes of faults in keys and values.

use crate::diagnostic::codes;

codes! {
    /// Codes of faults in keys and values.
    KEYS:
    UNKNOWN_KEY = "P0101", "an unknown key",
        "A key that means nothing is an error, because a misspelt key would otherwise be a wish that nobody hears. The key is misspelt, stands in the wrong map, or is a word of another system; the help names the nearest key that exists here.",
        "name: ci\nsteps:\n  - id: build\n    run: make\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    MISSING_KEY = "P0102", "a key is missing",
        "Some keys cannot be left out: a pipeline without a name, a step without an id.",
        "name: ci\nsteps:\n  - cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    WRONG_TYPE = "P0103", "a value of the wrong type",
        "The key is right, but its value is of another kind: a text where a list is wanted, a map where a duration is wanted, or nothing at all.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    timeout: [10, m]\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    timeout: 10m\n";
    BAD_VALUE = "P0107", "a value that cannot be",
        "The value is of the right type, but not one of those the key can have: an unknown word, a number out of its bounds, a duration without a unit.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    timeout: \"10\"\n    when: sometimes\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    timeout: 10m\n    when: always\n";
    BAD_NAME = "P0108", "a name that cannot be",
        "Names stand in expressions, in the names of files and in the environment of scripts, so they are made of letters, digits and `_` (ids of steps, templates and services also of `-`). Variables that begin with `PACE_` are set by pace itself.",
        "name: ci\nsteps:\n  - id: build all\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build-all\n    cmd: make\n";
    BAD_GLOB = "P0109", "a pattern that cannot be",
        "Patterns are written as in a `.gitignore` file: `*` within a folder, `**` across folders, `!` to take out, `[a-z]` for one of several characters. They never leave the workspace.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    inputs: [\"../lib/**\"]\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    inputs: [\"lib/**\"]\n";
    STEP_KIND = "P0110", "a step does nothing, or two things",
        "A step has exactly one of `cmd`, `use`, `approve` and `expand`: that is what it does.",
        "name: ci\nsteps:\n  - id: release\n    cmd: ./release.sh\n    approve: { by: [team:release] }\n" =>
        "name: ci\nsteps:\n  - id: ask\n    approve: { by: [team:release] }\n  - id: release\n    depends_on: [ask]\n    cmd: ./release.sh\n";
    LATER = "P0111", "a kind of step of a later version",
        "`gate`, `deploy`, `experiment` and `plugin` steps are reserved and come with later versions.",
        "name: ci\nsteps:\n  - id: release\n    deploy: { to: production }\n" =>
        "name: ci\nsteps:\n  - id: release\n    cmd: ./deploy.sh production\n";
    KEY_DOES_NOT_FIT = "P0112", "a key that means nothing in this kind of step",
        "Some keys belong to one kind of step: `shell` needs a script, `with` needs a template. In another kind of step they would be ignored silently.",
        "name: ci\nsteps:\n  - id: ask\n    approve: { by: [team:release] }\n    shell: bash\n" =>
        "name: ci\nsteps:\n  - id: ask\n    approve: { by: [team:release] }\n";
    NO_STEPS = "P0113", "no steps",
        "A pipeline, a template and an expanded file have at least one step.",
        "name: ci\nsteps: []\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
    LIMIT = "P0114", "a bound is passed",
        "A step's matrix has at most 1,000 cells, and a run at most 10,000 step instances, with all matrices, shards and templates counted. The bounds are there so that no file can make a machine work without end.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    shards: 1000\n    matrix: { go: [\"1.20\", \"1.21\", \"1.22\", \"1.23\"], os: [a, b, c] }\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    shards: 10\n    matrix: { go: [\"1.20\", \"1.21\", \"1.22\", \"1.23\"], os: [a, b, c] }\n";
    BAD_MATRIX = "P0115", "a matrix that cannot be",
        "Each axis of a matrix has at least one value and each value once; `exclude` names axes that exist; at least one cell is left.",
        "name: ci\nsteps:\n  - id: test\n    cmd: go test ./...\n    matrix: { go: [\"1.22\", \"1.23\"], exclude: [{ golang: \"1.22\" }] }\n" =>
        "name: ci\nsteps:\n  - id: test\n    cmd: go test ./...\n    matrix: { go: [\"1.22\", \"1.23\"], exclude: [{ go: \"1.22\" }] }\n";
    NUMBER_TEXT = "P0116", "a number that was probably meant as a text",
        "YAML reads `1.20` as the number 1.2. Versions are texts and want quotes.",
        "name: ci\nsteps:\n  - id: test\n    cmd: go test ./...\n    matrix: { go: [1.20, 1.21] }\n" =>
        "name: ci\nsteps:\n  - id: test\n    cmd: go test ./...\n    matrix: { go: [\"1.20\", \"1.21\"] }\n";
    BAD_PARAM = "P0117", "a parameter that contradicts itself",
        "A parameter's default has its type, matches its `pattern` and is one of its `choices`; `pattern` and `choices` are for texts only.",
        "name: ci\nparams:\n  deploy: { type: boolean, default: \"no\" }\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\nparams:\n  deploy: { type: boolean, default: false }\nsteps:\n  - id: build\n    cmd: make\n";
    BAD_CRON = "P0118", "a cron expression that cannot be",
        "Five fields: minute (0-59), hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7 or names). `*` is any, `*/5` each fifth, `1-5` a range, `1,3` a list.",
        "name: ci\non: { schedule: [{ cron: \"0 25 * * *\" }] }\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\non: { schedule: [{ cron: \"0 2 * * *\" }] }\nsteps:\n  - id: build\n    cmd: make\n";
    BAD_TIMEZONE = "P0119", "an unknown time zone",
        "Time zones are written with their IANA names, such as `Europe/Berlin`; offsets and abbreviations would be wrong half of the year.",
        "name: ci\non: { schedule: [{ cron: \"0 2 * * *\", timezone: Berlin }] }\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\non: { schedule: [{ cron: \"0 2 * * *\", timezone: Europe/Berlin }] }\nsteps:\n  - id: build\n    cmd: make\n";
    DUPLICATE_NAME = "P0120", "a name is used twice",
        "Templates, variables of included files, services and artifacts of a step are found by name, so each has its own.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    artifacts: [{ name: app, path: a }, { name: app, path: b }]\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n    artifacts: [{ name: app, path: a }, { name: lib, path: b }]\n";
    VERSION = "P0121", "a version of the language that this pace does not know",
        "A change of the language that alters what existing files mean gets a new number. This pace knows version 1.",
        "paceline: 2\nname: ci\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n";
}
