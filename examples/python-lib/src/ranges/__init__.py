"""Sets of integers written the way people write page numbers: ``1-3,7``."""

from ranges.ranges import Ranges, parse

__all__ = ["Ranges", "parse"]
