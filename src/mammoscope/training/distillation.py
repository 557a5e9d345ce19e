"""A teacher: networks of finished runs, which say of a student's every anchor what they see on the same picture.

Teacher and student may differ in backbone, pyramid and input size. The picture is resized to the teacher's input; its
scores and boxes are resampled from its grid of anchors to the student's, level by level.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mammoscope.detectors import Architecture, DetectorSpec, Layout, MassDetector, build_detector, to_channels_last
from mammoscope.detectors.losses import SoftTruth, Truth
from mammoscope.training.checkpoint import RunFolder
from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import Recipe

_ALIKE = 1.3
"""By how much an anchor's part of the input may differ between teacher and student."""


class Teacher:
    """Adds what runs' networks say to the truth of a batch.

    Raises
    ------
    TrainingError
        If a run has no checkpoint, or its network cannot teach the recipe's.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        assert recipe.distill is not None
        self._weight = recipe.distill.weight
        self._networks = [_network(RunFolder(folder), recipe, device) for folder in recipe.distill.teachers]

    @torch.no_grad()
    def taught(self, images: Tensor, truth: Truth) -> Truth:
        """The truth with what the teachers say of these very pictures.

        Parameters
        ----------
        images
            Shape (n, 1, rows, columns), as the student sees them.
        """
        said = [_said(detector, size, images) for detector, size in self._networks]
        scores = torch.stack([one for one, _ in said]).mean(dim=0)
        # A teacher that sees nothing at an anchor has no say in the box there.
        sure = torch.stack([one.amax(dim=2, keepdim=True) for one, _ in said]).clamp(min=1e-6)
        boxes = (torch.stack([one for _, one in said]) * sure).sum(dim=0) / sure.sum(dim=0)
        return Truth(truth.boxes, truth.labels, truth.valid, SoftTruth(scores, boxes, self._weight))


def _network(run: RunFolder, recipe: Recipe, device: torch.device) -> tuple[MassDetector, tuple[int, int]]:
    """A run's network, ready to teach, and the size of its input."""
    theirs = run.recipe()
    if why := _why_not(recipe, theirs):
        raise TrainingError(f"distill: {run.path} cannot teach this recipe's network: {why}")
    detector = build_detector(theirs.detector, load_weights=False)
    try:
        detector.load_state_dict(run.chosen_state()[0])
    except RuntimeError as error:
        raise TrainingError(
            f"distill: the checkpoint in {run.path} is of another model than its recipe: give another run"
        ) from error
    detector.requires_grad_(requires_grad=False)
    return to_channels_last(detector.to(device)).eval(), (theirs.input.rows, theirs.input.columns)


def _said(detector: MassDetector, size: tuple[int, int], images: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (n, anchors, classes) and boxes (n, anchors, 4) in the student's pixels, of the student's anchors."""
    rows, columns = (int(side) for side in images.shape[-2:])
    shown = images
    if (rows, columns) != size:
        shown = interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    scale = images.new_tensor([columns / size[1], rows / size[0]] * 2)
    network: Any = detector.network
    scores, boxes = [], []
    for (level_scores, level_boxes), grid in zip(network.dense(shown), grids(rows, columns), strict=True):
        scores.append(_resampled(level_scores, grid))
        boxes.append(_resampled(level_boxes * scale, grid))
    return torch.cat(scores, dim=1), torch.cat(boxes, dim=1)


def grids(rows: int, columns: int) -> list[tuple[int, int]]:
    """Rows and columns of a RetinaNet's anchors at each of its five levels, finest first."""
    sizes = [(-(-rows // 32) * 4, -(-columns // 32) * 4)]
    for _ in range(4):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _resampled(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """From (n, rows, columns, anchors, k) to (n, anchors of that grid, k)."""
    images, rows, columns, shapes, numbers = values.shape
    if (rows, columns) != grid:
        maps = values.permute(0, 3, 4, 1, 2).reshape(images, shapes * numbers, rows, columns)
        maps = interpolate(maps, grid, mode="bilinear", align_corners=False)
        values = maps.reshape(images, shapes, numbers, *grid).permute(0, 3, 4, 1, 2)
    return values.reshape(images, -1, numbers)


def _why_not(student: Recipe, teacher: Recipe) -> str | None:
    """Why one recipe's network cannot teach another's; ``None`` where it can."""
    if not (_is_retinanet(student.detector) and _is_retinanet(teacher.detector)):
        return 'both have to be architecture = "retinanet" in the layout "torchvision"'
    if student.detector.classes != teacher.detector.classes:
        return f"it knows the classes {', '.join(teacher.detector.classes)}; give both the same in the same order"
    if student.input.crop != teacher.input.crop:
        return f'it sees another part of the mammogram: give both input.crop = "{teacher.input.crop}"'
    parts = [one.detector.anchor_scale / one.input.rows for one in (student, teacher)]
    if not 1 / _ALIKE <= parts[0] / parts[1] <= _ALIKE:
        wanted = parts[1] * student.input.rows
        return f"its anchors are another part of its input: set detector.anchor_scale to about {wanted:.0f}"
    return None


def _is_retinanet(spec: DetectorSpec) -> bool:
    return spec.architecture is Architecture.RETINANET and spec.layout is Layout.TORCHVISION
