"""Fuzz: thousands of mutated mammograms in every transfer syntax; the node lives, and each is answered.

    python benchmarks/fuzz.py [--objects 5000] [--seed 1]

Valid objects of 128 by 96 pixels are encoded in each transfer syntax the node accepts, and then spoiled: half of them
byte by byte (bits turned, runs cut out, doubled, overwritten, lengths made absurd, the end cut off), half attribute by
attribute with what hypothesis makes up. Four share a study. They are sent to a node process over C-STORE; the file meta
information, which the C-STORE request is made of, stays whole.

Counted at the end, from outside: objects without an answer; studies of which the node stored an object and that got
neither a report nor a failure told in its log, with the reason, for a person (two images of a study that name two
patients: a report would go to the wrong one); whether the node was alive to the end; words of the patients in its log
or in a file that is not DICOM.
"""

import argparse
import random
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import gdcm
import hypothesis
import hypothesis.strategies as st
from node_under_test import (
    PATIENT_WORD,
    CountingDestination,
    NodeProcess,
    Progress,
    SmallMammograms,
    destination_section,
    leaks,
    send,
    wait_while_it_moves,
)
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MammographyCADSRStorage,
    RLELossless,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from rich.console import Console
from rich.table import Table

IMAGES_A_STUDY = 4
UNDEFINED_LENGTH = 0xFFFFFFFF
BY_PYDICOM = {
    RLELossless: {},
    JPEGLSLossless: {},
    JPEGLSNearLossless: {"jls_error": 2},
    JPEG2000Lossless: {},
    JPEG2000: {"j2k_cr": [10]},
}
BY_GDCM = {
    JPEGBaseline8Bit: gdcm.TransferSyntax.JPEGBaselineProcess1,
    JPEGExtended12Bit: gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}
UNCOMPRESSED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
SPOILED = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation"),
    *("PhotometricInterpretation", "NumberOfFrames", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"),
    *("PixelSpacing", "ImagerPixelSpacing", "PresentationLUTShape", "VOILUTFunction", "PixelIntensityRelationshipSign"),
    *("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName", "StudyDescription", "Manufacturer"),
    *("ImageLaterality", "Laterality", "ViewPosition", "ViewCodeSequence", "PatientOrientation", "BodyPartExamined"),
    *("FieldOfViewRotation", "FieldOfViewHorizontalFlip", "FieldOfViewOrigin", "Modality", "ImageType", "PixelData"),
    *("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("BreastImplantPresent", "PresentationIntentType", "EstimatedRadiographicMagnificationFactor"),
)
"""Attributes that the node, the reader or a result looks at."""
PERSONAL = frozenset(
    (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyTime"),
        *("StudyID", "ReferringPhysicianName", "StudyDescription"),
    )
)
"""Those of them that no log may hold."""
NASTY = (
    *(b"", b" ", b"\\", b"\\\\\\", b"\0", b"-1", b"0", b"NaN", b"1e999", b"1\\2\\3", b"9" * 64, b"1." * 32, b"../../x"),
    *(b"ISO 2022 IR 87", b"GB18030", b"ISO_IR 192\\ISO 2022 IR 100", b"\xff\xfe", b"\x1b$B", b"A" * 70000, b"^=^=^"),
    *(b"\x00\x00", b"\xff\xff", b"\x01\x00", b"\x00\x80", b"YBR_FULL", b"PALETTE COLOR", b"RGB", b"MONOCHROME1"),
)

Edits = list[tuple[str, bytes | None]]


# Valid objects ----------------------------------------------------------------------------------------------------


class Encodings:
    """One valid mammogram in every transfer syntax, as a header and its encoded pixel data."""

    def __init__(self, maker: SmallMammograms, folder: Path) -> None:
        plain = maker.dataset(0, "1.2.3", 0)
        pixels = plain.pixel_array.copy()
        pixels[40:60, 30:55] = 4095
        plain.PixelData = pixels.astype("<u2").tobytes()
        self.of = {syntax: _in_bytes(plain, syntax) for syntax in UNCOMPRESSED}
        self.of |= {syntax: _by_pydicom(plain, syntax) for syntax in BY_PYDICOM}
        self.of |= {syntax: _by_gdcm(plain, syntax, folder) for syntax in BY_GDCM}


def _copy(dataset: FileDataset) -> FileDataset:
    with BytesIO() as buffer:
        dataset.save_as(buffer, enforce_file_format=True)
        buffer.seek(0)
        return dcmread(buffer)


def _in_bytes(plain: FileDataset, syntax: UID) -> FileDataset:
    dataset = _copy(plain)
    if not syntax.is_little_endian:
        dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
    for element in dataset:  # decoded one by one, so that they can be written in another encoding
        assert element.VR
    dataset.file_meta.TransferSyntaxUID = syntax
    with BytesIO() as buffer:
        byte_order = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        dcmwrite(buffer, dataset, force_encoding=True, **byte_order)
        buffer.seek(0)
        return dcmread(buffer)


def _by_pydicom(plain: FileDataset, syntax: UID) -> FileDataset:
    dataset = _copy(plain)
    dataset.compress(syntax, generate_instance_uid=False, **BY_PYDICOM[syntax])
    return dataset


def _by_gdcm(plain: FileDataset, syntax: UID, folder: Path) -> FileDataset:
    dataset = _copy(plain)
    if syntax == JPEGBaseline8Bit:
        dataset.PixelData = (dataset.pixel_array >> 4).astype("u1").tobytes()
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    before, after = folder / "before.dcm", folder / "after.dcm"
    dataset.save_as(before, enforce_file_format=True)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(before))
    if not reader.Read():
        raise RuntimeError("gdcm does not read the phantom")
    change.SetTransferSyntax(gdcm.TransferSyntax(BY_GDCM[syntax]))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise RuntimeError(f"gdcm does not encode {syntax.name}")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(after))
    if not writer.Write():
        raise RuntimeError(f"gdcm does not write {syntax.name}")
    return dcmread(after)


