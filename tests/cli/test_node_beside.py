"""What a person asks of a node's database, with records made by hand."""

import json
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mammoscope.cli import app, refuse_windows
from mammoscope.errors import MammoscopeError
from mammoscope.findings import ReadingStatus
from mammoscope.node.db.repository import (
    DeliveryRecord,
    DeliveryStatus,
    Failure,
    ImageRecord,
    Records,
    Report,
    ResultRecord,
    SendingRecord,
)
from mammoscope.node.events import Origin
from mammoscope.node.storage.accessions import AccessionDigests

STUDY, FAILED, PHANTOM = "1.2.3", "1.2.4", "1.2.5"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text(
        """
        [node]
        storage = "storage"
        [[destinations]]
        name = "pacs"
        ae_title = "PACS"
        host = "127.0.0.1"
        port = 104
        """
    )
    return file


@pytest.fixture
def kept(config: Path) -> Path:
    """The storage of a node with a study that its destination refused, one that failed, and a phantom."""
    storage = config.parent / "storage"
    storage.mkdir()
    with Records.open(storage) as records:
        for study, origin in ((STUDY, Origin.SENT), (FAILED, Origin.PULLED), (PHANTOM, Origin.PHANTOM)):
            records.add_object(study, f"{study}.1", "1.8", peer="MODALITY", origin=origin, at=NOON)
        sendings = (SendingRecord(sop_instance_uid="1.9.1", status=DeliveryStatus.PARKED, error="no room (0xA700)"),)
        refused = DeliveryRecord(
            destination="pacs", status=DeliveryStatus.PARKED, tries=3, errors=("no room (0xA700)",), objects=sendings
        )
        records.add_report(
            STUDY,
            Report(
                number=1,
                made_at=NOON,
                algorithm="Blob 1.0",
                seconds=1.5,
                waited_seconds=30.0,
                images=(ImageRecord(sop_instance_uid=f"{STUDY}.1", status=ReadingStatus.FOUND, findings=2),),
                results=(ResultRecord(sop_class_uid="1.9", sop_instance_uid="1.9.1"),),
                deliveries=(refused,),
            ),
        )
        records.add_failure(FAILED, Failure(at=NOON, reason="the disk broke", images=(f"{FAILED}.1",)))
        records.beat("reader", "here", 7)
    return storage


@pytest.fixture
def run(config: Path) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["node", *arguments, "--config", str(config)])

    return run


def said(result: Result) -> str:
    """The sentence that the user is told."""
    assert isinstance(result.exception, MammoscopeError), result.output
    return str(result.exception)


def audit_lines(storage: Path) -> list[dict]:
    return [json.loads(line) for file in (storage / "audit").glob("*.jsonl") for line in file.read_text().splitlines()]


@pytest.mark.parametrize("command", [["status"], ["show", STUDY], ["retry", STUDY], ["resend", STUDY], ["audit"]])
def test_before_a_node_ran_there_is_nothing_to_ask(run, config: Path, command: list[str]):
    words = said(run(*command))
    assert "no node has run with the settings" in words
    assert not (config.parent / "storage").exists()


@pytest.mark.parametrize("command", ["check", "status", "show", "report", "retry", "resend", "audit"])
def test_help(command: str):
    assert CliRunner().invoke(app, ["node", command, "--help"]).exit_code == 0


@pytest.mark.usefixtures("kept")
def test_status_in_words(run):
    result = run("status")
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    for expected in ("parked 1", "failed 1", "receiving 0", "destination parked pending", "here alive", "Free disk: "):
        assert expected in words, words


@pytest.mark.usefixtures("kept")
def test_status_for_programs(run):
    facts = json.loads(run("status", "--json").output)
    assert facts["studies"] == {"receiving": 0, "reading": 0, "sending": 0, "done": 0, "parked": 1, "failed": 1}
    assert facts["deliveries"]["pacs"]["parked"] == 1
    assert facts["workers"][0]["name"] == "reader"
    assert facts["workers"][0]["alive"] is True
    assert facts["free_bytes"] > 0
    assert facts["shadow"] is False


