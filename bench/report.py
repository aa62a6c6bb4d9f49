"""Results as Markdown: medians, minima, ratios to pace, and whether each goal is met."""

from measure import Result


def table(results: list[Result], base: str) -> str:
    """Ratios are medians over those of `base`: 3.0 is three times as slow as it."""
    reference = next((one for one in results if one.name == base and not one.missing), None)
    rows = ["| tool | wall ms, median | min | CPU ms, median | min | peak MiB | wall ratio | CPU ratio |"]
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in results:
        if one.missing:
            rows.append(f"| {one.name} | {one.missing.replace('|', '/')} | | | | | | |")
            continue
        numbers = [one.wall(), min(one.wall_ms), one.cpu(), min(one.cpu_ms), one.rss_mib]
        ratios = [one.wall() / reference.wall(), one.cpu() / max(reference.cpu(), 0.1)] if reference else []
        cells = [f"{number:.1f}" for number in numbers] + [f"{ratio:.2f}" for ratio in ratios]
        rows.append(f"| {one.name} | {' | '.join(cells + [''] * (7 - len(cells)))} |")
    return "\n".join(rows)


def per_step(small: list[Result], wide: list[Result], more_steps: int) -> str:
    rows = ["| tool | wall ms a further step | CPU ms a further step |", "| --- | ---: | ---: |"]
    for few, many in zip(small, wide):
        if few.missing or many.missing:
            continue
        wall, cpu = (many.wall() - few.wall()) / more_steps, (many.cpu() - few.cpu()) / more_steps
        rows.append(f"| {many.name} | {wall:.2f} | {cpu:.2f} |")
    return "\n".join(rows)


class Goals:
    """What was aimed at, what was measured, side by side."""

    def __init__(self):
        self.rows: list[dict] = []

    def at_most(self, what: str, goal: float, measured: float, unit: str) -> None:
        self._add(what, f"at most {goal:g} {unit}", f"{measured:.1f} {unit}", measured <= goal)

    def at_least(self, what: str, goal: float, measured: float, unit: str) -> None:
        digits = 0 if goal >= 100 else 1
        self._add(what, f"at least {goal:,.0f} {unit}", f"{measured:,.{digits}f} {unit}", measured >= goal)

    def _add(self, what: str, goal: str, measured: str, met: bool) -> None:
        self.rows.append({"what": what, "goal": goal, "measured": measured, "met": met})

    def table(self) -> str:
        rows = ["| goal | aimed at | measured | met |", "| --- | --- | --- | --- |"]
        rows += [f"| {r['what']} | {r['goal']} | {r['measured']} | {'yes' if r['met'] else 'NO'} |" for r in self.rows]
        return "\n".join(rows)
