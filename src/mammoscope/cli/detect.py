"""``mammoscope detect``: mammograms in, readings, pictures and result objects out.

``mammoscope detect --ray``: batches of studies are read by other machines; results are written here, once.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mammoscope.cli.outputs import new_parts
from mammoscope.errors import MammoscopeError
from mammoscope.untrusted_text import one_line

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

    from mammoscope.cluster import RayCluster
    from mammoscope.findings import Algorithm, Reading
    from mammoscope.imaging import MammogramReader, PresentationIntent
    from mammoscope.inference import Detector
    from mammoscope.reading import Outcome
    from mammoscope.results import ReadMammogram


INTERRUPTED = 130
READINGS = "readings.json"


def detect(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Mammograms, or folders of them: DICOM, PNG, JPEG, TIFF, PGM."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for readings.json, pictures/ and objects/.")],
    bundle: Annotated[Path | None, typer.Option(help="Model to use instead of the shipped one.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Lowest score reported, instead of the model's operating point."),
    ] = None,
    two_views: Annotated[
        bool,
        typer.Option(
            "--two-views/--single-views", help="Read the CC and the MLO view of a breast together, or each by itself."
        ),
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads for the model; all by default.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Spread the work over this Ray cluster; one thread by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the readings that are there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the closing table as JSON; the readings are in readings.json.")
    ] = False,
) -> None:
    """Find masses in mammograms: a list of readings, a picture each and, for DICOM, objects for a PACS.

    Exit code 0: every file was read. 1: some were not, or got no result objects (they are named at the end). 2: nothing
    could be started.
    """
    from mammoscope.inference import Detector
    from mammoscope.logging import configure_no_logging

    configure_no_logging()  # what there is to tell is told in readings.json and at the end
    files = _mammogram_files(paths, out)
    detector = Detector(bundle, threads=threads)
    new_parts(out, READINGS, ("pictures", "objects"), force=force)
    run = Run(out, detector, threshold, detector.bundle.metadata.input.intents, two_views)
    started = time.monotonic()
    with _written_to(out), _spread_over(ray, bundle, threads or 1) as elsewhere:
        (out / "pictures").mkdir(parents=True, exist_ok=True)
        interrupted = run.read_all(files, elsewhere)
    run.print_summary(total=len(files), seconds=time.monotonic() - started, as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(1 if run.problems else 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of ``readings.json``: a reading, the file it is of, and the picture made of it."""

    file: Path
    reading: "Reading"
    picture: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a line of ``readings.json``."""
        return {"file": str(self.file), "picture": self.picture, **self.reading.to_json()}


@dataclass(slots=True)
class Run:
    """What one call of the command has done so far."""

    out: Path
    detector: "Detector"
    threshold: float | None
    intents: "Collection[PresentationIntent]"
    two_views: bool = True
    entries: list[Entry] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    picture_names: set[str] = field(default_factory=set)

    def read_all(self, files: Sequence[Path], elsewhere: "ReadElsewhere | None" = None) -> bool:
        """Read every file and write ``readings.json``, also when interrupted: then the answer is ``True``.

        Parameters
        ----------
        elsewhere
            Other machines that read; ``None`` to read here.
        """
        from mammoscope.imaging import MammogramReader

        try:
            with MammogramReader() as reader, _progress() as progress:
                bar = progress.add_task("Reading", total=len(files))
                studies = by_study(files, reader)
                if elsewhere is not None:
                    for batch in elsewhere(studies, self.detector.algorithm, self.threshold, two_views=self.two_views):
                        self.take(batch)
                        progress.advance(bar, len(batch.entries))
                    return False
                for study in studies:
                    self.read_study(study, reader, lambda: progress.advance(bar))
        except KeyboardInterrupt:
            return True
        finally:
            _write_json(self.out / READINGS, [entry.to_json() for entry in self.entries])
        return False

    def read_study(
        self, files: Sequence[Path], reader: "MammogramReader", on_read: Callable[[], None] = lambda: None
    ) -> None:
        """Read the files of one study; its DICOM images get result objects.

        Parameters
        ----------
        on_read
            Called when a file is done.
        """
        from mammoscope.reading import ImageReader, read_study

        image_reader = ImageReader(self.detector, reader, self.threshold, self.intents, two_views=self.two_views)
        outcomes: list[Outcome] = []

        def note(_file: Path, outcome: "Outcome") -> None:
            outcomes.append(outcome)
            on_read()

        try:
            read = read_study(files, image_reader, names=[one_line(file.name) for file in files], on_read=note)
        except KeyboardInterrupt:  # what was read of the study is kept
            self._take_outcomes(files, image_reader.together(outcomes))
            raise
        self._take_outcomes(files, read.outcomes)
        self.problems.extend(read.problems)
        self._write_objects(() if read.results is None else read.results.objects)

    def take(self, batch: "ReadBatch") -> None:
        """Add what another machine read as if it had been read here."""
        self.problems.extend(batch.problems)
        for entry in batch.entries:
            name = entry.picture and f"pictures/{free_name(entry.file.stem, self.picture_names)}.png"
            self.entries.append(replace(entry, picture=name))
            if entry.picture and name:
                (self.out / name).write_bytes(batch.files[entry.picture])
        for name, content in batch.files.items():
            if name.startswith("objects/"):
                (self.out / name).parent.mkdir(parents=True, exist_ok=True)
                (self.out / name).write_bytes(content)

    def _take_outcomes(self, files: Sequence[Path], outcomes: "Sequence[Outcome]") -> None:
        for file, outcome in zip(files, outcomes, strict=False):  # of an interrupted study not all are there
            self._take_outcome(file, outcome)

    def _take_outcome(self, file: Path, outcome: "Outcome") -> None:
        from mammoscope.findings import Reading

        if isinstance(outcome, Reading) or outcome.reading.reason is not None:
            reading = outcome if isinstance(outcome, Reading) else outcome.reading
            self.entries.append(Entry(file, reading))
            self.problems.append((str(file), reading.reason or ""))
        else:
            self.entries.append(Entry(file, outcome.reading, self._picture(file, outcome)))

    def _picture(self, file: Path, read: "ReadMammogram") -> str | None:
        from mammoscope.results import draw_reading

        try:
            drawn = draw_reading(read.mammogram, read.reading)
        except Exception as error:
            self.problems.append((str(file), _sentence(error, "its picture could not be drawn")))
            return None
        name = f"pictures/{free_name(file.stem, self.picture_names)}.png"
        _write_picture(self.out / name, drawn)
        return name

    def _write_objects(self, objects: "Iterable[FileDataset]") -> None:
        for dataset in objects:
            folder = self.out / "objects" / str(dataset.StudyInstanceUID)
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{dataset.Modality}.{dataset.SOPInstanceUID}.dcm"
            try:
                dataset.save_as(file, enforce_file_format=True)
            except OSError:  # the folder's fault, not the object's
                raise
            except Exception as error:
                file.unlink(missing_ok=True)
                self.problems.append(
                    (f"objects/{folder.name}/{file.name}", _sentence(error, "it could not be written"))
                )

    def print_summary(self, *, total: int, seconds: float, as_json: bool = False) -> None:
        """Name what could not be done, then print the closing table."""
        from mammoscope.findings import ReadingStatus

        for what, sentence in self.problems:
            Console(stderr=True).print(
                f"[red]{escape(one_line(what))}[/]: {escape(one_line(sentence))}", highlight=False, soft_wrap=True
            )
        readings = [entry.reading for entry in self.entries]
        count = Counter(reading.status for reading in readings)
        if as_json:
            said = {
                "files": total,
                "read": len(readings),
                **{str(status): count[status] for status in ReadingStatus},
                "findings": sum(len(reading.findings) for reading in readings),
                "seconds": round(seconds, 3),
                "problems": [{"what": what, "why": why} for what, why in self.problems],
            }
            typer.echo(json.dumps(said, indent=1))
            return
        table = Table("files", *ReadingStatus, "findings", "seconds", title=f"Readings in {escape(one_line(self.out))}")
        table.add_row(
            str(total) if len(readings) == total else f"{len(readings)} of {total}",
            *(str(count[status]) for status in ReadingStatus),
            str(sum(len(reading.findings) for reading in readings)),
            f"{seconds:.1f}",
        )
        Console().print(table)


def by_study(files: Sequence[Path], reader: "MammogramReader") -> list[list[Path]]:
    """The files grouped by DICOM study, in the order in which each study first appears; a picture is its own group."""
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(_study_uid(path, reader) or f"picture {path}", []).append(path)
    return list(groups.values())


def free_name(stem: str, taken: set[str]) -> str:
    """The stem, numbered where a file of the same name has come before (also on file systems blind to case)."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def _study_uid(path: Path, reader: "MammogramReader") -> str | None:
    """Study Instance UID (0020,000D), or ``None`` where the file has none or cannot be parsed: reading it says why."""
    try:
        header = reader.read_header(path, keywords=["StudyInstanceUID"])
        return str(header.get("StudyInstanceUID", "")) or None
    except Exception:  # pydicom raises anything on a damaged value
        return None


