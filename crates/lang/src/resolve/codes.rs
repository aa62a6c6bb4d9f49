//! Codes of faults in what names what: the graph, files, templates, scripts.

use crate::diagnostic::codes;

codes! {
    /// Codes of faults in what names what.
    NAMES:
    UNKNOWN_DEPENDENCY = "P0104", "a dependency does not exist",
        "`depends_on` names a step that the pipeline does not have. Within a template it names steps of the template, within an expanded file steps of that file; the steps of a template use `u` are reached through `u` itself.",
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n  - id: deploy\n    depends_on: [biuld]\n    cmd: make deploy\n" =>
        "name: ci\nsteps:\n  - id: build\n    cmd: make\n  - id: deploy\n    depends_on: [build]\n    cmd: make deploy\n";
    CYCLE = "P0105", "steps wait for each other",
        "Each step of a circle waits for the next, so none of them could ever start. One of the dependencies shown has to go.",
        "name: ci\nsteps:\n  - id: a\n    depends_on: [b]\n    cmd: make a\n  - id: b\n    depends_on: [a]\n    cmd: make b\n" =>
        "name: ci\nsteps:\n  - id: a\n    cmd: make a\n  - id: b\n    depends_on: [a]\n    cmd: make b\n";
    DUPLICATE_ID = "P0106", "two steps have one id",
        "Dependencies, values and logs name a step by its id, so each step has its own. Steps of included files count too.",
        "name: ci\nsteps:\n  - id: test\n    cmd: make test\n  - id: test\n    cmd: make lint\n" =>
        "name: ci\nsteps:\n  - id: test\n    cmd: make test\n  - id: lint\n    cmd: make lint\n";
    INCLUDE_UNREADABLE = "P0130", "an included file cannot be read",
        "`include` names files of the repository by their paths from its root.",
        "name: ci\ninclude: [ci/comon.yaml]\nsteps:\n  - id: build\n    cmd: make\n# file: ci/common.yaml\nenv: { CGO_ENABLED: \"0\" }\n" =>
        "name: ci\ninclude: [ci/common.yaml]\nsteps:\n  - id: build\n    cmd: make\n# file: ci/common.yaml\nenv: { CGO_ENABLED: \"0\" }\n";
    INCLUDE_OUTSIDE = "P0131", "an included file lies outside of the repository",
        "A pipeline is made of what the repository holds at one commit, and of nothing else: otherwise the same commit would mean different things on different machines. Links that lead out of the repository are refused too.",
        "name: ci\ninclude: [../shared/common.yaml]\nsteps:\n  - id: build\n    cmd: make\n" =>
        "name: ci\ninclude: [ci/common.yaml]\nsteps:\n  - id: build\n    cmd: make\n# file: ci/common.yaml\nenv: { CGO_ENABLED: \"0\" }\n";
    INCLUDE_LOOP = "P0132", "files include each other without end",
        "A file that includes itself, directly or through others, would never end. Files may include files 8 deep, and 100 in all.",
        "name: ci\ninclude: [ci/a.yaml]\nsteps:\n  - id: build\n    cmd: make\n# file: ci/a.yaml\ninclude: [ci/a.yaml]\n" =>
        "name: ci\ninclude: [ci/a.yaml]\nsteps:\n  - id: build\n    cmd: make\n# file: ci/a.yaml\nenv: { CGO_ENABLED: \"0\" }\n";
    UNKNOWN_TEMPLATE = "P0133", "a template does not exist",
        "`use` names a template that neither this file nor an included one has.",
        "name: ci\nsteps:\n  - id: unit\n    use: go-tset\ntemplates:\n  go-test: { steps: [{ id: t, cmd: go test ./... }] }\n" =>
        "name: ci\nsteps:\n  - id: unit\n    use: go-test\ntemplates:\n  go-test: { steps: [{ id: t, cmd: go test ./... }] }\n";
    TEMPLATE_PARAM = "P0134", "a template's parameter is missing, unknown or of the wrong type",
        "`with` gives each parameter of the template that has no default a value of its type, and names no others.",
        "name: ci\nsteps:\n  - id: unit\n    use: go-test\n    with: { folder: svc }\ntemplates:\n  go-test:\n    params: { dir: { type: string } }\n    steps: [{ id: t, cmd: \"cd ${{ params.dir }} && go test ./...\" }]\n" =>
        "name: ci\nsteps:\n  - id: unit\n    use: go-test\n    with: { dir: svc }\ntemplates:\n  go-test:\n    params: { dir: { type: string } }\n    steps: [{ id: t, cmd: \"cd ${{ params.dir }} && go test ./...\" }]\n";
    TEMPLATE_DEPTH = "P0135", "templates use each other without end",
        "A template that uses itself, directly or through others, would never end. Templates may use templates 4 deep; an expanded file may expand again, 4 deep too.",
        "name: ci\nsteps:\n  - id: unit\n    use: t\ntemplates:\n  t: { steps: [{ id: again, use: t }] }\n" =>
        "name: ci\nsteps:\n  - id: unit\n    use: t\ntemplates:\n  t: { steps: [{ id: once, cmd: make }] }\n";
    MATRIX_TWICE = "P0136", "a matrix within a matrix",
        "A template use with a `matrix` makes a set of all its steps for each cell; steps inside cannot have a matrix of their own.",
        "name: ci\nsteps:\n  - id: unit\n    use: t\n    matrix: { os: [a, b] }\ntemplates:\n  t: { steps: [{ id: once, cmd: make, matrix: { go: [x, y] } }] }\n" =>
        "name: ci\nsteps:\n  - id: unit\n    use: t\n    matrix: { os: [a, b], go: [x, y] }\ntemplates:\n  t: { steps: [{ id: once, cmd: make }] }\n";
    UNTRUSTED_QUOTED = "P0137", "a stranger's value where the shell does not read variables",
        "Values that a stranger can set (branch names, titles, parameters, values of steps) are not pasted into a script, because a branch can be called `; rm -rf ~`. They are handed over in a variable that the script reads instead. Inside '…' and behind `<<'EOF'` the shell reads no variables, and inside `$(( ))` it would calculate with them.",
        "name: ci\nsteps:\n  - id: note\n    cmd: echo 'on ${{ git.branch }}'\n" =>
        "name: ci\nsteps:\n  - id: note\n    cmd: echo \"on ${{ git.branch }}\"\n";
    UNTRUSTED_SHELL = "P0138", "a stranger's value in a script that is not a shell's",
        "Values that a stranger can set are handed to a script in variables. In `sh` and `bash` pace writes the variable for you; how another language reads one only you know.",
        "name: ci\nsteps:\n  - id: note\n    shell: python\n    cmd: print(\"on ${{ git.branch }}\")\n" =>
        "name: ci\nsteps:\n  - id: note\n    shell: python\n    env: { BRANCH: \"${{ git.branch }}\" }\n    cmd: import os; print(\"on\", os.environ[\"BRANCH\"])\n";
    EXPANSION_CALL = "P0139", "a call that an expanded file cannot make",
        "`hash(…)` and `env(…)` are answered before the run starts; steps that an `expand` step adds come too late. Let the step that writes the file write the value into it.",
        "steps:\n  - id: build\n    cmd: make\n    cache: auto\n    env: { KEY: \"${{ hash('go.sum') }}\" }\n" =>
        "steps:\n  - id: build\n    cmd: make\n    env: { KEY: \"3f2a\" }\n";
}
