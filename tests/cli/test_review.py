"""``mammoscope readers``, what ``mammoscope review`` refuses, and the way from readers to figures."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import ReviewState, load_dataset
from mammoscope.errors import MammoscopeError
from mammoscope.review import Accounts, DatasetStudies, ReadingRoom, ReviewService, ReviewStore, Role


def test_accounts_are_added_disabled_and_listed(tmp_path: Path):
    runner = CliRunner()

    def readers(*words: str, typed: str = "") -> str:
        done = runner.invoke(app, ["readers", words[0], str(tmp_path), *words[1:]], input=typed, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    readers("add", "anna", "--role", "admin", "--password-stdin", typed="correct horse\n")
    assert "anna\tadmin" in readers("list")
    accounts = Accounts(ReviewStore(tmp_path / "review").database)
    user = accounts.authenticate("anna", "correct horse")
    assert user is not None
    assert user.role is Role.ADMIN
    readers("disable", "anna")
    assert "disabled" in readers("list")
    assert accounts.authenticate("anna", "correct horse") is None
    assert (tmp_path / "review" / "review.sqlite").stat().st_mode & 0o077 == 0
    for words, why in (
        (("add", "anna", "--password-stdin"), "already"),
        (("add", "b^c", "--password-stdin"), "a name has"),
        (("password", "nobody", "--password-stdin"), "no user"),
        (("add", "bert", "--role", "king", "--password-stdin"), "a role is one of"),
    ):
        with pytest.raises(MammoscopeError, match=why):
            runner.invoke(
                app, ["readers", words[0], str(tmp_path), *words[1:]], input="long enough\n", catch_exceptions=False
            )


def test_what_cannot_be_read_or_exported_is_said(tiny_dataset: Path, tmp_path: Path):
    runner, dataset = CliRunner(), tmp_path / "dataset"
    shutil.copytree(tiny_dataset, dataset)  # a reading room keeps its things in the data set's folder
    for words, why in (
        ([str(tmp_path)], "not a data set's folder"),
        ([str(dataset), "--second-reader", "deaf"], "none, blind or open"),
        ([str(dataset), "--export", str(tmp_path / "out")], "no study was read"),
    ):
        with pytest.raises(MammoscopeError, match=why):
            runner.invoke(app, ["review", *words], catch_exceptions=False)


FALSE_BOX = (60.0, 100.0, 90.0, 124.0)


def unread_copy(dataset: Path, folder: Path) -> tuple[Path, dict[int, list[float]]]:
    """A data set's images that nobody annotated, predictions on them, and where the masses are.

    The detector found every mass but that of image 0, and something in the same corner of each image.
    """
    shutil.copytree(dataset, folder)
    document = json.loads((folder / "annotations.json").read_text())
    masses = {one["image_id"]: one["bbox"] for one in document["annotations"]}
    for image in document["images"]:
        image["review"] = "unannotated"
    (folder / "annotations.json").write_text(json.dumps({**document, "annotations": []}))
    x0, y0, x1, y1 = FALSE_BOX
    common: dict[str, Any] = {"category_id": 1}
    found = [{"image_id": n, "bbox": box, "score": 0.9, **common} for n, box in masses.items() if n]
    found += [
        {"image_id": image["id"], "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.3, **common}
        for image in document["images"]
    ]
    predictions = folder.parent / "predictions.json"
    predictions.write_text(json.dumps(found))
    return predictions, masses


def read_all(client: httpx.Client, drawn: list[float], doubtful: tuple[int, ...]) -> None:
    """Read every study: draw the mass that was missed, reject the false box on some images, accept the others."""
    x, y, width, height = drawn
    while (study := client.get("/api/next").json()["study"]) is not None:
        for image in client.get(f"/api/studies/{study}").json()["images"]:
            number = int(image["key"].removesuffix(".png"))
            actions = []
            if number == 0:
                box = [x, y, x + width, y + height]
                actions.append({"kind": "draw", "mark": "d" + "0" * 32, "box": box, "label": "Mass"})
            if number in doubtful:
                false = next(mark for mark in image["marks"] if mark["score"] == 0.3)
                actions.append({"kind": "reject", "mark": false["id"]})
            for done, action in enumerate(actions):
                said = {"token": f"{number * 10 + done + 1:032x}", "expected": done, **action}
                assert client.post(f"/api/images/{image['id']}/actions", json=said).status_code == 200
        ended = client.post(f"/api/studies/{study}/read", json={"state": "done", "shown_from": 0.5})
        assert ended.json()["progress"] == "read"


def test_what_was_read_is_audited_trained_on_and_evaluated(
    command: Callable, tiny_dataset: Path, tiny_recipe: Callable[..., Path], tmp_path: Path
):
    pytest.importorskip("torch")
    unread = tmp_path / "unread"
    predictions, masses = unread_copy(tiny_dataset, unread)
    room = ReadingRoom(DatasetStudies(unread, predictions), unread / "review")
    with ReviewService(room, port=0) as service, httpx.Client(base_url=service.url, follow_redirects=True) as client:
        page = client.post("/login", data={"name": "Anna", "to": "/worklist"})
        client.headers["X-Form-Token"] = page.text.partition('name="form-token" content="')[2].partition('"')[0]
        read_all(client, masses[0], doubtful=(1, 3, 9))

    done = command("review", unread, "--export", tmp_path / "read")
    assert done.returncode == 0, done.stderr
    assert "12 of them validated and 0 disputed, 9 boxes, 3 rejected boxes" in done.stdout
    dataset = load_dataset(tmp_path / "read")
    assert {image.review for image in dataset} == {ReviewState.VALIDATED}
    for image in dataset:
        expected = [masses[image.id]] if image.id in masses else []
        assert [list(box.as_xywh()) for box in image.boxes] == [pytest.approx(box, abs=0.01) for box in expected]
        rejected = [FALSE_BOX] if image.id in (1, 3, 9) else []
        assert [box.as_tuple() for box in image.hard_negatives] == rejected
    done = command("dataset", "audit", tmp_path / "read", "--json")
    assert done.returncode == 0, done.stdout

    run = tmp_path / "run"
    recipe = tiny_recipe(run, data__dataset=str(tmp_path / "read"), schedule__iterations=10)
    assert command("train", recipe, "--set", "data.validated_only=true").returncode == 0
    assert command("export", run, "--out", tmp_path / "read.onnx").returncode == 0
    done = command(
        "evaluate", "--bundle", tmp_path / "read.onnx", "--dataset", tmp_path / "read", "--split", "val",
        "--out", tmp_path / "figures", "--pictures", "none", "--resamples", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "figures" / "metrics.json").read_text())["n_boxes"] == 3

    alike = tmp_path / "alike"
    seldom = ("--set", "sampling.hard_negatives=1", "--set", f"run.folder={alike}")
    assert command("train", recipe, "--set", "data.validated_only=true", *seldom).returncode == 0
    first, other = (json.loads((one / "curves.jsonl").read_text().splitlines()[0]) for one in (run, alike))
    assert first["loss"] != other["loss"]
