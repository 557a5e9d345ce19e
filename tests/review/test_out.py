"""What leaves the reading room: a data set that others take as it is."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mammoscope.cli import app
from mammoscope.datasets import DatasetError, ReviewState, load_dataset
from mammoscope.datasets.audit import Severity, audit_dataset
from mammoscope.imaging import read_mammogram
from mammoscope.phantom import screening_study
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewStore, SecondReader
from mammoscope.review.errors import ReviewError
from mammoscope.review.out import export_dataset
from mammoscope.review.store import ActionKind, Origin, ProposedBox, ReadState, SourceImage, SourceStudy


def act(store: ReviewStore, image: int, reader: str, kind: ActionKind, mark: str, **content: object) -> None:
    number = store.marks(store.image(image).study, reader)[image][0]
    token = f"{reader}{image}{number}"
    store.act(image, reader, expected=number, token=token, kind=kind, mark=mark, content=content)


def test_what_was_read_becomes_a_data_set_with_states_and_hard_negatives(
    small_dataset: tuple[Path, Path], tmp_path: Path
):
    source = DatasetStudies(*small_dataset)
    room = ReadingRoom(source, tmp_path / "review", second_reader=SecondReader.BLIND)
    room.sync()
    store = room.store
    with pytest.raises(ReviewError, match="no study was read"):
        export_dataset(store, source.dataset, tmp_path / "out")
    image = store.images(1)[1]  # p0's L CC: a box on the mass, and a false one below
    mass, false = store.marks(1, "Anna")[image.id][1]
    for reader in ("Anna", "Bert"):
        store.act(image.id, reader, expected=0, token=f"{reader}1", kind=ActionKind.REJECT, mark=false.id, content={})
        content = {"label": "Mass", "birads": "4B"}
        store.act(
            image.id, reader, expected=1, token=f"{reader}2", kind=ActionKind.DESCRIBE, mark=mass.id, content=content
        )
        store.finish(1, reader, ReadState.DONE, shown_from=0.5)
    store.finish(2, "Anna", ReadState.DONE, shown_from=0.5)
    other = store.images(2)[1]
    for mark in store.marks(2, "Bert")[other.id][1]:
        number = store.marks(2, "Bert")[other.id][0]
        store.act(
            other.id, "Bert", expected=number, token=f"b{mark.id}", kind=ActionKind.REJECT, mark=mark.id, content={}
        )
    store.finish(2, "Bert", ReadState.DONE, shown_from=0.5)

    written = export_dataset(store, source.dataset, tmp_path / "out")

    assert (written.images, written.validated, written.disputed, written.boxes) == (12, 4, 4, 2)
    assert written.hard_negatives == 1
    dataset = load_dataset(tmp_path / "out")
    by_name = {image.name: image for image in dataset}
    read = by_name["p0_L_CC.png"]
    assert read.review is ReviewState.VALIDATED
    assert [box.as_tuple() for box in read.boxes] == [mass.box.as_tuple()]
    assert read.box_facts[0]["attributes"] == {"birads": "4B"}
    [negative] = read.facts["attributes"]["hard_negatives"]
    assert (negative["bbox"], negative["score"]) == ([220.0, 400.0, 60.0, 50.0], 0.3)
    assert by_name["p0_R_CC.png"].review is ReviewState.VALIDATED  # read, and nothing there
    assert by_name["p1_L_CC.png"].review is ReviewState.DISPUTED
    assert by_name["p2_L_CC.png"].review is ReviewState.UNANNOTATED
    assert (read.patient, read.split, read.laterality, read.view) == ("p0", "val", "L", "CC")
    with pytest.raises(DatasetError, match="there already"):
        export_dataset(store, source.dataset, tmp_path / "out")
    room.stop()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's storage folder whose reading room has three studies: read, disputed, and not read by anybody."""
    folder = tmp_path_factory.mktemp("node")
    store = ReviewStore(folder / "review", SecondReader.OPEN)
    for number in (1, 2, 3):
        files = screening_study(number, rows=256, columns=208).save(folder / "inbox" / f"1.2.{number}")
        images = []
        for file in files:
            mammogram = read_mammogram(file)
            boxes = (ProposedBox(Origin.MODEL, (20, 30, 60, 80), "Mass", 0.9),) if file.stem == "L_CC" else ()
            images.append(
                SourceImage(
                    f"1.2.{number}.{file.stem}", file, mammogram.laterality, mammogram.view, 256, 208, boxes,
                    "not read" if file.stem == "R_MLO" else None,
                )
            )  # fmt: skip
        came = datetime(2026, 1, 2, tzinfo=UTC)
        store.put([SourceStudy(f"1.2.{number}", f"P{number}", came, tuple(images), "1", scanner="Maker Model")])
    for reader in ("Anna", "Bert"):
        image = next(image for image in store.images(1) if image.key.endswith("L_CC"))
        other = next(image for image in store.images(1) if image.key.endswith("R_CC"))
        [mark] = store.marks(1, reader)[image.id][1]
        act(store, image.id, reader, ActionKind.DESCRIBE, mark.id, label="Asymmetry", birads="4A", comment="new")
        box = [100.0, 110.0, 140.0, 150.0]
        act(
            store,
            other.id,
            reader,
            ActionKind.DRAW,
            f"d{reader}",
            label="Mass",
            box=box,
            shape="oval",
            margin="obscured",
        )
        store.finish(1, reader, ReadState.DONE)
    store.finish(2, "Anna", ReadState.DONE)
    image = next(image for image in store.images(2) if image.key.endswith("L_CC"))
    act(store, image.id, "Bert", ActionKind.REJECT, store.marks(2, "Bert")[image.id][1][0].id)
    store.finish(2, "Bert", ReadState.DONE)
    next(image for image in store.images(1) if image.key.endswith("L_MLO")).path.unlink()  # its time was over
    store.close()
    return folder


