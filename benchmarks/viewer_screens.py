"""Viewers that show studies on a screen, each driven as its readers drive it: OHIF, dwv, Orthanc's own web viewer.

A viewer gives looks at its screen, a sentence where there is nothing to look at; `judged` measures them all alike.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import httpx
import numpy as np
import viewer_marks as marks
import viewer_ohif
import viewer_servers
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as Expired
from viewer_cases import Case

from mammoscope.findings import Box
from mammoscope.results import ReadMammogram, Result
from mammoscope.settings import ResultKind

MAMMOGRAM = "mammogram"
"""What is shown before any result is: the images themselves."""
DECLINED = "ai-sr, no measurements made"
"""What a reader of OHIF sees of the report who answers its question with no, and then moves the picture a little."""
SERIES = {
    ResultKind.AI_SR: 9005, ResultKind.CAD_SR: 9001, ResultKind.PRESENTATION_STATE: 9002, ResultKind.SHEET: 9003,
    ResultKind.COLOUR_SHEET: 9006, ResultKind.IMAGE_CAPTURE: 9007, ResultKind.COLOUR_IMAGE_CAPTURE: 9008,
    ResultKind.SEGMENTATION: 9009,
}  # fmt: skip
PICTURES = {ResultKind.SHEET, ResultKind.COLOUR_SHEET, ResultKind.IMAGE_CAPTURE, ResultKind.COLOUR_IMAGE_CAPTURE}
IN_COLOUR = {
    ResultKind.SHEET: ResultKind.COLOUR_SHEET, ResultKind.IMAGE_CAPTURE: ResultKind.COLOUR_IMAGE_CAPTURE,
}  # fmt: skip
PIXELS = 5
GREYS = 6.0
NOT_SHOWN = "not shown"
_DWV = Path(__file__).resolve().parent / "dwv"
_PATIENT_MILLISECONDS = 60_000


@dataclass(frozen=True)
class Look:
    """One image on the screen.

    Parameters
    ----------
    image
        SOP Instance UID of what is shown: a mammogram, or a result that is a picture.
    screen
        Shape (rows, columns, 3), ``uint8``, RGB.
    place
        Where on it the whole image lies.
    """

    image: str
    screen: NDArray[np.uint8]
    place: Box


class Viewer(Protocol):
    """Opens what a study has of one kind."""

    def looks(self, case: Case, kind: str) -> list[Look] | str:
        """At each image or mammogram that there is to be seen, or in a few words why there is none."""
        ...


def judged(case: Case, kind: str, looks: list[Look] | str) -> str:
    """What the looks come to: ``right`` or ``wrong`` with what was measured, or why nothing is to be seen."""
    if isinstance(looks, str):
        return looks
    offsets: list[float] = []
    greys: list[float] = []
    missing = due = 0
    for look in looks:
        picture, boxes, drawn = _expected(case, kind, look.image)
        greys.append(marks.greys_off_by(look.screen, look.place, picture))
        for box in boxes:
            due += 1
            off = _off_by(look, picture, marks.on_screen(box, look.place, *picture.shape[:2]), drawn)
            offsets += [] if off is None else [off]
            missing += off is None
    if due and missing == due:
        return f"{NOT_SHOWN}, greys {max(greys):.1f}"
    if not due and kind not in (MAMMOGRAM, *PICTURES):
        return f"nothing to draw, greys {max(greys):.1f}"
    words = [f"{due} marks to {max(offsets):.0f} px"] if offsets else ["no mark due"] if not due else []
    words += [f"{missing} of {due} marks not found"] if missing else []
    words += [f"greys {max(greys):.1f}"]
    right = not missing and max(offsets, default=0) <= PIXELS and max(greys) < GREYS
    return f"{'right' if right else 'wrong'}: {', '.join(words)}"


def _expected(case: Case, kind: str, uid: str) -> tuple[NDArray[np.uint8], list[Box], NDArray[np.uint8] | None]:
    """What should be seen, the marks over it or in it, and of a grey result where it was drawn into."""
    for image in case.images:
        if image.sop_instance_uid == uid:
            boxes = [] if kind == MAMMOGRAM else [finding.box for finding in image.reading.findings]
            return (image.mammogram.pixels >> 8).astype(np.uint8), boxes, None
    [result] = [one for one in case.results if one.reference.sop_instance == uid]
    if result.kind is ResultKind.SEGMENTATION:
        masks = result.dataset.pixel_array.reshape(-1, result.dataset.Rows, result.dataset.Columns)
        return masks[0] * np.uint8(255), [], None
    coloured = result
    if result.kind in IN_COLOUR:
        others = case.of(IN_COLOUR[result.kind])
        [coloured] = [other for other in others if other.reference.images == result.reference.images]
    picture, twin = result.dataset.pixel_array, coloured.dataset.pixel_array
    return picture, marks.burned_in(twin), marks.in_our_colour(twin) if picture.ndim == 2 else None


def _off_by(look: Look, picture: NDArray[np.uint8], box: Box, drawn: NDArray[np.uint8] | None) -> float | None:
    """How far a mark lies from where it should be, in pixels of the screen; ``None`` where it is not found.

    A white mark is found by what is around it, and by the difference that its lines make: beside bright tissue they
    are told from nothing else.
    """
    if drawn is None:
        found = marks.offsets(marks.colour(look.screen), box)
        return None if marks.NOT_THERE in found else max(map(abs, found))
    right, down, _ = marks.shifted_by(look.screen, look.place, picture, box)
    is_there = marks.likeness_of_lines(look.screen, look.place, picture, drawn, box) > marks.LEAST_LIKENESS
    return max(abs(right), abs(down)) if is_there else None


class Ohif:
    """OHIF, a study opened once and its series double-clicked one after the other."""

    def __init__(self, viewer: viewer_ohif.Viewer) -> None:
        self._viewer = viewer
        self._open: str | None = None

    def looks(self, case: Case, kind: str) -> list[Look] | str:
        """As `Viewer.looks`. A study is opened anew after anything that may hang the page or leave marks on it."""
        if self._open != case.study or kind in (DECLINED, ResultKind.AI_SR):
            self._viewer.open(case.study)
            self._open = case.study
        if kind == MAMMOGRAM:
            return [self._mammogram(case, image) for image in case.images]
        results = case.of(ResultKind.AI_SR if kind == DECLINED else ResultKind(kind))
        if not results:
            return "none made"
        if kind in (DECLINED, ResultKind.AI_SR):
            self._open = None
            return self._report(case, "No" if kind == DECLINED else "Yes")
        return self._pictures(results) if kind in PICTURES else self._other(ResultKind(kind))

    def _mammogram(self, case: Case, image: ReadMammogram) -> Look:
        self._viewer.series(case.images.index(image) + 1)
        return self._look(image.mammogram.rows, image.mammogram.columns)

    def _look(self, rows: int, columns: int) -> Look:
        shown = self._viewer.look()
        return Look(shown.image or "", shown.screen, shown.place(rows, columns))

    def _pictures(self, results: Sequence[Result]) -> list[Look] | str:
        if not self._viewer.series(SERIES[results[0].kind]):
            return "not listed"
        looks: dict[str, Look] = {}
        for number in range(len(results)):
            if number:
                self._viewer.next_image()
            shown = self._viewer.look()
            of_it = [one for one in results if one.reference.sop_instance == shown.image]
            if not of_it:
                return NOT_SHOWN
            dataset = of_it[0].dataset
            looks[shown.image or ""] = Look(shown.image or "", shown.screen, shown.place(dataset.Rows, dataset.Columns))
        return list(looks.values()) if len(looks) == len(results) else f"{len(looks)} of {len(results)} shown"

    def _report(self, case: Case, answer: str) -> list[Look] | str:
        if not self._viewer.series(SERIES[ResultKind.AI_SR]):
            return "not listed"
        asked = self._viewer.answer(answer)
        shown = self._viewer.look()
        if shown.pane is None or not shown.image:
            return "black"
        found = [image for image in case.images if image.reading.findings]
        if found and not asked:
            return "does not ask"
        if not found or answer == "No":
            if found:
                # OHIF has the boxes by now and draws them with what it draws next: when the picture is moved.
                self._viewer.move_picture()
                self._viewer.wait_for_marks(nudge=False)
            of_it = [one for one in case.images if one.sop_instance_uid == self._viewer.look().image]
            return [self._look(one.mammogram.rows, one.mammogram.columns) for one in of_it] or NOT_SHOWN
        looks = []
        for image in found:
            self._viewer.wait_for_marks()
            looks.append(self._mammogram(case, image))
        return looks

    def _other(self, kind: ResultKind) -> str:
        before = self._viewer.look()
        if not self._viewer.series(SERIES[kind], changes=False):
            return "not listed"
        shown = self._viewer.look()
        self._open = None
        if shown.pane is None:
            return "not shown, the pane hangs" if shown.text.strip() else "the page ends"
        return NOT_SHOWN if shown.image == before.image else "something is shown"


@contextmanager
def ohif(version: str, archive: viewer_servers.Archive, port: int) -> Iterator[Viewer]:
    """A version of OHIF in a browser of its own."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is not installed"
    folder = viewer_ohif.ohif(npm, version)
    with (
        viewer_servers.web_origin(folder, viewer_ohif.CONFIG, archive, port) as origin,
        viewer_ohif.browser(origin) as viewer,
    ):
        yield Ohif(viewer)


