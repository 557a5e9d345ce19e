"""`mammoscope train`, `pretrain`, `export`, `import-checkpoint`: from a recipe, or a checkpoint, to a bundle."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from mammoscope.cli.outputs import new_file
from mammoscope.errors import MammoscopeError

if TYPE_CHECKING:
    from mammoscope.training import PatchFigures, Recipe, Step


RECIPE = typer.Argument(
    help="The recipe: a TOML file, or the name of one that comes with Mammoscope, as cpu.", show_default=False
)
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""
FORCE = typer.Option("--force", help="Replace a file that is there.")


def needs_torch(command: str) -> None:
    """Raise `MammoscopeError` when the extra ``train`` is not installed."""
    missing = [
        name
        for name in ("torch", "torchvision", "timm", "accelerate", "onnx")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MammoscopeError(
            f"'mammoscope {command}' needs {', '.join(missing)}, which the core does not install: run "
            "pip install '.[train]' in Mammoscope's source folder"
        )


def train(
    recipe: Annotated[Path, RECIPE],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value instead of the recipe's (may be repeated).")
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(help="Validate on that fold and learn from the others; 'all': one run a fold, and a summary."),
    ] = None,
) -> None:
    """Train a detector as a recipe says; the same command again resumes after a kill.

    The run's folder (runs/NAME) holds the recipe, checkpoint, curves and the closing report on validation. Several
    GPUs: accelerate launch -m mammoscope train RECIPE.
    """
    needs_torch("train")
    from mammoscope.training import distributed as processes
    from mammoscope.training import in_fold, load_recipe
    from mammoscope.training.recipe import recipe_file

    parsed = load_recipe(recipe_file(recipe), tuple(changes or ()))
    if fold is not None and fold != "all":
        if not fold.isdecimal() or int(fold) < 1:
            raise MammoscopeError(f"--fold is a fold's number, counted from 1, or 'all', not {fold!r}.")
        parsed = in_fold(parsed, int(fold))
    console = Console(stderr=True)
    _tell_of_the_cpu(parsed, console)
    try:
        if fold == "all":
            _train_folds(parsed, console)
        else:
            _train_once(parsed, console)
    except KeyboardInterrupt:
        _tell_stopped(console, parsed.run_folder)
    finally:
        processes.end()


def _tell_stopped(console: Console, run: Path) -> NoReturn:
    console.print(f"stopped; the same command resumes from the last checkpoint in {run}", highlight=False)
    raise typer.Exit(INTERRUPTED) from None


def _tell_of_the_cpu(recipe: "Recipe", console: Console) -> None:
    """A recipe in half precision was written for a GPU: on a CPU it takes days, and its user has to know."""
    import torch

    if recipe.schedule.precision != "fp32" and not torch.cuda.is_available():
        console.print(
            f"warning: the recipe {recipe.name} is for a GPU (precision {recipe.schedule.precision}) and there is "
            "none: it trains on the CPU in fp32, many times slower",
            highlight=False,
            soft_wrap=True,
        )


def _train_once(recipe: "Recipe", console: Console) -> None:
    from mammoscope.training import distributed as processes
    from mammoscope.training import report_validation
    from mammoscope.training import train as run_training

    with _Display(console) as display:
        run = run_training(recipe, display)
        first = processes.is_first()
        processes.end()  # together: what is left is the first's alone
        if not first:
            return
        metrics = report_validation(run, display.prepared)
    console.print(
        f"{run.path}: validation AP50 {metrics.ap50:.3f}, precision {metrics.precision:.3f}, recall "
        f"{metrics.recall:.3f}, F1 {metrics.f1:.3f} at threshold {metrics.threshold:.3f} "
        f"({metrics.n_images} images; report in {run.path / 'validation'})",
        highlight=False,
    )
    console.print(f"next: mammoscope export {run.path} --out {recipe.name}.onnx", highlight=False)


def _train_folds(recipe: "Recipe", console: Console) -> None:
    from mammoscope.evaluation import TableFormat
    from mammoscope.training import cross_validate

    with _Display(console) as display:
        summary = cross_validate(recipe, display, display.fold_begins, display.prepared)
    if summary is not None:
        typer.echo(summary.table().written(TableFormat.TEXT), nl=False)
        console.print(f"written to {recipe.run_folder / 'folds.md'} and folds.json", highlight=False)


class _Display:
    """Progress as a bar on a terminal, as a line every hundred steps elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Display":
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def noted(self, told: str) -> None:
        """A sentence on the data."""
        self._console.print(told, highlight=False, soft_wrap=True)

    def prepared(self, done: int, total: int) -> None:
        """Mammograms read and prepared."""
        self._show("reading mammograms", done, total, "")

    def fold_begins(self, fold: int, folds: int) -> None:
        """The run of a fold begins."""
        self._console.print(f"fold {fold} of {folds}", highlight=False)

    def resumed(self, iteration: int) -> None:
        """A run resumes."""
        self._console.print(f"going on after iteration {iteration}", highlight=False)

    def stepped(self, step: "Step") -> None:
        """An optimiser step."""
        left = (
            f"{int(step.seconds_left // 3600)}:{int(step.seconds_left // 60 % 60):02}:{int(step.seconds_left % 60):02}"
        )
        note = f"loss {step.loss:.3f}, {left} left"
        total = round(step.iteration / step.progress) if step.progress else step.iteration
        if self._console.is_terminal:
            self._show("training", step.iteration, total, note)
        elif step.iteration % 100 == 0:
            self._console.print(f"iteration {step.iteration} of about {total}: {note}", highlight=False)

    def validated(self, iteration: int, figures: dict[str, Any]) -> None:
        """Figures on the way."""
        shown = f"AP50 {figures['ap50']:.3f}, F1 {figures['f1']:.3f}" if figures else "no lesion found yet"
        self._console.print(f"iteration {iteration}: validation {shown}", highlight=False)

    def stopped_early(self, iteration: int, best: int) -> None:
        """Patience is over."""
        self._console.print(
            f"stopped after iteration {iteration}: no better validation since iteration {best}", highlight=False
        )

    def _show(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, note=note)
        self._progress.update(self._tasks[name], completed=done, total=total, note=note)


