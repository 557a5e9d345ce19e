"""OHIF, driven as a reader drives it: a study is opened, a series is double-clicked, and the screen is looked at."""

import base64
import contextlib
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as Expired

from mammoscope.findings import Box

PACKAGE, VERSION = "@ohif/app", "3.12.10"
SHA512 = {
    "3.12.10": "0kuF66Mq9c9dMD++bUsTjMrJpXJwaZhz9B4uS244DawAjSkTwIYFU93pxPuRUQixaRi7QAHlF3Fe1qudBlZrmA==",
    "3.13.2": "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==",
}
"""Of each version's archive."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
SCREEN = {"width": 1400, "height": 900}
_SECONDS = 90_000
_LOOKS = 12
_UNCHANGED_MILLISECONDS = 4000
_IMAGE_IS_THERE = """() => {
  const engines = window.cornerstone ? window.cornerstone.getRenderingEngines() : [];
  const viewports = engines.flatMap((engine) => engine.getViewports()).filter((port) => port.id === 'default');
  return viewports.some((port) => port.getCurrentImageId && port.getCurrentImageId());
}"""
_ANY_IMAGE_IS_THERE = """() => window.cornerstone && window.cornerstone.getRenderingEngines()
  .flatMap((engine) => engine.getViewports()).some((port) => port.getCurrentImageId && port.getCurrentImageId())"""
_PANE = """() => {
  const canvas = document.querySelector('.cornerstone-viewport-element canvas');
  const box = canvas && canvas.getBoundingClientRect();
  return box && [box.x, box.y, box.x + box.width, box.y + box.height];
}"""
_MARKS_ARE_THERE = (
    "() => document.querySelectorAll('svg.svg-layer > g, svg.svg-layer > path, svg.svg-layer > line').length > 0"
)
_SHOWN_IMAGE = """() => {
  const engines = window.cornerstone ? window.cornerstone.getRenderingEngines() : [];
  const port = engines.flatMap((engine) => engine.getViewports()).find((one) => one.id === 'default');
  const name = port && port.getCurrentImageId && port.getCurrentImageId();
  const found = name && name.match(/instances\\/([0-9.]+)/);
  return found ? found[1] : null;
}"""
_PANES = """() => window.cornerstone.getRenderingEngines().flatMap((engine) => engine.getViewports())
  .filter((port) => port.getCurrentImageId && port.getCurrentImageId()).map((port) => {
    const name = port.getCurrentImageId();
    const { rows, columns } = window.cornerstone.metaData.get('imagePixelModule', name);
    const pane = port.element.getBoundingClientRect();
    const corners = [[0, 0], [columns, rows]].map(([x, y]) =>
      port.worldToCanvas(window.cornerstone.utilities.imageToWorldCoords(name, [x, y])));
    return [name.match(/instances\\/([0-9.]+)/)[1],
      corners[0][0] + pane.x, corners[0][1] + pane.y, corners[1][0] + pane.x, corners[1][1] + pane.y];
  })"""
_NO_TOUR = "window.localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
CONFIG = """window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 2, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  showLoadingIndicator: true, strictZSpacingForVolumeViewport: true, defaultDataSourceName: 'archive',
  investigationalUseDialog: { option: 'never' },
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'archive',
    configuration: {
      friendlyName: 'Archive', name: 'archive', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      wadoUriRoot: '/dicom-web', qidoSupportsIncludeField: false, imageRendering: 'wadors',
      thumbnailRendering: 'wadors', enableStudyLazyLoad: true, supportsFuzzyMatching: false,
      supportsWildcard: true, omitQuotationForMultipartRequest: true,
    },
  }],
};
"""


def cache() -> Path:
    """Where viewers are kept between runs: MAMMOSCOPE_VIEWERS, or a folder of this user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MAMMOSCOPE_VIEWERS") or Path(home, "mammoscope-viewers"))


