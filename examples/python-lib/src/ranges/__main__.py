"""``python3 -m ranges 1-3,2-7`` prints the merged ranges and how many numbers they hold."""

import sys

from ranges import parse


def main(arguments: list[str]) -> int:
    if not arguments:
        print("usage: python3 -m ranges RANGES", file=sys.stderr)
        return 2
    try:
        merged = parse(",".join(arguments))
    except ValueError as error:
        print(f"ranges: {error}", file=sys.stderr)
        return 1
    print(f"{merged} ({len(merged)})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
