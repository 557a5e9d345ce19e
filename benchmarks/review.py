"""How fast the reading room is: first look at a study, the whole image, a new window, the worklist, many readers.

A synthetic screening study of full size (4096 by 3328) is read by the shipped model and opened in Debian's Chromium
with WebGL in software; a worklist of ten thousand studies is asked for, and twenty readers look at once.

    python benchmarks/review.py [--pictures FOLDER]
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from mammoscope.imaging import MammogramReader
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewService
from mammoscope.review.store import ActionKind, ProposedBox, SourceImage, SourceStudy
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


def first_look(page: Page, url: str, study: int) -> tuple[float, float, int]:
    """Seconds until something of the chosen image, and until all four whole views are on the screen; and bytes."""
    moved = [0]
    page.on("response", lambda answer: moved.append(int(answer.headers.get("content-length", 0))))
    started = time.perf_counter()
    page.goto(f"{url}/studies/{study}", wait_until="commit")
    page.wait_for_selector("body")
    until(
        page,
        "Boolean(window.mammoscope?.views().some((v) => v?.layer.getData(v.map.getSize().map((side) => side / 2))))",
    )
    first = time.perf_counter() - started
    until(page, "document.body.dataset.ready === 'yes'")
    page.wait_for_load_state("networkidle")
    return first, time.perf_counter() - started - 0.5, sum(moved)  # networkidle is half a second of silence


RE_WINDOW = """async () => {
  const view = mammoscope.views()[0]; const times = [];
  for (let n = 0; n < 20; n += 1) {
    const drawn = new Promise((done) => view.map.once('rendercomplete', done));
    const started = performance.now();
    view.setWindow({...view.window, low: view.window.low + 200});
    await drawn;
    times.push(performance.now() - started);
  }
  return times.sort((one, other) => one - other)[10];
}"""


def pictures(page: Page, room: ReadingRoom, url: str, study: int, folder: Path) -> None:
    """The pictures of the documentation: worklist, four views, and one view with a reader's box."""
    folder.mkdir(parents=True, exist_ok=True)
    page.goto(f"{url}/worklist")
    page.screenshot(path=str(folder / "review-worklist.png"))
    images = room.store.images(study)
    for image in images:
        number, marks = room.store.marks(study, "Reader")[image.id]
        for mark in marks[1:2]:
            room.store.act(
                image.id,
                "Reader",
                expected=number,
                token=f"picture{image.id}",
                kind=ActionKind.REJECT,
                mark=mark.id,
                content={},
            )
    page.goto(f"{url}/studies/{study}")
    page.wait_for_selector("body[data-ready=yes]")
    page.keyboard.press("2")
    page.keyboard.press("Tab")
    page.keyboard.press("a")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=str(folder / "review.png"))
    page.keyboard.press("f")
    page.wait_for_timeout(3000)
    page.screenshot(path=str(folder / "review-one.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="where to put the documentation's pictures")
    wanted = parser.parse_args()
    lines: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        room = ReadingRoom(DatasetStudies(*make_dataset(folder)), folder / "review")
        room.source.gone = lambda _: []  # type: ignore[method-assign]  # the many studies below are in no data set
        with ReviewService(room, port=0) as service, sync_playwright() as started:
            image = room.store.images(1)[0]
            lines.append(("cut one image of 4096 x 3328", f"{seconds(lambda: room.pyramid(image)):.2f} s", "3 s"))
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(f"{service.url}/")
            page.fill("#name", "Reader")
            page.click("text=Begin")
            for said, study in (("tiles not cut", 2), ("tiles cut", 2)):
                first, whole, moved = first_look(page, service.url, study)
                lines.append(
                    (f"first image on the screen, {said}", f"{first:.2f} s", "1 s" if said == "tiles cut" else "")
                )
                lines.append((f"four whole views, {said}", f"{whole:.2f} s, {moved / 1e6:.1f} MB", ""))
            page.keyboard.press("f")
            page.wait_for_timeout(2000)
            lines.append(("a new window, one view, WebGL in software", f"{page.evaluate(RE_WINDOW):.0f} ms", "120 ms"))
            if wanted.pictures:
                pictures(page, room, service.url, 2, wanted.pictures)
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
        print(f"{what:{width}}  {measured:>18}  {budget and 'budget ' + budget}")


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
