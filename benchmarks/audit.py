"""How fast the audit's pixel pass is, by processes, and what its checks then take.

Phantoms are drawn once at the size of a mammogram and linked under many names; with --dataset, the images of a data
set's folder are measured instead (nothing is left in it but its cache). On a busy machine compare rows of one run only.

    python benchmarks/audit.py [--images 96] [--dataset DIR]
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from mammoscope.datasets.audit.checks import CHECKS
from mammoscope.datasets.audit.measures import ImageFile, measure_files
from mammoscope.datasets.audit.subject import audited, read_entries
from mammoscope.imaging import MammogramReader
from mammoscope.phantom import screening_study

ROWS, COLUMNS = 2048, 1536


def drawn(folder: Path, images: int) -> None:
    """A data set's folder of ``images`` names for the files of three synthetic studies."""
    (folder / "images").mkdir(parents=True)
    files = [
        path for seed in range(3) for path in screening_study(seed, rows=ROWS, columns=COLUMNS).save(folder / f"{seed}")
    ]
    entries = []
    for number in range(images):
        name = f"{number:05d}.dcm"
        (folder / "images" / name).hardlink_to(files[number % len(files)])
        entries.append({"id": number, "file_name": name, "height": ROWS, "width": COLUMNS, "patient_id": str(number)})
    content = {"images": entries, "annotations": [], "categories": []}
    (folder / "annotations.json").write_text(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--out", type=Path, help="Write the figures as JSON.")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.dataset or Path(scratch) / "set"
        if arguments.dataset is None:
            drawn(folder, arguments.images)
        entries = read_entries(folder)
        files = [ImageFile(n, str(e["file_name"]), entries.path_of(n)) for n, e in entries.images.items()]
        print(f"{len(files)} images; load {os.getloadavg()[0]:.1f} on {cores} cores")
        rates = {}
        for jobs in sorted({1, cores}):
            with MammogramReader(jobs) as reader:
                measure_files(folder, files[:jobs], jobs=jobs, reader=reader)  # the processes have started
                start = time.perf_counter()
                measures = measure_files(folder, files, jobs=jobs, reader=reader)
                rates[jobs] = len(files) / (time.perf_counter() - start)
            print(f"pixel pass, {jobs} processes: {rates[jobs]:.1f} images/s")
        start = time.perf_counter()
        measure_files(folder, files, resume=True)
        resumed = len(files) / (time.perf_counter() - start)
        print(f"resumed, nothing changed: {resumed:.0f} images/s")
        dataset = audited(entries, measures)
        start = time.perf_counter()
        cases = sum(1 for check in CHECKS for _ in check.look(dataset))
        checking = time.perf_counter() - start
        print(f"all checks: {checking:.2f} s, {cases} cases")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the auditing process: {peak:.0f} MiB")
    if arguments.out:
        figures = {"images": len(files), "images_per_second": rates, "resumed": resumed, "checks_s": checking}
        arguments.out.write_text(json.dumps({**figures, "peak_mib": peak, "cores": cores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
