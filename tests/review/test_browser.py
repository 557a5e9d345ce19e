"""The reading room in a real browser: Debian's Chromium, its graphics card played by software."""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import sqlalchemy as sa

from mammoscope.datasets import load_dataset
from mammoscope.explain import Occlusion
from mammoscope.imaging import read_mammogram
from mammoscope.inference import Detector
from mammoscope.phantom import screening_study
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewService, SecondReader
from mammoscope.review.heat_maps import HeatMaps
from mammoscope.review.out import export_dataset
from mammoscope.review.store import (
    Arrival,
    Progress,
    ProposedBox,
    Sending,
    Sent,
    SourceImage,
    SourceStudy,
    Verdict,
    schema,
)
from mammoscope.review.store.marks import Origin

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow

PICTURES = os.environ.get("MAMMOSCOPE_PICTURES")
"""Folder for the documentation's pictures (docs/images), which these tests make where it is named."""
ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_WEBGL = """
const real = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return /webgl/.test(kind) ? null : real.call(this, kind, ...more);
};
"""


class GrowingStudies(DatasetStudies):
    """A data set to which tests add studies that it does not have."""

    def gone(self, known: Mapping[str, str]) -> list[str]:  # noqa: ARG002
        return []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no Chromium on this machine (Debian's package chromium)")
    with (
        playwright.sync_playwright() as started,
        started.chromium.launch(executable_path=found, args=list(ARGUMENTS)) as launched,
    ):
        yield launched


@pytest.fixture(scope="module")
def service(small_dataset: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewService]:
    """A reading room with blind second readers, which the tests of this file share: each takes a study of its own."""
    folder = tmp_path_factory.mktemp("review")
    room = ReadingRoom(GrowingStudies(*small_dataset), folder, second_reader=SecondReader.BLIND, studies_ahead=0)
    masks = 200 if PICTURES else 20
    room.export = lambda out: str(export_dataset(room.store, room.source.dataset, out))
    room.heat_maps = HeatMaps(folder / "maps", room.tiles.reader, occlusion=Occlusion(masks=masks))
    with ReviewService(room, port=0) as service:
        service.room = room  # type: ignore[attr-defined]
        yield service


@pytest.fixture
def enter(browser: Any, service: ReviewService) -> Iterator[Callable[..., Any]]:
    """Log somebody in, in a window of their own; whatever it asks of another site, or fails at, fails the test."""
    contexts, wrong = [], []

    def entered(name: str, *, script: str = "", **how: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **how)
        contexts.append(context)
        if script:
            context.add_init_script(script)
        page = context.new_page()

        def told_elsewhere(request: Any) -> None:
            if not request.url.startswith((service.url, "blob:", "data:")):
                wrong.append(request.url)

        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((service.url, "blob:", "data:")) else wrong.append(request.url)
            ),
        )
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(f"{service.url}/")
        page.fill("#name", name)
        page.click("text=Begin")
        page.wait_for_url("**/worklist")
        return page

    yield entered
    for context in contexts:
        context.close()
    assert wrong == []


def add_study(service: ReviewService, key: str, boxes: list[tuple[float, ...]] | None = None, **facts: Any) -> int:
    """A new study of one patient: the four images of the first one, with one proposed box each or those given."""
    room: ReadingRoom = service.room  # type: ignore[attr-defined]
    images = []
    for place, image in enumerate(room.store.images(1)):
        found = boxes if boxes is not None and place == 1 else [(100.0, 250.0, 200.0, 350.0, 0.6)] if place == 1 else []
        proposals = tuple(ProposedBox(Origin.MODEL, tuple(box[:4]), "Mass", box[4]) for box in found)  # type: ignore[arg-type]
        images.append(SourceImage(f"{key}_{place}", image.path, *_side(image), 640, 480, proposals))
    room.store.put([SourceStudy(key, key, datetime.now(UTC), tuple(images), "1", **facts)])
    return room.store.worklist(search=key).rows[0].id


def _side(image: Any) -> tuple[Any, Any]:
    from mammoscope.imaging import Laterality, View

    return Laterality(image.laterality), View(image.view)


