"""From a recipe to a trained detector and its bundle. Needs torch (``pip install '.[train]'``)."""

from mammoscope.training.checkpoint import Checkpoint, RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.explain import RunReader
from mammoscope.training.export import trained_detector, write_bundle
from mammoscope.training.loop import Step, Watcher, train
from mammoscope.training.pretrain_figures import PatchFigures
from mammoscope.training.pretrain_recipe import PretrainRecipe, load_pretrain_recipe
from mammoscope.training.pretraining import Pretrained, pretrain
from mammoscope.training.recipe import Recipe, load_recipe
from mammoscope.training.report import export_bundle, report_validation

__all__ = [
    "Checkpoint",
    "PatchFigures",
    "PretrainRecipe",
    "Pretrained",
    "Recipe",
    "RunFolder",
    "RunReader",
    "Step",
    "TrainingError",
    "Watcher",
    "export_bundle",
    "load_pretrain_recipe",
    "load_recipe",
    "pretrain",
    "report_validation",
    "train",
    "trained_detector",
    "write_bundle",
]
