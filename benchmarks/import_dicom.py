"""Import: DICOM files a second that a collection's headers are read at, beside bare pydicom in the same run.

    python benchmarks/import_dicom.py [--files 10000] [--workers 1]

Writes small synthetic mammograms (64 x 48 pixels, the header of a screening unit) into a temporary folder, then reads
all headers: with `pydicom.dcmread(stop_before_pixels=True)` and nothing else, with what the importers use on one core,
and with all cores. The files are in the page cache for all three. Processor time counts, beside the clock, where one
core is used: other programs on the machine do not change it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from rich.console import Console
from rich.table import Table

from mammoscope.datasets.collections.scan import Inventory, read_headers
from mammoscope.imaging import Laterality, View
from mammoscope.phantom.dicom import StudyFacts, mammography_object
from mammoscope.phantom.rendering import Field


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=None, help="processes of the last row; all cores by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), arguments.files)
        paths = Inventory.of(Path(folder)).dicom
        bare = Rate.of(lambda: [pydicom.dcmread(path, stop_before_pixels=True) for path in paths], len(paths))
        ours = Rate.of(lambda: read_headers(paths, workers=1), len(paths))
        spread = Rate.of(lambda: read_headers(paths, workers=arguments.workers), len(paths))
        table = Table("headers read", "files/s by the clock", "files/s of one core", "of bare pydicom")
        table.add_row("pydicom.dcmread, one core", f"{bare.clock:.0f}", f"{bare.core:.0f}", "1.00")
        table.add_row("importers, one core", f"{ours.clock:.0f}", f"{ours.core:.0f}", f"{ours.core / bare.core:.2f}")
        table.add_row("importers, all cores", f"{spread.clock:.0f}", "", "")
        Console().print(table)


def write_files(folder: Path, count: int) -> None:
    field = Field(rows=64, columns=48, spacing=0.1)
    pixels = np.zeros((64, 48), np.uint16)
    for number in range(count):
        facts = StudyFacts(seed=number // 4, key=str(number), taken=datetime(2024, 1, 1))
        side, view = (Laterality.LEFT, Laterality.RIGHT)[number % 2], (View.CC, View.MLO)[number // 2 % 2]
        path = folder / f"{number // 1000}" / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        dataset = mammography_object(pixels, field, facts, side, view, number=1)
        dataset.save_as(path, enforce_file_format=True)


class Rate(NamedTuple):
    """Files a second."""

    clock: float
    core: float

    @classmethod
    def of(cls, work: Callable[[], object], files: int) -> "Rate":
        clock, core = time.perf_counter(), time.process_time()
        work()
        return cls(files / (time.perf_counter() - clock), files / (time.process_time() - core))


if __name__ == "__main__":
    main()