def named(template: FileDataset, seed: int, study: int, image: int) -> FileDataset:
    """The same object under identifiers of its own."""
    dataset = _copy(template)
    dataset.StudyInstanceUID = f"1.2.826.0.1.3680043.10.1.{seed}.{study}"
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{image + 1}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID = f"{PATIENT_WORD}^{study}", f"{PATIENT_WORD}-{study}"
    return dataset


# Spoiling ---------------------------------------------------------------------------------------------------------


def edits(count: int, seed: int) -> list[Edits]:
    """What hypothesis makes up: attributes to remove (``None``) or to give other bytes."""
    made: list[Edits] = []
    value = st.one_of(
        st.none(),
        st.sampled_from(NASTY),
        st.binary(max_size=64),
        st.text(max_size=40).map(lambda text: text.encode()),
        st.text(max_size=20).map(lambda text: (PATIENT_WORD + text).encode()),
        st.integers(0, 2**16 - 1).map(lambda n: n.to_bytes(2, "little")),
        st.decimals().map(lambda d: str(d).encode()),
    )

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.lists(st.tuples(st.sampled_from(SPOILED), value), min_size=1, max_size=4))
    def make(edit: Edits) -> None:
        made.append([(keyword, value if keyword in PERSONAL else _impersonal(value)) for keyword, value in edit])

    make()
    return made


def _impersonal(value: bytes | None) -> bytes | None:
    return value and value.replace(PATIENT_WORD.encode(), b"Something")


def edited(content: bytes, syntax: UID, edit: Edits) -> bytes:
    """Put the bytes in as they are, under the attribute's own VR, whatever they mean; an absent attribute comes first.

    Done on the encoded data set, because pydicom refuses to write much of it.
    """
    if syntax.is_deflated:
        return _deflated(edited(zlib.decompress(content, -zlib.MAX_WBITS), ExplicitVRLittleEndian, edit))
    for keyword, value in edit:
        tag = Tag(tag_for_keyword(keyword) or 0)
        vr = {"US or SS": "US", "OB or OW": "OW"}.get(dictionary_VR(tag), dictionary_VR(tag))
        header, length_format = _element_header(tag, vr, syntax)
        size = struct.calcsize(length_format)
        at = content.find(header)
        end = 0
        if at >= 0:
            (length,) = struct.unpack_from(length_format, content, at + len(header))
            if length == UNDEFINED_LENGTH:
                continue
            end = at + len(header) + size + length
        even = (value or b"") + b" " * (len(value or b"") % 2)
        stated = struct.pack(length_format, len(even) % 256**size)
        content = content[: max(at, 0)] + (b"" if value is None else header + stated + even) + content[end:]
    return content