def _sentence(error: Exception, otherwise: str) -> str:
    """What the user is told: an unexpected error's type and place, not its text, which may quote a header."""
    from mammoscope.logging import where_raised

    if isinstance(error, MammoscopeError):
        return str(error)
    return f"{otherwise} ({where_raised(error)}): the file, or the model, is not as it should be."


def _mammogram_files(paths: Sequence[Path], out: Path) -> list[Path]:
    """What is to be read; the pictures and objects of an earlier run into the same folder are not."""
    from mammoscope.imaging import find_files

    made = [(out / name).resolve() for name in ("pictures", "objects")]
    files = [path for path in find_files(paths) if not any(path.resolve().is_relative_to(folder) for folder in made)]
    if not files:
        raise MammoscopeError(
            f"no mammogram in {', '.join(map(str, paths))}: name DICOM, PNG, JPEG, TIFF or PGM files or their folder"
        )
    return files


@contextmanager
def _spread_over(address: str | None, bundle: Path | None, threads: int) -> "Iterator[ReadElsewhere | None]":
    """The machines that read; ``None`` for this one."""
    if address is None:
        yield None
        return
    from mammoscope.cluster import RayCluster

    with RayCluster(address) as cluster:
        yield ReadElsewhere(cluster, bundle and bundle.resolve(), threads)


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder without write access into one sentence."""
    try:
        yield
    except OSError as error:
        raise MammoscopeError(
            f"cannot write to {folder}: {error.strerror or error}; name another folder with --out"
        ) from error


def _write_picture(path: Path, pixels: Any) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def _write_json(path: Path, content: object) -> None:
    """Write all or nothing, so that a reader never meets half a file."""
    part = path.with_suffix(".json.part")
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    # A byte of a file name that is no UTF-8 is a lone surrogate, whose backslash escape is also JSON's
    part.write_text(text, encoding="utf-8", errors="backslashreplace")
    part.replace(path)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


BATCH = 8
"""Files that a machine is given at once, or the files of one study where they are more."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """What a machine made of a batch.

    Parameters
    ----------
    files
        Pictures and result objects, by their names within the output folder; pictures' names hold within the batch.
    """

    entries: tuple[Entry, ...]
    problems: tuple[tuple[str, str], ...]
    files: dict[str, bytes]


class ReadElsewhere:
    """Other machines that read.

    Parameters
    ----------
    bundle
        The model's file, where they see it too; ``None`` for the shipped one.
    threads
        Processor threads for the model, and so processors that a batch takes.
    """

    def __init__(self, cluster: "RayCluster", bundle: Path | None, threads: int) -> None:
        self._cluster = cluster
        self._bundle = bundle
        self._threads = threads

    def __call__(
        self,
        studies: Sequence[Sequence[Path]],
        algorithm: "Algorithm",
        threshold: float | None,
        *,
        two_views: bool = True,
    ) -> Iterator[ReadBatch]:
        """Read studies; batches come in the order of the studies.

        Raises
        ------
        ClusterError
            If the cluster cannot do it, or has another model under the bundle's name.
        """
        work = partial(
            _read_batch,
            bundle=self._bundle,
            threads=self._threads,
            algorithm=algorithm,
            threshold=threshold,
            two_views=two_views,
        )
        given = {path.absolute(): path for study in studies for path in study}
        batches = batches_of([[path.absolute() for path in study] for study in studies])
        for batch in self._cluster.map(work, batches, cpus=self._threads):
            yield _as_given(batch, given)


def batches_of(studies: Sequence[Sequence[Path]], size: int = BATCH) -> list[list[Sequence[Path]]]:
    """Studies in batches of about so many files; none is divided, since its result objects show all its views."""
    batches: list[list[Sequence[Path]]] = []
    files = size
    for study in studies:
        if files + len(study) > size:
            batches.append([])
            files = 0
        batches[-1].append(study)
        files += len(study)
    return batches


def _as_given(batch: ReadBatch, given: Mapping[Path, Path]) -> ReadBatch:
    """A batch with files named as the user did; another machine has another working folder."""
    entries = tuple(replace(entry, file=given[entry.file]) for entry in batch.entries)
    problems = tuple((str(given.get(Path(what), what)), sentence) for what, sentence in batch.problems)
    return replace(batch, entries=entries, problems=problems)


def _read_batch(
    studies: Sequence[Sequence[Path]],
    *,
    bundle: Path | None,
    threads: int,
    algorithm: "Algorithm",
    threshold: float | None,
    two_views: bool,
) -> ReadBatch:
    from mammoscope.cluster import ClusterError
    from mammoscope.imaging import MammogramReader

    detector = _detector(bundle, threads)
    if detector.algorithm != algorithm:
        raise ClusterError(
            f"a node of the Ray cluster has the model {detector.algorithm.name} {detector.algorithm.version}, not "
            f"{algorithm.name} {algorithm.version}: give all the same file"
        )
    with TemporaryDirectory() as folder, MammogramReader() as reader:
        run = Run(Path(folder), detector, threshold, detector.bundle.metadata.input.intents, two_views)
        (run.out / "pictures").mkdir()
        for study in studies:
            run.read_study(study, reader)
        made = {
            path.relative_to(run.out).as_posix(): path.read_bytes() for path in run.out.rglob("*.*") if path.is_file()
        }
    return ReadBatch(tuple(run.entries), tuple(run.problems), made)


@lru_cache(maxsize=1)
def _detector(bundle: Path | None, threads: int) -> "Detector":
    from mammoscope.inference import Detector

    return Detector(bundle, threads=threads)
