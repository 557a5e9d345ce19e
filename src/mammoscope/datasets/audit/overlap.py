"""Which images of a data set are in another one as well, by picture: stretched, made smaller, mirrored or turned."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mammoscope.datasets.audit.measures import ImageFile, Measures, measure_files
from mammoscope.datasets.audit.model import Case, Check, Severity
from mammoscope.datasets.audit.near_duplicates import near_duplicates
from mammoscope.datasets.audit.subject import AuditedDataset, read_entries
from mammoscope.datasets.errors import DatasetError
from mammoscope.imaging import MammogramReader

IN_ANOTHER_SET = Check(
    "in another set", Severity.ERROR,
    "What is learnt on the one set and tested on the other was seen before: every figure is too good.",
    "Leave these patients out of one of the two sets.", lambda _: (),
)  # fmt: skip
"""The check of `overlapping`, which needs a second data set."""


def overlapping(
    dataset: AuditedDataset, other: Path, *, jobs: int | None = None, reader: MammogramReader | None = None
) -> list[Case]:
    """A case for each image that another data set holds too.

    Thumbnails are compared, into which whole images are squeezed: a stretched copy has the thumbnail of its original.

    Parameters
    ----------
    other
        The other data set's folder; what is measured of it is kept there, where that can be written.
    jobs, reader
        As `measure_files` takes them.

    Raises
    ------
    DatasetError
        If ``other`` is not a data set's folder.
    """
    entries = read_entries(other)
    files = [ImageFile(number, str(entry["file_name"]), entries.path_of(number)) for number, entry in
             sorted(entries.images.items())]  # fmt: skip
    theirs = _measures(other, files, jobs, reader)
    ours = [image for image in dataset.readable if not image.measures.blank]
    known = [file for file in files if theirs[file.image_id].unreadable is None and not theirs[file.image_id].blank]
    pairs = near_duplicates([*(image.measures for image in ours), *(theirs[file.image_id] for file in known)])
    cases = []
    for pair in pairs:
        if pair.first < len(ours) <= pair.second:
            file = known[pair.second - len(ours)]
            how = f", {pair.turned}" if pair.turned else ""
            of_split = _split(entries.images[file.image_id])
            said = (
                f"It is the image {file.name}{of_split} of {other.resolve().name}{how} (correlation "
                f"{pair.correlation:.3f})."
            )
            cases.append(Case(said, (ours[pair.first].file_name,)))
    return cases


def _split(entry: Mapping[str, Any]) -> str:
    return f" of the split {entry['split']}" if isinstance(entry.get("split"), str) and entry["split"] else ""


def _measures(
    folder: Path, files: list[ImageFile], jobs: int | None, reader: MammogramReader | None
) -> dict[int, Measures]:
    try:
        return measure_files(folder, files, resume=True, jobs=jobs, reader=reader)
    except DatasetError:  # it is another's, and may not be written
        with TemporaryDirectory() as scratch:
            return measure_files(Path(scratch), files, jobs=jobs, reader=reader)
