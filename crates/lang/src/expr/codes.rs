//! Codes of expressions, with an example of each before and after.

use crate::diagnostic::codes;

codes! {
    /// `P02xx`: expressions.
    TABLE:
    SYNTAX = "P0201", "an expression cannot be read",
        "An expression is written in CEL, the Common Expression Language: values, operators between them, calls. Something stands where something else is wanted, or is missing.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == ("main"
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == ("main")
"#;
    LITERAL = "P0202", "a text or number in an expression cannot be read",
        "A text in an expression stands in `\"` or `'` on one line (or in three of them over several), with escapes such as `\\n`; after an `r` it has none, which suits regular expressions. Numbers have 64 bits with a sign, or are doubles. CEL's bytes and unsigned numbers have no use in a pipeline.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main"
"#;
    UNCLOSED = "P0203", "`${{` is not closed",
        "An expression inside a text begins with `${{` and ends with `}}`. If the three characters themselves are meant, write `$${{`.",
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ run.number
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ run.number }}
"#;
    WRAPPED = "P0204", "`${{ }}` around an expression",
        "The text of `if` is an expression already, and so is everything between `${{` and `}}`. Another `${{` has no meaning there.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: ${{ git.branch == "main" }}
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main"
"#;
    FOREIGN = "P0205", "an operator of another language",
        "Expressions compare with `==` and `!=`, join conditions with `&&` and `||`, and negate with `!`.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main" and git.tag == ""
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main" && git.tag == ""
"#;
    LIMIT = "P0206", "an expression is too large",
        "An expression has at most 4096 bytes, 32 levels of nesting and 200 operators in a row, so that checking it takes no time worth noticing. What needs more is a program: let a step compute it and hand it on through `$PACE_VALUES`.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: ((((((((((((((((((((((((((((((((((((((((true))))))))))))))))))))))))))))))))))))))))
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: (true)
"#;
    UNKNOWN = "P0210", "an expression names something that does not exist",
        "An expression can name the contexts `event`, `git`, `run`, `params`, `env`, `matrix`, `secrets` and `steps`, and inside a macro its variable. A text stands in quotes.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == main
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main"
"#;
    NO_FIELD = "P0211", "an expression asks for a field that does not exist",
        "Every context has its own fields: `event.kind`, `event.title`, `event.number`, `event.author`; `git.branch`, `git.tag`, `git.commit`, `git.short_sha`, `git.message`, `git.author`, `git.target`; `run.id`, `run.number`. Of other values only maps and versions have fields.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.brnach == "main"
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch == "main"
"#;
    NO_PARAM = "P0212", "an expression names an unknown parameter",
        "`params` holds what the pipeline declares under `params`; inside a template, what the template declares.",
        r#"name: demo
params:
  deploy: { type: boolean, default: false }
steps:
  - id: a
    cmd: echo a
    if: params.deplay
"# =>
        r#"name: demo
params:
  deploy: { type: boolean, default: false }
steps:
  - id: a
    cmd: echo a
    if: params.deploy
"#;
    NO_ENV = "P0213", "an expression names an unknown variable",
        "`env` holds what the pipeline and the step set under `env`. A variable of whoever calls `pace` is `env(\"NAME\")`.",
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ env.MODE }}
"# =>
        r#"name: demo
steps:
  - id: a
    env: { MODE: fast }
    cmd: echo ${{ env.MODE }}
"#;
    NO_AXIS = "P0214", "an expression names an unknown axis of the matrix",
        "`matrix` holds the values of this step's own instance, by the names of its axes.",
        r#"name: demo
steps:
  - id: a
    matrix: { go: ["1.22", "1.23"] }
    cmd: echo ${{ matrix.golang }}
"# =>
        r#"name: demo
steps:
  - id: a
    matrix: { go: ["1.22", "1.23"] }
    cmd: echo ${{ matrix.go }}
"#;
    NO_SECRET = "P0215", "an expression names an unknown secret",
        "`secrets` holds the names in the step's `secrets`. It gives the name, never the value: the value is in the step's environment.",
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ secrets.TOKEN }}
"# =>
        r#"name: demo
steps:
  - id: a
    secrets: [TOKEN]
    cmd: echo ${{ secrets.TOKEN }}
"#;
    NO_STEP = "P0216", "an expression names an unknown step",
        "`steps.<id>` names a step of this pipeline by its id.",
        r#"name: demo
