"""Loading: images a second that the training's loader gives, by the number of its workers.

    python benchmarks/loader.py [--recipe recipes/cpu.toml] [--workers 0 1 2] [--seconds 10]

The recipe's input size and augmentation on drawn pictures, through the training's own loader; no data is needed. A GPU
waits if it steps through more images a second than the loader gives. On a busy machine trust the CPU time.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mammoscope.training import Recipe, load_recipe
from mammoscope.training import distributed as processes
from mammoscope.training.data import PreparedSamples, build_loader

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "cpu.toml")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    recipe = load_recipe(arguments.recipe, ("schedule.iterations=1000000",))
    rows, columns = recipe.input.rows, recipe.input.columns
    title = f"{arguments.recipe.name}: {rows} x {columns} pixels, batch {recipe.schedule.batch}, {os.cpu_count()} cores"
    table = Table("workers", "images/s", "images/s a worker", "CPU ms an image", title=title)
    with tempfile.TemporaryDirectory() as folder:
        samples = drawn_samples(Path(folder), rows, columns)
        for workers in arguments.workers:
            run = recipe.run.model_copy(update={"workers": workers})
            pace, cost = measured(recipe.model_copy(update={"run": run}), samples, arguments.seconds)
            alone = f"{1000 * cost:.1f}" if not workers else ""
            table.add_row(str(workers), f"{pace:.0f}", f"{pace / max(workers, 1):.0f}", alone)
    Console().print(table)


def drawn_samples(folder: Path, rows: int, columns: int) -> PreparedSamples:
    """Noise with one box each, mapped from disk as prepared mammograms are."""
    rng = np.random.default_rng(0)
    np.save(folder / "drawn.npy", rng.integers(0, 65536, (IMAGES, rows, columns), dtype=np.uint16))
    box = np.array([[columns / 4, rows / 4, columns / 2, rows / 2]])
    pixels = np.load(folder / "drawn.npy", mmap_mode="r")
    return PreparedSamples(pixels, [box] * IMAGES, [np.array([0])] * IMAGES)


def measured(recipe: Recipe, samples: PreparedSamples, seconds: float) -> tuple[float, float]:
    """(images a second, seconds of CPU an image); the latter is this process's own, so meant for no workers."""
    batches = iter(build_loader(recipe, samples, processes.start(), 0))
    for _ in range(2 * max(recipe.run.workers or 0, 1)):  # until every worker runs
        next(batches)
    given, started, spent = 0, time.monotonic(), time.process_time()
    while time.monotonic() - started < seconds:
        given += len(next(batches)[0])
    return given / (time.monotonic() - started), (time.process_time() - spent) / given


if __name__ == "__main__":
    main()
