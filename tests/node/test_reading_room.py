"""The reading room beside a node: a received study is seen, corrected, and sent to the PACS as its reader's."""

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest
from pydicom import FileDataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage, MammographyCADSRStorage

from mammoscope.datasets import load_dataset
from mammoscope.network import Destination, NetworkError, ServiceError, StorageClient
from mammoscope.node import Node, OperatedNode
from mammoscope.results.assessment import ASSESSED, ASSESSMENT
from mammoscope.results.verification import ai_sr_marks, cad_sr_marks, concept_value, content_items
from mammoscope.review import Accounts, ReviewStore, Role
from mammoscope.review.beside_node import reading_room
from mammoscope.review.errors import ReviewError

PASSWORD = "correct horse battery"


def log_in_as(url: str, name: str) -> httpx.Client:
    client = httpx.Client(base_url=url, follow_redirects=True, timeout=60)
    page = client.post("/login", data={"name": name, "password": PASSWORD, "to": "/worklist"})
    client.headers["X-Form-Token"] = page.text.partition('name="form-token" content="')[2].partition('"')[0]
    return client


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
    settings = make_settings(pacs.port).model_copy(
        update={"review": review_settings(port=0, organisation="Clinic", classes=["asymmetry"])}
    )
    study = str(images[0].StudyInstanceUID)
    with Node(settings, detector) as node, reading_room(settings, node.records, classes=["Mass"]) as service:
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
            assert shown["labels"] == ["Mass", "Asymmetry"]  # the model's, and those of the settings
            described = {
                "token": "3" * 32, "expected": 1, "kind": "describe", "mark": drawn["mark"], "label": "Mass",
                "details": {"birads": "4C", "shape": "irregular", "margin": "indistinct", "comment": "neu, größer"},
            }  # fmt: skip
            assert client.post(f"/api/images/{other['id']}/actions", json=described).status_code == 200
            assert client.get(f"/api/studies/{row['id']}/sent").json() == shown["sent"] == []
            ended = client.post(f"/api/studies/{row['id']}/read", json={"state": "done"})
            assert ended.json() == {"progress": "read", "next": None}
            said = client.post(f"/api/studies/{row['id']}/send", json={})
            assert said.status_code == 200, said.text
            wait_until(lambda: len(pacs.received) > by_model + 2)
            wait_until(lambda: str(node.records.study(study).state) == "done")
            [sent] = client.get(f"/api/studies/{row['id']}").json()["sent"]
            objects = len(node.records.study(study).reports[-1].results)
            assert (sent["reader"], sent["waiting"], sent["objects"]) == ("Dr Grün", False, objects)
            assert [(one["name"], one["status"]) for one in sent["destinations"]] == [("pacs", "sent")]
            assert sent["at"] <= sent["destinations"][0]["at"]
            # The lot as a data set, from the page, with what was said of each box.
            token = {"form_token": client.headers["X-Form-Token"]}
            assert "4 images, 4 of them validated" in client.post("/export", data=token).text
        [folder] = (settings.node.storage / "review" / "exports").iterdir()
        said = [facts.get("attributes") for one in load_dataset(folder) for facts in one.box_facts]
        assert described["details"] in said
        by_reader = pacs.received[by_model:]
    verified, assessment = sorted(
        (one for one in by_reader if one.get("VerificationFlag") == "VERIFIED"), key=lambda one: one.SeriesNumber
    )
    reports = [one for one in pacs.received[:by_model] if one.SOPClassUID == verified.SOPClassUID]
    said = {}
    for group in content_items(assessment):
        if concept_value(group) == "125007":
            within = {concept_value(item): item for item in group.ContentSequence}
            said[within["112040"].UID] = within[ASSESSMENT.value].ConceptCodeSequence[0].CodeValue
    of_model = {item.UID for report in reports for item in content_items(report) if concept_value(item) == "112040"}
    assert sorted(said.values()) == sorted(["rejected", "supplemented", *["accepted"] * (len(of_model) - 1)])
    assert of_model == {uid for uid, verdict in said.items() if verdict != "supplemented"}
    named = [item for item in content_items(assessment) if concept_value(item) == ASSESSED.value]
    assert {one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in named} <= {
        report.SOPInstanceUID for report in reports
    }
    assert verified.VerifyingObserverSequence[0].VerifyingObserverName == "Dr Gr?n^"
    assert verified.VerifyingObserverSequence[0].VerifyingOrganization == "Clinic"
    assert (20.0, 30.0, 60.0, 90.0) in {
        tuple(box.as_tuple()) for boxes in ai_sr_marks(verified).values() for box in boxes
    }
    for document, concept in ((verified, "107644003"), (verified, "111005"), (assessment, "111037")):
        [value] = [item for item in content_items(document) if concept_value(item) == concept]
        assert value.ConceptCodeSequence[0].CodeMeaning in ("Irregular", "4C - Moderate suspicion", "Indistinct lesion")
    left = [tuple(box.as_tuple()) for box in ai_sr_marks(verified)[image["key"]]]
    assert len(left) == len(image["marks"]) - 1
    [cad] = [one for one in by_reader if one.SOPClassUID == MammographyCADSRStorage]
    assert {"107644003", "111037", "111005"} <= {concept_value(item) for item in content_items(cad)}
    texts = [
        text.UnformattedTextValue
        for state in by_reader
        if state.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage
        for annotation in state.GraphicAnnotationSequence
        for text in annotation.TextObjectSequence
    ]
    assert "Mass, BI-RADS 4C, irregular, indistinct" in texts
    assert cad_sr_marks(cad).keys() == ai_sr_marks(verified).keys()
    assert any(one.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage for one in by_reader)
    trail = "".join(file.read_text() for file in (settings.node.storage / "audit").glob("*.jsonl"))
    assert trail.count('"StudyViewed"') == 2
    assert trail.count('"DatasetExported"') == trail.count('"StudySent"') == 1
    assert "Doe" not in trail


