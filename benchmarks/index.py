"""How fast the index of a large data set opens, and what `mammoscope dataset show` takes on it.

A synthetic index of a million images (no picture is made) is written once; it is then opened, read whole and shown in a
process of its own each, so that time and memory are those of the job alone. On a busy machine trust the CPU time.

    python benchmarks/index.py [--images 1000000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

PROGRAM = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from mammoscope.datasets import read_index
imported = time.perf_counter()
{job}
status = Path("/proc/self/status").read_text()  # its peak is this program's own; getrusage begins with the parent's
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(imported - start, time.perf_counter() - imported, time.process_time(), peak / 1024)
"""
JOBS = {
    "open": "table = read_index(Path(sys.argv[1])).table\nassert table.num_rows == int(sys.argv[2])",
    "filter": """
from mammoscope.datasets.query import rows_where
table = read_index(Path(sys.argv[1])).table
chosen = table.filter(rows_where(table, "view == 'MLO' and density >= 3 and 'Mass' in labels"))
assert chosen.num_rows
""",
    "show": """
from mammoscope.cli import app
try:
    app(["dataset", "show", sys.argv[1]])
except SystemExit as end:
    assert not end.code, end.code
""",
}


def synthetic(folder: Path, images: int) -> None:
    """An index as `write_index` makes it, of images that are not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mammoscope.datasets.index import FIXED, INDEX, made_of

    rng = np.random.default_rng(0)
    numbers = np.arange(images)
    patients = numbers // 4

    def texts(*names: str) -> pa.Array:
        return pa.array(names).take(pa.array(rng.integers(0, len(names), images)))

    def named(pattern: str, values: np.ndarray) -> pa.Array:
        return pa.array([pattern % value for value in values.tolist()])

    def hashes(signs: int = 64) -> pa.Array:
        text = rng.bytes(images * signs // 2).hex()
        return pa.array([text[n : n + signs] for n in range(0, len(text), signs)])

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
        "boxes_hash": hashes(16), "origin": named("raw/%08d.dcm", numbers),
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


def measured(job: str, *arguments: str) -> dict[str, float]:
    """Seconds of importing and of the job, CPU seconds of both, and the most memory, of a program of its own."""
    code = PROGRAM.format(job=JOBS[job])
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    names = ("import_s", "job_s", "cpu_s", "peak_mib")
    return dict(zip(names, map(float, done.stdout.split()[-4:]), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Keep the index there, and use the one that is.")
    parser.add_argument("--out", type=Path, help="Write the figures as JSON.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        if not (folder / "images.parquet").is_file():
            synthetic(folder, arguments.images)
        size = (folder / "images.parquet").stat().st_size / 2**20
        print(f"{arguments.images} images, {size:.0f} MiB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{'job':8}{'import s':>10}{'job s':>10}{'CPU s':>10}{'peak MiB':>10}   (median of {arguments.repeats})")
        figures = {}
        for job in JOBS:
            runs = [measured(job, str(folder), str(arguments.images)) for _ in range(arguments.repeats)]
            figures[job] = {name: median(run[name] for run in runs) for name in runs[0]}
            print(f"{job:8}" + "".join(f"{value:10.2f}" for value in figures[job].values()))
    if arguments.out:
        content = {"images": arguments.images, "cores": os.cpu_count(), "mib_on_disk": size, "jobs": figures}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
