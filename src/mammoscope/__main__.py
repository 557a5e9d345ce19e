"""The command line: ``mammoscope`` and ``python -m mammoscope``."""

import sys

from mammoscope import __version__


def main() -> None:
    """Run the command line; its version is told without loading it."""
    if sys.argv[1:] == ["--version"]:
        print(f"mammoscope {__version__}")
        return
    from mammoscope.cli import main as run

    run()


if __name__ == "__main__":
    main()
