"""From a run to a bundle."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import Tensor, nn

from mammoscope.detectors import MassDetector, build_detector
from mammoscope.inference import METADATA_KEY, BundleMetadata
from mammoscope.training.checkpoint import RunFolder, write_atomically
from mammoscope.training.errors import TrainingError

_OPSET = 17


def trained_detector(run: RunFolder) -> MassDetector:
    """The detector of a run, ready to run: its last weights, or the best where its recipe keeps those.

    Raises
    ------
    TrainingError
        If the run has no checkpoint, or it is of another model.
    """
    recipe = run.recipe()
    detector = build_detector(recipe.detector, recipe.input.rows, recipe.input.columns, load_weights=False)
    try:
        detector.load_state_dict(run.chosen_state()[0])
    except RuntimeError as error:
        raise TrainingError(
            f"the checkpoint in {run.path} is of another model than its recipe: delete the run's folder and train again"
        ) from error
    return detector.eval()


def write_bundle(detector: nn.Module, metadata: BundleMetadata, out: Path) -> None:
    """Write a detector as a bundle.

    Parameters
    ----------
    detector
        Takes grey images and gives detections as `MassDetector` does in use.

    Raises
    ------
    TrainingError
        If the file cannot be written.
    """
    example = torch.rand(1, 1, metadata.input.rows, metadata.input.columns, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        traced = Path(folder) / "traced.onnx"
        # The tracer warns of every constant of a fixed input size, which is what a bundle has.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            # Exporting restores the mode of the outermost module: without eval() it would leave all in training.
            _ForExport(detector).eval(),
            (example,),
            str(traced),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=["boxes", "scores", "labels"],
            dynamic_axes={"boxes": {0: "found"}, "scores": {0: "found"}, "labels": {0: "found"}},
        )
        model = onnx.load(str(traced))
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    model.doc_string = f"{metadata.name} {metadata.version}. {metadata.notice}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, model.SerializeToString())
    except OSError as error:
        raise cannot_be_written(out, error) from error


def cannot_be_written(out: Path, error: OSError) -> TrainingError:
    """What to tell whoever asked for a bundle where none can be."""
    return TrainingError(f"the bundle {out} cannot be written: {error.strerror}; choose another --out")


class _ForExport(nn.Module):
    """One image in, three plain tensors out."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.detector(image)[0]
        return found["boxes"], found["scores"], found["labels"]
