"""From a run to a bundle.

Several runs as one network of their mean weights: the time of one network, some of the gain of several.
"""

import warnings
from collections.abc import Sequence
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
    detector = build_detector(recipe.detector, load_weights=False)
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


def averaged_detector(runs: Sequence[RunFolder]) -> MassDetector:
    """The first run's detector with the mean of all runs' weights (a model soup, Wortsman et al. 2022).

    Weights have a meaningful mean only where the runs grew from one: one that starts from another (``start`` in its
    recipe), or several that start from the same. Others average to a network that finds nothing.

    Raises
    ------
    TrainingError
        If there is one run only, a run has no checkpoint, or the runs' networks are not of one kind.
    """
    if len(runs) < 2:
        raise TrainingError(
            f"{runs[0].path} is one run, which has no mean with others: name two runs or more to average"
        )
    detectors = [trained_detector(run) for run in runs]
    states = [detector.state_dict() for detector in detectors]
    for run, detector in zip(runs[1:], detectors[1:], strict=True):
        if _kind(detector) != _kind(detectors[0]):
            raise TrainingError(
                f"{run.path} and {runs[0].path} are networks of different kinds, whose weights have no mean: fuse them "
                "instead, or average runs of the same backbone, pyramid, head and anchors"
            )
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if first.is_floating_point() else first
        for name, first in states[0].items()
    }
    detectors[0].load_state_dict(mean)
    return detectors[0]


def _kind(detector: MassDetector) -> tuple[object, ...]:
    """What two networks share if a weight of one means what it means in the other."""
    spec = detector.spec
    shapes = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    return spec.architecture, spec.backbone, spec.layout, spec.norm, spec.anchor_scale, shapes
