"""The scripts of gpu/ are no package: as when they are run, their folder is on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gpu"))
