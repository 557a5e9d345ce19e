"""`mammoscope explain`: a heat map for each finding of one mammogram."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mammoscope.cli.outputs import new_folder
from mammoscope.cli.train import needs_torch
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.explain import HeatMap
    from mammoscope.findings import Algorithm, Finding, Reading
    from mammoscope.imaging import Mammogram

Findings = tuple["Finding", ...]


class Method(StrEnum):
    """How a finding is explained."""

    DRISE = "drise"
    GRADIENT = "gradient"


class _Explainer(Protocol):
    """What reads a mammogram and explains its findings."""

    @property
    def algorithm(self) -> "Algorithm": ...

    def candidates(self, mammogram: "Mammogram") -> Findings: ...

    def read(self, mammogram: "Mammogram", threshold: float | None = None) -> "Reading": ...

    def explain(self, mammogram: "Mammogram", findings: Findings) -> "list[HeatMap]": ...

    def explain_shuffled(self, mammogram: "Mammogram", findings: Findings) -> "dict[str, list[HeatMap]]": ...


def explain(
    image: Annotated[Path, typer.Argument(help="A mammogram: DICOM, PNG, JPEG, TIFF or PGM.", dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for pictures, maps, objects and explanations.json.")] = Path(
        "explanation"
    ),
    bundle: Annotated[Path | None, typer.Option(help="Model to use instead of the shipped one.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run to explain by gradients; needs torch.")] = None,
    method: Annotated[
        Method | None, typer.Option(help="By default drise for a bundle, gradient for a run: no other way round.")
    ] = None,
    finding: Annotated[
        int | None, typer.Option(min=1, help="Only that one, as detect numbers them: 1 is the surest.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Lowest score explained, instead of the operating point.")
    ] = None,
    masks: Annotated[int, typer.Option(min=20, help="D-RISE: how often parts are hidden.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="D-RISE: draws what is hidden.")] = 0,
    dicom: Annotated[
        bool | None,
        typer.Option("--dicom/--no-dicom", help="Write DICOM objects; by default where the mammogram is one."),
    ] = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also explain with shuffled weights: the map has to change.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the model.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Show why the model proposes each finding: a heat map as picture, 16-bit map and DICOM object.

    Exit code 0: done, also where nothing was found. 1: an object could not be made, or a map did not change with
    shuffled weights. 2: nothing could be started.
    """
    from mammoscope.explanation import Explanation, write_explanations
    from mammoscope.imaging import read_mammogram
    from mammoscope.results import ReadMammogram

    _check_method(method, bundle, run)
    new_folder(out, force=force)
    mammogram = read_mammogram(image)
    if dicom and mammogram.header is None:
        raise MammoscopeError(
            f"{image} is a picture file, and a DICOM object needs a DICOM mammogram: leave out --dicom"
        )
    explainer: _Explainer = _ByGradient(run, threads) if run else _ByMasks(bundle, threads, masks, seed)
    reading = explainer.read(mammogram, threshold)
    if not reading.findings:
        _tell_nothing_found(image, reading, explainer.candidates(mammogram))
        return
    chosen = _chosen(image, reading, finding)
    findings = tuple(reading.findings[number - 1] for number in chosen)
    maps = explainer.explain(mammogram, findings)
    shuffled = explainer.explain_shuffled(mammogram, findings) if sanity else {}
    explanations = [
        Explanation(number, heat_map, {part: others[place] for part, others in shuffled.items()})
        for place, (number, heat_map) in enumerate(zip(chosen, maps, strict=True))
    ]
    with_objects = mammogram.header is not None if dicom is None else dicom
    read = ReadMammogram(mammogram, reading)
    problems = write_explanations(out, image, read, explainer.algorithm, explanations, with_objects=with_objects)
    for explanation in explanations:
        typer.echo(explanation.summary(reading))
    typer.echo(f"Pictures and maps: {out}")
    for problem in problems:
        typer.echo(problem, err=True)
    if problems or not all(explanation.sane for explanation in explanations):
        raise typer.Exit(1)


def _check_method(method: Method | None, bundle: Path | None, run: Path | None) -> None:
    if bundle and run:
        raise MammoscopeError("give either --bundle or --run: one model is explained at a time")
    if method is Method.GRADIENT and run is None:
        raise MammoscopeError("--method gradient looks inside the network: give its run's folder with --run")
    if method is Method.DRISE and run is not None:
        raise MammoscopeError(f"--method drise explains bundles: make one with 'mammoscope export {run} --out my.onnx'")
    if run is not None:
        needs_torch("explain --run")


class _ByMasks:
    """D-RISE with a bundle."""

    def __init__(self, bundle: Path | None, threads: int | None, masks: int, seed: int) -> None:
        from mammoscope.explain import Occlusion
        from mammoscope.inference import Detector

        self._detector = Detector(bundle, threads=threads)
        self._occlusion = Occlusion(masks=masks, seed=seed)
        self.algorithm = self._detector.algorithm
        self.candidates, self.read = self._detector.candidates, self._detector.read

    def explain(self, mammogram: "Mammogram", findings: Findings) -> "list[HeatMap]":
        from mammoscope.explain import drise

        with _progress("hiding parts") as progress:
            return drise(self._detector.bundle, mammogram, findings, self._occlusion, progress)

    def explain_shuffled(self, mammogram: "Mammogram", findings: Findings) -> "dict[str, list[HeatMap]]":
        from mammoscope.explain import drise, shuffled_bundle

        maps = {}
        with tempfile.TemporaryDirectory() as folder:
            for part, only in (("head", "head"), ("all weights", "")):
                bundle = shuffled_bundle(self._detector.bundle, Path(folder) / "shuffled.onnx", only=only)
                with _progress(f"{part} shuffled") as progress:
                    maps[part] = drise(bundle, mammogram, findings, self._occlusion, progress)
        return maps


class _ByGradient:
    """The gradient method with the checkpoint of a run."""

    def __init__(self, run: Path, threads: int | None) -> None:
        import torch

        from mammoscope.training import RunFolder, RunReader

        if threads:
            torch.set_num_threads(threads)
        self._reader = RunReader.open(RunFolder(run))
        self.algorithm = self._reader.algorithm
        self.candidates, self.read, self.explain = self._reader.candidates, self._reader.read, self._reader.explain

    def explain_shuffled(self, mammogram: "Mammogram", findings: Findings) -> "dict[str, list[HeatMap]]":
        from mammoscope.detectors import Part

        return {str(part): self._reader.explain_shuffled(mammogram, findings, part) for part in Part}


def _chosen(image: Path, reading: "Reading", finding: int | None) -> list[int]:
    count = len(reading.findings)
    if finding is None:
        return list(range(1, count + 1))
    if finding > count:
        raise MammoscopeError(
            f"{image} has {count} finding{'s' * (count > 1)} with a score of {reading.threshold:.3g} or more, and no "
            f"finding {finding}: give a lower --finding, or a lower --threshold for more findings"
        )
    return [finding]


def _tell_nothing_found(image: Path, reading: "Reading", candidates: Findings) -> None:
    surest = f"the surest candidate has {candidates[0].score:.3f}" if candidates else "there is no candidate at all"
    hint = ": --threshold explains it all the same" if candidates else ""
    typer.echo(f"{image}: nothing found at {reading.threshold:.3f}, so nothing to explain; {surest}{hint}.")


@contextmanager
def _progress(what: str) -> "Iterator[Callable[[int, int], None]]":
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
