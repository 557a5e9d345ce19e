"""How fast the reading room is: first look at a study, the whole image, a new window, the worklist, many readers.

A synthetic screening study of full size (4096 by 3328) is read by the shipped model and opened in Debian's Chromium
with WebGL in software; a worklist of ten thousand studies is asked for, and twenty readers look at once.

    python benchmarks/review.py [--repeat 5]

Of what is repeated the least is told: on a machine with other work that is nearest to what the page itself takes.
Beside it stands the processor time of this process, its children and the browser together, which other work
changes less. The pictures of the documentation are made by tests/review/test_browser.py.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, Response, sync_playwright

from mammoscope.imaging import MammogramReader
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewService
from mammoscope.review.store import ProposedBox, SourceImage, SourceStudy
from mammoscope.review.store.marks import Origin

ROWS, COLUMNS = 4096, 3328
STUDIES, READERS = 10_000, 20
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def make_dataset(folder: Path) -> tuple[Path, Path]:
    """A data set of two synthetic studies without annotations, and what the shipped model finds on them."""
    images, found = [], []
    detector = Detector()
    with MammogramReader() as reader:
        for patient in range(2):
            files = screening_study(patient + 1, rows=ROWS, columns=COLUMNS).save(folder / f"study-{patient}")
            for file in files:
                mammogram = reader.read_reduced(file, preprocessing=detector.preprocessing)
                number = len(images) + 1
                name = f"P{patient}/{file.name}"
                target = folder / "dataset" / "images" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(file, target)
                side, view = str(mammogram.laterality), str(mammogram.view)
                images.append(
                    {
                        "id": number, "file_name": name, "height": ROWS, "width": COLUMNS,
                        "patient_id": f"Phantom {patient}", "laterality": side, "view": view,
                        "split": "val", "review": "unannotated",
                    }
                )  # fmt: skip
                for finding in detector.read(mammogram, 0.05).findings:
                    box = list(finding.box.as_xywh())
                    found.append({"image_id": number, "category_id": 1, "bbox": box, "score": finding.score})
    document = {"info": {}, "images": images, "annotations": [], "categories": [{"id": 1, "name": "Mass"}]}
    (folder / "dataset" / "annotations.json").write_text(json.dumps(document))
    (folder / "predictions.json").write_text(json.dumps(found))
    return folder / "dataset", folder / "predictions.json"


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def log_in(url: str, name: str) -> httpx.Client:
    client = httpx.Client(base_url=url, follow_redirects=True, timeout=120)
    page = client.post("/login", data={"name": name, "to": "/worklist"}).text
    client.headers["X-Form-Token"] = page.partition('name="form-token" content="')[2].partition('"')[0]
    return client


def until(page: Page, expression: str) -> None:
    while not page.evaluate(expression):
        time.sleep(0.01)


def processor_seconds(process: int | None = None) -> float:
    """Of a process and all that it started, as far as they still run (proc(5)); of this one by default."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
            spent[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    family = [process or os.getpid()]
    for one in family:
        family += parents.get(one, [])
    return sum(spent.get(one, 0.0) for one in family)


@dataclass(frozen=True)
class Look:
    """Seconds until something of an image, and until all four whole views are on the screen, and of the processor."""

    first: float
    whole: float
    processor: float
    megabytes: float


FIRST = """Boolean([...document.querySelectorAll('img.preview')].some((image) => image.complete && image.naturalWidth)
  || window.mammoscope?.views().some((v) => v?.layer.getData(v.map.getSize().map((side) => side / 2))))"""


def look(page: Page, url: str, study: int) -> Look:
    """Open a study."""
    moved = [0]

    def count(answer: Response) -> None:
        moved.append(int(answer.headers.get("content-length", 0)))

    page.goto("about:blank")
    page.on("response", count)
    spent, started = processor_seconds(), time.perf_counter()
    page.goto(f"{url}/studies/{study}", wait_until="commit")
    until(page, FIRST)
    first = time.perf_counter() - started
    until(page, "document.body?.dataset.ready === 'yes'")
    page.wait_for_load_state("networkidle")
    whole = time.perf_counter() - started - 0.5  # networkidle is half a second of silence
    page.remove_listener("response", count)
    return Look(first, whole, processor_seconds() - spent, sum(moved) / 1e6)


WHOLE_IMAGE = """async () => {
  const view = mammoscope.views()[0]; const seen = view.map.getView(); const [, top, right] = view.extent;
  const [w, h] = view.map.getSize();
  seen.setResolution(1);
  for (let y = h / 2; y < -top + h / 2; y += h) for (let x = w / 2; x < right + w / 2; x += w) {
    const drawn = new Promise((done) => view.map.once('rendercomplete', done));
    seen.setCenter([Math.min(x, right - 1), -Math.min(y, -top - 1)]);
    view.map.render();
    await drawn;
  }
}"""
"""The finest level of the image in one view, a screen after another, as somebody sees who looks through all of it."""

WINDOWS = 20
RE_WINDOW = """async () => {
  const view = mammoscope.views()[0]; const times = [];
  await new Promise((done) => setTimeout(done, 500));
  for (let n = 0; n < 20; n += 1) {
    const drawn = new Promise((done) => view.map.once('rendercomplete', done));
    const started = performance.now();
    view.setWindow({...view.window, low: view.window.low + 200});
    await drawn;
    times.push(performance.now() - started);
  }
  return times.sort((one, other) => one - other)[10];
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="how often a study is opened")
    wanted = parser.parse_args()
    lines: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        room = ReadingRoom(DatasetStudies(*make_dataset(folder)), folder / "review")
        room.source.gone = lambda _: []  # type: ignore[method-assign]  # the many studies below are in no data set
        with ReviewService(room, port=0) as service, sync_playwright() as started:
            image = room.store.images(1)[0]
            cut = min(seconds(lambda: room.tiles.reader.read_pyramid(image.path)) for _ in range(wanted.repeat))
            lines.append(("cut one image of 4096 x 3328", f"{cut:.2f} s", ""))
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(f"{service.url}/")
            page.fill("#name", "Reader")
            page.click("text=Begin")
            for row in room.store.images(2):
                room.pyramid(row)
            fresh = look(page, service.url, 2)
            again = [look(page, service.url, 2) for _ in range(wanted.repeat)]
            for said, looks in (("by a fresh browser", [fresh]), ("again", again)):
                first, whole = min(one.first for one in looks), min(one.whole for one in looks)
                spent = min(one.processor for one in looks)
                lines.append((f"first image on the screen, {said}", f"{first:.2f} s", "1 s"))
                lines.append(
                    (f"four whole views, {said}", f"{whole:.2f} s, {spent:.2f} s CPU, {looks[0].megabytes:.1f} MB", "")
                )
            page.keyboard.press("f")
            page.wait_for_timeout(2000)
            spent = processor_seconds()
            took = seconds(lambda: page.evaluate(WHOLE_IMAGE))
            spent = processor_seconds() - spent
            lines.append(("the whole image, every pixel", f"{took:.2f} s, {spent:.2f} s CPU", "3 s"))
            page.keyboard.press("0")
            page.wait_for_timeout(2000)
            spent = processor_seconds()
            took = min(page.evaluate(RE_WINDOW) for _ in range(wanted.repeat))
            spent = (processor_seconds() - spent) / wanted.repeat / WINDOWS
            lines.append(
                ("a new window, one view, WebGL in software", f"{took:.0f} ms, {spent * 1000:.0f} ms CPU", "120 ms")
            )
            browser.close()
            now = datetime.now(UTC)
            many = []
            for n in range(STUDIES):
                box = ProposedBox(Origin.MODEL, (1, 1, 9, 9), "Mass", n / STUDIES)
                images = (SourceImage(f"many {n}", image.path, proposals=(box,)),)
                many.append(SourceStudy(f"many {n}", f"patient {n}", now, images, "1"))
            room.store.put(many)
            client = log_in(service.url, "Worker")
            for what, query in (("sorted", {"sort": "suspicion"}), ("searched", {"search": "patient 77"})):
                times = [seconds(lambda q=query: client.get("/worklist", params=q)) for _ in range(9)]
                lines.append(
                    (f"worklist of {STUDIES} studies, {what}", f"{statistics.median(times) * 1000:.0f} ms", "300 ms")
                )
            lines.append((f"{READERS} readers at once", *twenty_readers(room, service.url)))
    width = max(len(line[0]) for line in lines)
    for what, measured, budget in lines:
        print(f"{what:{width}}  {measured:>28}  {budget and 'budget ' + budget}")


def twenty_readers(room: ReadingRoom, url: str) -> tuple[str, str]:
    """Each looks at a study of its own, and rejects and ends it; the slowest answer of nine in ten."""
    rows = room.store.worklist(search="many", limit=READERS).rows
    times: list[float] = []

    def read(number: int, study: int) -> None:
        client = log_in(url, f"reader {number}")
        [image] = client.get(f"/api/studies/{study}").json()["images"]
        for turn in range(10):
            action = {
                "token": f"{number:016x}{turn:016x}",
                "expected": turn,
                "kind": "reject",
                "mark": image["marks"][0]["id"],
            }
            times.append(
                seconds(lambda a=action: client.post(f"/api/images/{image['id']}/actions", json=a).raise_for_status())
            )
        times.append(
            seconds(lambda: client.post(f"/api/studies/{study}/read", json={"state": "done"}).raise_for_status())
        )

    threads = [threading.Thread(target=read, args=(number, row.id)) for number, row in enumerate(rows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 11 * READERS
    return f"{sorted(times)[len(times) * 9 // 10] * 1000:.0f} ms (90 %)", ""


if __name__ == "__main__":
    main()