def pretrain(
    recipe: Annotated[Path, RECIPE],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value instead of the recipe's (may be repeated).")
    ] = None,
) -> None:
    """Pretrain a ResNet on patches with and without a mass; the same command again resumes after a kill.

    The run's folder (runs/NAME) gets the weights, which a detector's recipe names in detector.weights.
    """
    needs_torch("pretrain")
    from mammoscope.training import load_pretrain_recipe
    from mammoscope.training import pretrain as run_pretraining
    from mammoscope.training.recipe import recipe_file

    parsed = load_pretrain_recipe(recipe_file(recipe), tuple(changes or ()))
    console = Console(stderr=True)
    try:
        done = run_pretraining(parsed, _Lines(console))
    except KeyboardInterrupt:
        _tell_stopped(console, parsed.run_folder)
    figures = done.figures
    interval = "" if figures.auc_interval is None else " ({:.3f} to {:.3f})".format(*figures.auc_interval)
    console.print(
        f"{done.weights}: AUC {figures.auc:.3f}{interval}, balanced accuracy {figures.balanced_accuracy:.3f} on "
        f"{figures.masses} patches with a mass and {figures.background} without, of validation's patients",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"next: mammoscope train RECIPE --set detector.weights={done.weights}", highlight=False)


class _Lines:
    """Progress, a line at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def noted(self, told: str) -> None:
        """A sentence on the data."""
        self._console.print(told, highlight=False, soft_wrap=True)

    def prepared(self, done: int, total: int) -> None:
        """Mammograms read and prepared."""
        if done == total:
            self._console.print(f"{total} mammograms prepared", highlight=False)

    def resumed(self, iteration: int) -> None:
        """A run resumes."""
        self._console.print(f"going on after iteration {iteration}", highlight=False)

    def stepped(self, iteration: int, progress: float, loss: float, minutes_left: float) -> None:
        """An optimiser step."""
        if iteration % 50 == 0:
            self._console.print(
                f"iteration {iteration}, {progress:.0%}: loss {loss:.3f}, {minutes_left:.1f} minutes left",
                highlight=False,
            )

    def validated(self, iteration: int, figures: "PatchFigures") -> None:
        """Figures on the way."""
        self._console.print(f"iteration {iteration}: validation AUC {figures.auc:.3f}", highlight=False)


def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="The folder of a run, as 'mammoscope train' named it; several become one bundle."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Each network also looks at the mirror image: twice the time.")
    ] = False,
    average: Annotated[
        bool,
        typer.Option(
            "--average", help="Several runs become one network of their mean weights, rather than a look each."
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="What result objects call the model.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Its version; by default Mammoscope's and a hash of the model.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="Where the runs' data set lies now, if it was moved.")] = None,
    force: Annotated[bool, FORCE] = False,
) -> None:
    """Make a bundle of a trained run, or of several: one ONNX file with all that 'detect' and 'node' need.

    The operating point is chosen on the validation images, and the bundle is compared with the network in torch.
    """
    needs_torch("export")
    new_file(out, force=force)
    from mammoscope.training import RunFolder, export_bundle

    columns = (TextColumn("validating"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("validating", total=None)
        detector = export_bundle(
            [RunFolder(run) for run in runs],
            out,
            mirrored=mirror,
            averaged=average,
            name=name,
            version=version,
            dataset=dataset,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    metadata = detector.bundle.metadata
    figures = metadata.figures[0]
    typer.echo(
        f"{out}: {metadata.name} {metadata.version}, {out.stat().st_size / 1e6:.1f} MB, threshold "
        f"{detector.threshold:.3f} ({metadata.operating_points[0].rule}), validation AP50 {figures.values['ap50']:.3f}"
    )


_LAYOUTS = "detectron2, torchvision, orthanc-mammography"


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, or a .pkl of Detectron2's model zoo.")],
    out: Annotated[Path, typer.Option(help="The bundle to write.", dir_okay=False)],
    config: Annotated[Path | None, typer.Option(help="Detectron2's config.yaml of that training.")] = None,
    layout: Annotated[
        str | None, typer.Option(help=f"Whose checkpoint it is, where its tensors do not tell: {_LAYOUTS}.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the network's classes, separated by commas; - leaves one out. One class is Mass."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Operating point: findings with that score are reported.")
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="A data set with a split 'val' that chooses it and gives the bundle its figures."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=32, help="Of the input; by default as the images were resized.")
    ] = None,
    columns: Annotated[int | None, typer.Option(min=32, help="Of the input, both multiples of 32.")] = None,
    crop: Annotated[str, typer.Option(help="What of a mammogram it sees: none (all of it) or breast.")] = "none",
    name: Annotated[str | None, typer.Option(help="What result objects call the model.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version.")] = None,
    source: Annotated[str, typer.Option(help="What it was trained on.")] = "not stated",
    licence: Annotated[str, typer.Option(help="Under which licence those data may be used.")] = "not stated",
    bn_eps: Annotated[
        float, typer.Option(min=0, help="Of torchvision's batch norms; 0 for its COCO weights and what came of them.")
    ] = 1e-5,
    force: Annotated[bool, FORCE] = False,
) -> None:
    """Make a bundle of a model trained with Detectron2, torchvision or orthanc-mammography.

    The bundle is compared with the network in torch: same boxes to half a pixel, same scores to 0.001.
    """
    needs_torch("import-checkpoint")
    new_file(out, force=force)
    from mammoscope.detectors.import_checkpoint import Origin
    from mammoscope.imaging import Crop
    from mammoscope.training.import_checkpoint import ImportOptions
    from mammoscope.training.import_checkpoint import import_checkpoint as make_bundle

    if layout is not None and layout not in list(Origin):
        raise MammoscopeError(f"--layout is one of {_LAYOUTS}, not {layout!r}.")
    if crop not in list(Crop):
        raise MammoscopeError(f"--crop is one of {', '.join(Crop)}, not {crop!r}.")
    options = ImportOptions(
        configuration=config,
        origin=Origin(layout) if layout else None,
        classes=[one.strip() for one in classes.split(",")] if classes else None,
        norm_epsilon=bn_eps,
        rows=rows,
        columns=columns,
        crop=Crop(crop),
        threshold=threshold,
        dataset=dataset,
        name=name,
        version=version,
        source=source,
        licence=licence,
    )
    bars = (TextColumn("validating"), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("validating", total=None, visible=dataset is not None)
        detector = make_bundle(
            checkpoint, out, options, lambda done, total: progress.update(task, completed=done, total=total)
        )
    facts = detector.bundle.metadata
    figures = f", validation AP50 {facts.figures[0].values['ap50']:.3f}" if facts.figures else ""
    typer.echo(
        f"{out}: {facts.name} {facts.version}, {out.stat().st_size / 1e6:.1f} MB, input {facts.input.rows} x "
        f"{facts.input.columns} ({facts.input.crop}), classes {', '.join(facts.classes)}, threshold "
        f"{detector.threshold:.3f}{figures}"
    )