steps:
  - id: build
    cmd: echo a
  - id: b
    depends_on: [build]
    if: steps.biuld.outcome == "success"
    cmd: echo b
"# =>
        r#"name: demo
steps:
  - id: build
    cmd: echo a
  - id: b
    depends_on: [build]
    if: steps.build.outcome == "success"
    cmd: echo b
"#;
    NOT_AN_ANCESTOR = "P0217", "an expression asks for the value of a step that need not have ended",
        "A step may read the outcome and the values of the steps it depends on, directly or through others. Any other step may still run, or may not have started.",
        r#"name: demo
steps:
  - id: build
    cmd: echo a
  - id: b
    env: { VERSION: "${{ steps.build.values.version }}" }
    cmd: echo "$VERSION"
"# =>
        r#"name: demo
steps:
  - id: build
    cmd: echo a
  - id: b
    depends_on: [build]
    env: { VERSION: "${{ steps.build.values.version }}" }
    cmd: echo "$VERSION"
"#;
    STEP_FIELD = "P0218", "a step is asked for something it does not have",
        "A step has `outcome` (`success`, `failure`, `skipped` or `cancelled`) and `values`, which it writes as `key=value` lines to the file that `$PACE_VALUES` names.",
        r#"name: demo
steps:
  - id: build
    cmd: echo a
  - id: b
    depends_on: [build]
    env: { VERSION: "${{ steps.build.outputs.version }}" }
    cmd: echo "$VERSION"
"# =>
        r#"name: demo
steps:
  - id: build
    cmd: echo a
  - id: b
    depends_on: [build]
    env: { VERSION: "${{ steps.build.values.version }}" }
    cmd: echo "$VERSION"
"#;
    NO_FUNCTION = "P0220", "an expression calls an unknown function",
        "Functions: `hash` `semver` `env` `size` `string` `int` `double` `bool` `has`. On texts: `contains` `startsWith` `endsWith` `matches` `lowerAscii` `upperAscii` `replace` `split` `trim`. On lists: `join` `all` `exists` `exists_one` `filter` `map`.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.beginsWith("release/")
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.startsWith("release/")
"#;
    ARGUMENTS = "P0221", "a function is called in a way it is not made for",
        "A function takes its arguments in parentheses; a method stands behind a value and a dot. Each takes a fixed number of arguments.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: startsWith(git.branch, "release/")
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.startsWith("release/")
"#;
    WRONG_TYPE = "P0222", "a value has the wrong type",
        "Types are checked before anything runs, and nothing is converted silently. Convert with `string(x)`, `int(x)`, `double(x)`, `bool(x)` or `semver(x)`.",
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ "run-" + run.number }}
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ "run-" + string(run.number) }}
"#;
    DIFFERENT_TYPES = "P0223", "values of different types stand where one type is wanted",
        "Values of different types are never equal, so comparing them is always a mistake. The same holds for the two values of a choice.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: event.number == "5"
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: event.number == 5
"#;
    WANTED = "P0224", "an expression has another type than its place wants",
        "`if`, the sides of `&&` and `||`, and what stands before `?` are true or false. No other value counts as true.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.tag
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.tag != ""
"#;
    NOT_LITERAL = "P0225", "an argument must be a text in quotes",
        "What `hash(...)` and `env(...)` read must be known before the run is planned, so their arguments are written out.",
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ hash(git.branch) }}
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo ${{ hash("go.sum") }}
"#;
    BAD_TEXT = "P0226", "a text in an expression is not what its function reads",
        "The regular expression of `matches`, the version of `semver`, the globs of `hash` and the name of `env` are checked before anything runs when they are written out.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.matches("(main")
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.matches("^main$")
"#;
    MACRO = "P0227", "a macro is written in another shape than it has",
        "`list.all(x, condition)`, `exists`, `exists_one` and `filter` take a variable and a condition, `map` a variable and a value; `has(x.field)` takes a field.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.split("/").exists("x")
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: git.branch.split("/").exists(x, x == "hotfix")
"#;
    NEVER = "P0228", "a comparison with a word that never comes",
        "`event.kind` is `manual`, `push`, `pull_request` or `schedule`; the outcome of a step is `success`, `failure`, `skipped` or `cancelled`. Compared with any other word the answer is always the same.",
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: event.kind == "pull-request"
"# =>
        r#"name: demo
steps:
  - id: a
    cmd: echo a
    if: event.kind == "pull_request"
"#;
}
