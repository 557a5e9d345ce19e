"""The application as a browser, or somebody who is none, speaks to it."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from mammoscope.datasets import load_dataset
from mammoscope.imaging import read_mammogram
from mammoscope.review import DatasetStudies, ReadingRoom, Role, make_app
from mammoscope.review.out import export_dataset
from mammoscope.review.store import ProposedBox, SourceImage, SourceStudy
from mammoscope.review.store.marks import Origin

PASSWORD = "correct horse battery"


def client_of(room: ReadingRoom, *, host: str = "127.0.0.1") -> TestClient:
    return TestClient(make_app(room), base_url=f"http://{host}:8090", client=("127.0.0.1", 50000))


def logged_in(room: ReadingRoom, name: str = "Anna", password: str = "") -> TestClient:
    client = client_of(room)
    answer = client.post("/login", data={"name": name, "password": password, "to": "/worklist"}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    page = client.get("/worklist").text
    client.headers["X-Form-Token"] = page.partition('name="form-token" content="')[2].partition('"')[0]
    return client


def action(kind: str = "accept", mark: str = "p1", *, token: str = "1" * 32, expected: int = 0, **more) -> dict:
    return {"token": token, "expected": expected, "kind": kind, "mark": mark, **more}


def test_a_study_is_shown_with_its_tiles_and_every_look_is_in_the_audit_trail(room: ReadingRoom):
    client = logged_in(room)
    listed = client.get("/api/worklist", params={"sort": "suspicion"}).json()
    assert [study["highest"] for study in listed["studies"]] == [0.9, 0.8, 0.7]
    study = client.get("/api/studies/1").json()
    assert [image["name"] for image in study["images"]] == ["R CC", "L CC", "R MLO", "L MLO"]
    image = study["images"][1]["id"]
    display = client.get(f"/api/images/{image}").json()
    pixels = read_mammogram(room.store.image(image).path).pixels
    tile = client.get(f"/api/images/{image}/{display['digest']}/1/0/1")
    assert tile.headers["cache-control"].startswith("private")
    planes = np.frombuffer(tile.content, np.uint8).reshape(2, 512, 512).astype(np.uint16)
    values = planes[0] | planes[1] << 8
    assert np.array_equal(values[: pixels.shape[0] - 512, : pixels.shape[1]], pixels[512:])
    seen = [(line["event"], line["who"], line.get("study") or line.get("image")) for line in room.audit_lines()]
    assert ("StudyViewed", "Anna", "p0") in seen
    assert ("ImageViewed", "Anna", "p0_L_CC.png") in seen


def test_the_server_windows_as_the_card_does(room: ReadingRoom):
    client = logged_in(room)
    display = client.get("/api/images/2").json()
    picture = client.get(
        f"/api/images/2/{display['digest']}/1/0/0/picture", params={"low": 20000, "high": 20200, "inverted": True}
    )
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED)
    values = read_mammogram(room.store.image(2).path).pixels[:512, :480].astype(float)
    expected = 255 * (1 - np.clip((values - 20000) / 200, 0, 1))
    assert np.abs(shown[:, :480] - expected).max() <= 0.51


def test_where_the_model_was_wrong_is_shown_the_worst_first(room: ReadingRoom):
    anna, bert = logged_in(room), logged_in(room, "Bert")
    marks = {image: found[1] for image, found in room.store.marks(1, "Anna").items()}
    image = next(image for image, found in marks.items() if len(found) == 2)
    box = [101, 401, 181, 471]
    for number, client in enumerate((anna, bert)):
        drawn = action("draw", f"d{number:032x}", token=f"{number:032x}", box=box, label="Mass")
        rejected = action("reject", marks[image][1].id, token=f"{number + 9:032x}", expected=1)
        for one in (drawn, rejected):
            assert client.post(f"/api/images/{image}/actions", json=one).status_code == 200
        assert client.post("/api/studies/1/read", json={"state": "done"}).status_code == 200
    page = anna.get("/patches").text
    misses, _, alarms = page.partition("False alarms")
    query = "x0=101.0&amp;y0=401.0&amp;x1=181.0&amp;y1=471.0"
    assert f"/api/images/{image}/patch?{query}" in misses
    assert alarms.count("/patch?") == 1
    assert "30 %" in alarms
    picture = anna.get(f"/api/images/{image}/patch?{query.replace('&amp;', '&')}")
    shown = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape == (140, 160)
    pixels = read_mammogram(room.store.image(image).path).pixels[366:506, 61:221].astype(float)
    assert np.abs(shown - pixels / 257).mean() < 4
    assert anna.get(f"/api/images/{image}/patch?x0=9000&y0=9000&x1=9001&y1=9001").status_code == 404
    assert anna.get(f"/api/images/{image}/patch?x0=9&y0=9&x1=9&y1=9").status_code == 400
    assert "PatchesViewed" in [line["event"] for line in room.audit_lines()]


def test_nobody_gets_anything_without_logging_in(room: ReadingRoom):
    client = client_of(room)
    for path in ("/", "/worklist", "/studies/1", "/figures", "/audit", "/next"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?to=/")
    for path in ("/api/worklist", "/api/studies/1", "/api/images/1", "/api/next", "/api/events"):
        assert client.get(path).status_code == 401
    assert client.post("/api/images/1/actions", json=action()).status_code == 401
    answer = client.get("/login")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_without_accounts_only_this_machine_is_served(room: ReadingRoom):
    far = TestClient(make_app(room), base_url="http://127.0.0.1:8090", client=("10.0.0.7", 50000))
    proxied = client_of(room)
    proxied.headers["X-Forwarded-For"] = "10.0.0.7"
    for client in (far, proxied, client_of(room, host="rebound.example")):
        answer = client.get("/login")
        assert answer.status_code == 403
        assert "mammoscope readers add" in answer.text
    room.accounts.add("Anna", PASSWORD, Role.READER)
    assert far.get("/login").status_code == 200


def test_a_forged_form_changes_nothing(room: ReadingRoom):
    client = logged_in(room)
    for forged in (
        {"X-Form-Token": ""},
        {"X-Form-Token": "x" * 43},
        {"X-Form-Token": "ä" * 20},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        headers = {key: value.encode() for key, value in forged.items()}
        answer = client.post("/api/images/1/actions", json=action(), headers=headers)
        assert answer.status_code == 403, forged
    assert client.post("/logout", data={"form_token": "no"}).status_code == 403
    assert room.store.history(1) == ()
    assert client.post("/api/images/1/actions", json=action()).status_code == 200


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"kind": "draw", "mark": "d" + "0" * 32, "box": [5, 5, 5, 9], "label": "Mass"}, "a width and a height"),
        ({"kind": "draw", "mark": "d" + "0" * 32, "box": [-9, -9, -1, -1], "label": "Mass"}, "lies outside"),
        ({"kind": "draw", "mark": "d" + "0" * 32, "box": [1, 1, 9, 9], "label": "Tumour"}, "no class of that name"),
        ({"kind": "draw", "mark": "d" + "0" * 32, "label": "Mass"}, "draw needs a box"),
        ({"kind": "explode"}, "kind"),
        ({"mark": "../../etc/passwd"}, "mark"),
        ({"token": "short"}, "token"),
        ({"who": "Bert"}, "who"),
        ({"details": {"comment": "x" * 501}}, "comment"),
        ({"kind": "describe", "label": "Mass", "details": {"birads": "7"}}, "BI-RADS category is one of 0, 1, 2"),
        ({"kind": "describe", "label": "Mass", "details": {"shape": "<b>"}}, "A shape is one of"),
    ],
)
def test_an_impossible_action_gets_one_sentence(room: ReadingRoom, given: dict, why: str):
    client = logged_in(room)
    answer = client.post("/api/images/1/actions", json={**action(), **given})
    assert answer.status_code in (400, 422)
    assert why in answer.json()["detail"]
    assert room.store.history(1) == ()


def test_a_box_is_cut_at_the_edge_of_its_image(room: ReadingRoom):
    drawn = action("draw", "d" + "0" * 32, box=[400, 600, 9000, 9000], label="Mass")
    marks = logged_in(room).post("/api/images/1/actions", json=drawn).json()["marks"]
    assert marks[-1]["box"] == [400, 600, 480, 640]


def test_two_windows_are_told_apart_and_both_see_what_is(room: ReadingRoom):
    one, other = logged_in(room), logged_in(room)
    assert one.post("/api/images/1/actions", json=action("reject")).status_code == 200
    answer = other.post("/api/images/1/actions", json=action("accept", token="2" * 32))
    assert answer.status_code == 409
    assert answer.json()["now"]["marks"][0]["verdict"] == "rejected"
    assert "another window" in answer.json()["detail"]


def test_a_blind_second_reader_sees_nothing_of_the_first_until_both_are_done(room: ReadingRoom):
    anna, bert = logged_in(room), logged_in(room, "Bert")
    drawn = action("draw", "d" + "a" * 32, box=[100, 100, 200, 200], label="Mass")
    assert anna.post("/api/images/1/actions", json=drawn).status_code == 200
    assert anna.post("/api/studies/1/read", json={"state": "done"}).json()["next"] == 2
    seen = bert.get("/api/studies/1")
    assert "Anna" not in seen.text
    assert "a" * 32 not in seen.text
    assert bert.get("/api/images/1/history").json() == []
    assert seen.json()["place"] == "second"
    assert bert.post("/api/studies/1/read", json={"state": "done"}).json()["progress"] == "disputed"
    assert [one["reader"] for one in bert.get("/api/studies/1").json()["disagreements"]] == ["Anna"]
    cleo = logged_in(room, "Cleo")
    assert set(cleo.get("/api/studies/1").json()["images"][0]["others"]) == {"Anna", "Bert"}
    assert "kappa" in cleo.get("/figures").text or "were read twice" in cleo.get("/figures").text


def test_what_is_not_a_number_of_a_study_is_no_path(room: ReadingRoom):
    client = logged_in(room)
    for path in (
        "/api/studies/../../etc/passwd", "/api/studies/..%2f..%2fetc%2fpasswd", "/api/images/1%00", "/studies/abc",
        "/api/images/1/" + "0" * 64 + "/0/0/0", "/api/images/1/..%2f..%2freview.sqlite/0/0/0", "/static/../app.py",
        "/static/..%2fapp.py", "/api/studies/0", "/api/studies/99", "/api/images/99999999999999999999",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code in (404, 422), path
        assert "import" not in answer.text


def test_markup_in_a_patients_name_is_text(room: ReadingRoom):
    name = "<img src=x onerror=alert(1)>\x1b[2J"
    image = SourceImage("image", room.store.image(1).path, proposals=(ProposedBox(Origin.MODEL, (1, 1, 9, 9), "Mass"),))
    room.store.put([SourceStudy("evil", name, room.store.study(1).came_at, (image,), "1", patient_name=name)])
    client = logged_in(room)
    page = client.get("/worklist", params={"search": "onerror"}).text
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "\x1b" not in page
    page = client.get("/worklist", params={"search": '"><script>alert(1)</script>', "sort": '"><script>'}).text
    assert "<script>alert" not in page


def test_wrong_passwords_have_to_wait_and_a_session_ends(room: ReadingRoom):
    room.accounts.add("Anna", PASSWORD, Role.READER)
    client = client_of(room)
    assert "by_name" not in client.get("/login").text
    for _ in range(5):
        assert client.post("/login", data={"name": "Anna", "password": "wrong"}).status_code == 401
    refused = client.post("/login", data={"name": "Anna", "password": PASSWORD})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 200
    room.accounts.add("Bert", PASSWORD, Role.ANNOTATOR)
    bert = logged_in(room, "Bert", PASSWORD)
    assert bert.post("/api/studies/1/send", json={}).status_code == 400
    room.accounts.set_active("Bert", False)
    ended = bert.post("/api/images/1/actions", json=action())
    assert (ended.status_code, ended.json()["detail"]) == (401, "Your session ended: log in again.")
    assert client.post("/login", data={"name": "Bert", "password": PASSWORD}).status_code == 401
    answer = client_of(room).post("/login", data={"name": "x", "password": "y", "to": "//evil.example"})
    assert 'value="/"' in answer.text


def test_an_auditor_reads_nothing_and_a_reader_audits_nothing(room: ReadingRoom):
    room.accounts.add("Olga", PASSWORD, Role.AUDITOR)
    room.accounts.add("Anna", PASSWORD, Role.READER)
    olga, anna = logged_in(room, "Olga", PASSWORD), logged_in(room, "Anna", PASSWORD)
    assert olga.post("/api/images/1/actions", json=action()).status_code == 403
    assert olga.post("/api/studies/1/read", json={"state": "done"}).status_code == 403
    assert "LoggedIn" in olga.get("/audit").text
    assert anna.get("/audit").status_code == 403
    assert anna.post("/api/studies/1/send", json={}).json()["detail"] == "This reading room has no PACS to send to."


def test_a_study_that_is_deleted_while_open_says_so(tmp_path: Path, small_dataset: tuple[Path, Path]):
    folder = tmp_path / "dataset"
    shutil.copytree(small_dataset[0], folder)
    with ReadingRoom(DatasetStudies(folder), tmp_path / "review", studies_ahead=0) as room:
        client = logged_in(room)
        display = client.get("/api/images/1").json()
        (folder / "images" / "p0_R_CC.png").unlink()
        room.sync()
        assert not list((tmp_path / "review" / "tiles").glob("*.tiles"))
        for path in ("/api/images/1", f"/api/images/1/{display['digest']}/0/0/0"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["detail"]) == (404, "The image R CC is no longer kept here.")
        room.store.mark_gone(["p0"])
        assert client.get("/api/studies/1").status_code == 404
        assert client.post("/api/images/1/actions", json=action("undo")).status_code == 400


def test_an_image_that_cannot_be_decoded_says_so_and_the_others_are_shown(
    tmp_path: Path, small_dataset: tuple[Path, Path]
):
    folder = tmp_path / "dataset"
    shutil.copytree(small_dataset[0], folder)
    broken = folder / "images" / "p0_R_CC.png"
    broken.write_bytes(broken.read_bytes()[:20000])
    with ReadingRoom(DatasetStudies(folder), tmp_path / "review", studies_ahead=0) as room:
        client = logged_in(room)
        answer = client.get("/api/images/1")
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("R CC ")
        assert "damaged or cut" in answer.json()["detail"]
        assert client.get("/api/images/2").status_code == 200


@pytest.mark.slow
def test_three_thousand_boxes_on_one_image_are_all_there(room: ReadingRoom):
    rng = np.random.default_rng(1)
    boxes = tuple(
        ProposedBox(Origin.MODEL, (x, y, x + 20, y + 20), "Mass", float(rng.uniform()))
        for x, y in rng.uniform(0, 400, (3000, 2)).tolist()
    )
    image = SourceImage("crowded", room.store.image(1).path, rows=640, columns=480, proposals=boxes)
    room.store.put([SourceStudy("crowded", "crowded", room.store.study(1).came_at, (image,), "1")])
    client = logged_in(room)
    study = client.get("/api/next").json()["study"]
    [shown] = client.get(f"/api/studies/{study}").json()["images"]
    assert len(shown["marks"]) == 3000
    ended = client.post(f"/api/studies/{study}/read", json={"state": "done", "shown_from": 0.5, "known": {}})
    assert ended.status_code == 200
    judged = sum(
        mark["verdict"] == "accepted" for mark in client.get(f"/api/studies/{study}").json()["images"][0]["marks"]
    )
    assert judged == sum(box.score >= 0.5 for box in boxes)


def test_a_study_opens_in_the_sites_own_viewer_by_an_address_with_its_uid(room: ReadingRoom):
    client = logged_in(room)
    assert client.get("/api/studies/1").json()["viewer"] is None
    room.viewer_url = "https://pacs/ohif/viewer?StudyInstanceUIDs={study}"
    assert client.get("/api/studies/1").json()["viewer"] == "https://pacs/ohif/viewer?StudyInstanceUIDs=p0"


def test_what_is_of_a_node_is_not_there_without_one_and_figures_are(room: ReadingRoom):
    client = logged_in(room)
    assert client.get("/node").status_code == 404
    assert "/node" not in client.get("/worklist").text
    assert client.get("/login/openid").status_code == client.get("/login/openid/back").status_code == 404
    client.post("/api/images/1/actions", json=action("reject"))
    page = client.get("/figures").text
    assert "Which threshold?" in page
    assert "It takes 20 images" in page
    figures = client.get("/api/figures", params={"false_positives": 0.3}).json()
    assert figures["images"]["all"] == {
        "name": "all",
        "images": 12,
        "findings": 18,
        "annotated": 0,
        "findings_per_image": 1.5,
    }
    assert figures["thresholds"] == figures["drift"] == []
    assert figures["agreement"]["kappa"] is None


def test_the_description_of_the_json_side_is_whole(room: ReadingRoom):
    described = client_of(room).get("/openapi.json").json()
    assert "/api/images/{image}/actions" in described["paths"]
    assert "/worklist" not in described["paths"]
    assert json.dumps(described).count("$ref")
    tile = client_of(room).get("/docs")
    assert tile.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/study/nonsense", 404, "nothing at this address"),
        ("GET", "/nonsense", 404, "nothing at this address"),
        ("GET", "/studies/nonsense", 404, "nothing at this address"),
        ("GET", "/studies/0", 404, "nothing at this address"),
        ("GET", "/studies/99", 404, "There is no such study."),
        ("GET", "/node/studies/nonsense", 404, "nothing at this address"),
        ("GET", "/api/nonsense", 404, "nothing at this address"),
        ("GET", "/api/studies/99", 404, "There is no such study."),
        ("GET", "/static/nonsense.js", 404, "nothing at this address"),
        ("GET", "/export", 404, "not written here"),
        ("GET", "/worklist?number=0", 422, "number"),
        ("DELETE", "/worklist", 405, "not asked for in that way"),
        ("POST", "/api/worklist", 405, "not asked for in that way"),
        ("POST", "/login?" + "x" * 99, 413, "more than any page sends"),
    ],
)
def test_a_wrong_address_gives_a_browser_a_page_and_a_program_json(
    room: ReadingRoom, method: str, path: str, status: int, words: str
):
    client = logged_in(room)
    given = {"content": b"x" * 70_000} if status == 413 else {}
    seen = client.request(method, path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}, **given)
    assert seen.status_code == status
    assert seen.headers["content-type"].startswith("text/html")
    assert words in seen.text
    assert "default-src 'none'" in seen.headers["content-security-policy"]
    assert '<a href="/worklist">' in seen.text
    if path.startswith("/api/"):
        asked = client.request(method, path)
        assert (asked.status_code, list(asked.json())) == (status, ["detail"])
        assert words in asked.json()["detail"]


def test_pages_count_in_english(room: ReadingRoom):
    client = logged_in(room)
    assert "<caption>3 studies</caption>" in client.get("/worklist").text
    assert "<caption>1 study</caption>" in client.get("/worklist", params={"search": "p1"}).text
    bert = logged_in(room, "Bert")
    keys = iter(range(100))
    for reader in (client, bert):
        image = SourceImage(
            "alone", room.store.image(1).path, proposals=(ProposedBox(Origin.MODEL, (1, 1, 9, 9), "Mass"),)
        )
        room.store.put([SourceStudy("alone", "alone", room.store.study(1).came_at, (image,), str(next(keys)))])
        study = room.store.worklist(search="alone").rows[0].id
        assert reader.post(f"/api/studies/{study}/read", json={"state": "done"}).status_code == 200
    assert "1 image was read twice" in client.get("/figures").text


def test_what_was_read_is_written_as_a_data_set_from_the_page(room: ReadingRoom):
    client = logged_in(room)
    room.export = lambda out: str(export_dataset(room.store, room.source.dataset, out))
    token = {"form_token": client.headers["X-Form-Token"]}
    assert client.post("/export", data={"form_token": "x"}).status_code == 403
    assert "No study was read to its end" in client.post("/export", data=token).text
    for reader in (client, logged_in(room, "Bert")):
        assert reader.post("/api/studies/1/read", json={"state": "done"}).status_code == 200
    assert '<a href="/export">' in client.get("/worklist").text
    said = client.post("/export", data=token).text
    assert "12 images, 4 of them validated and 0 disputed" in said
    [folder] = room.exports.iterdir()
    assert f'<th scope="row">{folder.name}</th>' in said
    assert len(load_dataset(folder)) == 12
    assert "DatasetExported" in [line["event"] for line in room.audit_lines()]
    room.accounts.add("Rita", PASSWORD, Role.READER)
    rita = logged_in(room, "Rita", PASSWORD)
    assert "/export" not in rita.get("/worklist").text
    refused = [rita.get("/export"), rita.post("/export", data={"form_token": rita.headers["X-Form-Token"]})]
    assert [answer.status_code for answer in refused] == [403, 403]
