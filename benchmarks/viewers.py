"""What viewers show of each kind of result, in each kind of case: the tables and pictures of docs/results-objects.md.

    python benchmarks/viewers.py --kept FOLDER [--viewer "OHIF 3.13.2" ...] [--case some ...]
    python benchmarks/viewers.py --kept FOLDER --write docs/results-objects.md --pictures docs/images/viewers

Every object is opened in viewers as a reader opens it, in Chromium without an accelerator, and the screen is measured:
how far each mark lies from where it should be, and how far the greys are off. Beside it the same objects go through
DCMTK, PixelMed, Orthanc, highdicom and Cornerstone's adapters in node.js. Each cell of the tables is kept in the folder
as soon as it is measured, with its screens, and measured again only if the objects of its case have changed: a run that
is ended goes on where it was, and runs beside each other may measure a viewer each. It needs what the tests of viewers
need (Orthanc with DICOMweb, DCMTK, libpixelmed-java, chromium, node and npm) and Debian's orthanc-webviewer; OHIF and
dwv are fetched once.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "viewers"))

import viewer_screens as screens  # noqa: E402
import viewer_servers  # noqa: E402
from viewer_cases import CASES, Case, make_case  # noqa: E402
from viewer_programs import programs  # noqa: E402

from mammoscope.settings import ResultKind  # noqa: E402

PROGRAMS = "elsewhere"
KINDS = (screens.MAMMOGRAM, *screens.SERIES)
OF_OHIF = (screens.MAMMOGRAM, screens.DECLINED, *screens.SERIES)
BEGIN, END = "<!-- made by benchmarks/viewers.py: begin -->", "<!-- made by benchmarks/viewers.py: end -->"
SHOWN_WIDTH = 900
TO_PUBLISH = {
    ("OHIF 3.12.10", "some", str(ResultKind.COLOUR_SHEET)): "ohif-colour-sheet.png",
    ("OHIF 3.12.10", "some", screens.DECLINED): "ohif-ai-sr-declined.png",
    ("dwv 0.36.4", "some", str(ResultKind.AI_SR)): "dwv-ai-sr.png",
}
"""The screens that the page shows, by viewer, case and kind."""


class Kept:
    """Cells that were measured, by viewer, case and kind, each with a digest of the objects it is about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cells: dict[str, dict[str, dict[str, str]]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, viewer: str, case: Case, kind: str) -> str | None:
        """What was measured of these very objects."""
        cell = self._of(viewer).get(f"{case.name}, {kind}")
        return cell["says"] if cell and cell["of"] == _digest(case) else None

    def says(self, viewer: str, case: str, kind: str) -> str:
        """What was last measured; empty where nothing was."""
        return self._of(viewer).get(f"{case}, {kind}", {"says": ""})["says"]

    def put(self, viewer: str, case: Case, kind: str, says: str) -> None:
        """Keep a cell; a run that ends in the middle of it leaves the cells before."""
        cells = self._of(viewer)
        cells[f"{case.name}, {kind}"] = {"says": says, "of": _digest(case)}
        part = self._file(viewer).with_suffix(".part")
        part.write_text(json.dumps(cells, indent=1, ensure_ascii=False))
        part.replace(self._file(viewer))
        print(f"{viewer}, {case.name}, {kind}: {says}", flush=True)

    def _of(self, viewer: str) -> dict[str, dict[str, str]]:
        if viewer not in self._cells:
            file = self._file(viewer)
            self._cells[viewer] = json.loads(file.read_text()) if file.is_file() else {}
        return self._cells[viewer]

    def _file(self, viewer: str) -> Path:
        return self.folder / f"{viewer}.json"

    def screen(self, viewer: str, case: str, kind: str, number: int = 0) -> Path:
        """Where a screen of a cell is kept."""
        return self.folder / f"{viewer}-{case}-{kind}-{number}.png".replace(" ", "-").replace("'", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=Path, required=True, help="the folder that cells and their screens are kept in")
    parser.add_argument("--viewer", nargs="*", default=None, help="only these, as the tables name them")
    parser.add_argument("--case", nargs="*", default=CASES, choices=CASES)
    parser.add_argument("--pictures", type=Path, default=None, help="where the screens go that the page shows")
    parser.add_argument("--write", type=Path, default=None, help="the page whose tables are replaced")
    parser.add_argument("--as-kept", action="store_true", help="measure nothing: write what is in the folder")
    parser.add_argument("--port", type=int, default=18042)
    chosen = parser.parse_args()
    kept = Kept(chosen.kept)
    if not chosen.as_kept:
        _measure(kept, chosen.case, chosen.viewer, chosen.port)
    if chosen.write is not None:
        nowhere = viewer_servers.Archive("")
        named = {viewer: kinds for viewer, (_, kinds) in _viewers(nowhere, 0).items()}
        named[PROGRAMS] = tuple(programs(nowhere, Path()))
        _write(chosen.write, "\n\n".join(_tables(kept, chosen.case, named)))
    if chosen.pictures is not None:
        for cell, file in TO_PUBLISH.items():
            if (screen := kept.screen(*cell)).is_file():
                _publish(screen, chosen.pictures / file)