@pytest.mark.usefixtures("kept")
def test_the_studies_of_a_state_are_listed(run):
    assert run("status", "--state", "failed").output == f"{FAILED}  2026-01-02 12:00  1 images, 0 reports\n"
    assert run("status", "--state", "done").output == "None.\n"
    (parked,) = json.loads(run("status", "--state", "parked", "--json").output)
    assert (parked["study"], parked["images"], parked["reports"]) == (STUDY, 1, 1)
    assert "'odd' is no state of a study; use receiving" in said(run("status", "--state", "odd"))


@pytest.mark.usefixtures("kept")
def test_show_tells_all_of_a_study(run):
    words = run("show", STUDY).output
    for expected in (
        f"Study {STUDY}: parked (sent)",
        "from MODALITY: in report 1, file kept",
        "Report 1: made 2026-01-02 12:00:00 UTC by Blob 1.0",
        f"image {STUDY}.1: 2 findings",
        "to pacs: parked after 3 tries",
        "object 1.9.1: parked (no room (0xA700))",
    ):
        assert expected in words
    assert "Failed 2026-01-02 12:00:00 UTC, 1 images put aside: the disk broke" in run("show", FAILED).output
    assert json.loads(run("show", STUDY, "--json").output)["state"] == "parked"
    assert "study 9.9 is not known here" in said(run("show", "9.9"))


def test_retry_is_recorded_and_audited(run, kept: Path):
    assert run("retry", STUDY).output == f"Study {STUDY} will be read again.\n"
    with Records.open(kept) as records:
        assert records.study(STUDY).state == "receiving"
    (line,) = audit_lines(kept)
    assert (line["event"], line["study"]) == ("StudyRetried", STUDY)
    assert line["person"]
    assert "study 9.9 is not known here" in said(run("retry", "9.9"))
    assert len(audit_lines(kept)) == 1


def test_resend_begins_the_delivery_anew_and_is_audited(run, kept: Path):
    facts = json.loads(run("resend", STUDY, "--report", "1", "--destination", "pacs", "--json").output)
    assert facts == {"study": STUDY, "report": 1, "destinations": ["pacs"]}
    with Records.open(kept) as records:
        assert records.study(STUDY).state == "sending"
    assert [(line["event"], line["report"], line["destination"]) for line in audit_lines(kept)] == [
        ("ReportResent", 1, "pacs")
    ]
    assert "will be sent again to pacs." in run("resend", STUDY).output
    assert "has no report 7" in said(run("resend", STUDY, "--report", "7"))
    assert "for 'nowhere'" in said(run("resend", STUDY, "--destination", "nowhere"))


def test_the_audit_trail_is_printed_and_checked(run, kept: Path):
    run("retry", STUDY)
    run("resend", STUDY)
    assert run("audit", "--verify").output == "2 lines, none changed or cut out.\n"
    assert len(run("audit").output.splitlines()) == 2
    assert len(run("audit", "--study", STUDY).output.splitlines()) == 2
    assert run("audit", "--study", "9.9").output == ""
    (file,) = (kept / "audit").glob("*.jsonl")
    file.write_text(file.read_text().replace("StudyRetried", "StudyRead"))
    result = run("audit", "--verify")
    assert result.exit_code == 1
    assert "wrong: " in result.output
    assert "line 2 does not follow from the line before it" in result.output
    assert len(json.loads(run("audit", "--verify", "--json").output)["problems"]) == 1