class Dwv:
    """dwv, which is given an image and what lies over it, both as files."""

    def __init__(self, page: Page, origin: str, folder: Path) -> None:
        self._page, self._origin, self._folder = page, origin, folder

    def looks(self, case: Case, kind: str) -> list[Look] | str:
        """As `Viewer.looks`."""
        files = {image.sop_instance_uid: file for image, file in zip(case.images, case.files, strict=False)}
        sizes = {image.sop_instance_uid: (image.mammogram.rows, image.mammogram.columns) for image in case.images}
        if kind == MAMMOGRAM:
            return self._all([(uid, sizes[uid], [file]) for uid, file in files.items()])
        results = [(r, f) for r, f in zip(case.results, case.files[len(case.images) :], strict=True) if r.kind == kind]
        if not results:
            return "none made"
        if kind in PICTURES:
            return self._all([(r.reference.sop_instance, (r.dataset.Rows, r.dataset.Columns), [f]) for r, f in results])
        wanted = [i.sop_instance_uid for i in case.images if i.reading.findings] or list(files)[:1]
        over = {uid: [file for result, file in results if uid in result.reference.images] for uid in wanted}
        return self._all([(uid, sizes[uid], [files[uid], *over[uid]]) for uid in wanted])

    def _all(self, wanted: Sequence[tuple[str, tuple[int, int], list[Path]]]) -> list[Look] | str:
        looks = []
        for uid, size, files in wanted:
            names = []
            for number, file in enumerate(files):
                names.append(f"{number}.dcm")
                shutil.copy(file, self._folder / names[-1])
            self._page.goto(f"{self._origin}/index.html")
            self._page.wait_for_function("() => window.show")
            said = self._page.evaluate("(files) => window.show(files)", names)
            self._page.wait_for_timeout(500)
            place = self._page.evaluate("(size) => window.place(...size)", list(size))
            if place is None:
                return NOT_SHOWN
            if problem := next(filter(None, said), None):
                return f"{NOT_SHOWN} ({problem})"
            looks.append(Look(uid, _screen(self._page), Box(*place)))
        return looks