@pytest.fixture(scope="module")
def phantom(service: ReviewService, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A synthetic DICOM study as the shipped model sees it, with an earlier one of the same patient."""
    room: ReadingRoom = service.room  # type: ignore[attr-defined]
    files = screening_study(3, rows=1024, columns=832).save(tmp_path_factory.mktemp("phantom"))
    detector, images = Detector(threads=1), []
    for file in files:
        mammogram = read_mammogram(file)
        found = detector.read(mammogram, 0.1).findings
        boxes = tuple(ProposedBox(Origin.MODEL, one.box.as_tuple(), one.label, one.score) for one in found)
        images.append(SourceImage(file.stem, file, mammogram.laterality, mammogram.view, 1024, 832, boxes))
    now = datetime.now(UTC)
    earlier = tuple(dataclasses.replace(image, proposals=()) for image in images if image.key != "L_MLO")
    room.store.put(
        [
            SourceStudy("phantom before", "Phantom", now, earlier, "1", taken_on="2024-03-01", scanner="Phantom"),
            SourceStudy("phantom", "Phantom", now, tuple(images), "1", taken_on="2026-03-02", scanner="Phantom"),
        ]
    )
    return room.store.worklist(search="phantom", sort="findings").rows[0].id


def seen_on(page: Any) -> np.ndarray:
    """What is on the screen, shape (rows, columns, 3), blue, green and red."""
    return cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)


def picture(page: Any, name: str) -> None:
    """Keep what is on the screen where the environment says, for the documentation."""
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES, f"{name}.png")))


def open_study(page: Any, service: ReviewService, study: int, more: str = "") -> None:
    page.goto(f"{service.url}/studies/{study}{more}")
    page.wait_for_selector("body[data-ready=yes]")


def saved(page: Any) -> None:
    until(page, "mammoscope.queue.actions.length === 0 && document.querySelector('#saved').textContent !== ''")


def until(page: Any, expression: str, seconds: float = 60.0) -> None:
    """Wait until a script's expression holds; Playwright's own way needs eval, which the pages' policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.05)


def place_of(page: Any, place: int, x: float, y: float) -> tuple[float, float]:
    """Where on the page a pixel of an image is, as soon as the view's first frame was drawn: before, it is nowhere."""
    until(page, f"mammoscope.views()[{place}].map.getPixelFromCoordinate([0, 0]) !== null")
    at = page.evaluate(
        """([place, x, y]) => { const view = mammoscope.views()[place];
        const [px, py] = view.map.getPixelFromCoordinate([x, -y]);
        const box = view.map.getTargetElement().getBoundingClientRect();
        return [box.left + px, box.top + py]; }""",
        [place, x, y],
    )
    return at[0], at[1]


def drag(page: Any, start: tuple[float, float], end: tuple[float, float], button: str = "left") -> None:
    page.mouse.move(*start)
    page.mouse.down(button=button)
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=3)
    page.mouse.move(*end, steps=3)
    page.mouse.up(button=button)


def marks(service: ReviewService, study: int, reader: str, place: int) -> list[Any]:
    store = service.room.store  # type: ignore[attr-defined]
    return list(store.marks(study, reader)[store.images(study)[place].id][1])


def test_a_study_is_read_with_the_mouse(enter: Callable[..., Any], service: ReviewService):
    study = add_study(service, "mouse", [(100.0, 250.0, 200.0, 350.0, 0.6), (220.0, 400.0, 280.0, 450.0, 0.3)])
    page = enter("Mia")
    page.fill("#search", "mouse")
    page.wait_for_selector("caption:has-text('1 study')")
    page.click("text=mouse")
    page.wait_for_selector("body[data-ready=yes]")
    names = page.locator(".view .name").all_inner_texts()
    assert names == ["R CC", "L CC", "R MLO", "L MLO"]
    # Chest walls to the middle: the right breast's edge is at the right of its view, the left one's at the left.
    edges = [place_of(page, 0, 480, 0)[0], place_of(page, 1, 0, 0)[0]]
    assert abs(edges[0] - edges[1]) < 12

    page.mouse.click(*place_of(page, 1, 250, 420))
    page.click("text=Reject")
    page.mouse.click(*place_of(page, 1, 150, 300))
    drag(page, place_of(page, 1, 150, 300), place_of(page, 1, 180, 340))
    saved(page)
    moved, rejected = marks(service, study, "Mia", 1)
    assert np.abs(np.array(moved.box.as_tuple()) - (130, 290, 230, 390)).max() < 3
    assert (moved.verdict, rejected.verdict) == (Verdict.ACCEPTED, Verdict.REJECTED)
    drag(page, place_of(page, 1, *moved.box.as_tuple()[2:]), place_of(page, 1, 260, 440))
    page.click("#draw")
    drag(page, place_of(page, 0, 200, 100), place_of(page, 0, 300, 180))
    page.select_option("#birads", "4B")
    page.fill("#comment", "beside the nipple <b>")
    page.press("#comment", "Tab")
    saved(page)
    resized, _ = marks(service, study, "Mia", 1)
    assert np.abs(np.array(resized.box.as_tuple()) - (130, 290, 260, 440)).max() < 3
    [drawn] = marks(service, study, "Mia", 0)
    assert np.abs(np.array(drawn.box.as_tuple()) - (200, 100, 300, 180)).max() < 3
    assert drawn.details == {"birads": "4B", "comment": "beside the nipple <b>"}
    page.click("#done")
    page.wait_for_url(lambda url: not url.endswith(f"/{study}"))
    assert service.room.store.study(study).progress is Progress.READ_ONCE  # type: ignore[attr-defined]


