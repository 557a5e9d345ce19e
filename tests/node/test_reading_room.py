"""The reading room beside a node: a received study is seen, corrected, and sent to the PACS as its reader's."""

import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest
from pydicom import FileDataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage, MammographyCADSRStorage

from mammoscope.network import ServiceError
from mammoscope.node import Node
from mammoscope.results.verification import ai_sr_marks, cad_sr_marks
from mammoscope.review import Role
from mammoscope.review.beside_node import reading_room


def log_in(url: str) -> httpx.Client:
    client = httpx.Client(base_url=url, follow_redirects=True, timeout=30)
    assert client.post("/login", data={"name": "Dr^Grün", "to": "/"}).status_code == 400  # no name in a report
    page = client.post("/login", data={"name": "Dr Grün", "to": "/worklist"})
    client.headers["X-Form-Token"] = page.text.partition('name="form-token" content="')[2].partition('"')[0]
    return client


def test_a_reader_sees_corrects_and_sends_what_the_node_received(
    make_settings: Callable, detector, pacs, images: list[FileDataset], send: Callable, wait_until: Callable
):
    for image in images:
        image.PatientName = "<b>Doe</b>^Jane"
    settings = make_settings(pacs.port).model_copy(update={"review": review_settings(port=0, organisation="Clinic")})
    study = str(images[0].StudyInstanceUID)
    with Node(settings, detector) as node, reading_room(settings, node.records) as service:
        assert service is not None
        send(images, node)
        wait_until(lambda: len(pacs.received) >= 3)
        by_model = len(pacs.received)
        client = log_in(service.url)
        with closing(client):
            wait_until(lambda: [s["state"] for s in client.get("/api/worklist").json()["studies"]] == ["done"])
            [row] = client.get("/api/worklist").json()["studies"]
            assert (row["key"], row["images"]) == (study, 4)
            assert row["findings"] == sum(image.findings for image in node.records.study(study).images) > 0
            page = client.get("/worklist").text
            assert "&lt;b&gt;Doe" in page
            assert "<b>Doe" not in page
            shown = client.get(f"/api/studies/{row['id']}").json()
            assert sorted(image["name"] for image in shown["images"]) == ["L CC", "L MLO", "R CC", "R MLO"]
            for image in shown["images"]:
                display = client.get(f"/api/images/{image['id']}").json()
                assert (display["rows"], display["columns"]) == (256, 192)
            assert client.post(f"/api/studies/{row['id']}/send", json={}).status_code == 400  # not read yet
            [image, *_] = [one for one in shown["images"] if one["marks"]]
            rejected = {"token": "1" * 32, "expected": 0, "kind": "reject", "mark": image["marks"][0]["id"]}
            assert client.post(f"/api/images/{image['id']}/actions", json=rejected).status_code == 200
            other = next(one for one in shown["images"] if one is not image)
            drawn = {
                "token": "2" * 32, "expected": 0, "kind": "draw", "mark": "d" + "0" * 32, "label": "Mass",
                "box": [20.0, 30.0, 60.0, 90.0],
            }  # fmt: skip
            assert client.post(f"/api/images/{other['id']}/actions", json=drawn).status_code == 200
            ended = client.post(f"/api/studies/{row['id']}/read", json={"state": "done"})
            assert ended.json() == {"progress": "read", "next": None}
            said = client.post(f"/api/studies/{row['id']}/send", json={})
            assert said.status_code == 200, said.text
            wait_until(lambda: len(pacs.received) > by_model + 2)
            wait_until(lambda: str(node.records.study(study).state) == "done")
        by_reader = pacs.received[by_model:]
    [verified] = [one for one in by_reader if one.get("VerificationFlag") == "VERIFIED"]
    assert verified.VerifyingObserverSequence[0].VerifyingObserverName == "Dr Gr?n^"
    assert verified.VerifyingObserverSequence[0].VerifyingOrganization == "Clinic"
    assert (20.0, 30.0, 60.0, 90.0) in {
        tuple(box.as_tuple()) for boxes in ai_sr_marks(verified).values() for box in boxes
    }
    left = [tuple(box.as_tuple()) for box in ai_sr_marks(verified)[image["key"]]]
    assert len(left) == len(image["marks"]) - 1
    [cad] = [one for one in by_reader if one.SOPClassUID == MammographyCADSRStorage]
    assert cad_sr_marks(cad).keys() == ai_sr_marks(verified).keys()
    assert any(one.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage for one in by_reader)
    trail = "".join(file.read_text() for file in (settings.node.storage / "audit").glob("*.jsonl"))
    assert trail.count('"StudyViewed"') == 1
    assert "Doe" not in trail


def review_settings(**given: object):
    from mammoscope.settings.schema import ReviewSettings

    return ReviewSettings(**given)


def test_beyond_this_machine_it_needs_accounts(make_settings: Callable, detector, pacs):
    from mammoscope.review import Accounts, ReviewStore

    settings = make_settings(pacs.port).model_copy(update={"review": review_settings(host="0.0.0.0", port=0)})
    with Node(settings, detector) as node:
        with pytest.raises(ServiceError, match="without accounts"), reading_room(settings, node.records):
            pass
        Accounts(ReviewStore(settings.node.storage / "review").database).add("Olga", "correct horse", Role.ADMIN)
        with reading_room(settings, node.records) as service:
            assert service is not None
            port = service.url.rpartition(":")[2]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/login") as page:
                assert b"Password" in page.read()
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/worklist")