@contextmanager
def dwv(port: int) -> Iterator[Viewer]:
    """dwv in a browser, fetched from the registry that npm knows and bundled, once; it is part of nothing of ours."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is not installed"
    with tempfile.TemporaryDirectory() as name, _page() as page:
        folder = Path(name)
        shutil.copytree(_DWV, folder, dirs_exist_ok=True)
        shutil.copy(_dwv_bundle(npm), folder / "dwv.mjs")
        archive = viewer_servers.Archive("http://127.0.0.1:9")  # it asks none
        with viewer_servers.web_origin(folder, "", archive, port) as origin:
            yield Dwv(page, origin, folder)


def _dwv_bundle(npm: str) -> Path:
    version = json.loads((_DWV / "package.json").read_text())["dependencies"]["dwv"]
    file = viewer_ohif.cache() / f"dwv-{version}.mjs"
    parts = (_DWV / part for part in ("package.json", "package-lock.json"))
    return viewer_ohif.bundled(npm, parts, "node_modules/dwv/dist/dwv.min.js", "browser", file)


_ORTHANC_PLACE = """() => {
  const shown = window.cornerstone && window.cornerstone.getEnabledElements()[0];
  if (!shown || !shown.image) return null;
  const pane = shown.element.getBoundingClientRect();
  const corner = (x, y) => window.cornerstone.pixelToCanvas(shown.element, { x, y });
  const [first, last] = [corner(0, 0), corner(shown.image.columns, shown.image.rows)];
  return [shown.image.imageId, pane.x + first.x, pane.y + first.y, pane.x + last.x, pane.y + last.y];
}"""


class OrthancWebViewer:
    """Orthanc's own web viewer, which opens a series."""

    def __init__(self, page: Page, archive: viewer_servers.Archive) -> None:
        self._page, self._archive = page, archive

    def looks(self, case: Case, kind: str) -> list[Look] | str:
        """As `Viewer.looks`."""
        if kind == MAMMOGRAM:
            wanted = [image.sop_instance_uid for image in case.images]
        else:
            wanted = [result.reference.sop_instance for result in case.of(ResultKind(kind))]
        if not wanted:
            return "none made"
        looks: dict[str, Look] = {}
        for series in self._series(wanted):
            self._page.goto(f"{self._archive.rest}/web-viewer/app/viewer.html?series={series}")
            with contextlib.suppress(Expired):
                self._page.wait_for_function(_ORTHANC_PLACE, timeout=10_000)
            for number in range(self._count(series)):
                if number:
                    self._page.mouse.move(700, 450)
                    self._page.mouse.wheel(0, 100)
                self._page.wait_for_timeout(2500)  # a finer picture follows the first
                if (place := self._page.evaluate(_ORTHANC_PLACE)) is None:
                    return NOT_SHOWN
                if kind == ResultKind.SEGMENTATION:
                    return "masks alone, without the mammogram"
                uid = self._instance(place[0])
                looks[uid] = Look(uid, _screen(self._page), Box(*place[1:]))
        return list(looks.values()) if len(looks) == len(wanted) else f"{len(looks)} of {len(wanted)} shown"

    def _series(self, uids: Sequence[str]) -> list[str]:
        found = []
        for uid in uids:
            [one] = httpx.post(f"{self._archive.rest}/tools/lookup", content=uid).json()
            found.append(httpx.get(f"{self._archive.rest}/instances/{one['ID']}").json()["ParentSeries"])
        return list(dict.fromkeys(found))

    def _count(self, series: str) -> int:
        return len(httpx.get(f"{self._archive.rest}/series/{series}").json()["Instances"])

    def _instance(self, image: str) -> str:
        of_it = httpx.get(f"{self._archive.rest}/instances/{image.partition('_')[0]}").json()
        return str(of_it["MainDicomTags"]["SOPInstanceUID"])


@contextmanager
def orthanc_web_viewer(archive: viewer_servers.Archive) -> Iterator[Viewer]:
    """Orthanc's web viewer, of an Orthanc that has the plugin."""
    with _page() as page:
        yield OrthancWebViewer(page, archive)


@contextmanager
def _page() -> Iterator[Page]:
    chromium = next(filter(None, map(shutil.which, viewer_ohif.CHROMIUM)), None)
    assert chromium is not None, "chromium is not installed"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(viewer_ohif.FLAGS))
        page = running.new_page(viewport=viewer_ohif.SCREEN)
        page.set_default_timeout(_PATIENT_MILLISECONDS)
        try:
            yield page
        finally:
            running.close()


def _screen(page: Page) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB"))
