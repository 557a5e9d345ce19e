"""Puts together what a GPU machine gave back: ``python gpu/join.py BACK... --to runs-gpu``. See docs/gpu.md."""

import argparse
import sys
from pathlib import Path

from parts import PartsError, join
from slim import SLIM, expand


def main() -> int:
    """0 if all is whole, 1 if some is missing, 2 if nothing can be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="BACK", help="a folder that came home; all of them")
    parser.add_argument("--to", type=Path, required=True, help="where the runs' folders are to lie")
    arguments = parser.parse_args()
    try:
        joined = join(arguments.folders, arguments.to)
    except PartsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in joined.whole:
        folder = arguments.to / name
        if (folder / SLIM).is_file():
            expand(folder / SLIM, folder)
        print(f"{folder}: whole")
    for name, problem in joined.broken.items():
        older = "; an older one was unpacked" if name in joined.whole else ""
        print(f"{name}: {problem}{older}", file=sys.stderr)
    return 1 if joined.broken else 0


if __name__ == "__main__":
    sys.exit(main())
