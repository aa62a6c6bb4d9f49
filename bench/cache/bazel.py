"""A Bazel build of a C project with a warm cache: from a shared cache, and from Bazel's own disk cache.

The project is the zstd library in the sources of one of our own dependencies, so that nothing more is fetched.
"""

import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from machine import ROOT
from servers import Server, tool

# Forwards to Bazel's built-in rules, so that no repository is downloaded.
RULES = """\
cc_library = native.cc_library
cc_binary = native.cc_binary
cc_test = native.cc_test
cc_import = native.cc_import
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
def _noop(name, visibility = None, **kw):
    native.filegroup(name = name, visibility = visibility)
cc_flags_supplier = _noop
compiler_flag = _noop
cc_toolchain_alias = getattr(native, "cc_toolchain_alias", _noop)
"""
BUILD = """\
load("@rules_cc//cc:defs.bzl", "cc_library")
cc_library(
    name = "zstd",
    srcs = glob(["lib/**/*.c", "lib/**/*.h"], exclude = ["lib/legacy/**", "lib/deprecated/**"]),
    copts = ["-O1", "-DZSTD_DISABLE_ASM=1", "-Ilib", "-Ilib/common"],
)
"""


class Project:
    """The project and a Bazel that builds it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.bazel = tool("bazel21")
        self.sources = folder / "zstd"
        self.sources.mkdir(parents=True)
        shutil.copytree(sources() / "lib", self.sources / "lib")
        (self.sources / "WORKSPACE").write_text('workspace(name = "zstd")\n')
        (self.sources / "BUILD").write_text(BUILD)
        names = ["rules_cc", "rules_java", "rules_proto", "platforms", "bazel_skylib", "remote_coverage_tools"]
        self.overrides = [f"--override_repository={name}={self.empty(name)}" for name in names]

    def empty(self, name: str) -> Path:
        """A repository that has what the build asks of it, and no more."""
        repository = self.folder / name
        files = REPOSITORIES.get(name, {})
        for path, text in {"WORKSPACE": f'workspace(name = "{name}")\n', "BUILD": "", **files}.items():
            (repository / path).parent.mkdir(parents=True, exist_ok=True)
            (repository / path).write_text(text)
        return repository

    def run(self, command: str, *flags: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        done = subprocess.run(
            [self.bazel, f"--output_user_root={self.folder / 'root'}", command, *flags],
            cwd=self.sources,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"bazel {command} failed: {done.stdout[-3000:]}")
        return done.stdout

    def build(self, cache: str) -> tuple[float, int, int]:
        """Seconds, actions that came from the cache, actions that were executed."""
        self.run("clean")
        start = time.monotonic()
        said = self.run("build", "//:zstd", cache, "--nosandbox_debug", "--color=no", "--curses=no", *self.overrides)
        took = time.monotonic() - start
        line = next((line for line in said.splitlines() if "processes" in line or "process:" in line), "")
        return took, counted(line, "cache hit"), sum(counted(line, kind) for kind in ["sandbox", "local", "worker"])

    def shutdown(self) -> None:
        self.run("shutdown")


def constraints(setting: str, values: str) -> str:
    lines = ['package(default_visibility = ["//visibility:public"])', f'constraint_setting(name = "{setting}")']
    return "\n".join(lines + [f'constraint_value(name = "{value}", constraint_setting = ":{setting}")' for value in values.split()])


def natives(names: str) -> str:
    return "\n".join(f"{name} = native.{name}" for name in names.split())


REPOSITORIES = {
    "rules_cc": {"cc/defs.bzl": RULES, "cc/BUILD": ""},
    "rules_java": {"java/defs.bzl": natives("java_binary java_import java_library java_runtime java_toolchain"), "java/BUILD": ""},
    "rules_proto": {"proto/defs.bzl": natives("proto_library proto_lang_toolchain"), "proto/BUILD": ""},
    "platforms": {
        "cpu/BUILD": constraints("cpu", "x86_64 x86_32 arm aarch64 ppc s390x"),
        "os/BUILD": constraints("os", "linux osx windows freebsd android ios"),
    },
}


def counted(line: str, kind: str) -> int:
    """`12 processes: 10 remote cache hit, 2 linux-sandbox.` has 10 of `cache hit`."""
    parts = line.split(":")[-1].split(",")
    return sum(int(part.split()[0]) for part in parts if kind in part and part.split()[0].isdigit())


def sources() -> Path:
    """The C sources of the crate zstd-sys."""
    said = subprocess.run(["cargo", "metadata", "--format-version", "1"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    packages = json.loads(said.stdout)["packages"]
    [manifest] = [package["manifest_path"] for package in packages if package["name"] == "zstd-sys"]
    return Path(manifest).parent / "zstd"


def measure(folder: Path, server: Server, rounds: int) -> dict:
    """Seconds of warm builds, each kind in turn."""
    project = Project(folder)
    caches = {
        "shared cache over gRPC": f"--remote_cache=grpc://{server.target}",
        "shared cache over HTTP": f"--remote_cache=http://{server.target}",
        "Bazel's disk cache": f"--disk_cache={folder / 'disk'}",
    }
    cold = {name: project.build(flag)[0] for name, flag in caches.items()}
    warm = {name: [] for name in caches}
    hits = {}
    for _ in range(rounds):
        for name, flag in caches.items():
            took, hit, executed = project.build(flag)
            warm[name].append(took)
            hits[name] = (hit, executed)
    project.shutdown()
    return {
        name: {"cold": cold[name], "warm": statistics.median(warm[name]), "hits": hits[name][0], "executed": hits[name][1]}
        for name in caches
    }
