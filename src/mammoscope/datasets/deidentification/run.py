"""A folder of DICOM files in, a folder of de-identified ones out."""

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, config, dcmread
from pydicom.uid import (
    UID,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    ComputedRadiographyImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from mammoscope.datasets.deidentification.burned_in import Held, held, suspicion, write_pages
from mammoscope.datasets.deidentification.dataset import Deidentifier
from mammoscope.datasets.deidentification.key_file import KeyFile
from mammoscope.datasets.deidentification.profile import Keep
from mammoscope.datasets.errors import DatasetError
from mammoscope.imaging import find_files

RECORD = "deidentification.json"
"""In the output's folder: which profile and options, and which key file by its fingerprint. It names nobody."""

_IMAGES = frozenset(
    (
        DigitalMammographyXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForProcessing,
        BreastTomosynthesisImageStorage,
        BreastProjectionXRayImageStorageForPresentation,
        BreastProjectionXRayImageStorageForProcessing,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        ComputedRadiographyImageStorage,
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    )
)
_PIXEL_NEEDS = ("Rows", "Columns", "BitsAllocated")


@dataclass(slots=True)
class Outcome:
    """What became of the files.

    Parameters
    ----------
    written
        How many files.
    again
        How many objects were there already, from this run or an earlier one.
    patients
        Pseudonyms.
    held_back
        Images that may have text burned in; written as well where that was allowed.
    left_out
        Other files that were not written, and why.
    list_path, page_path
        Of the images held back, where there are any and they were not allowed.
    """

    written: int = 0
    again: int = 0
    patients: set[str] = field(default_factory=set)
    held_back: list[Held] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    list_path: Path | None = None
    page_path: Path | None = None


class _LeftOutError(Exception):
    """A file that is not written; its text says why."""


def deidentify(
    source: Path,
    out: Path,
    keys: Path,
    keep: Iterable[Keep] = (),
    *,
    allow_burned_in: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """De-identify a DICOM file, or all DICOM images in a folder, to PS3.15 Annex E.

    Reports, presentation states and everything else that is no image are left out. Files are written one by one as
    ``PSEUDONYM/SOP-INSTANCE-UID.dcm``; a run can be repeated and added to.

    Parameters
    ----------
    out
        New, empty, or of an earlier run with the same options and key file.
    keys
        The key file, made if it is not there; see `KeyFile`. The list and page of images held back are written to the
        folder ``<keys>.held_back`` beside it.
    keep
        Options that keep more.
    allow_burned_in
        Write images that may have text burned in as well.

    Raises
    ------
    DatasetError
        If a folder or the key file cannot be used. Nothing was written then.
    """
    options = frozenset(keep)
    review = keys.with_name(f"{keys.name}.held_back")
    files = find_files([source])
    if not files:
        raise DatasetError(f"{source} holds no DICOM file: name the folder of the images.")
    _check_folders(source, out)
    outcome = Outcome()
    with KeyFile(keys, apart_from=(out, *([source] if source.is_dir() else []))) as key_file:
        _claim(out, options, key_file.fingerprint)
        deidentifier = Deidentifier(key_file, options)
        with config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            for number, path in enumerate(files, start=1):
                try:
                    _one(path, out, deidentifier, allow_burned_in, outcome)
                except _LeftOutError as reason:
                    outcome.left_out.append((path, str(reason)))
                if progress:
                    progress(number, len(files))
    if outcome.held_back and not allow_burned_in:
        try:
            outcome.list_path, outcome.page_path = write_pages(review, outcome.held_back)
        except OSError as error:
            raise DatasetError(f"the list of images held back cannot be written: {error.strerror}.") from None
    return outcome


def _one(
    path: Path,
    out: Path,
    deidentifier: Deidentifier,
    allow_burned_in: bool,
    outcome: Outcome,
) -> None:
    dataset = _read(path)
    patient, instance = deidentifier.identity(dataset)
    target = out / patient.name / f"{instance}.dcm"
    if target.exists():
        outcome.patients.add(patient.name)
        outcome.again += 1
        return
    found = suspicion(path, dataset)
    if found:
        outcome.held_back.append(held(found))
        if not allow_burned_in:
            return
    try:
        deidentifier.deidentify(dataset)
    except ValueError as error:
        raise _LeftOutError(f"it is damaged ({error})") from None
    _write(dataset, target)
    outcome.patients.add(patient.name)
    outcome.written += 1


def _read(path: Path) -> Dataset:
    """The object, once it is one that can be de-identified."""
    try:
        dataset = dcmread(path, force=True)
        kind = UID(str(dataset.get("SOPClassUID") or ""))
    except OSError as error:
        raise _LeftOutError(f"it cannot be read: {error.strerror}") from None
    except Exception as error:
        raise _LeftOutError(f"it is no DICOM file or is damaged ({type(error).__name__})") from None
    if not kind:
        raise _LeftOutError("it is no DICOM object")
    if kind not in _IMAGES:
        raise _LeftOutError(f"its kind may hold text about the patient: {kind.name}")
    if not str(dataset.get("PatientID") or "").strip():
        raise _LeftOutError("it has no Patient ID, so nobody knows whose it is")
    if not str(dataset.get("SOPInstanceUID") or "").strip():
        raise _LeftOutError("it has no SOP Instance UID")
    if "PixelData" not in dataset or any(dataset.get(keyword) is None for keyword in _PIXEL_NEEDS):
        raise _LeftOutError("it has no pixel data, or no size")
    if _overlay_in_stream(dataset):
        raise _LeftOutError("it has an overlay within compressed pixel data: decompress it first")
    _say_transfer_syntax(dataset)
    return dataset


def _overlay_in_stream(dataset: Dataset) -> bool:
    """Whether unused bits of compressed samples hold an overlay (retired; PS3.5 8.1.2): it cannot be cleared there."""
    overlays = {tag.group for tag in dataset.keys() if tag.group & 0xFF00 == 0x6000}  # noqa: SIM118 - iterating parses
    in_pixels = any((group, 0x3000) not in dataset for group in overlays)
    return in_pixels and bool(dataset["PixelData"].is_undefined_length)


def _say_transfer_syntax(dataset: Dataset) -> None:
    """Files without a file header: the syntax is what they were parsed as."""
    if said := dataset.file_meta.get("TransferSyntaxUID"):
        if UID(said).name == said:
            raise _LeftOutError("its Transfer Syntax UID is none of DICOM's")
        return
    if dataset["PixelData"].is_undefined_length:
        raise _LeftOutError("it has compressed pixel data and no Transfer Syntax UID to tell how")
    implicit, little = dataset.original_encoding
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax


def _write(dataset: Dataset, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(exist_ok=True)
        dataset.save_as(partial, enforce_file_format=True)
        partial.replace(target)
    except OSError as error:
        raise DatasetError(f"{target.parent} cannot be written: {error.strerror}.") from None
    except Exception as error:
        raise _LeftOutError(f"it cannot be written again ({type(error).__name__})") from None
    finally:
        partial.unlink(missing_ok=True)


def _check_folders(source: Path, out: Path) -> None:
    inside, outside = out.resolve(), source.resolve()
    if inside == outside or inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise DatasetError(f"{out} and {source} lie within each other: choose another folder for the output.")
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out} is a file: choose a folder for the output.")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise DatasetError(f"{out} holds something else already: choose a new or empty folder.")


def _claim(out: Path, keep: frozenset[Keep], fingerprint: str) -> None:
    """Write down what the output's folder is, or check that it is that."""
    record = {
        "profile": "DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile, Clean Descriptors",
        "keep": sorted(keep),
        "keys": fingerprint,
    }
    path = out / RECORD
    try:
        if path.is_file():
            if json.loads(path.read_text("utf-8")) != record:
                raise DatasetError(
                    f"{out} was made with other options or another key file: use the same, or another folder."
                )
            return
        out.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        partial.replace(path)
    except ValueError:
        raise DatasetError(f"{path} is damaged: choose another folder.") from None
    except OSError as error:
        raise DatasetError(f"{out} cannot be written: {error.strerror}.") from None
