"""``mammoscope detect --ray``: batches of studies are read by other machines; results are written here, once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from mammoscope.cli.detect import Entry, Run
from mammoscope.cluster import ClusterError, RayCluster
from mammoscope.findings import Algorithm
from mammoscope.imaging import MammogramReader
from mammoscope.inference import Detector

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

    def __init__(self, cluster: RayCluster, bundle: Path | None, threads: int) -> None:
        self._cluster = cluster
        self._bundle = bundle
        self._threads = threads

    def __call__(
        self, studies: Sequence[Sequence[Path]], algorithm: Algorithm, threshold: float | None
    ) -> Iterator[ReadBatch]:
        """Read studies; batches come in the order of the studies.

        Raises
        ------
        ClusterError
            If the cluster cannot do it, or has another model under the bundle's name.
        """
        work = partial(
            _read_batch, bundle=self._bundle, threads=self._threads, algorithm=algorithm, threshold=threshold
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
    algorithm: Algorithm,
    threshold: float | None,
) -> ReadBatch:
    detector = _detector(bundle, threads)
    if detector.algorithm != algorithm:
        raise ClusterError(
            f"a node of the Ray cluster has the model {detector.algorithm.name} {detector.algorithm.version}, not "
            f"{algorithm.name} {algorithm.version}: give all the same file"
        )
    with TemporaryDirectory() as folder, MammogramReader() as reader:
        run = Run(Path(folder), detector, threshold)
        (run.out / "pictures").mkdir()
        for study in studies:
            for _ in run.read_study(study, reader):
                pass
        made = {
            path.relative_to(run.out).as_posix(): path.read_bytes() for path in run.out.rglob("*.*") if path.is_file()
        }
    return ReadBatch(tuple(run.entries), tuple(run.problems), made)


@lru_cache(maxsize=1)
def _detector(bundle: Path | None, threads: int) -> Detector:
    return Detector(bundle, threads=threads)
