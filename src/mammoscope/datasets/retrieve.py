"""From an archive to a data set: `pull_studies` fetches mammograms study by study and resumes where it stopped.

Pulled images as a data set: the COCO file and the index of a folder that grows.

`PullLog`: what was pulled into a data set's folder, so that a pull resumes where it stopped.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import IO, Any, Protocol

from mammoscope import __version__
from mammoscope.datasets.collections.scan import Header, header_of_file, read_headers
from mammoscope.datasets.collections.source import spacing_of
from mammoscope.datasets.dataset import ANNOTATIONS, FOLDS, FORMAT, FORMAT_KEY, IMAGES, SPLITS
from mammoscope.datasets.errors import DatasetError
from mammoscope.datasets.files import read_json, write_json
from mammoscope.datasets.image_marks import ImageMarks, Silence
from mammoscope.datasets.index import refresh_index
from mammoscope.datasets.records import ImportedImage
from mammoscope.datasets.writer import image_entry
from mammoscope.errors import MammoscopeError


def add_pulled(folder: Path) -> tuple[str, ...]:
    """Enter all images of a folder that are not in its COCO file yet, as unannotated, and write the index.

    Returns
    -------
    tuple of str
        A sentence for each file that is no usable image; it is left out and stays where it is.

    Raises
    ------
    DatasetError
        If the COCO file that is there cannot be read.
    """
    annotations = folder / ANNOTATIONS
    coco: dict[str, Any] = read_json(annotations) if annotations.is_file() else _empty(folder)
    known = {str(entry["file_name"]) for entry in coco["images"]}
    images = folder / IMAGES
    files = [path for path in sorted(images.glob("*/*/*.dcm")) if path.relative_to(images).as_posix() not in known]
    headers = read_headers(files)
    usable = [header for header in headers if header.problem is None and header.rows and header.columns]
    first = 1 + max((int(entry["id"]) for entry in coco["images"]), default=0)
    coco["images"] += [image_entry(_image(header, images), number) for number, header in enumerate(usable, start=first)]
    if usable or (coco["images"] and not annotations.is_file()):
        write_json(annotations, coco)
        refresh_index(folder)
    return tuple(
        header.problem or f"{header.path.name} has no rows and columns: it is no image."
        for header in headers
        if header not in usable
    )


def _empty(folder: Path) -> dict[str, Any]:
    return {
        "info": {"description": folder.resolve().name, "mammoscope": __version__, FORMAT_KEY: FORMAT},
        "licenses": [],
        "categories": [],
        "images": [],
        "annotations": [],
    }


def _image(header: Header, images: Path) -> ImportedImage:
    name = header.path.relative_to(images)
    return ImportedImage(
        path=header.path,
        rows=header.rows,
        columns=header.columns,
        patient=name.parts[0],
        file_name=name.as_posix(),
        study=header.study or None,
        laterality=header.laterality,
        view=header.view,
        scanner=header.scanner,
        spacing_mm=spacing_of(header),
        origin={"sop_instance_uid": header.sop_instance},
        marks=ImageMarks((), Silence.UNANNOTATED),
    )


PULLED = "pull.jsonl"
"""The log in a data set's folder: one JSON object a line, of the secret of its pseudonyms and of studies that came."""


