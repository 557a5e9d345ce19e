"""From a recipe to a trained detector and its bundle. Needs torch (``pip install '.[train]'``)."""

from mammoscope.training.checkpoint import Checkpoint, RunFolder
from mammoscope.training.cross_validation import CrossValidation, cross_validate, in_fold
from mammoscope.training.errors import TrainingError
from mammoscope.training.export import trained_detector, write_bundle
from mammoscope.training.loop import train
from mammoscope.training.recipe import Recipe, load_recipe
from mammoscope.training.report import export_bundle, report_validation
from mammoscope.training.watching import Step, Watcher

__all__ = [
    "Checkpoint",
    "CrossValidation",
    "Recipe",
    "RunFolder",
    "Step",
    "TrainingError",
    "Watcher",
    "cross_validate",
    "export_bundle",
    "in_fold",
    "load_recipe",
    "report_validation",
    "train",
    "trained_detector",
    "write_bundle",
]