def test_what_was_read_beside_a_node_becomes_a_data_set(storage: Path, tmp_path: Path):
    done = CliRunner().invoke(app, ["review", str(storage), "--export", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.output == (
        f"Wrote {tmp_path / 'out'}: 5 images, 2 of them validated and 3 disputed, 2 boxes, 0 rejected boxes as hard"
        " negatives. Left out, as no longer kept here: 1 image. Left out, as not readable: 2 images.\n"
    )
    dataset = load_dataset(tmp_path / "out")
    by_name = {str(image.facts["file_name"]): image for image in dataset}
    read = by_name["1.2.1/1.2.1.L_CC.dcm"]
    assert (read.review, read.patient, read.laterality, read.view) == (ReviewState.VALIDATED, "P1", "L", "CC")
    assert (read.labels, read.facts["study_id"], read.facts["scanner"]) == (("Asymmetry",), "1.2.1", "Maker Model")
    assert read.box_facts[0]["attributes"] == {"birads": "4A", "comment": "new"}
    drawn = by_name["1.2.1/1.2.1.R_CC.dcm"]
    assert drawn.box_facts[0]["attributes"] == {"shape": "oval", "margin": "obscured"}
    assert [box.as_tuple() for box in drawn.boxes] == [(100, 110, 140, 150)]
    disputed = by_name["1.2.2/1.2.2.L_CC.dcm"]
    assert (disputed.review, disputed.boxes) == (ReviewState.DISPUTED, ())
    # It is a data set as any other: looked through, and read again with what was said of each box.
    assert not [one for one in audit_dataset(tmp_path / "out").findings if one.check.severity is Severity.ERROR]
    again = DatasetStudies(tmp_path / "out")
    boxes = [box for study in again.changed({}) for image in study.images for box in image.proposals]
    assert {"birads": "4A", "comment": "new"} in [box.details for box in boxes]


def test_a_nodes_room_is_served_by_the_node_and_nothing_read_is_nothing_to_write(storage: Path, tmp_path: Path):
    served = CliRunner().invoke(app, ["review", str(storage)])
    assert served.exit_code != 0
    assert "mammoscope node run" in str(served.exception or served.output)
    (tmp_path / "review").mkdir()
    ReviewStore(tmp_path / "review").close()
    empty = CliRunner().invoke(app, ["review", str(tmp_path), "--export", str(tmp_path / "out")])
    assert "no study was read to its end" in str(empty.exception or empty.output)