def bundled(npm: str, made_of: Iterable[Path], entry: str, platform: Literal["browser", "node"], file: Path) -> Path:
    """A module of npm packages in one file, fetched from the registry that npm knows and bundled, once.

    Parameters
    ----------
    made_of
        package.json and what else is needed.
    entry
        The module, in the folder where those are installed.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as name:
            folder = Path(name)
            for part in made_of:
                shutil.copy(part, folder)
            quiet = ("--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--legacy-peer-deps")
            subprocess.run([npm, "ci", *quiet], cwd=folder, check=True, timeout=600)
            bundler = folder / "node_modules" / ".bin" / "esbuild"
            form = {"browser": "esm", "node": "cjs"}[platform]
            options = ("--bundle", f"--format={form}", f"--platform={platform}", f"--outfile={file.name}")
            subprocess.run([bundler, entry, *options, "--log-level=error"], cwd=folder, check=True, timeout=300)
            (folder / file.name).rename(file)
    return file


def ohif(npm: str, version: str = VERSION) -> Path:
    """The folder of the built viewer, fetched from the registry that npm knows, once."""
    folder = cache() / f"ohif-{version}"
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as fetched:
            subprocess.run([npm, "pack", "--silent", f"{PACKAGE}@{version}"], cwd=fetched, check=True, timeout=600)
            [archive] = Path(fetched).glob("*.tgz")
            digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            assert digest == SHA512[version], f"{PACKAGE} {version} is another one: {digest}"
            with tarfile.open(archive) as packed:
                packed.extractall(Path(fetched, "unpacked"), filter="data")
            Path(fetched, "unpacked", "package", "dist").rename(folder)
    return folder


@dataclass(frozen=True)
class Shown:
    """What is on the screen.

    Parameters
    ----------
    screen
        Shape (rows, columns, 3), ``uint8``, RGB.
    pane
        Where the image is shown, in pixels of the screen; ``None`` where no image is.
    image
        SOP Instance UID of the image shown.
    text
        All words on the screen.
    errors
        What the page has complained of since the last look.
    """

    screen: NDArray[np.uint8]
    pane: Box | None
    image: str | None
    text: str
    errors: tuple[str, ...]

    def place(self, rows: int, columns: int) -> Box:
        """Where an image of this size lies on the screen when it is fitted into its pane."""
        assert self.pane is not None, "no image is shown"
        width, height = self.pane.x1 - self.pane.x0, self.pane.y1 - self.pane.y0
        scale = min(width / columns, height / rows)
        left = self.pane.x0 + (width - columns * scale) / 2
        top = self.pane.y0 + (height - rows * scale) / 2
        return Box(left, top, left + columns * scale, top + rows * scale)


class Viewer:
    """One browser on one study."""

    def __init__(self, page: Page, origin: str) -> None:
        self._page, self._origin, self._errors = page, origin, []
        page.set_default_timeout(_SECONDS)
        page.add_init_script(_NO_TOUR)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("console", lambda line: self._errors.append(line.text) if line.type == "error" else None)

    def open(self, study: str, origin: str | None = None) -> None:
        """Open a study, at another origin than the usual one if it is given, and wait for its first image."""
        self._page.goto(f"{origin or self._origin}/viewer?StudyInstanceUIDs={study}")
        self._page.wait_for_function(_IMAGE_IS_THERE if origin is None else _ANY_IMAGE_IS_THERE)
        with contextlib.suppress(Expired):  # what comes later may hang the images anew
            self._page.wait_for_load_state("networkidle", timeout=20_000)
        self._settle()
        self._errors.clear()

    def series(self, number: int, changes: bool = True) -> bool:
        """Double-click the series of that number; whether it is listed.

        Parameters
        ----------
        changes
            Whether another image is to be waited for: one that has come is loaded.
        """
        before = self._page.evaluate(_SHOWN_IMAGE)
        cell = self._page.locator('[data-cy^="study-browser-thumbnail"]').filter(has_text=f"S:{number}")
        try:
            cell.first.wait_for(timeout=10_000)
        except Expired:
            return False
        cell.first.dblclick()
        if not changes:
            self._page.wait_for_timeout(_UNCHANGED_MILLISECONDS)
            return True
        with contextlib.suppress(Expired):
            self._page.wait_for_function(
                f"(before) => ![null, before].includes(({_SHOWN_IMAGE})())", arg=before, timeout=15_000
            )
        self._settle()
        return True

    def answer(self, word: str) -> bool:
        """Answer a question of the viewer; whether there was one."""
        button = self._page.get_by_role("button", name=word, exact=True)
        try:
            button.click(timeout=15_000)
        except Expired:
            return False
        self._settle()
        return True

    def wait_for_marks(self, *, nudge: bool = True) -> bool:
        """Wait until something is drawn over the image; whether it is.

        On a slow machine OHIF has the marks and does not draw them until the reader does something: as a reader would,
        this goes to the next one then, unless it is told not to.
        """
        for _ in range(2):
            try:
                self._page.wait_for_function(_MARKS_ARE_THERE, timeout=6_000)
            except Expired:
                if nudge:
                    self.next_mark()
            else:
                self._page.wait_for_timeout(500)
                return True
        return False

    def measurements(self) -> str:
        """The words of the panel of measurements."""
        self._page.mouse.click(1388, 64)
        self._page.locator('[data-cy="trackedMeasurements-btn"]').first.click()
        self._page.wait_for_timeout(1000)
        return str(self._page.evaluate("() => document.body.innerText"))

    def next_image(self) -> None:
        """Go to the next image of the series."""
        self._page.keyboard.press("ArrowDown")
        self._settle()

    def move_picture(self) -> None:
        """Drag a little, as a reader does to change the greys, and back to where they were."""
        left, top, right, bottom = self._page.evaluate(_PANE)
        x, y = (left + right) / 2, (top + bottom) / 2
        self._page.mouse.move(x, y)
        self._page.mouse.down()
        for by in (4, 8, 4, 0):
            self._page.mouse.move(x + by, y)
        self._page.mouse.up()
        self._settle()

    def next_mark(self) -> None:
        """Go to the next mark of a report, by the arrow over the image."""
        _, top, right, _ = self._page.evaluate(_PANE)
        self._page.mouse.click(right - 28, top + 15)
        self._settle()

    def _settle(self) -> None:
        """Wait until the screen stays as it is, but no longer than some seconds: a progress bar never does."""
        before = b""
        for _ in range(_LOOKS):
            self._page.wait_for_timeout(400)
            now = self._page.screenshot()
            if now == before:
                return
            before = now

    def panes(self, count: int) -> dict[str, Box]:
        """Where the images of so many panes lie on the screen, by their SOP Instance UIDs, as the viewer has it."""
        self._page.wait_for_function(f"(count) => ({_PANES})().length === count", arg=count)
        self._settle()
        return {name: Box(*edges) for name, *edges in self._page.evaluate(_PANES)}

    def look(self) -> Shown:
        """What is on the screen now."""
        screen = np.asarray(Image.open(BytesIO(self._page.screenshot())).convert("RGB"))
        pane = self._page.evaluate(_PANE)
        errors, self._errors[:] = tuple(self._errors), []
        return Shown(
            screen,
            Box(*pane) if pane else None,
            self._page.evaluate(_SHOWN_IMAGE),
            str(self._page.evaluate("() => document.body.innerText")),
            errors,
        )


@contextmanager
def browser(origin: str) -> Iterator[Viewer]:
    """A browser of its own, without accelerator."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert chromium is not None, "chromium is not installed"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        try:
            yield Viewer(running.new_context(viewport=SCREEN).new_page(), origin)
        finally:
            running.close()
