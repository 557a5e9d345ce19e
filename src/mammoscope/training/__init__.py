"""From a recipe to a trained detector and its bundle. Needs torch (``pip install '.[train]'``)."""

from mammoscope.training.averaging import averaged_detector
from mammoscope.training.bundling import export_bundle
from mammoscope.training.checkpoint import Checkpoint, RunFolder
from mammoscope.training.cross_validation import CrossValidation, cross_validate, in_fold
from mammoscope.training.errors import TrainingError
from mammoscope.training.explain import RunReader
from mammoscope.training.export import trained_detector, write_bundle
from mammoscope.training.loop import train
from mammoscope.training.pretrain_figures import PatchFigures
from mammoscope.training.pretrain_recipe import PretrainRecipe, load_pretrain_recipe
from mammoscope.training.pretraining import Pretrained, pretrain
from mammoscope.training.recipe import Recipe, load_recipe
from mammoscope.training.report import report_validation
from mammoscope.training.watching import Step, Watcher

__all__ = [
    "Checkpoint",
    "CrossValidation",
    "PatchFigures",
    "PretrainRecipe",
    "Pretrained",
    "Recipe",
    "RunFolder",
    "RunReader",
    "Step",
    "TrainingError",
    "Watcher",
    "averaged_detector",
    "cross_validate",
    "export_bundle",
    "in_fold",
    "load_pretrain_recipe",
    "load_recipe",
    "pretrain",
    "report_validation",
    "train",
    "trained_detector",
    "write_bundle",
]