class PullLog:
    """A file of JSON lines that is only ever added to; open it by `open_pull_log`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.studies: set[str] = set()
        """Those that need not be fetched again."""
        self._secret = ""
        for line in file:
            self._take(line)
        if not self._secret:
            self._secret = secrets.token_hex(32)
            self._add({"secret": self._secret})

    def note_study(self, study: str, images: int) -> None:
        """Note that all of a study that can be had is here; on the disk when this returns."""
        self._add({"study": study, "images": images})
        self.studies.add(study)

    def pseudonym(self, patient: str) -> str:
        """What a patient is called in file names and tables: always the same in one folder, another in the next."""
        digest = hmac.new(bytes.fromhex(self._secret), patient.encode(), hashlib.sha256)
        return f"P{digest.hexdigest()[:12]}"

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "secret" in entry:
                self._secret = bytes.fromhex(entry["secret"]).hex()
            else:
                self.studies.add(str(entry["study"]))
        except (ValueError, KeyError, TypeError):
            return  # cut short by a crash: that study is fetched again

    def _add(self, entry: dict[str, object]) -> None:
        # The empty line keeps a line that a crash cut short from swallowing this one.
        self._file.write(f"\n{json.dumps(entry)}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_pull_log(folder: Path) -> Iterator[PullLog]:
    """The log of a folder, which nobody else can open meanwhile.

    Raises
    ------
    DatasetError
        If another pull has it, or it cannot be read or written.
    """
    path = folder / PULLED
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f"another pull into {folder} is at work: wait for its end.") from None
            file.seek(0)
            yield PullLog(file)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read or written: {error.strerror or error}.") from None


_INCOMING = ".incoming"
_MOST_UNREACHABLE = 3
"""Failures in a row after which an archive is taken to be gone."""


class Found(Protocol):
    """A study that an archive has."""

    @property
    def study_instance_uid(self) -> str:
        """Its UID."""

    @property
    def accession(self) -> str:
        """Its accession number; empty where the archive does not say."""


class Arrived(Protocol):
    """An object that came, as a file that vanishes when it has been received."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def sop_instance_uid(self) -> str:
        """Its UID, digits and dots."""

    @property
    def study_instance_uid(self) -> str:
        """The study's, digits and dots."""

    @property
    def modality(self) -> str:
        """As in the object."""


class Fetched(Protocol):
    """How the retrieval of a study ended."""

    @property
    def completed(self) -> int:
        """Objects that came."""

    @property
    def failed(self) -> int:
        """Objects that did not."""


