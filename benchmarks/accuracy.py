"""Accuracy: a bundle on the official CBIS-DDSM test split, through the commands a user has for it.

    python benchmarks/accuracy.py [--bundle B] [--out FOLDER] [--publish FOLDER [--run RUN]] [--shared ../shared]

Prints each figure with its 95 % bootstrap interval over patients. The operating point is the bundle's, chosen on
validation; nothing is chosen here. With --out, the report (a picture of each case among it) is kept. With --publish,
the figures, the table and the page without images are written into that folder and the model card to ``model.md``
beside it: ``--publish docs/results`` makes what the documentation shows of the shipped model.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = (
    "CBIS-DDSM, mass cases, official test split. R. S. Lee, F. Gimenez, A. Hoogi, K. K. Miyake, M. Gorovoy, D. L. "
    "Rubin: A curated mammography data set for use in computer-aided detection and diagnosis research. Scientific "
    "Data 4, 170177 (2017); The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY"
)
ATTRIBUTES = ("size", "view", "laterality", "density", "pathology", "margins", "subtlety")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--publish", type=Path, default=None)
    parser.add_argument("--run", type=Path, default=None, help="the bundle's run, for its curves and recipe")
    default = Path(os.environ.get("MAMMOSCOPE_SHARED") or ROOT.parent / "shared")
    parser.add_argument("--shared", type=Path, default=default)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        dataset, report = Path(folder) / "cbis-test", arguments.out or Path(folder) / "report"
        cbis = arguments.shared / "data" / "cbis-ddsm"
        mammoscope(
            *("dataset", "import", "coco", "--annotations", cbis / "test.json", "--images", cbis / "test"),
            *("--native-sizes", cbis / "native_size_estimate.csv", "--out", dataset),
            *("--cases", cbis / "csv" / "mass_case_description_test_set.csv"),
        )
        bundle = () if arguments.bundle is None else ("--bundle", arguments.bundle)
        mammoscope(
            *("evaluate", *bundle, "--dataset", dataset, "--out", report, "--source", SOURCE, "--licence", "CC BY 3.0"),
            *(option for name in ATTRIBUTES for option in ("--by", name)),
            *(("--pictures", "none") if arguments.out is None else ()),
        )
        if arguments.publish is not None:
            publish(report, arguments.publish, bundle, () if arguments.run is None else ("--run", arguments.run))


def publish(report: Path, folder: Path, bundle: tuple[object, ...], run: tuple[object, ...]) -> None:
    """The files of ``docs/results`` and the model card beside it: nothing in them shows a patient."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_bytes((report / "metrics.json").read_bytes())
    for curve in ("froc", "precision_recall"):
        (folder / f"{curve}.svg").write_bytes((report / f"{curve}.svg").read_bytes())
    (folder / "table.md").write_text(mammoscope("compare", report, "--format", "markdown", keep=True), encoding="utf-8")
    mammoscope("report", report, "--gallery", 0, "--out", folder / "report.html", "--force", *run)
    known = (("--speed", folder / "latency.json"), ("--caveats", folder / "caveats.md"))
    extra = [part for option, file in known if file.is_file() for part in (option, file)]
    mammoscope("model-card", folder, *bundle, *run, *extra, "--out", folder.parent / "model.md", "--force")


def mammoscope(*arguments: object, keep: bool = False) -> str:
    """Run a command, or (``keep``) give what it prints."""
    command = [sys.executable, "-m", "mammoscope", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE if keep else None, text=True)
    return done.stdout or ""


if __name__ == "__main__":
    main()