def test_a_study_is_read_with_keys_alone_in_few(enter: Callable[..., Any], service: ReviewService):
    study = add_study(service, "keys", [(100.0, 250.0, 200.0, 350.0, 0.99), (220.0, 400.0, 280.0, 450.0, 0.98)])
    page = enter("Kim")
    pressed: list[str] = []

    def press(*keys: str) -> None:
        for key in keys:
            pressed.append(key)
            page.keyboard.press(key)

    press("n")  # the worklist's most suspicious study
    page.wait_for_url(f"**/studies/{study}")
    page.wait_for_selector("body[data-ready=yes]")
    pressed.clear()
    press("Tab", "x", "n")  # a correction: the first box is none
    page.wait_for_url(lambda url: not url.endswith(f"/{study}"))
    assert len(pressed) < 6
    assert [mark.verdict for mark in marks(service, study, "Kim", 1)] == [Verdict.REJECTED, Verdict.ACCEPTED]
    page.wait_for_selector("body[data-ready=yes]")

    another = add_study(service, "more keys")
    open_study(page, service, another)
    press(
        "2",
        "d",
        "Enter",
        "ArrowRight",
        "ArrowRight",
        "Shift+ArrowDown",
        "Enter",
        "z",
        "z",
        "a",
        "]",
        "[",
        "i",
        "v",
        "f",
        "f",
        "9",
        "0",
    )
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    saved(page)
    store = service.room.store  # type: ignore[attr-defined]
    did = [str(action.kind) for action in store.history(store.images(another)[1].id)]
    assert did == ["draw", "move", "undo", "undo"]  # three quick arrows are one move
    pressed.clear()
    press("n")  # a read without a correction
    page.wait_for_url(lambda url: not url.endswith(f"/{another}"))
    assert len(pressed) == 1


def test_the_card_windows_sixteen_bits(enter: Callable[..., Any], service: ReviewService):
    study = add_study(service, "window", [])
    page = enter("Walt")
    open_study(page, service, study)
    page.keyboard.press("2")
    page.keyboard.press("f")
    until(page, "mammoscope.views().length === 1 && mammoscope.views()[0]")
    page.keyboard.press("9")
    low, high = 22900.0, 23100.0
    page.evaluate(
        """([low, high]) => { const view = mammoscope.views()[0];
        view.setWindow({low, high, inverted: false, curve: 0});
        const [w, h] = view.map.getSize(); view.map.getView().setCenter([240 + (w % 2) / 2, -320 - (h % 2) / 2]); }""",
        [low, high],
    )
    until(page, "!mammoscope.views()[0].map.getView().getAnimating()")
    pixels = read_mammogram(service.room.store.images(study)[1].path).pixels.astype(float)  # type: ignore[attr-defined]
    expected = 255 * np.clip((pixels - low) / (high - low), 0, 1)
    deadline = time.monotonic() + 60
    while True:
        x, y = (round(v) for v in place_of(page, 0, 100, 200))
        shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
        off = np.abs(shot[y : y + 200, x : x + 200] - expected[200:400, 100:300])
        if off.max() <= 1 or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    assert off.max() <= 1  # of 255, for a window of 200 of 65,536 greys
    drag(page, (400, 300), (460, 300), button="right")
    wider = page.evaluate("mammoscope.views()[0].window.high - mammoscope.views()[0].window.low")
    assert wider > 65535
    # While it is dragged it is drawn at half the pixels, since the processor draws here, and in full when it rests.
    share = "document.querySelector('.view .map canvas').width / mammoscope.views()[0].map.getSize()[0]"
    shares = page.evaluate(
        f"""async () => {{ const view = mammoscope.views()[0]; const found = [];
        for (const low of [100, 200]) {{
          const drawn = new Promise((done) => view.map.once('postrender', done));
          view.setWindow({{...view.window, low}});
          await drawn;
          found.push({share});
        }}
        return found; }}"""
    )
    assert abs(shares[1] - 0.5) < 0.01
    until(page, f"Math.abs({share} - 1) < 0.01")
    page.mouse.move(*place_of(page, 0, 150.5, 300.5))
    until(page, "/x 150 {2}y 300 {2}value \\d+/.test(document.querySelector('#value').textContent)")
    value = int(page.inner_text("#value").rpartition(" ")[2])
    assert abs(value - pixels[300, 150]) <= 1


