"""Whether an image ends the process that reads it, tried in a process that nobody misses."""

import subprocess
import sys
from pathlib import Path

from mammoscope.imaging import MammogramReader
from mammoscope.inference import BundleError, Detector
from mammoscope.reading import ImageReader, MachineTroubleError
from mammoscope.subprocesses import limit_memory

MOST_SECONDS = 600.0
MOST_BYTES = 4 << 30
"""Of the process that tries; what a node may take of the machine beside its children is far less."""
_MACHINE_TROUBLE = 3


def survives(file: Path, bundle: Path | None, seconds: float = MOST_SECONDS) -> bool:
    """Read a file as the node does, in a process of its own.

    Parameters
    ----------
    bundle
        The model; ``None`` is the shipped one.
    seconds
        After which the process counts as ended by the image.

    Raises
    ------
    MachineTroubleError
        If the process was killed from outside, had no memory or no model: that tells nothing of the image.
    """
    command = [sys.executable, "-m", __name__, str(file), *([str(bundle)] if bundle is not None else [])]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    except OSError as error:
        raise MachineTroubleError("memory", f"no process can be started ({error.strerror})") from error
    if done.returncode in (_MACHINE_TROUBLE, -9):
        raise MachineTroubleError("memory", "an image could not be tried in a process of its own")
    return done.returncode == 0


def main() -> None:
    """Read one file and say nothing."""
    file, *bundle = sys.argv[1:]
    limit_memory(MOST_BYTES)
    try:
        with MammogramReader() as source:
            ImageReader(Detector(Path(bundle[0]) if bundle else None, threads=1), source).read(Path(file))
    except (MachineTroubleError, BundleError, OSError, MemoryError):
        sys.exit(_MACHINE_TROUBLE)


if __name__ == "__main__":
    main()
