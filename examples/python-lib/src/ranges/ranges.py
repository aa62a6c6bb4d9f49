"""Parsing, merging and set operations."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator

_PART = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", re.ASCII)


class Ranges:
    """An immutable set of non-negative integers, kept as sorted, merged, inclusive ranges."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Iterable[tuple[int, int]] = ()):
        merged: list[tuple[int, int]] = []
        for low, high in sorted(spans):
            if low > high:
                raise ValueError(f"range {low}-{high} runs backwards")
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        self._spans = tuple(merged)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._spans, number, key=lambda span: span[0]) - 1
        return at >= 0 and number <= self._spans[at][1]

    def __iter__(self) -> Iterator[int]:
        for low, high in self._spans:
            yield from range(low, high + 1)

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self._spans)

    def __or__(self, other: "Ranges") -> "Ranges":
        return Ranges(self._spans + other._spans)

    def __and__(self, other: "Ranges") -> "Ranges":
        both = (
            (max(a, c), min(b, d)) for a, b in self._spans for c, d in other._spans if max(a, c) <= min(b, d)
        )
        return Ranges(both)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._spans == other._spans

    def __hash__(self) -> int:
        return hash(self._spans)

    def __str__(self) -> str:
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self._spans)

    def __repr__(self) -> str:
        return f"parse({str(self)!r})"


def parse(text: str) -> Ranges:
    """Reads ``1-3,7``. Raises ValueError that names the part it cannot read."""
    spans = []
    for part in text.split(",") if text.strip() else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part.strip()!r} is neither a number nor a range like 3-7")
        low, high = match.groups()
        spans.append((int(low), int(high or low)))
    return Ranges(spans)
