"""Why the model sees a box: asked for by a page, made beside, kept and forgotten."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from mammoscope.explain import Occlusion
from mammoscope.imaging import Laterality, View
from mammoscope.phantom import screening_study
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewError, make_app
from mammoscope.review.heat_maps import MOST_WAITING, Asked, HeatMaps, Stage
from mammoscope.review.store import ProposedBox, SourceImage, SourceStudy
from mammoscope.review.store.marks import Origin

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 400, 300
BOXES = {"R_CC": (205, 180, 245, 222), "R_MLO": (190, 230, 230, 270)}


@pytest.fixture
def looked(small_dataset: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[ReadingRoom, TestClient, int]]:
    """A room with a synthetic DICOM study, somebody logged in, and the study's number."""
    files = screening_study(3, rows=ROWS, columns=COLUMNS).save(tmp_path / "study")
    images = []
    for file in sorted(files):
        side, view = file.stem.split("_")
        box = BOXES.get(file.stem)
        proposals = (ProposedBox(Origin.MODEL, box, "Mass", 0.8),) if box else ()
        images.append(SourceImage(file.stem, file, Laterality(side), View(view), ROWS, COLUMNS, proposals))
    room = ReadingRoom(DatasetStudies(*small_dataset), tmp_path / "review", studies_ahead=0)
    room.heat_maps = HeatMaps(tmp_path / "maps", room.tiles.reader, occlusion=Occlusion(masks=20))
    room.store.put([SourceStudy("phantom", "phantom", datetime.now(UTC), tuple(images), "1")])
    client = TestClient(make_app(room), base_url="http://127.0.0.1:8090", client=("127.0.0.1", 50000))
    client.post("/login", data={"name": "Anna", "to": "/worklist"})
    page = client.get("/worklist").text
    client.headers["X-Form-Token"] = page.partition('name="form-token" content="')[2].partition('"')[0]
    yield room, client, room.store.worklist(search="phantom").rows[0].id
    room.stop()


def finished(client: TestClient, url: str, mark: str) -> dict[str, Any]:
    until = time.monotonic() + 120
    while (answer := client.post(url, json={"mark": mark}).json())["state"] in ("waiting", "working"):
        assert time.monotonic() < until
        time.sleep(0.1)
    return answer


def test_a_map_is_made_once_hangs_as_its_image_and_goes_with_it(looked: tuple[ReadingRoom, TestClient, int]):
    room, client, study = looked
    images = {image.key: image for image in room.store.images(study)}
    image = images["R_CC"]
    [mark] = room.store.marks(study, "Anna")[image.id][1]
    url = f"/api/images/{image.id}/heat-map"
    assert client.post(url, json={"mark": mark.id}).json()["state"] == "waiting"
    done = finished(client, url, mark.id)
    assert (done["state"], done["done"], done["total"]) == ("done", 20, 20)
    assert "D-RISE, 20 masks" in done["says"]
    x0, y0, x1, y1 = done["extent"]
    assert x0 < mark.box.x0 < mark.box.x1 < x1
    assert y0 < mark.box.y0 < mark.box.y1 < y1
    picture = client.get(done["picture"])
    assert picture.headers["content-type"] == "image/png"
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape[2] == 4
    assert 150 < shown[..., 3].max() <= 191  # the anatomy is always seen through it

    # Another room on the same folder has it from the disk.
    again = HeatMaps(room.heat_maps._folder, room.tiles.reader, occlusion=Occlusion(masks=20))
    pyramid = room.pyramid(image)
    asked = Asked(image.path, "R CC", pyramid.digest, pyramid.display, mark.box, mark.label)
    assert again.state(asked).stage is Stage.DONE
    events = [line["event"] for line in room.audit_lines()]
    assert events.count("HeatMapAsked") == 1

    for wrong in (f"{url}/{'0' * 64}", f"{url}/..%2f..%2freview.sqlite"):
        assert client.get(wrong).status_code in (404, 422)
    assert client.post(url, json={"mark": "p999"}).status_code == 404
    assert client.post(url, json={"mark": mark.id}, headers={"X-Form-Token": "x"}).status_code == 403
    image.path.unlink()
    room.heat_maps.drop_orphans()
    assert list(room.heat_maps._folder.iterdir()) == []
    assert client.get(done["picture"]).status_code == 404


def test_no_more_wait_than_can_be_made_and_a_failure_says_why(looked: tuple[ReadingRoom, TestClient, int]):
    room, client, study = looked
    images = {image.key: image for image in room.store.images(study)}
    image = images["R_CC"]
    drawn = {"token": "1" * 32, "expected": 0, "kind": "draw", "mark": "d" + "1" * 32, "box": [10, 10, 40, 40]}
    room.source.labels = ("Mass", "Cyst")
    assert client.post(f"/api/images/{image.id}/actions", json={**drawn, "label": "Cyst"}).status_code == 200
    failed = finished(client, f"/api/images/{image.id}/heat-map", drawn["mark"])
    assert failed["state"] == "failed"
    assert "knows Mass, not Cyst" in failed["says"]

    pyramid = room.pyramid(image)
    [mark] = [one for one in room.store.marks(study, "Anna")[image.id][1] if one.origin is Origin.MODEL]
    crowded = HeatMaps(room.heat_maps._folder, room.tiles.reader)
    crowded._work = lambda: None  # type: ignore[method-assign]  # whoever asks is faster than any model
    asked = [Asked(image.path, "R CC", pyramid.digest, pyramid.display, mark.box, str(n)) for n in range(99)]
    for one in asked[:MOST_WAITING]:
        assert crowded.state(one).stage is Stage.WAITING
    with pytest.raises(ReviewError, match=f"{MOST_WAITING} heat maps wait already"):
        crowded.state(asked[-1])


def test_the_boxes_of_two_views_that_are_one_lesion_are_told_as_long_as_they_stand(
    looked: tuple[ReadingRoom, TestClient, int],
):
    room, client, study = looked
    images = {image.key: image.id for image in room.store.images(study)}
    pairs = f"/api/studies/{study}/pairs"
    assert client.get(pairs).json() == []  # not cut: where the nipple is nobody knows
    for image in images.values():
        assert client.get(f"/api/images/{image}").status_code == 200
    marks = {key: [mark.id for mark in room.store.marks(study, "Anna")[image][1]] for key, image in images.items()}
    [pair] = client.get(pairs).json()
    assert pair == [{"image": images[key], "mark": marks[key][0]} for key in ("R_CC", "R_MLO")]
    assert client.get(pairs, params={"shown_from": 0.9}).json() == []
    rejected = {"token": "2" * 32, "expected": 0, "kind": "reject", "mark": marks["R_CC"][0]}
    assert client.post(f"/api/images/{images['R_CC']}/actions", json=rejected).status_code == 200
    assert client.get(pairs).json() == []