def test_a_wrong_peer_is_exit_code_1(run, monkeypatch: pytest.MonkeyPatch):
    # The model is tried in tests/node/test_checks.py; here only what the command makes of an outcome.
    from mammoscope.node import preflight as checks

    outcomes = [checks.Outcome("disk", True, "room"), checks.Outcome("destination [pacs]", False, "it is down")]
    monkeypatch.setattr(checks, "check_node", lambda _: iter(outcomes))
    result = run("check")
    assert result.exit_code == 1
    assert result.output.splitlines() == ["ok    disk: room", "wrong destination [pacs]: it is down", "1 of 2 wrong."]
    assert json.loads(run("check", "--json").output)[1] == {
        "part": "destination [pacs]",
        "well": False,
        "words": "it is down",
    }
    monkeypatch.setattr(checks, "check_node", lambda _: iter(outcomes[:1]))
    assert run("check").exit_code == 0


@pytest.mark.parametrize("command", [["retry", "1.2"], ["resend", "1.2"]])
def test_a_person_s_wish_on_a_full_disk_gets_one_sentence(config: Path, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "storage").mkdir()
    with Records.open(tmp_path / "storage") as records:
        records.add_object("1.2", "1.2.1", "1.8", peer="MODALITY")
        image = ImageRecord(sop_instance_uid="1.2.1", status=ReadingStatus.NOTHING_FOUND)
        deliveries = (DeliveryRecord(destination="pacs"),)
        records.add_report("1.2", Report(number=1, made_at=datetime.now(UTC), algorithm="Blob 1", seconds=1,
                                         images=(image,), results=(), deliveries=deliveries))  # fmt: skip
        with records._engine.begin() as connection:
            for table in ("studies", "deliveries"):
                full = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
                connection.exec_driver_sql(f"CREATE TRIGGER full_{table} BEFORE UPDATE ON {table} {full}")
    result = CliRunner().invoke(app, ["node", *command, "--config", str(config)])
    assert isinstance(result.exception, MammoscopeError)
    assert str(result.exception) == (
        f"the database {tmp_path / 'storage' / 'node.sqlite'} does not do it (database or disk is full; make room on"
        " its disk)"
    )


@pytest.fixture
def scored(kept: Path) -> Path:
    """The same, and studies of two scanners with the scores of what was and was not marked."""
    with Records.open(kept) as records:
        for number in range(20):
            study = f"1.7.{number}"
            digest = AccessionDigests(kept).digest(f"A{number // 2}")
            records.add_object(study, f"{study}.1", "1.8", peer="MODALITY", at=NOON, accession=digest)
            found = (10.0, 20.0, 30.0, 40.0, 0.6 + number / 100, "Mass")
            image = ImageRecord(
                sop_instance_uid=f"{study}.1",
                status=ReadingStatus.FOUND,
                findings=1,
                found=(found,),
                below=((50.0, 60.0, 70.0, 80.0, 0.3, "Mass"),),
                threshold=0.5,
                laterality="L",
                view="CC",
                scanner="Acme One" if number % 2 else "Other\x1b[2J",
                station="ROOM1",
                month="2026-01",
                rule="north" if number == 0 else None,
            )
            report = Report(
                number=1,
                made_at=NOON,
                algorithm="Blob 1.0",
                seconds=1.0,
                waited_seconds=1.0,
                images=(image,),
                results=(),
            )
            records.add_report(study, report)
    with closing(sqlite3.connect(kept / "node.sqlite")) as database, database:
        # One that was read before lower scores were kept
        database.execute("UPDATE images_read SET below = NULL WHERE study = ?", (STUDY,))
    return kept


@pytest.mark.usefixtures("scored")
def test_a_report_tells_what_each_threshold_marks(run):
    result = run("report", "--since", "2026-01-01", "--threshold", "0.2", "--threshold", "0.7")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    # 20 with two scores each, and one image without any of before they were kept.
    assert "21 images of 21 studies were read by Blob 1.0 (21), at 0.5 (20)." in words
    assert "0.7 10 or more 0.48 47.6% 47.6% -" in words
    assert "Acme One 10 10 2.00" in words
    assert "ROOM1 20 20" in words
    assert "L CC 20 20" in words
    assert "\x1b" not in result.output
    nothing = run("report", "--since", "2026-02-01")
    assert "0 images of 0 studies were read" in nothing.output
    assert "--until 2025-01-01 lies before" in said(run("report", "--since", "2026-01-01", "--until", "2025-01-01"))


