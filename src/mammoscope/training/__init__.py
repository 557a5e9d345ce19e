"""From a recipe to a trained detector and its bundle. Needs torch (``pip install '.[train]'``)."""

from mammoscope.training.callbacks import Step, Watcher
from mammoscope.training.checkpoint import Checkpoint, RunFolder
from mammoscope.training.cross_validation import CrossValidation, cross_validate, in_fold
from mammoscope.training.errors import TrainingError
from mammoscope.training.explain import RunReader
from mammoscope.training.export import export_bundle
from mammoscope.training.onnx_export import averaged_detector, trained_detector, write_bundle
from mammoscope.training.pretraining.patches import PatchFigures
from mammoscope.training.pretraining.recipe import PretrainRecipe, load_pretrain_recipe
from mammoscope.training.pretraining.trainer import Pretrained, pretrain
from mammoscope.training.recipe import Recipe, load_recipe
from mammoscope.training.run_report import report_validation
from mammoscope.training.trainer import train
from mammoscope.training.tuning import Range, Tuning, tune

__all__ = [
    "Checkpoint",
    "CrossValidation",
    "PatchFigures",
    "PretrainRecipe",
    "Pretrained",
    "Range",
    "Recipe",
    "RunFolder",
    "RunReader",
    "Step",
    "TrainingError",
    "Tuning",
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
    "tune",
    "write_bundle",
]
