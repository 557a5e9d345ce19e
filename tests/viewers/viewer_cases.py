"""The studies that every viewer is shown: one of each kind of case, with every kind of result.

Each is a synthetic study of four views whose findings are placed by hand, so that no model is asked and each mark has
a place to be compared with.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence
from pydicom.uid import UID

from mammoscope.findings import Algorithm, Box, Finding, Reading, ReadingStatus
from mammoscope.imaging import Mammogram, read_mammogram
from mammoscope.phantom import PhantomImage, screening_study
from mammoscope.results import ReadMammogram, Result, study_results
from mammoscope.settings import ResultKind

CASES = ("all found", "some", "none", "not processed", "linear window", "sigmoid", "LUT sequence")
ALGORITHM = Algorithm("mammoscope-viewers", "1.2.0")
NOW = datetime(2026, 1, 3, 8, 9, 10)
ROWS, COLUMNS = 640, 512
_REASON = "The pixel data end before the last row."
_LEVELS = 4096


@dataclass(frozen=True)
class Case:
    """One study as a viewer gets it.

    Parameters
    ----------
    images
        The mammograms with their readings, in the order R CC, L CC, R MLO, L MLO.
    files
        All objects of the study: the mammograms, then the results.
    """

    name: str
    images: tuple[ReadMammogram, ...]
    results: tuple[Result, ...]
    files: tuple[Path, ...]

    @property
    def study(self) -> str:
        """Study Instance UID."""
        return str(self.images[0].header.StudyInstanceUID)

    def of(self, kind: ResultKind) -> list[Result]:
        """The results of one kind."""
        return [result for result in self.results if result.kind is kind]


def make_case(name: str, folder: Path, kinds: tuple[ResultKind, ...] = tuple(ResultKind)) -> Case:
    """Make one of `CASES` in a folder."""
    study = screening_study(CASES.index(name) + 40, masses=4, rows=ROWS, columns=COLUMNS)
    folder.mkdir(parents=True, exist_ok=True)
    images, files = [], []
    for number, view in enumerate(study.images):
        _set_window(view.dataset, name)
        view.dataset.SeriesDescription = f"{view.laterality} {view.view}"
        view.dataset.SeriesNumber = number + 1
        view.dataset.SeriesInstanceUID = UID(f"{view.dataset.SOPInstanceUID}.1"[:64])
        file = folder / f"{number}.dcm"
        view.dataset.save_as(file, enforce_file_format=True)
        files.append(file)
        images.append(ReadMammogram(*_read(name, number, view, read_mammogram(file))))
    results = study_results(images, ALGORITHM, kinds=kinds, now=NOW)
    unexpected = [problem for problem in results.problems if "could not be made" in problem]
    assert not unexpected, unexpected
    for number, result in enumerate(results.results):
        file = folder / f"result-{number}.dcm"
        result.dataset.save_as(file, enforce_file_format=True)
        files.append(file)
    return Case(name, tuple(images), results.results, tuple(files))


def _read(case: str, number: int, view: PhantomImage, mammogram: Mammogram) -> tuple[Mammogram, Reading]:
    boxes: tuple[Box, ...] = view.truth
    if case == "none" or (case == "some" and number not in (1, 2)):
        boxes = ()
    if case == "not processed" and number == 0:
        return mammogram, Reading.not_processed(mammogram.name, _REASON, rows=ROWS, columns=COLUMNS)
    findings = tuple(Finding(box, 0.911 - 0.2 * rank) for rank, box in enumerate(boxes))
    status = ReadingStatus.FOUND if findings else ReadingStatus.NOTHING_FOUND
    return mammogram, Reading(mammogram.name, status, findings, rows=ROWS, columns=COLUMNS, threshold=0.25)


def _set_window(dataset: Dataset, case: str) -> None:
    """A window that shows when it is lost: the full range of the phantom is another picture."""
    dataset.WindowCenter, dataset.WindowWidth = 2200, 2600
    if case == "sigmoid":
        dataset.VOILUTFunction = "SIGMOID"
    elif case == "LUT sequence":
        del dataset.WindowCenter, dataset.WindowWidth
        table = Dataset()
        table.LUTDescriptor = [_LEVELS, 0, 12]
        table.LUTExplanation = "square root"
        entries = np.rint(np.sqrt(np.linspace(0, 1, _LEVELS)) * (_LEVELS - 1)).astype("<u2")
        table.LUTData = entries.tobytes()
        table["LUTData"].VR = "OW"
        dataset.VOILUTSequence = Sequence([table])
