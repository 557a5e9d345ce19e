"""How fast the index of a large data set opens, and what `mammoscope dataset show` takes on it.

A synthetic index of a million images (no picture is made) is written once; it is then opened, read whole and shown in a
process of its own each, so that the memory is that of the job alone. Beside it: the same rows through ``json``.

    python benchmarks/index.py --images 1000000
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

OPEN = """
import resource, sys, time
start = time.perf_counter()
from pathlib import Path
from mammoscope.datasets import read_index
index = read_index(Path(sys.argv[1]))
assert index is not None
table = index.table.combine_chunks()
seconds = time.perf_counter() - start
print(table.num_rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

FILTER = """
import resource, sys, time
start = time.perf_counter()
from pathlib import Path
from mammoscope.datasets import read_index
from mammoscope.datasets.where import rows_where
table = read_index(Path(sys.argv[1])).table
chosen = table.filter(rows_where(table, "view == 'MLO' and density >= 3 and 'Mass' in labels"))
seconds = time.perf_counter() - start
print(chosen.num_rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

SHOW = """
import resource, sys, time
start = time.perf_counter()
from mammoscope.cli import app
try:
    app(["dataset", "show", sys.argv[1]])
except SystemExit as end:
    assert not end.code, end.code
seconds = time.perf_counter() - start
print(0, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def synthetic(folder: Path, images: int) -> None:
    """An index as `write_index` makes it, of images that are not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mammoscope.datasets.index import INDEX, made_of
    from mammoscope.datasets.index_schema import FIXED

    rng = np.random.default_rng(0)
    numbers = np.arange(images)
    patients = numbers // 4

    def texts(*names: str) -> pa.Array:
        return pa.array(names).take(pa.array(rng.integers(0, len(names), images)))

    def named(pattern: str, values: np.ndarray) -> pa.Array:
        return pa.array([pattern % value for value in values.tolist()])

    def hashes() -> pa.Array:
        return pa.array([rng.bytes(32).hex() for _ in range(images)])

    n_boxes = rng.integers(0, 3, images)
    ends = pa.array(np.concatenate([[0], np.cumsum(n_boxes)]), pa.int32())
    boxes = int(n_boxes.sum())
    split = pa.array(["train", "val", "test"]).take(pa.array(patients % 3))
    columns = {
        "id": numbers, "file_name": named("%08d/1-1.dcm", numbers), "rows": np.full(images, 3328),
        "columns": np.full(images, 2560), "patient": named("patient-%07d", patients),
        "study": named("study-%07d", patients), "laterality": texts("L", "R"), "view": texts("CC", "MLO"),
        "scanner": texts("ACME One", "ACME Two", "Other"), "spacing_mm": np.full(images, 0.07),
        "density": rng.integers(1, 5, images), "pathology": texts("BENIGN", "MALIGNANT", "NORMAL"), "split": split,
        "fold": rng.integers(1, 6, images), "review": texts("annotated", "validated"), "n_boxes": n_boxes,
        "n_crowds": np.zeros(images),
        "labels": pa.ListArray.from_arrays(ends, pa.array(["Mass", "Calcification"]).take(
            pa.array(rng.integers(0, 2, boxes)))),
        "box_sides": pa.ListArray.from_arrays(ends, pa.array(rng.uniform(2, 20, boxes), pa.float32())),
        "boxes_hash": pa.array([rng.bytes(8).hex() for _ in range(images)]), "origin": named("raw/%08d.dcm", numbers),
        "file_bytes": rng.integers(1 << 20, 1 << 24, images), "file_mtime_ns": rng.integers(0, 1 << 60, images),
        "file_sha256": hashes(), "pixel_sha256": hashes(),
    }  # fmt: skip
    typed = {
        name: columns[name]
        if isinstance(columns[name], pa.Array | pa.ListArray)
        else pa.array(columns[name]).cast(getattr(pa, kind)())
        for name, kind in FIXED.items()
    }
    # opening looks at this file's size and time alone
    (folder / "annotations.json").write_text('{"images": [], "annotations": [], "categories": []}')
    table = pa.table(typed).replace_schema_metadata(made_of(folder, "0" * 64, "0" * 64))
    pq.write_table(table, folder / INDEX, compression="zstd")


def measured(code: str, *arguments: str) -> tuple[int, float, float]:
    """(rows, seconds, MiB at most) of a program of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    rows, seconds, mib = done.stdout.split()[-3:]
    return int(rows), float(seconds), float(mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Write the figures as JSON.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        synthetic(folder, arguments.images)
        size = (folder / "images.parquet").stat().st_size / 2**20
        print(f"{arguments.images} rows written in {time.perf_counter() - start:.1f} s, {size:.0f} MiB on disk")
        print(f"{'job':8} {'best s':>8} {'worst s':>8} {'MiB':>8}")
        figures = {}
        for job, code in (("open", OPEN), ("filter", FILTER), ("show", SHOW)):
            runs = [measured(code, str(folder)) for _ in range(arguments.repeats)]
            seconds, most = sorted(run[1] for run in runs), max(run[2] for run in runs)
            figures[job] = {"best_s": seconds[0], "worst_s": seconds[-1], "mib": most}
            print(f"{job:8} {seconds[0]:8.2f} {seconds[-1]:8.2f} {most:8.0f}")
    print(f"this process, which wrote it: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if arguments.out:
        content = {"images": arguments.images, "cores": os.cpu_count(), "mib_on_disk": size, "jobs": figures}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
