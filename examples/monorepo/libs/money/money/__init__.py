"""Amounts in whole cents: no floating point near money."""

import re
from dataclasses import dataclass

_AMOUNT = re.compile(r"(\d+)(?:\.(\d{2}))?", re.ASCII)


@dataclass(frozen=True, order=True)
class Money:
    cents: int

    @classmethod
    def parse(cls, text: str) -> "Money":
        match = _AMOUNT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an amount like 12 or 12.50")
        return cls(int(match[1]) * 100 + int(match[2] or 0))

    def __add__(self, other: "Money") -> "Money":
        return Money(self.cents + other.cents)

    def __mul__(self, count: int) -> "Money":
        return Money(self.cents * count)

    def percent(self, rate: int) -> "Money":
        """Rounded half up, as tax offices do."""
        return Money((self.cents * rate + 50) // 100)

    def __str__(self) -> str:
        return f"{self.cents // 100}.{self.cents % 100:02d}"