class Archive(Protocol):
    """What a pull needs of an archive; `mammoscope.network.StudySource` is one."""

    def find(self, where: Mapping[str, str], since: date | None, until: date | None) -> Iterable[Found]:
        """The studies that match."""

    def fetch(self, study: str, receive: Callable[[Arrived], None], folder: Path) -> Fetched:
        """Hand over all objects of a study, on their way in ``folder``."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which studies are wanted.

    Parameters
    ----------
    accessions
        Accession numbers; empty for all studies that match.
    where
        What they must match, by DICOM keyword.
    since, until
        First and last study date.
    """

    accessions: tuple[str, ...] = ()
    where: Mapping[str, str] | None = None
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an archive has of a query.

    Parameters
    ----------
    studies
        Study Instance UIDs, each once.
    not_found
        Accession numbers that it has no study of.
    """

    studies: tuple[str, ...]
    not_found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PulledStudies:
    """How a pull ended.

    Parameters
    ----------
    studies, images
        That came now, and were not there before.
    known
        Studies that an earlier pull brought.
    others
        Objects that are no mammograms: reports, presentation states.
    not_sent
        Objects that the archive did not give, tomosynthesis for example.
    empty
        Studies without a mammogram.
    failed
        Why a study is not here, by UID: the next pull tries it again.
    untried
        Studies that were not asked for, because the archive was gone.
    unusable
        What is wrong with images that were left out.
    """

    studies: int = 0
    images: int = 0
    known: int = 0
    others: int = 0
    not_sent: int = 0
    empty: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    untried: int = 0
    unusable: tuple[str, ...] = ()


def find_wanted(archive: Archive, query: Query, progress: Callable[[int, int], None] | None = None) -> Wanted:
    """Ask an archive for what a query means.

    Parameters
    ----------
    progress
        Called with (accession numbers asked for, accession numbers).

    Raises
    ------
    MammoscopeError
        If the archive cannot be asked.
    """
    where = dict(query.where or {})
    if not query.accessions:
        found = archive.find(where, query.since, query.until)
        return Wanted(tuple(dict.fromkeys(study.study_instance_uid for study in found)), ())
    studies: dict[str, None] = {}
    not_found = []
    for count, accession in enumerate(query.accessions, start=1):
        answers = archive.find({**where, "AccessionNumber": accession}, query.since, query.until)
        # An archive that does not match by accession number answers with all it has: those are not asked for.
        there = [study.study_instance_uid for study in answers if study.accession == accession]
        studies.update(dict.fromkeys(there))
        if not there:
            not_found.append(accession)
        if progress:
            progress(count, len(query.accessions))
    return Wanted(tuple(studies), tuple(not_found))


def pull_studies(
    archive: Archive, studies: Sequence[str], out: Path, progress: Callable[[int, int], None] | None = None
) -> PulledStudies:
    """Fetch the mammograms of studies into a data set's folder.

    A study's images appear together, as ``images/PSEUDONYM/STUDY UID/SOP INSTANCE UID.dcm``; the folder becomes a data
    set at the end, also when the pull is interrupted. Images of an earlier pull keep their ids, boxes and review.

    Parameters
    ----------
    studies
        Study Instance UIDs; those that an earlier pull brought are passed over.
    progress
        Called with (studies done, studies in all).

    Raises
    ------
    DatasetError
        If the folder is something else, has been split, or cannot be written.
    """
    out = Path(out)
    _check_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open_pull_log(out) as log:
            news = [study for study in studies if study not in log.studies]
            _check_growth(out, news)
            try:
                pulled = _Pull(archive, out, log).all_of(news, progress)
            finally:
                shutil.rmtree(out / _INCOMING, ignore_errors=True)
                unusable = add_pulled(out)
            return replace(pulled, known=len(studies) - len(news), unusable=unusable)
    except OSError as error:
        raise DatasetError(
            f"{out} cannot be written: {error.strerror or error}; make room and give the same command again."
        ) from None


class _Pull:
    """One pull at work."""

    def __init__(self, archive: Archive, out: Path, log: PullLog) -> None:
        self._archive = archive
        self._out = out
        self._log = log
        self._incoming = out / _INCOMING

    def all_of(self, studies: Sequence[str], progress: Callable[[int, int], None] | None) -> PulledStudies:
        done = PulledStudies()
        in_a_row = 0
        for count, study in enumerate(studies, start=1):
            try:
                done, in_a_row = self._one(study, done), 0
            except DatasetError:
                raise
            except MammoscopeError as error:
                done = replace(done, failed=(*done.failed, (study, str(error))))
                in_a_row += 1
            if progress:
                progress(count, len(studies))
            if in_a_row == _MOST_UNREACHABLE:
                return replace(done, untried=len(studies) - count)
        return done

    def _one(self, study: str, done: PulledStudies) -> PulledStudies:
        shutil.rmtree(self._incoming, ignore_errors=True)
        kept = self._incoming / "kept"
        kept.mkdir(parents=True)
        others = 0
        trouble: list[OSError] = []

        def receive(arrived: Arrived) -> None:
            nonlocal others
            if arrived.modality != "MG" or arrived.study_instance_uid != study:
                others += 1
                return
            try:
                arrived.path.replace(kept / f"{arrived.sop_instance_uid}.dcm")
            except OSError as error:  # the protocol makes a refusal of it, which would count as the archive's fault
                trouble.append(error)
                raise

        fetched = self._archive.fetch(study, receive, self._incoming / "arriving")
        if trouble:
            raise trouble[0]
        if fetched.failed and not fetched.completed:
            raise MammoscopeError(f"none of the {fetched.failed} objects of study {study} came")
        images = self._put_in_place(study, kept)
        self._log.note_study(study, images)
        return replace(
            done,
            studies=done.studies + 1,
            images=done.images + images,
            others=done.others + others,
            not_sent=done.not_sent + fetched.failed,
            empty=done.empty + (images == 0),
        )

    def _put_in_place(self, study: str, kept: Path) -> int:
        """Move a study's images into the folder at once, under their patient's pseudonym; how many they are."""
        files = sorted(kept.iterdir())
        if not files:
            return 0
        for file in files:
            _sync(file)
        target = self._out / IMAGES / self._pseudonym(study, files) / study
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # left by a crash before it was noted
        kept.rename(target)
        return len(files)

    def _pseudonym(self, study: str, files: Sequence[Path]) -> str:
        patients = {header_of_file(file).patient for file in files} - {""}
        # Without a Patient ID the study is all that is known to be of one patient.
        return self._log.pseudonym(min(patients) if patients else f"study {study}")


def _sync(file: Path) -> None:
    """Have a file on the disk: what the log says is here is here after the power fails."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_folder(out: Path) -> None:
    if not out.exists() or (out.is_dir() and ((out / PULLED).is_file() or not any(out.iterdir()))):
        return
    raise DatasetError(f"{out} is there already and was not made by a pull: choose another --out.")


def _check_growth(out: Path, news: Sequence[str]) -> None:
    """A split is locked by its images: new ones would break it."""
    locks = [name for name in (SPLITS, FOLDS) if (out / name).is_file()]
    if news and locks and (out / ANNOTATIONS).is_file():
        raise DatasetError(
            f"{out} has been split ({', '.join(locks)}), and {len(news)} studies would be new: pull them into another "
            "folder."
        )