def _measure(kept: Kept, names: Sequence[str], chosen: Sequence[str] | None, port: int) -> None:
    """Fill in the cells that are not there yet, or are about other objects."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [make_case(case, folder / case.replace(" ", "-")) for case in names]
        plugins = (viewer_servers.ORTHANC_PLUGIN, viewer_servers.ORTHANC_WEB_VIEWER)
        with viewer_servers.orthanc(folder / "archive", port, port + 1, plugins) as archive:
            for case in cases:
                archive.store(case.files)
            for viewer, (start, kinds) in _viewers(archive, port + 2).items():
                if chosen is None or viewer in chosen:
                    _look(viewer, start, kinds, cases, kept)
            for case in cases if chosen is None or PROGRAMS in chosen else ():
                for said, of_case in programs(archive, folder).items():
                    if kept.get(PROGRAMS, case, said) is None:
                        kept.put(PROGRAMS, case, said, of_case(case))


def _viewers(
    archive: viewer_servers.Archive, port: int
) -> dict[str, tuple[Callable[[], AbstractContextManager[screens.Viewer]], Sequence[str]]]:
    """How each is started, and what it is asked to show."""
    return {
        "OHIF 3.12.10": (lambda: screens.ohif("3.12.10", archive, port), OF_OHIF),
        "OHIF 3.13.2": (lambda: screens.ohif("3.13.2", archive, port + 1), OF_OHIF),
        "dwv 0.36.4": (lambda: screens.dwv(port + 2), KINDS),
        "Orthanc's web viewer 2.8": (lambda: screens.orthanc_web_viewer(archive), KINDS),
    }


def _look(
    name: str,
    start: Callable[[], AbstractContextManager[screens.Viewer]],
    kinds: Sequence[str],
    cases: Sequence[Case],
    kept: Kept,
) -> None:
    """Measure the cells that are not there yet, with a browser of its own for each case and after each accident."""
    for case in cases:
        while missing := [kind for kind in kinds if kept.get(name, case, kind) is None]:
            with start() as viewer:
                for kind in missing:
                    try:
                        looks = viewer.looks(case, kind)
                    except Exception as error:
                        kept.put(name, case, kind, f"the page ends ({type(error).__name__})")
                        break
                    for number, look in enumerate(() if isinstance(looks, str) else looks):
                        Image.fromarray(look.screen).save(kept.screen(name, case.name, kind, number))
                    kept.put(name, case, kind, screens.judged(case, kind, looks))


def _digest(case: Case) -> str:
    total = hashlib.sha256()
    for file in case.files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


def _tables(kept: Kept, cases: Sequence[str], viewers: dict[str, Sequence[str]]) -> Iterator[str]:
    """For each viewer: kinds down, cases across."""
    for viewer, kinds in viewers.items():
        rows = [[kind, *(kept.says(viewer, case, kind) for case in cases)] for kind in kinds]
        head = [viewer if viewer == PROGRAMS else f"in {viewer}", *cases]
        yield "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _write(page: Path, tables: str) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def _publish(screen: Path, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(screen)
    picture.thumbnail((SHOWN_WIDTH, SHOWN_WIDTH))
    picture.quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
