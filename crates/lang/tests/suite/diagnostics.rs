//! What a person sees: code, sentence, the exact place, what to do.

use insta::assert_snapshot;

use crate::{Repository, shows};

/// A pipeline with one more line per argument behind `id: build`.
fn step(lines: &str) -> String {
    format!("name: ci\nsteps:\n  - id: build\n{lines}\n")
}

#[test]
fn a_misspelt_dependency_shows_the_step_that_was_meant() {
    assert_snapshot!(shows("name: ci\nsteps:\n  - id: build\n    cmd: make\n  - id: deploy\n    depends_on: [biuld]\n    cmd: ./deploy\n"), @r#"
    error: step `deploy` depends on `biuld`, which does not exist
     --> paceline.yaml:6:18
      |
    6 |     depends_on: [biuld]
      |                  ^^^^^ no step has this id
    help: there is a step `build`
    see: pace explain P0104
    "#);
}

#[test]
fn a_circle_is_shown_whole_with_each_edge() {
    assert_snapshot!(shows("name: ci\nsteps:\n  - { id: a, cmd: x, depends_on: [c, b] }\n  - { id: b, cmd: x, depends_on: [a] }\n  - { id: c, cmd: x, depends_on: [b] }\n  - { id: d, cmd: x, depends_on: [d] }\n"), @r#"
    error: steps wait for each other: a → c → b → a
     --> paceline.yaml:3:35
      |
    3 |   - { id: a, cmd: x, depends_on: [c, b] }
      |                                   ^ `a` waits for `c`
    4 |   - { id: b, cmd: x, depends_on: [a] }
      |                                   - `b` waits for `a`
    5 |   - { id: c, cmd: x, depends_on: [b] }
      |                                   - `c` waits for `b`
    help: one of these dependencies has to go
    see: pace explain P0105

    error: step `d` waits for itself
     --> paceline.yaml:6:35
      |
    6 |   - { id: d, cmd: x, depends_on: [d] }
      |                                   ^ `d` waits for `d`
    help: take it out of its own `depends_on`
    see: pace explain P0105
    "#);
}

#[test]
fn words_of_other_systems_find_the_key_that_is_meant() {
    let found =
        shows("name: ci\nvariables: { A: b }\nsteps:\n  - { id: a, script: x }\n  - { id: b, cmd: x, depends: [a] }\n");
    let helps: Vec<&str> = found.lines().filter(|line| line.starts_with("help")).collect();
    assert_eq!(helps, ["env", "cmd", "depends_on"].map(|key| format!("help: here it is called `{key}`")));
}

#[test]
fn a_list_of_events_is_shown_how_to_become_a_map() {
    assert_snapshot!(shows("name: ci\non: [push, pull_request]\nsteps: [{ id: a, cmd: x }]\n"), @r"
    error: `on` wants a map with `push`, `pull_request`, `schedule`, `manual`, this is a list
     --> paceline.yaml:2:5
      |
    2 | on: [push, pull_request]
      |     ^^^^^^^^^^^^^^^^^^^^ a list
    help: each event is a key: `on: { push: {}, pull_request: {} }`
    see: pace explain P0103
    ");
}

#[test]
fn all_faults_of_a_file_come_in_one_go() {
    assert_snapshot!(shows("name: ci\njobs: {}\nsteps:\n  - id: build\n    run: make\n    timeout: [1]\n  - id: test\n    cmd: x\n    approve: { by: [bob] }\n    when: allways\n  - id: none\n"), @r#"
    error: a pipeline has no key `jobs`
     --> paceline.yaml:2:1
      |
    2 | jobs: {}
      | ^^^^ unknown key
    help: here it is called `steps`
    see: pace explain P0101

    error: a step has no key `run`
     --> paceline.yaml:5:5
      |
    5 |     run: make
      |     ^^^ unknown key
    help: here it is called `cmd`
    see: pace explain P0101

    error: `timeout` wants a duration like `10m`, this is a list
     --> paceline.yaml:6:14
      |
    6 |     timeout: [1]
      |              ^^^ a list
    see: pace explain P0103

    error: step `test` does two things: `cmd` and `approve`
     --> paceline.yaml:7:5
      |
    7 |   - id: test
      |     ^^ this step
    8 |     cmd: x
      |     --- `cmd`
    9 |     approve: { by: [bob] }
      |     ------- `approve`
    help: make it two steps, the second with `depends_on` the first
    see: pace explain P0110

    error: `by`: `bob` is neither `user:NAME` nor `team:NAME`
     --> paceline.yaml:9:21
      |
    9 |     approve: { by: [bob] }
      |                     ^^^
    see: pace explain P0107

    error: `when` cannot be `allways`
      --> paceline.yaml:10:11
       |
    10 |     when: allways
       |           ^^^^^^^ unknown word
    help: there is `always`
    see: pace explain P0107

    error: step `none` does nothing
      --> paceline.yaml:11:5
       |
    11 |   - id: none
       |     ^^ this step
    help: give it one of `cmd`, `use`, `approve` or `expand`
    see: pace explain P0110
    "#);
}

#[test]
fn wrong_types_say_what_is_wanted_and_what_is_there() {
    assert_snapshot!(shows(step("    cmd: [a, b]\n    timeout: 5\n    retry: 3\n    depends_on: test\n    allow_failure: yes\n    resources: { cpu: lots, memory: 4G }\n    env: [A=b]\n    shards: 0\n")), @r#"
    error: `cmd` wants one text (several lines: a block with `|`), this is a list
     --> paceline.yaml:4:10
      |
    4 |     cmd: [a, b]
      |          ^^^^^^ a list
    see: pace explain P0103

    error: `timeout`: a duration is written like `250ms`, `10s`, `5m`, `1h30m` or `2d`
     --> paceline.yaml:5:14
      |
    5 |     timeout: 5
      |              ^
    see: pace explain P0107

    error: `retry` wants a map like `{ attempts: 3 }`, this is a whole number
     --> paceline.yaml:6:12
      |
    6 |     retry: 3
      |            ^ a whole number
    see: pace explain P0103

    error: `depends_on` wants a list of step ids, this is a text
     --> paceline.yaml:7:17
      |
    7 |     depends_on: test
      |                 ^^^^ not a list
    help: put it in a list: `depends_on: [test]`
    see: pace explain P0103

    error: `allow_failure` wants `true` or `false`, this is a text
     --> paceline.yaml:8:20
      |
    8 |     allow_failure: yes
      |                    ^^^ a text
    help: write `true`, without quotes
    see: pace explain P0103

    error: `cpu` wants a number from 0.001 to 1024, this is a text
     --> paceline.yaml:9:23
      |
    9 |     resources: { cpu: lots, memory: 4G }
      |                       ^^^^ a text
    see: pace explain P0103

    error: `memory`: a size is written like `512MiB`, `4GiB`, `1GB` or `100kB`
     --> paceline.yaml:9:37
      |
    9 |     resources: { cpu: lots, memory: 4G }
      |                                     ^^
    see: pace explain P0107

    error: `env` wants a map of names to texts, this is a list
      --> paceline.yaml:10:10
       |
    10 |     env: [A=b]
       |          ^^^^^ a list
    see: pace explain P0103

    error: `shards`: 0 is not from 1 to 1000
      --> paceline.yaml:11:13
       |
    11 |     shards: 0
       |             ^
    see: pace explain P0107
    "#);
}

#[test]
fn a_key_that_does_not_belong_to_the_kind_of_step_is_told() {
    assert_snapshot!(shows("name: ci\nsteps:\n  - id: ask\n    approve: { by: [user:ann] }\n    shell: bash\n  - id: soon\n    deploy: { to: x }\n"), @r#"
    error: `shell` means nothing in a step with `approve`
     --> paceline.yaml:5:5
      |
    5 |     shell: bash
      |     ^^^^^ this key
    help: leave it out; a step with `approve` runs no script
    see: pace explain P0112

    error: `deploy` steps come with a later version of pace
     --> paceline.yaml:7:5
      |
    7 |     deploy: { to: x }
      |     ^^^^^^ not yet
    help: until then write it as a script, with `cmd`
    see: pace explain P0111
    "#);
}

#[test]
fn duplicate_keys_and_ids_show_both_places() {
    assert_snapshot!(shows("name: ci\nname: again\nsteps:\n  - { id: a, cmd: x }\n  - { id: a, cmd: y }\n"), @r#"
    error: the key `name` is written twice
     --> paceline.yaml:2:1
      |
    1 | name: ci
      | ---- first here
    2 | name: again
      | ^^^^ again
    help: keep one of them
    see: pace explain P0012

    error: two steps have the id `a`
     --> paceline.yaml:5:11
      |
    4 |   - { id: a, cmd: x }
      |           - first here
    5 |   - { id: a, cmd: y }
      |           ^ again
    help: give one of them another id
    see: pace explain P0106
    "#);
}

#[test]
fn what_is_opened_and_not_closed_is_shown_where_it_is_opened() {
    assert_snapshot!(shows(step("    cmd: \"make\n  - id: test\n    cmd: x")), @r#"
    error: a quote is not closed
     --> paceline.yaml:4:10
      |
    4 |     cmd: "make
      |          ^ it is opened here
    help: close it on the same line, or write the text as a block: `|` and indented lines
    see: pace explain P0006
    "#);
    assert_snapshot!(shows(step("    inputs: [src, Makefile\n    cmd: make")), @r#"
    error: `[` is not closed
     --> paceline.yaml:4:13
      |
    4 |     inputs: [src, Makefile
      |             ^ opened here
    5 |     cmd: make
      |        - noticed here
    help: close it with `]`
    see: pace explain P0006
    "#);
    assert_snapshot!(shows(step("    env: { A: b\n    cmd: make")), @r#"
    error: `{` is not closed
     --> paceline.yaml:4:10
      |
    4 |     env: { A: b
      |          ^ opened here
    5 |     cmd: make
      |        - noticed here
    help: close it with `}`
    see: pace explain P0006
    "#);
    assert_snapshot!(shows(step("    inputs: [src}\n    cmd: make")), @r#"
    error: `[` is closed by `}`
     --> paceline.yaml:4:13
      |
    4 |     inputs: [src}
      |             ^ opened here
    help: close it with `]`
    see: pace explain P0006
    "#);
}

#[test]
fn faults_of_yaml_are_said_in_words_of_the_file() {
    assert_snapshot!(shows("name: ci\nsteps:\n\t- id: build\n"), @r#"
    error: a line is indented with a tab
     --> paceline.yaml:3:1
      |
    3 |     - id: build
      | ^^^^ a tab
    help: YAML is indented with spaces only
    see: pace explain P0007
    "#);
    assert_snapshot!(shows(step("    cmd: echo done: yes")), @r#"
    error: a second `:` on a line, or a key that is indented wrongly
     --> paceline.yaml:4:19
      |
    4 |     cmd: echo done: yes
      |                   ^ no `:` may stand here
    help: text with `: ` in it wants quotes around it, or a block: `|` and indented lines
    see: pace explain P0005
    "#);
    assert_snapshot!(shows(step("   cmd: make")), @r#"
    error: this line does not belong to the lines above it
     --> paceline.yaml:4:4
      |
    4 |    cmd: make
      |    ^ its indent fits none of them
    help: keys of one map begin in the same column, and so do the `-` of one list
    see: pace explain P0005
    "#);
    assert_snapshot!(shows(step("    env: { A: ${{ git.branch }} }\n    cmd: make")), @r#"
    error: inside `[ ]` and `{ }` a value with `${{ }}` wants quotes
     --> paceline.yaml:4:16
      |
    4 |     env: { A: ${{ git.branch }} }
      |                ^ YAML reads this `{` as a map
    help: write it in quotes: "${{ … }}"
    see: pace explain P0005
    "#);
    assert_snapshot!(shows(step("    cmd: @make")), @r#"
    error: a text cannot begin with this character
     --> paceline.yaml:4:10
      |
    4 |     cmd: @make
      |          ^ YAML keeps it for itself
    help: put the text in quotes
    see: pace explain P0005
    "#);
}

#[test]
fn what_is_not_a_pipeline_at_all_is_one_clear_error() {
    assert_snapshot!(shows(""), @r#"
    error: the file is empty
     --> paceline.yaml:1:1
      |
    1 |
      | ^ nothing is here
    help: the smallest pipeline is a `name` and one step with `id` and `cmd`; `pace init` writes a first one
    see: pace explain P0004
    "#);
    assert_snapshot!(shows("- a\n- b\n"), @r#"
    error: a pipeline is a map of keys, this is a list
     --> paceline.yaml:1:1
      |
    1 | - a
      | ^^^ a list
    help: the smallest pipeline is a `name` and one step with `id` and `cmd`
    see: pace explain P0103
    "#);
    assert_snapshot!(shows(b"name: ci\nabc\0def\n"), @r#"
    error: `paceline.yaml` is not a text file: byte 12 is 0x00
     --> paceline.yaml:2:4
      |
    2 | abc�
      |    ^ here
    help: a pipeline file is YAML in UTF-8
    see: pace explain P0001
    "#);
    assert_snapshot!(shows(b"name: caf\xE9\n"), @r#"
    error: `paceline.yaml` is not UTF-8: byte 9 is 0xe9
     --> paceline.yaml:1:10
      |
    1 | name: caf�
      |          ^ here
    help: save it as UTF-8
    see: pace explain P0002
    "#);
    assert_snapshot!(shows(b"\xFF\xFEn\0"), @r#"
    error: `paceline.yaml` is UTF-16; a pipeline file is UTF-8
     --> paceline.yaml:1:1
      |
    1 |
      | ^
    help: save it as UTF-8
    see: pace explain P0002
    "#);
    assert_snapshot!(shows("name: a\n---\nname: b\n"), @r#"
    error: a pipeline file is one YAML document
     --> paceline.yaml:2:1
      |
    2 | ---
      | ^^^ a second one begins
    help: write a file for each pipeline, in the folder `.paceline/`
    see: pace explain P0008
    "#);
}

#[test]
fn aliases_tags_and_merge_keys_that_cannot_be_are_told() {
    assert_snapshot!(shows(step("    cmd: !!str make\n    env: { <<: *nothing }")), @r#"
    error: a pipeline has no YAML tags
     --> paceline.yaml:4:10
      |
    4 |     cmd: !!str make
      |          ^^^^^ a tag
    help: leave it out; to make a number a text, put it in quotes
    see: pace explain P0009

    error: the merge key `<<` is not part of YAML 1.2
     --> paceline.yaml:5:12
      |
    5 |     env: { <<: *nothing }
      |            ^^ a merge key
    help: write common keys once in `defaults`, or make the steps a template
    see: pace explain P0013

    error: the alias `*nothing` has no anchor `&nothing` before it
     --> paceline.yaml:5:16
      |
    5 |     env: { <<: *nothing }
      |                ^^^^^^^^ no such anchor
    see: pace explain P0010
    "#);
    assert_snapshot!(shows(step("    cmd: make\n    env: &e { A: *e }")), @r#"
    error: the alias `*e` stands inside of what it names
     --> paceline.yaml:5:18
      |
    5 |     env: &e { A: *e }
      |                  ^^ it would contain itself
    see: pace explain P0010
    "#);
}

#[test]
fn includes_show_the_place_that_includes() {
    let repository = Repository::default()
        .with("ci/a.yaml", "include: [ci/b.yaml]\nenv: { A: x }\n")
        .with("ci/b.yaml", "include: [./ci/a.yaml]\nenv: { A: y }\nsteps:\n  - { id: build, cmd: x }\n");
    let text =
        "name: ci\ninclude: [ci/a.yaml, no.yaml, ../out.yaml, link-out.yaml]\nsteps:\n  - { id: build, cmd: x }\n";
    assert_snapshot!(repository.load(text).1.render(false, 100), @r#"
    error: cannot include `no.yaml`: the repository has no such file
     --> paceline.yaml:2:22
      |
    2 | include: [ci/a.yaml, no.yaml, ../out.yaml, link-out.yaml]
      |                      ^^^^^^^ this file
    help: paths count from the root of the repository
    see: pace explain P0130

    error: cannot include `../out.yaml`: it leads out of the repository
     --> paceline.yaml:2:31
      |
    2 | include: [ci/a.yaml, no.yaml, ../out.yaml, link-out.yaml]
      |                               ^^^^^^^^^^^ outside
    help: copy the file into the repository; paths count from its root
    see: pace explain P0131

    error: cannot include `link-out.yaml`: it leads out of the repository
     --> paceline.yaml:2:44
      |
    2 | include: [ci/a.yaml, no.yaml, ../out.yaml, link-out.yaml]
      |                                            ^^^^^^^^^^^^^ outside
    help: copy the file into the repository; paths count from its root
    see: pace explain P0131

    error: files include each other without end: ci/a.yaml → ci/b.yaml → ci/a.yaml
     --> ci/b.yaml:1:11
      |
    1 | include: [./ci/a.yaml]
      |           ^^^^^^^^^^^ includes `ci/a.yaml` again
      |
     ::: ci/a.yaml:1:11
      |
    1 | include: [ci/b.yaml]
      |           --------- includes `ci/b.yaml`
    see: pace explain P0132

    error: two files have a variable `A`
     --> ci/b.yaml:2:8
      |
    2 | env: { A: y }
      |        ^ again
      |
     ::: ci/a.yaml:2:8
      |
    2 | env: { A: x }
      |        - first here
    help: keep one of them, or rename one
    see: pace explain P0120

    error: two steps have the id `build`
     --> ci/b.yaml:4:11
      |
    4 |   - { id: build, cmd: x }
      |           ^^^^^ again
      |
     ::: paceline.yaml:4:11
      |
    4 |   - { id: build, cmd: x }
      |           ----- first here
    help: give one of them another id
    see: pace explain P0106
    "#);
}

#[test]
fn templates_say_what_they_want() {
    assert_snapshot!(shows("name: ci\nsteps:\n  - { id: u, use: t, with: { n: x, dirr: svc } }\n  - { id: v, use: tt }\n  - { id: w, cmd: x, depends_on: [u.one] }\ntemplates:\n  t:\n    params: { n: { type: integer }, dir: { type: string } }\n    steps:\n      - { id: one, cmd: x, depends_on: [v] }\n      - { id: two, use: t }\n"), @r#"
    error: template `t` wants a value for `dir`
     --> paceline.yaml:3:19
      |
    3 |   - { id: u, use: t, with: { n: x, dirr: svc } }
      |                   ^ `dir` is missing
    ...
    7 |   t:
      |   - the template
    help: write `with: { dir: … }`, or give `dir` a default
    see: pace explain P0134

    error: the parameter `n` wants a whole number
     --> paceline.yaml:3:33
      |
    3 |   - { id: u, use: t, with: { n: x, dirr: svc } }
      |                                 ^ this is none
    see: pace explain P0134

    error: template `t` has no parameter `dirr`
     --> paceline.yaml:3:36
      |
    3 |   - { id: u, use: t, with: { n: x, dirr: svc } }
      |                                    ^^^^ no such parameter
    ...
    7 |   t:
      |   - the template
    help: there is a parameter `dir`
    see: pace explain P0134

    error: there is no template `tt`
     --> paceline.yaml:4:19
      |
    4 |   - { id: v, use: tt }
      |                   ^^ no template has this name
    help: there is a template `t`
    see: pace explain P0133

    error: step `w` depends on `u.one`, which does not exist
     --> paceline.yaml:5:35
      |
    5 |   - { id: w, cmd: x, depends_on: [u.one] }
      |                                   ^^^^^ no step has this id
    help: depend on `u`: it is done when all its steps are
    see: pace explain P0104

    error: step `one` depends on `v`, which does not exist
      --> paceline.yaml:10:41
       |
    10 |       - { id: one, cmd: x, depends_on: [v] }
       |                                         ^ no step has this id
    help: steps of a template depend on steps of the template only
    see: pace explain P0104

    error: templates use each other without end: t → t
      --> paceline.yaml:11:25
       |
     3 |   - { id: u, use: t, with: { n: x, dirr: svc } }
       |                   - uses `t`
    ...
    11 |       - { id: two, use: t }
       |                         ^ uses `t`
    see: pace explain P0135
    "#);
}

#[test]
fn an_expression_is_marked_in_every_style_of_text() {
    assert_snapshot!(shows("name: ci\nenv: { A: 'it''s ${{ git.brnch }}' }\nsteps:\n  - id: a\n    if: 'git.brnch == \"x\"'\n    cmd: |\n      make\n        deep ${{ git.brnch }}\n  - id: b\n    cmd: >-\n      make\n      all ${{ git.brnch }}\n  - id: c\n    cmd: \"\\t${{ git.brnch }}\"\n"), @r#"
    error: `git` has no field `brnch`
     --> paceline.yaml:2:26
      |
    2 | env: { A: 'it''s ${{ git.brnch }}' }
      |                          ^^^^^ no such field
    help: there is `branch`
    see: pace explain P0211

    error: `git` has no field `brnch`
     --> paceline.yaml:5:14
      |
    5 |     if: 'git.brnch == "x"'
      |              ^^^^^ no such field
    help: there is `branch`
    see: pace explain P0211

    error: `git` has no field `brnch`
     --> paceline.yaml:8:22
      |
    8 |         deep ${{ git.brnch }}
      |                      ^^^^^ no such field
    help: there is `branch`
    see: pace explain P0211

    error: `git` has no field `brnch`
      --> paceline.yaml:12:19
       |
    12 |       all ${{ git.brnch }}
       |                   ^^^^^ no such field
    help: there is `branch`
    see: pace explain P0211

    error: `git` has no field `brnch`
      --> paceline.yaml:14:21
       |
    14 |     cmd: "\t${{ git.brnch }}"
       |                     ^^^^^ no such field
    help: there is `branch`
    see: pace explain P0211
    "#);
}

#[test]
fn an_unused_template_is_checked_too() {
    assert_snapshot!(shows("name: ci\nsteps: [{ id: a, cmd: x }]\ntemplates:\n  t:\n    params: { dir: { type: string } }\n    steps: [{ id: b, cmd: \"cd '${{ params.dir }}' && ${{ params.dri }}\" }]\n"), @r#"
    error: there is no parameter `dri`
     --> paceline.yaml:6:65
      |
    6 |     steps: [{ id: b, cmd: "cd '${{ params.dir }}' && ${{ params.dri }}" }]
      |                                                                 ^^^ not declared in `params`
    help: there is `dir`
    see: pace explain P0212
    "#);
}

#[test]
fn values_from_strangers_are_refused_where_the_shell_does_not_read_variables() {
    assert_snapshot!(shows("name: ci\nsteps:\n  - id: a\n    cmd: |\n      echo 'x ${{ git.branch }}' $'${{ git.tag }}'\n      cat <<'END'\n      ${{ event.title }}\n      END\n      echo $(( ${{ git.message }} + 1 ))\n  - id: p\n    shell: python\n    cmd: print(\"${{ git.message }}\")\n"), @r#"
    error: a stranger can set this value, and the shell reads no variables inside of '…'
     --> paceline.yaml:5:19
      |
    5 |       echo 'x ${{ git.branch }}' $'${{ git.tag }}'
      |                   ^^^^^^^^^^ set from outside
    help: use "…" in place of '…'
    see: pace explain P0137

    error: a stranger can set this value, and the shell reads no variables inside of '…'
     --> paceline.yaml:5:40
      |
    5 |       echo 'x ${{ git.branch }}' $'${{ git.tag }}'
      |                                        ^^^^^^^ set from outside
    help: use "…" in place of '…'
    see: pace explain P0137

    error: a stranger can set this value, and the shell reads no variables in a here-document whose word is in quotes
     --> paceline.yaml:7:11
      |
    7 |       ${{ event.title }}
      |           ^^^^^^^^^^^ set from outside
    help: write the word behind `<<` without quotes
    see: pace explain P0137

    error: a stranger can set this value, and the shell calculates with what stands here
     --> paceline.yaml:9:20
      |
    9 |       echo $(( ${{ git.message }} + 1 ))
      |                    ^^^^^^^^^^^ set from outside
    help: put it into `env`, and check that it is a number before calculating with it
    see: pace explain P0137

    error: a stranger can set this value, so it is not pasted into a script
      --> paceline.yaml:12:21
       |
    12 |     cmd: print("${{ git.message }}")
       |                     ^^^^^^^^^^^ set from outside
    help: put it into the step's `env`, and let the script read the variable
    see: pace explain P0138
    "#);
}

#[test]
fn a_matrix_that_cannot_be_says_why() {
    assert_snapshot!(shows(step("    cmd: x\n    matrix: { go: [1.20, 1.21, 1.21], os: [], exclude: [{ golang: 1.21 }], include: 3 }")), @r#"
    warning: `1.20` is the number 1.2
     --> paceline.yaml:5:20
      |
    5 |     matrix: { go: [1.20, 1.21, 1.21], os: [], exclude: [{ golang: 1.21 }], include: 3 }
      |                    ^^^^ a number, not a text
    help: if a version is meant, put it in quotes: "1.20"
    see: pace explain P0116

    error: the matrix axis `go` has the value `1.21` twice
     --> paceline.yaml:5:32
      |
    5 |     matrix: { go: [1.20, 1.21, 1.21], os: [], exclude: [{ golang: 1.21 }], include: 3 }
      |                                ^^^^ again
    help: leave one of them out
    see: pace explain P0115

    error: the matrix axis `os` has no values
     --> paceline.yaml:5:43
      |
    5 |     matrix: { go: [1.20, 1.21, 1.21], os: [], exclude: [{ golang: 1.21 }], include: 3 }
      |                                           ^^ an empty list
    help: write at least one, or leave the axis out
    see: pace explain P0115

    error: the matrix has no axis `golang`
     --> paceline.yaml:5:59
      |
    5 |     matrix: { go: [1.20, 1.21, 1.21], os: [], exclude: [{ golang: 1.21 }], include: 3 }
      |                                                           ^^^^^^ no such axis
    see: pace explain P0115

    error: `include` wants a list of combinations, this is a whole number
     --> paceline.yaml:5:85
      |
    5 |     matrix: { go: [1.20, 1.21, 1.21], os: [], exclude: [{ golang: 1.21 }], include: 3 }
      |                                                                                     ^ not a list
    help: put it in a list: `include: [3]`
    see: pace explain P0103
    "#);
}

#[test]
fn on_and_params_are_held_against_what_they_mean() {
    assert_snapshot!(shows("name: ci\non:\n  push: { branches: [\"[a\"] }\n  schedule: [{ cron: \"0 25 * * *\", timezone: Europe/Berln }]\nparams:\n  v: { pattern: '^\\d+$', default: x }\n  b: { type: boolean, default: no }\n  c: { choices: [a, b], default: d }\nsteps: [{ id: a, cmd: x }]\n"), @r#"
    error: `branches`: `[` has no `]`
     --> paceline.yaml:3:22
      |
    3 |   push: { branches: ["[a"] }
      |                      ^^^^ this pattern
    see: pace explain P0109

    error: `0 25 * * *` is not a cron expression
     --> paceline.yaml:4:22
      |
    4 |   schedule: [{ cron: "0 25 * * *", timezone: Europe/Berln }]
      |                      ^^^^^^^^^^^^ component error: number out of bounds
    help: write five fields: minute, hour, day of the month, month, day of the week
    see: pace explain P0118

    error: there is no time zone `Europe/Berln`
     --> paceline.yaml:4:46
      |
    4 |   schedule: [{ cron: "0 25 * * *", timezone: Europe/Berln }]
      |                                              ^^^^^^^^^^^^ unknown time zone
    help: write an IANA name such as `Europe/Berlin` or `UTC`
    see: pace explain P0119

    error: the default of `v` does not match its `pattern`
     --> paceline.yaml:6:35
      |
    6 |   v: { pattern: '^\d+$', default: x }
      |                                   ^ here
    see: pace explain P0117

    error: the default of `b` is not `true` or `false`
     --> paceline.yaml:7:32
      |
    7 |   b: { type: boolean, default: no }
      |                                ^^ here
    see: pace explain P0117

    error: the default of `c` is not among its `choices`
     --> paceline.yaml:8:34
      |
    8 |   c: { choices: [a, b], default: d }
      |                                  ^ here
    see: pace explain P0117
    "#);
}
