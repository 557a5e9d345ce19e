"""Explanations: are they faithful, and do they depend on what the model has learned?

    python benchmarks/explain.py --dataset data/cbis-test [--bundle B] [--run RUN] [--findings 20] [--checked 5]

The surest finding of each of ``--findings`` images drawn at random. Deletion and insertion (Petsiuk et al. 2018) of
D-RISE, of the gradient method (with ``--run``, which should hold the bundle's weights), and of three maps that ask no
model: a Gaussian in the middle of the finding's box, the picture's edges, smooth noise.

On the first ``--checked`` of them the sanity check (Adebayo et al. 2018): the correlation of each map with that of the
same finding by the same method when the model's weights are shuffled. D-RISE with other masks is the positive control:
a correlation that must be high. Edges are the negative one: a map that fails the check, for it asks no model.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from mammoscope.datasets import load_dataset
from mammoscope.explain import (
    Occlusion,
    correlation,
    drise,
    faithfulness,
    rank_correlation,
    shuffled_bundle,
    similarity_to,
)
from mammoscope.findings import Finding
from mammoscope.imaging import Mammogram, PreparedImage, prepare, read_mammogram
from mammoscope.inference import Detector

Figures = dict[tuple[str, str], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--run", type=Path, default=None)
    parser.add_argument("--findings", type=int, default=20)
    parser.add_argument("--checked", type=int, default=5)
    parser.add_argument("--masks", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    detector = Detector(arguments.bundle, threads=arguments.threads)
    occlusion = Occlusion(masks=arguments.masks)
    figures: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        controls = {
            f"D-RISE, {what} shuffled": shuffled_bundle(detector.bundle, Path(folder) / f"{number}.onnx", only=only)
            for number, (what, only) in enumerate((("head", "head"), ("all weights", "")))
        }
        for number, (mammogram, finding) in enumerate(findings(detector, arguments.dataset, arguments.findings)):
            prepared = prepare(mammogram, detector.bundle.metadata.input.preprocessing)
            (explained,) = drise(detector.bundle, mammogram, [finding], occlusion)
            maps = {"D-RISE": explained.values} | baselines(prepared, finding)
            figures["agreement", "D-RISE"].append(explained.agreement or 0.0)
            checks: dict[str, tuple[np.ndarray, np.ndarray]] = {}
            if number < arguments.checked:
                other = replace(occlusion, seed=1)
                again = drise(detector.bundle, mammogram, [finding], other)[0].values
                checks["D-RISE, other masks (same model)"] = (explained.values, again)
                for name, bundle in controls.items():
                    checks[name] = (explained.values, drise(bundle, mammogram, [finding], other)[0].values)
                checks["edges, all weights shuffled"] = (maps["edges"], baselines(prepared, finding)["edges"])
            if arguments.run is not None:
                maps["gradient"], shuffled = by_gradient(
                    arguments.run, mammogram, finding, shuffle=number < arguments.checked
                )
                checks |= {name: (maps["gradient"], values) for name, values in shuffled.items()}
            measure(figures, maps, prepared, similarity_to(detector.bundle, [finding], prepared.placement))
            for name, pair in checks.items():
                figures["correlation", name].append(correlation(*pair))
                figures["rank correlation", name].append(rank_correlation(*pair))
            report_line(number, mammogram, finding, figures)
    print_tables(figures)


def findings(detector: Detector, dataset: Path, wanted: int) -> Iterator[tuple[Mammogram, Finding]]:
    """The surest finding of that many images with one at the operating point, in random order."""
    images = load_dataset(dataset).images
    for number in np.random.default_rng(0).permutation(len(images)):
        mammogram = read_mammogram(images[number].path)
        found = detector.read(mammogram).findings
        if found and wanted > 0:
            yield mammogram, found[0]
            wanted -= 1
        if wanted == 0:
            return


def baselines(prepared: PreparedImage, finding: Finding) -> dict[str, np.ndarray]:
    """Maps that ask no model."""
    rows, columns = prepared.pixels.shape
    x0, y0, x1, y1 = prepared.placement.to_picture(np.array([finding.box.as_tuple()]))[0]
    y, x = np.mgrid[:rows, :columns] + 0.5
    away = ((x - (x0 + x1) / 2) / ((x1 - x0) / 4)) ** 2 + ((y - (y0 + y1) / 2) / ((y1 - y0) / 4)) ** 2
    smooth = cv2.GaussianBlur(prepared.pixels, (0, 0), 2)
    edges = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(rows, columns)), (0, 0), columns / 20)
    # Ranked by distance, not by a Gaussian's value: far away that is 0 throughout.
    return {"Gaussian in the box": -away, "edges": edges, "smooth noise": noise}


def by_gradient(
    run: Path, mammogram: Mammogram, finding: Finding, *, shuffle: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The gradient method's map, and those with shuffled weights."""
    from mammoscope.detectors import Part, gradient_maps, shuffled
    from mammoscope.training import RunFolder, trained_detector

    folder = RunFolder(run)
    detector, geometry = trained_detector(folder), folder.recipe().input.geometry

    def values(detector: object) -> np.ndarray:
        return gradient_maps(detector, geometry, mammogram, [finding])[0].values

    parts: Sequence[Part] = tuple(Part) if shuffle else ()
    return values(detector), {f"gradient, {part} shuffled": values(shuffled(detector, part)) for part in parts}


def measure(figures: Figures, maps: dict[str, np.ndarray], prepared: PreparedImage, similarity: object) -> None:
    for name, values in maps.items():
        measured = faithfulness(values, prepared.pixels, similarity)
        figures["deletion", name].append(measured.deletion)
        figures["insertion", name].append(measured.insertion)


def report_line(number: int, mammogram: Mammogram, finding: Finding, figures: Figures) -> None:
    latest = ", ".join(f"{' '.join(key)} {values[-1]:.2f}" for key, values in figures.items())
    print(f"{number + 1} {mammogram.name} {finding.score:.2f}: {latest}", flush=True)


def print_tables(figures: Figures) -> None:
    console = Console(width=120)
    agreement = figures["agreement", "D-RISE"]
    console.print(f"D-RISE's agreement: mean {np.mean(agreement):.2f}, lowest {min(agreement):.2f}")
    for kinds in (("deletion", "insertion"), ("correlation", "rank correlation")):
        names = [name for kind, name in figures if kind == kinds[0]]
        table = Table("map", *(f"{kind}, mean (lowest to highest)" for kind in kinds), "findings")
        for name in names:
            cells = [figures[kind, name] for kind in kinds]
            table.add_row(
                name, *(f"{np.mean(c):.3f} ({min(c):.2f} to {max(c):.2f})" for c in cells), str(len(cells[0]))
            )
        console.print(table)


if __name__ == "__main__":
    main()
