"""What leaves the reading room: a data set that others take as it is."""

from pathlib import Path

import pytest

from mammoscope.datasets import DatasetError, ReviewState, load_dataset
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewStore, SecondReader
from mammoscope.review.errors import ReviewError
from mammoscope.review.out import export_dataset
from mammoscope.review.store import ActionKind, ReadState


def act(store: ReviewStore, image: int, reader: str, kind: ActionKind, mark: str, **content: str) -> None:
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