def _element_header(tag: BaseTag, vr: str, syntax: UID) -> tuple[bytes, str]:
    """An element up to its length, and how the length is packed (DICOM PS3.5 7.1)."""
    order = "<" if syntax.is_little_endian else ">"
    number = struct.pack(f"{order}HH", tag.group, tag.element)
    if syntax.is_implicit_VR:
        return number, f"{order}L"
    if vr in EXPLICIT_VR_LENGTH_32:
        return number + vr.encode() + b"\0\0", f"{order}L"
    return number + vr.encode(), f"{order}H"


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def spoiled_bytes(content: bytes, chooser: random.Random) -> bytes:
    """Do one to three things to the bytes, mostly where the header is."""
    data = bytearray(content)
    for _ in range(chooser.randint(1, 3)):
        if not data:
            break
        end = len(data) if chooser.random() < 0.4 else min(len(data), 2500)
        at = chooser.randrange(end)
        run = chooser.choice((1, 2, 4, 8, 64, 1000))
        match chooser.randrange(8):
            case 0:
                for _ in range(run):
                    data[chooser.randrange(end)] ^= 1 << chooser.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at : at + run]
            case 3:
                data[at:at] = data[at : at + run]
            case 4:
                data[at : at + run] = chooser.randbytes(run)
            case 5:
                data[at : at + run] = chooser.choice((b"\x00", b"\xff")) * run
            case 6:
                data[at : at + 4] = chooser.choice((b"\xff\xff\xff\xff", b"\xfe\xff\xff\x7f", b"\x00\x00\x00\x00"))
            case _:
                data += chooser.randbytes(run)
    return bytes(data)