def test_without_webgl_the_server_windows(enter: Callable[..., Any], service: ReviewService):
    study = add_study(service, "no webgl")
    page = enter("Nora", script=NO_WEBGL)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_study(page, service, study)
    assert "no WebGL" in page.inner_text("#banner")
    page.wait_for_timeout(500)
    assert any("/picture?low=0.00&high=65535.00" in url for url in asked)
    shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    x, y = (round(v) for v in place_of(page, 1, 60, 320))
    assert 60 < shot[y, x] < 130  # tissue: 23000 of 65535
    page.keyboard.press("i")
    page.wait_for_timeout(900)
    shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert 130 < shot[y, x] < 200
    page.keyboard.press("Tab")
    page.keyboard.press("x")
    saved(page)
    assert marks(service, study, "Nora", 1)[0].verdict is Verdict.REJECTED


def test_a_second_reader_is_blind_a_third_settles_and_all_of_it_is_exported(
    enter: Callable[..., Any], service: ReviewService, tmp_path: Path
):
    study = 3  # of the data set
    anna, bert = enter("Anna"), enter("Bert")
    open_study(anna, service, study)
    open_study(bert, service, study)  # both at once
    anna.keyboard.press("n")
    anna.wait_for_url(lambda url: not url.endswith(f"/{study}"))
    bert.keyboard.press("Tab")
    bert.keyboard.press("x")
    saved(bert)
    bert.reload()
    bert.wait_for_selector("body[data-ready=yes]")
    assert "second reader" in bert.inner_text("#place")
    assert "Anna" not in bert.content()
    bert.keyboard.press("n")
    bert.wait_for_url(lambda url: not url.endswith(f"/{study}"))
    cleo = enter("Cleo")
    cleo.keyboard.press("n")  # from the worklist to what two dispute
    cleo.wait_for_url(f"**/studies/{study}")
    cleo.wait_for_selector("body[data-ready=yes]")
    assert "arbiter" in cleo.inner_text("#place")
    assert "R CC: only Anna" in cleo.inner_text("#disagreements")
    cleo.click("#differences button")
    cleo.keyboard.press("Tab")
    cleo.keyboard.press("k")
    cleo.keyboard.press("n")
    cleo.wait_for_url(lambda url: not url.endswith(f"/{study}"))
    assert service.room.store.study(study).progress is Progress.SETTLED  # type: ignore[attr-defined]
    cleo.goto(f"{service.url}/figures")
    assert "were read twice" in cleo.inner_text("main")
    room: ReadingRoom = service.room  # type: ignore[attr-defined]
    exported = export_dataset(room.store, room.source.dataset, tmp_path / "validated")
    assert exported.validated == 4  # the images of this study, by its arbiter's word
    written = load_dataset(tmp_path / "validated")
    images = [image for image in written if image.patient == room.store.study(study).patient]
    assert sum(len(image.boxes) for image in images) == exported.boxes > 4
    for image in images:  # K accepted the proposal that Anna had accepted: there is no second box in its place
        assert len(set(image.boxes)) == len(image.boxes)


