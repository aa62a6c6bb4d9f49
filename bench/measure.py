"""Measures commands side by side: every round runs each of them once, so that a busy minute hits all alike."""

import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

WARM_UP_ROUNDS = 2
# A command that takes longer is broken, not slow.
COMMAND_SECONDS_MAX = 300


@dataclass
class Contender:
    """A command in its own folder, and what must happen before each measured run."""

    name: str
    command: list[str]
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    missing: str | None = None


@dataclass
class Result:
    """Milliseconds and peak MiB of one contender; empty with a reason if it could not run."""

    name: str
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    rss_mib: float = 0.0
    missing: str | None = None

    def wall(self) -> float:
        return statistics.median(self.wall_ms)

    def cpu(self) -> float:
        return statistics.median(self.cpu_ms)

    def as_json(self) -> dict:
        if self.missing:
            return {"name": self.name, "missing": self.missing}
        return {
            "name": self.name,
            "runs": len(self.wall_ms),
            "wall_ms": {"median": self.wall(), "min": min(self.wall_ms), "all": self.wall_ms},
            "cpu_ms": {"median": self.cpu(), "min": min(self.cpu_ms), "all": self.cpu_ms},
            "rss_mib": self.rss_mib,
        }


def once(contender: Contender) -> tuple[float, float, float]:
    """Wall and CPU milliseconds, children included, and the peak MiB of the largest process."""
    contender.before()
    with open(contender.folder / ".bench-output", "wb") as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            contender.command,
            cwd=contender.folder,
            env={**os.environ, **contender.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0 or wall > COMMAND_SECONDS_MAX:
        tail = (contender.folder / ".bench-output").read_text(errors="replace").strip().splitlines()[-3:]
        raise RuntimeError(f"exit code {child.returncode}: {' / '.join(tail)}")
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024


def side_by_side(contenders: list[Contender], rounds: int, say: Callable[[str], None]) -> list[Result]:
    results = [Result(contender.name, missing=contender.missing) for contender in contenders]
    for number in range(-WARM_UP_ROUNDS, rounds):
        say(f"round {max(number + 1, 0)} of {rounds}")
        for contender, result in zip(contenders, results):
            if result.missing:
                continue
            try:
                wall, cpu, rss = once(contender)
            except (OSError, RuntimeError) as error:
                result.missing = f"failed: {error}"
                continue
            if number >= 0:
                result.wall_ms.append(wall)
                result.cpu_ms.append(cpu)
                result.rss_mib = max(result.rss_mib, rss)
    return results