def spoiled_files(encodings: Encodings, folder: Path, count: int, seed: int) -> Iterator[tuple[UID, Path]]:
    """Write the mutated objects; the transfer syntaxes take turns, four objects share a study."""
    chooser = random.Random(seed)
    made_up = edits(count // 2 + 1, seed)
    syntaxes = list(encodings.of)
    for index in range(count):
        syntax = syntaxes[(index // 2) % len(syntaxes)]
        dataset = named(encodings.of[syntax], seed, index // IMAGES_A_STUDY, index % IMAGES_A_STUDY)
        meta = BytesIO()
        write_file_meta_info(meta, dataset.file_meta)
        if index % 2:
            content = edited(_content(dataset), syntax, made_up[(index // 2) % len(made_up)])
        else:
            content = spoiled_bytes(_content(dataset), chooser)
        file = folder / f"{index}.dcm"
        file.write_bytes(b"\0" * 128 + b"DICM" + meta.getvalue() + content)
        yield syntax, file


def _content(dataset: FileDataset) -> bytes:
    """The encoded data set, as it goes over the network."""
    with BytesIO() as whole, BytesIO() as meta:
        dataset.save_as(whole, enforce_file_format=True)
        write_file_meta_info(meta, dataset.file_meta)
        return whole.getvalue()[132 + len(meta.getvalue()) :]


# The run ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What happened, as seen from outside."""

    statuses: dict[UID, Counter[str]] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    """Studies of which the node said that it stored an object."""
    reported: set[str] = field(default_factory=set)
    """Studies with a report at the destination."""
    failed: set[str] = field(default_factory=set)
    """Studies that the node said it cannot report."""
    sent_again: int = 0
    """Objects that got no answer in an association of four and were sent once more by themselves."""
    leaks: list[str] = field(default_factory=list)
    exit_code: int | None = None
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        return sum(counted.total() for counted in self.statuses.values())

    @property
    def without_an_answer(self) -> int:
        return sum(counted["none"] for counted in self.statuses.values())

    @property
    def forgotten(self) -> set[str]:
        """Studies stored of which nothing was ever heard again."""
        return self.stored - self.reported - self.failed

    @property
    def all_well(self) -> bool:
        return self.exit_code == 0 and not (self.without_an_answer or self.forgotten or self.leaks)


def run(folder: Path, count: int, seed: int, *, still_seconds: float = 300.0) -> Outcome:
    """Send the mutated objects to a node, wait for its answers, end it in order."""
    started, outcome = time.monotonic(), Outcome()
    warnings.filterwarnings("ignore", module="pydicom")
    spoiled = folder / "objects"
    encodings = Encodings(SmallMammograms(spoiled, seed), spoiled)
    with CountingDestination(keeps=[MammographyCADSRStorage]) as destination:
        sections = {"node": {"quiet_seconds": 2}, "destinations": [destination_section(destination.port)]}
        node = NodeProcess(folder, sections)
        node.start()
        try:
            node.wait_until_it_listens()
            for batch in _in_fours(spoiled_files(encodings, spoiled, count, seed)):
                for (syntax, file), first in zip(batch, send([f for _, f in batch], node.port), strict=True):
                    status = first
                    if first is None:  # the association broke or fell silent: sent again, as a modality would
                        outcome.sent_again += 1
                        [status] = send([file], node.port)
                    word = "none" if status is None else f"0x{status:04X}"
                    outcome.statuses.setdefault(syntax, Counter())[word] += 1
                    file.unlink()
            outcome.stored = {event["study"] for event in node.events("object stored")}

            def none_forgotten() -> bool:
                outcome.reported = {str(a.dataset.StudyInstanceUID) for a in destination.arrivals if a.dataset}
                outcome.failed = {event["study"] for event in node.events("study failed")}
                return not outcome.forgotten

            _patiently(none_forgotten, Progress(node.storage), still_seconds)
            outcome.exit_code = node.stop()
        finally:
            node.kill()
    outcome.leaks = leaks(folder)
    outcome.seconds = time.monotonic() - started
    return outcome


def _in_fours(files: Iterator[tuple[UID, Path]]) -> Iterator[list[tuple[UID, Path]]]:
    batch: list[tuple[UID, Path]] = []
    for file in files:
        batch.append(file)
        if len(batch) == IMAGES_A_STUDY:
            yield batch
            batch = []
    if batch:
        yield batch


def _patiently(condition: Callable[[], bool], recorded: Progress, still_seconds: float) -> None:
    try:
        wait_while_it_moves(condition, recorded, "every study that was stored is answered", still_seconds, 1.0)
    except TimeoutError as error:
        print(error, file=sys.stderr)
    finally:
        recorded.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here; without it a temporary folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(options.folder or Path(folder), options.objects, options.seed)
    Console(width=120).print(table(outcome, options.seed))
    for study in sorted(outcome.forgotten)[:20]:
        print("stored and forgotten:", study)
    for file in outcome.leaks:
        print("holds a patient's word:", file)
    return 0 if outcome.all_well else 1


def table(outcome: Outcome, seed: int) -> Table:
    words = sorted({word for counted in outcome.statuses.values() for word in counted})
    rows = Table(
        "transfer syntax",
        *words,
        title=f"{outcome.sent} mutated objects, seed {seed}, {outcome.seconds / 60:.1f} minutes: "
        f"{outcome.sent_again} sent again alone, {outcome.without_an_answer} without an answer; "
        f"{len(outcome.stored)} studies stored, "
        f"{len(outcome.stored & outcome.reported)} reported, {len(outcome.failed - outcome.reported)} told as failed, "
        f"{len(outcome.forgotten)} forgotten; exit code {outcome.exit_code}",
    )
    for syntax, counted in outcome.statuses.items():
        rows.add_row(syntax.name, *(str(counted[word]) for word in words))
    return rows


if __name__ == "__main__":
    sys.exit(main())