def test_nothing_is_lost_with_the_connection_the_session_or_another_window(
    enter: Callable[..., Any], service: ReviewService
):
    study = add_study(service, "lost", [(100.0, 250.0, 200.0, 350.0, 0.6), (220.0, 400.0, 280.0, 450.0, 0.3)])
    page = enter("Lena")
    open_study(page, service, study)
    page.context.set_offline(True)
    page.keyboard.press("Tab")
    page.keyboard.press("x")
    page.wait_for_selector("#banner:has-text('cannot be reached')")
    assert page.inner_text("#saved") == "1 not saved yet"
    assert page.locator(".findings .rejected").count() == 1  # shown all the same
    page.context.set_offline(False)
    saved(page)
    assert marks(service, study, "Lena", 1)[0].verdict is Verdict.REJECTED
    assert page.is_hidden("#banner")

    # The session ends in the middle of a box.
    page.keyboard.press("d")
    start, end = place_of(page, 1, 300, 100), place_of(page, 1, 360, 160)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, end[1])
    with service.room.store.database.writing() as connection:  # type: ignore[attr-defined]
        old = datetime.now(UTC) - timedelta(days=1)
        connection.execute(sa.update(schema.sessions).where(schema.sessions.c.user == "Lena").values(seen_at=old))
    page.mouse.move(*end)
    page.mouse.up()
    page.wait_for_selector("#ended[open]")
    page.click("#log-in-again")
    page.fill("#name", "Lena")
    page.click("text=Begin")
    page.wait_for_selector("body[data-ready=yes]")
    saved(page)
    drawn = marks(service, study, "Lena", 1)[-1]
    assert np.abs(np.array(drawn.box.as_tuple()) - (300, 100, 360, 160)).max() < 3

    # Two windows of one reader.
    other = page.context.new_page()
    open_study(other, service, study)
    page.mouse.click(*place_of(page, 1, 250, 425))
    page.keyboard.press("a")
    saved(page)
    other.mouse.click(*place_of(other, 1, 250, 425))
    other.keyboard.press("x")
    other.wait_for_selector("#banner:has-text('changed in another window')")
    assert other.locator(".findings .accepted").count() == 2
    assert marks(service, study, "Lena", 1)[1].verdict is Verdict.ACCEPTED


def test_an_image_that_is_broken_or_gone_is_told_and_the_others_are_read(
    enter: Callable[..., Any], service: ReviewService, tmp_path: Path
):
    room: ReadingRoom = service.room  # type: ignore[attr-defined]
    study = add_study(service, "broken")
    whole = room.store.images(study)[1].path
    broken, fleeting = tmp_path / "broken.png", tmp_path / "fleeting.png"
    broken.write_bytes(whole.read_bytes()[:20000])
    shutil.copy(whole, fleeting)
    with room.store.database.writing() as connection:
        for place, file in ((0, broken), (1, fleeting)):
            this = schema.images.c.id == room.store.images(study)[place].id
            connection.execute(sa.update(schema.images).where(this).values(path=str(file)))
    page = enter("Bea")
    open_study(page, service, study)
    assert "damaged or cut" in page.inner_text(".view .trouble")
    assert page.evaluate("mammoscope.views().filter(Boolean).length") == 3
    fleeting.unlink()
    page.keyboard.press("2")
    page.keyboard.press("9")
    page.wait_for_selector("#banner:has-text('L CC is no longer kept here')")
    page.keyboard.press("Tab")
    page.keyboard.press("x")
    saved(page)
    assert marks(service, study, "Bea", 1)[0].verdict is Verdict.REJECTED


def test_what_is_begun_by_key_begins_on_the_breast_and_is_seen(enter: Callable[..., Any], service: ReviewService):
    study = add_study(service, "by key", [])
    page = enter("Kai")
    open_study(page, service, study)

    def middle_of_drawn(place: int) -> tuple[float, float]:
        saved(page)
        x0, y0, x1, y1 = marks(service, study, "Kai", place)[-1].box.as_tuple()
        left, lower, right, upper = page.evaluate(f"mammoscope.views()[{at}].seen()")
        assert left <= x0 < x1 <= right  # this data set's images hang as they are stored
        assert lower <= -y1 < -y0 <= upper
        return (x0 + x1) / 2, (y0 + y1) / 2

    def is_breast(place: int, x: float, y: float) -> bool:
        across = 480 - x if place == 0 else x
        return (across / 400) ** 2 + ((y - 320) / 290) ** 2 < 1

    for place in (0, 1):
        at = place
        page.keyboard.press(str(place + 1))
        for key in ("d", "Enter"):
            page.keyboard.press(key)
        assert is_breast(place, *middle_of_drawn(place))
        page.keyboard.press("Escape")

    # Pixel by pixel, in one view on a screen that is wider than the image, and beside the breast when it was zoomed.
    page.keyboard.press("f")
    until(page, "mammoscope.views().length === 1 && mammoscope.views()[0]")
    at = 0
    page.evaluate("mammoscope.views()[0].map.getView().setCenter([460, -20])")
    page.keyboard.press("9")
    x, y = page.evaluate("mammoscope.views()[0].map.getView().getCenter()")
    assert is_breast(1, x, -y)
    for key in ("m", "Enter"):
        page.keyboard.press(key)
    ends = page.evaluate("mammoscope.views()[0].lines.getFeatures()[0].getGeometry().getCoordinates()")
    assert all(is_breast(1, x, -y) for x, y in ends)
    page.keyboard.press("m")
    page.evaluate("mammoscope.views()[0].map.getView().setResolution(0.1)")
    page.evaluate("mammoscope.views()[0].map.getView().setCenter([470, -10])")  # nothing of the breast is seen
    for key in ("d", "Enter"):
        page.keyboard.press(key)
    assert is_breast(1, *middle_of_drawn(1))

    # At the pointer, where that is on the breast.
    page.keyboard.press("Escape")
    page.keyboard.press("0")
    page.wait_for_timeout(500)  # the frame that the pointer's place is of
    wait_for(lambda: page.mouse.move(*place_of(page, 0, 200, 400)) or page.evaluate("mammoscope.views()[0].inside"))
    for key in ("d", "Enter"):
        page.keyboard.press(key)
    assert np.abs(np.subtract(middle_of_drawn(1), (200, 400))).max() < 3

    # Enter ends the comment, and the keys work the images again.
    page.fill("#comment", "one")
    page.focus("#comment")
    page.keyboard.press("End")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two n x z")
    page.keyboard.press("Enter")
    saved(page)
    assert marks(service, study, "Kai", 1)[-1].details == {"comment": "one\ntwo n x z"}
    assert page.evaluate("document.activeElement.className") == "map"
    count = len(marks(service, study, "Kai", 1))
    page.focus("#birads")
    page.keyboard.press("Enter")
    page.keyboard.press("x")
    saved(page)
    assert len(marks(service, study, "Kai", 1)) == count - 1
    assert page.locator("#birads option").all_inner_texts() == ["", "0", "2", "3", "4", "4A", "4B", "4C", "5", "6"]