def review_settings(**given: object):
    from mammoscope.settings.schema import ReviewSettings

    return ReviewSettings(**given)


def test_a_class_without_a_code_is_told_before_anything_is_read(make_settings: Callable, pacs):
    settings = make_settings(pacs.port).model_copy(update={"review": review_settings(classes=["Tumour"])})
    with (
        pytest.raises(ReviewError, match=r"classes: no report has a code for Tumour; there are Mass, Calc"),
        reading_room(settings, None),  # type: ignore[arg-type]  # nothing is asked of it
    ):
        pass


def test_beyond_this_machine_it_needs_accounts(make_settings: Callable, detector, pacs):
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


def test_an_administrator_sees_why_and_has_it_sent_and_read_again(
    make_settings: Callable, detector, pacs, images: list[FileDataset], send: Callable, wait_until: Callable
):
    settings = make_settings(pacs.port, allowed_callers=["MODALITY"])
    settings = settings.model_copy(update={"review": review_settings(port=0)})
    accounts = Accounts(ReviewStore(settings.node.storage / "review").database)
    for name, role in (("Olga", Role.ADMIN), ("Otto", Role.AUDITOR), ("Anna", Role.READER)):
        accounts.add(name, PASSWORD, role)
    pacs.status = 0xC000
    with (
        OperatedNode(settings, detector) as operated,
        reading_room(settings, operated.node.records, operated.metrics.registry) as service,
    ):
        assert service is not None
        with pytest.raises(NetworkError):
            StorageClient("STRANGER").echo(Destination("node", "NODE", "127.0.0.1", operated.node.port))
        send(images, operated.node)
        olga, otto, anna = (log_in_as(service.url, name) for name in ("Olga", "Otto", "Anna"))
        with closing(olga), closing(otto), closing(anna):
            wait_until(lambda: [s["state"] for s in olga.get("/api/worklist").json()["studies"]] == ["parked"])
            [row] = olga.get("/api/worklist", params={"state": "parked"}).json()["studies"]
            assert row["destinations"] == {"pacs": "parked"}
            assert row["reason"].startswith("Not sent to pacs: ")
            assert olga.get("/api/worklist", params={"state": "done"}).json()["total"] == 0
            page = olga.get("/worklist").text
            assert "pacs: parked" in page
            assert "Not sent to pacs: " in page
            study, token = row["id"], {"form_token": olga.headers["X-Form-Token"]}

            # Who is no administrator, or sends a forged form, changes nothing.
            for client, given in ((otto, {"form_token": otto.headers["X-Form-Token"]}), (olga, {"form_token": "x"})):
                for path in (f"/node/studies/{study}/retry", f"/node/studies/{study}/resend"):
                    assert client.post(path, data=given).status_code == 403
            assert anna.get("/node").status_code == anna.get(f"/node/studies/{study}").status_code == 403
            assert "/node/" not in anna.get("/worklist").text

            stands = otto.get("/node").text
            assert "Send again" not in otto.get(f"/node/studies/{study}").text
            for words in ("STRANGER", "AssociationRefused", "ReportParked", "alive", "none has gone round"):
                assert words in stands
            checked = olga.post("/node/check", data=token).text
            assert re.search(r"<caption>\d of \d+ wrong</caption>", checked)
            assert re.search(r"wrong</strong></td><th scope=.row.>[^<]*pacs", checked)  # it answers no C-ECHO
            assert re.search(r"<td>ok</td><th scope=.row.>model</th>", checked)

            pacs.status = 0x0000
            said = olga.post(f"/node/studies/{study}/resend", data={**token, "report": 1, "destination": "pacs"})
            assert "Report 1 will be sent again to pacs." in said.text
            wait_until(lambda: olga.get("/api/worklist").json()["studies"][0]["destinations"] == {"pacs": "sent"})
            assert len(pacs.received) >= 3
            assert "no report 7" in olga.post(f"/node/studies/{study}/resend", data={**token, "report": 7}).text
            assert "will be read again" in olga.post(f"/node/studies/{study}/retry", data=token).text
            wait_until(lambda: "supersedes report 1" in olga.get(f"/node/studies/{study}").text)
            trail = [(line["event"], line["person"]) for line in service.room.audit_lines() if "person" in line]
            assert trail == [("StudyRetried", "Olga"), ("ReportResent", "Olga")]

            # What the images are like is measured by and by, and stands on the node's page of metrics with the rest.
            wait_until(lambda: any(facts.statistics[1] for facts in service.room.store.image_facts()))
            wait_until(lambda: b'mammoscope_review_images{scanner="Mammoscope Phantom"} 4.0' in operated.metrics.page())
