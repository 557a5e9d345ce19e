"""Cross-validation: one run a fold, and what they say together."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from mammoscope.datasets import folds_of, load_dataset
from mammoscope.evaluation import FigureTable, ImageResult, Metrics, TableFormat
from mammoscope.training import distributed as processes
from mammoscope.training.callbacks import Watcher
from mammoscope.training.checkpoint import write_atomically
from mammoscope.training.data import learnable
from mammoscope.training.recipe import Recipe
from mammoscope.training.run_report import Progress, write_validation
from mammoscope.training.trainer import train
from mammoscope.training.validation import validation_metrics

_FIGURES = {
    "ap50": "AP50",
    "ap20": "AP at IoU 0.2",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "froc_mean": "Mean sensitivity",
}
_FILE, _TABLE = "folds.json", "folds.md"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The figures of each fold, and of all images together, each read by the run that did not learn from it.

    Parameters
    ----------
    folds
        By fold, at the operating point chosen on it.
    pooled
        Every image once, with intervals over patients, at one operating point chosen on all. The scores of different
        runs are taken at their word.
    """

    folds: dict[int, Metrics]
    pooled: Metrics

    def spread(self, figure: str) -> tuple[float | None, float | None]:
        """(mean, standard deviation by n - 1) over the folds where a figure is defined."""
        values = [value for metrics in self.folds.values() if (value := getattr(metrics, figure)) is not None]
        return (mean(values) if values else None, stdev(values) if len(values) > 1 else None)

    def table(self) -> FigureTable:
        """A row a fold, the mean with standard deviation, and the pooled figures with intervals."""
        rows = [
            (f"fold {fold}", *(_told(getattr(metrics, figure)) for figure in _FIGURES))
            for fold, metrics in self.folds.items()
        ]
        spreads = [self.spread(figure) for figure in _FIGURES]
        rows.append(("mean (SD)", *(_told(middle) + ("" if sd is None else f" ({sd:.3f})") for middle, sd in spreads)))
        rows.append(("out of fold", *(_with_interval(self.pooled, figure) for figure in _FIGURES)))
        caption = (
            f"{self.pooled.dataset}: {self.pooled.n_images} images of {self.pooled.n_patients} patients with "
            f"{self.pooled.n_boxes} boxes, {len(self.folds)} folds by patient. Out of fold: every image once, by the "
            "run that did not learn from it, with 95 % intervals by bootstrap over patients. Operating points were "
            "chosen on the images they are used on: precision, recall and F1 are optimistic."
        )
        return FigureTable(caption, ("", *_FIGURES.values()), tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        spreads = {figure: self.spread(figure) for figure in _FIGURES}
        return {
            "folds": {str(fold): metrics.to_json() for fold, metrics in self.folds.items()},
            "mean": {figure: middle for figure, (middle, _) in spreads.items()},
            "standard_deviation": {figure: sd for figure, (_, sd) in spreads.items()},
            "pooled": self.pooled.to_json(),
        }


def in_fold(recipe: Recipe, fold: int) -> Recipe:
    """The recipe that validates on that fold and learns from the others."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"fold": fold})})


def cross_validate(
    recipe: Recipe,
    watcher: Watcher,
    begins: Callable[[int, int], None] = lambda _fold, _of: None,
    progress: Progress = lambda _done, _total: None,
) -> CrossValidation | None:
    """Train once a fold, or resume where that was killed; write ``folds.json`` and ``folds.md`` beside the runs.

    Parameters
    ----------
    begins
        Told (fold, how many).

    Returns
    -------
    CrossValidation | None
        ``None`` in every process but the first.

    Raises
    ------
    TrainingError, DatasetError, MammogramError, WeightsError
        As `train`; and if the data set is not divided into folds.
    """
    data = load_dataset(recipe.data.dataset)
    folds = folds_of(data)
    metrics: dict[int, Metrics] = {}
    results: list[ImageResult] = []
    for fold in folds:
        begins(fold, len(folds))
        run = train(in_fold(recipe, fold), watcher)
        if processes.is_first():
            validated = write_validation(run, progress)
            metrics[fold] = validated.metrics
            results += validated.results
    if not processes.is_first():
        return None
    summary = CrossValidation(metrics, validation_metrics(results, learnable(data), recipe.name))
    folder = recipe.run_folder
    write_atomically(folder / _FILE, json.dumps(summary.to_json(), indent=2).encode())
    write_atomically(folder / _TABLE, summary.table().written(TableFormat.MARKDOWN).encode())
    return summary


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _with_interval(metrics: Metrics, figure: str) -> str:
    interval = metrics.intervals.get(figure)
    return _told(getattr(metrics, figure)) + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")