def test_what_was_sent_stays_on_the_page_with_what_became_of_it(
    enter: Callable[..., Any], service: ReviewService, monkeypatch: pytest.MonkeyPatch
):
    """The page alone: that a node's own records say so is tried beside a node (tests/node/test_reading_room.py)."""
    at = datetime(2026, 3, 2, 10, 40, tzinfo=UTC)

    class Told:
        arrivals: tuple[Arrival, ...] = (Arrival("pacs", "pending"), Arrival("archive", "pending"))
        times = 0

        def __call__(self, *_: Any) -> str:
            self.times += 1
            return "1 object for pacs, archive: sent."

        def sent(self, _: Any) -> tuple[Sent, ...]:
            return (Sent(Sending(2, "Sena", at, 1), self.arrivals),) if self.times else ()

    told = Told()
    monkeypatch.setattr(service.room, "send", told)  # type: ignore[attr-defined]
    study = add_study(service, "sent")
    page = enter("Sena", timezone_id="Europe/Berlin")
    open_study(page, service, study)
    assert page.is_hidden("#sent")
    page.click("#send")
    page.wait_for_selector("#sent-list li li")
    assert page.inner_text("#sent-says") == "1 object for pacs, archive: sent."
    assert page.inner_text("#sent-list").split("\n") == [
        "2026-03-02 11:40 by Sena: 1 object", "pacs: waits", "archive: waits"
    ]  # fmt: skip
    told.arrivals = (Arrival("pacs", "sent", at), Arrival("archive", "parked", at, "0xA700 out of resources"))
    until(page, "/FAILED/.test(document.querySelector('#sent-list').textContent)")
    open_study(page, service, study)
    assert page.inner_text("#sent-list").split("\n")[1:] == [
        "pacs: accepted 2026-03-02 11:40", "archive: FAILED 2026-03-02 11:40 (0xA700 out of resources)"
    ]  # fmt: skip
    picture(page, "review-sent")


def test_three_thousand_boxes_are_drawn(enter: Callable[..., Any], service: ReviewService):
    rng = np.random.default_rng(2)
    many = [
        (x, y, x + 12, y + 12, float(s))
        for (x, y), s in zip(rng.uniform(0, 440, (3000, 2)).tolist(), rng.uniform(0, 1, 3000), strict=True)
    ]
    study = add_study(service, "crowd", many)
    page = enter("Carl")
    open_study(page, service, study)
    assert page.evaluate("mammoscope.views()[1].boxes.getFeatures().length") == 3000
    page.evaluate("mammoscope.setThreshold(0.5)")
    left = page.evaluate("mammoscope.views()[1].boxes.getFeatures().length")
    assert left == sum(box[4] >= 0.5 for box in many)
    assert f"{3000 - left} boxes below are not shown" in page.inner_text("#hidden-count")


