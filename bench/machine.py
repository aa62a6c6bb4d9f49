"""What all measurements say about the machine, and where their samples go."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def bench_dir() -> Path:
    return Path(os.environ.get("PACE_BENCH_DIR") or cache_home() / "paceline-bench")


def numbers_file(what: str) -> Path:
    return bench_dir() / f"{what}-{time.strftime('%Y-%m-%dT%H%M%S')}.json"


def version(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()[0]
    name = cpu.group(1) if cpu else platform.machine()
    return f"{name}, {os.cpu_count()} CPUs, Linux {platform.release()}, load {load:.1f} at the start"