@pytest.mark.usefixtures("scored")
def test_a_threshold_is_chosen_and_printed_as_a_setting(run):
    result = run("report", "--since", "2026-01-01", "--marks-per-image", "0.5")
    settings = tomllib.loads(result.output.partition("restart the node:")[2])
    assert settings == {"model": {"threshold": 0.7}}
    assert "95 % interval" in result.output
    chosen = json.loads(run("report", "--since", "2026-01-01", "--marks-per-image", "0.5", "--json").output)["chosen"]
    low, high = chosen["interval"]
    assert low <= chosen["threshold"] == 0.7 <= high
    assert "no lesion was confirmed" in said(run("report", "--since", "2026-01-01", "--sensitivity", "0.9"))
    chosen = json.loads(run("report", "--since", "2026-01-01", "--marks-per-image", "9", "--json").output)["chosen"]
    assert (chosen["threshold"], chosen["images"], chosen["reached"]) == (0.3, 20, 2)


def test_a_sensitivity_is_reached_by_what_readers_confirmed(run, scored: Path):
    pytest.importorskip("fastapi", reason="the reading room is not installed")
    from mammoscope.review.store import ActionKind, ProposedBox, ReadState, ReviewStore, SourceImage, SourceStudy
    from mammoscope.review.store import Origin as Whose

    store = ReviewStore(scored / "review")
    for number in range(4):
        box = ProposedBox(Whose.MODEL, (10.0, 20.0, 30.0, 40.0), "Mass", 0.6 + number / 100)
        image = SourceImage(f"1.7.{number}.1", Path("x.dcm"), rows=100, columns=100, proposals=(box,))
        store.put([SourceStudy(f"1.7.{number}", "P", NOON, (image,), version="1")])
    for row in store.worklist().rows:
        [image] = store.images(row.id)
        if row.key == "1.7.3":
            [proposal] = store.marks(row.id, "anna")[image.id][1]
            reject = {"expected": 0, "token": "t", "kind": ActionKind.REJECT, "mark": proposal.id, "content": {}}
            store.act(image.id, "anna", **reject)
        store.finish(row.id, "anna", ReadState.DONE)
    store.close()
    result = run("report", "--since", "2026-01-01", "--sensitivity", "0.6", "--json")
    assert result.exit_code == 0, result.exception
    chosen = json.loads(result.output)["chosen"]
    assert (chosen["threshold"], chosen["lesions"], chosen["reached"]) == (0.61, 3, pytest.approx(2 / 3))


def test_show_finds_studies_by_accession_number_and_tells_scores_and_places(run, scored: Path):
    words = run("show", "--accession", "A0").output
    assert "Study 1.7.0: done (sent)" in words
    assert "Study 1.7.1: done (sent)" in words
    assert "image 1.7.0.1 L CC: 1 finding, rule north" in words
    assert "Mass 0.600 at x 10 to 30, y 20 to 40" in words
    assert "read at 0.5; marks at other thresholds: 0.1: 2, 0.2: 2, 0.3: 2, 0.4: 1, 0.5: 1, 0.6: 1, 0.7: 0" in words
    both = json.loads(run("show", "--accession", "A0", "--json").output)
    assert sorted(study["study_instance_uid"] for study in both) == ["1.7.0", "1.7.1"]
    assert both[0]["reports"][0]["images"][0]["below"] == [[50.0, 60.0, 70.0, 80.0, 0.3, "Mass"]]
    assert "that accession number is not known here" in said(run("show", "--accession", "B1"))
    assert "name one study" in said(run("show"))
    assert b"A0" not in (scored / "node.sqlite").read_bytes()


def test_nothing_runs_on_windows_and_that_is_said():
    with pytest.raises(MammoscopeError, match="does not run on Windows: use Linux"):
        refuse_windows("win32")
    refuse_windows("linux")