def test_a_study_is_looked_at_closely(enter: Callable[..., Any], service: ReviewService, phantom: int):
    """Pairs, heat map, magnifier, measures, windows of the file, an earlier study, recall; with keys and the mouse."""
    store = service.room.store  # type: ignore[attr-defined]
    page = enter("Gina")
    page.wait_for_selector(".worklist")
    picture(page, "review-worklist")
    open_study(page, service, phantom)
    kept = page.locator("img.preview").count()
    right_cc, right_mlo = (
        next(image for image in store.images(phantom) if image.key == key) for key in ("R_CC", "R_MLO")
    )
    [cc], [mlo] = (store.marks(phantom, "Gina")[image.id][1] for image in (right_cc, right_mlo))

    # A box that is under the pointer, or chosen, lights its partner on the other view.
    until(page, "mammoscope.state.pairs.length > 0")
    lit = "mammoscope.views().map((view) => [...view.lit].join())"
    middle = [(cc.box.x0 + cc.box.x1) / 2, (cc.box.y0 + cc.box.y1) / 2]
    page.mouse.move(*place_of(page, 0, *middle))
    until(page, f"{lit}.join() === '{cc.id},,{mlo.id},'")
    page.mouse.move(*place_of(page, 3, 700, 100))
    until(page, f"{lit}.join() === ',,,'")
    page.keyboard.press("1")
    page.keyboard.press("Tab")
    until(page, f"{lit}.join() === '{cc.id},,{mlo.id},'")

    page.keyboard.press("a")
    saved(page)
    picture(page, "review")
    page.keyboard.press("z")
    saved(page)

    # The size of the chosen box, and lengths, in millimetres.
    spacing = 0.2344
    width, height = (cc.box.x1 - cc.box.x0) * spacing, (cc.box.y1 - cc.box.y0) * spacing
    assert page.inner_text("#size") == f"{width:.1f} × {height:.1f} mm"
    page.click("#measure")
    drag(page, place_of(page, 1, 100, 200), place_of(page, 1, 400, 600))
    until(page, "/ mm$/.test(mammoscope.views()[1].lastMeasure)")
    measured = float(page.evaluate("mammoscope.views()[1].lastMeasure").removesuffix(" mm"))
    assert abs(measured - 500 * spacing) < 2
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    line = float(page.evaluate("mammoscope.views()[0].lastMeasure").removesuffix(" mm"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    longer = float(page.evaluate("mammoscope.views()[0].lastMeasure").removesuffix(" mm"))
    resolution = page.evaluate("mammoscope.views()[0].map.getView().getResolution()")
    assert abs(longer - line - 10 * resolution * spacing) < 0.2
    page.keyboard.press("m")
    assert page.evaluate("mammoscope.views()[0].lines.getFeatures().length") == 0

    # The heat map of the chosen box lies over it, and is taken away again.
    page.keyboard.press("1")
    page.keyboard.press("Tab")
    page.mouse.move(*place_of(page, 3, 700, 100))
    before = seen_on(page).astype(int)
    page.keyboard.press("g")
    until(page, "/needs to see/.test(document.querySelector('#heat-says').textContent)", 600)
    until(page, "mammoscope.views()[0].heat.getVisible()")
    x, y = (round(v) for v in place_of(page, 0, *middle))

    def reddened() -> float:
        shot = seen_on(page).astype(int)
        there = slice(y - 60, y + 60), slice(x - 60, x + 60)
        return float((shot[there][..., 2] - shot[there][..., 0] - before[there][..., 2] + before[there][..., 0]).max())

    wait_for(lambda: reddened() > 60)
    picture(page, "review-heat")

    # It stays on: away with the box, back with it, in another hanging, and when the study is opened again.
    shown = "mammoscope.views().map((view) => Number(view.heat.getVisible())).join('')"
    page.keyboard.press("2")
    until(page, f"{shown} === '0000'")
    page.keyboard.press("1")
    page.keyboard.press("Tab")
    until(page, f"{shown} === '1000'")
    assert page.get_attribute("#heat", "aria-pressed") == "true"
    page.keyboard.press("f")
    until(page, f"mammoscope.views().length === 1 && {shown} === '1'")
    page.keyboard.press("f")
    until(page, f"mammoscope.views().length === 4 && {shown} === '1000'")
    open_study(page, service, phantom)
    page.keyboard.press("1")
    until(page, f"{shown} === '0000'")
    page.keyboard.press("Tab")
    until(page, f"{shown} === '1000'")
    page.mouse.move(*place_of(page, 3, 700, 100))
    wait_for(lambda: reddened() > 60)
    page.click("#heat")
    until(page, f"{shown} === '0000'")
    wait_for(lambda: reddened() < 5)
    assert page.inner_text("#heat-says") == ""

    # The magnifier shows what is under the pointer at twice its native pixels: by key, and while the wheel is held.
    page.mouse.move(*place_of(page, 0, *middle))
    page.keyboard.press("l")
    until(page, "document.querySelectorAll('.magnifier canvas').length > 0")
    seen = page.evaluate("mammoscope.views()[0].magnifier.map.getView().getCenter()")
    assert np.abs(np.array(seen) - (middle[0], -middle[1])).max() < 4
    wait_for(lambda: seen_on(page)[y - 90 : y + 90, x - 90 : x + 60].min() > 20)  # the breast fills it
    picture(page, "review-magnifier")
    page.keyboard.press("l")
    assert page.locator(".magnifier").count() == 0
    page.mouse.down(button="middle")
    assert page.locator(".magnifier").count() == 1
    page.mouse.up(button="middle")
    assert page.locator(".magnifier").count() == 0

    # The file's own windows, by the list and by key.
    names = page.locator("#window option").all_inner_texts()
    assert len(names) == len(page.evaluate("mammoscope.views()[0].display.curves")) > 1
    page.select_option("#window", label=names[1])
    assert page.evaluate("mammoscope.views().map((view) => view.window.curve)") == [1, 1, 1, 1]
    page.keyboard.press("Escape")
    for _ in names[1:]:
        page.keyboard.press("v")
    assert page.input_value("#window") == "0"

    # The earlier study: the same view beside, then all of it in a row below.
    page.keyboard.press("2")
    page.keyboard.press("e")
    until(page, "mammoscope.state.hanging === 'beside' && mammoscope.views().filter(Boolean).length === 2")
    assert page.locator(".view .name").all_inner_texts() == ["L CC", "L CC 2024-03-01"]
    page.click("button[data-key=q]")
    until(page, "mammoscope.state.hanging === 'priors' && mammoscope.views().filter(Boolean).length === 7")
    assert page.locator(".view .name").all_inner_texts()[3:] == [
        "L MLO", "R CC 2024-03-01", "L CC 2024-03-01", "R MLO 2024-03-01", "no L MLO"
    ]  # fmt: skip
    edges = [place_of(page, 0, 832, 0)[0], place_of(page, 1, 0, 0)[0]]  # backs in
    assert abs(edges[0] - edges[1]) < 12
    wait_for(lambda: seen_on(page)[500:700, 100:250].max() > 60)
    picture(page, "review-priors")
    page.keyboard.press("q")
    until(page, "mammoscope.state.hanging === 'four' && mammoscope.views().filter(Boolean).length === 4")

    # On an upright monitor of five megapixels the images have its whole width, and every button is on it.
    page.set_viewport_size({"width": 2048, "height": 2560})
    page.keyboard.press("0")
    until(page, "mammoscope.views()[0].map.getSize()[0] > 1000")
    box = page.locator("#views").bounding_box()
    assert (box["width"], box["height"] > 1700) == (2048, True)
    assert page.locator("#done").bounding_box()["y"] < 2560
    wait_for(lambda: seen_on(page)[400:800, 700:1000].max() > 60)
    picture(page, "review-portrait")
    page.set_viewport_size({"width": 1280, "height": 800})

    # Back to front: tiles are cut now, so the page brings a preview before its scripts.
    answer = page.request.get(f"{service.url}/studies/{phantom}")
    assert answer.text().count('class="preview"') == 4
    assert kept <= 4
    page.keyboard.press("r")
    page.wait_for_url(lambda url: not url.endswith(f"/{phantom}"))
    [read] = store.reads(phantom)
    assert (read.reader, str(read.opinion)) == ("Gina", "recall")


def wait_for(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_pages_have_no_serious_fault_for_those_who_see_or_move_otherwise(
    enter: Callable[..., Any], service: ReviewService
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    study = add_study(service, "axe", patient_name="<script>alert(1)</script>")
    page = enter("Axel")
    found = []
    # axe is a script of ours for once: the policy that forbids others is tried in every other test.
    for path in ("/login", "/worklist", f"/studies/{study}", "/figures", "/patches", "/export", "/audit", "/study/x"):
        page.goto(service.url + path)
        if path.startswith("/studies"):
            page.wait_for_selector("body[data-ready=yes]")
            for key in ("2", "Tab", "m", "l"):  # what is chosen, a tool and the magnifier are on the page too
                page.keyboard.press(key)
            assert "<script>alert(1)</script>" in page.inner_text("#patient")
        results = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response
        found += [
            (path, one["id"], one["nodes"][0]["html"][:120])
            for one in results["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    assert found == []
