"""A teacher: a finished run's network, which says of a student's every anchor what it sees on the same picture.

Teacher and student may differ in backbone, pyramid and input size. The picture is resized to the teacher's input; its
scores and boxes are resampled from its grid of anchors to the student's, level by level.
"""

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
    """Adds what a run's network says to the truth of a batch.

    Raises
    ------
    TrainingError
        If the run has no checkpoint, or its network cannot teach the recipe's.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        assert recipe.distill is not None
        run = RunFolder(recipe.distill.teacher)
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
        self._detector: MassDetector = to_channels_last(detector.to(device)).eval()
        self._detector.requires_grad_(requires_grad=False)
        self._size = (theirs.input.rows, theirs.input.columns)
        self._weight = recipe.distill.weight

    @torch.no_grad()
    def taught(self, images: Tensor, truth: Truth) -> Truth:
        """The truth with what the teacher says of these very pictures.

        Parameters
        ----------
        images
            Shape (n, 1, rows, columns), as the student sees them.
        """
        rows, columns = (int(side) for side in images.shape[-2:])
        shown = images
        if (rows, columns) != self._size:
            shown = interpolate(images, self._size, mode="bilinear", align_corners=False, antialias=True)
        scale = images.new_tensor([columns / self._size[1], rows / self._size[0]] * 2)
        scores, boxes = [], []
        for (level_scores, level_boxes), grid in zip(
            self._detector.network.dense(shown), grids(rows, columns), strict=True
        ):
            scores.append(_resampled(level_scores, grid))
            boxes.append(_resampled(level_boxes * scale, grid))
        soft = SoftTruth(torch.cat(scores, dim=1), torch.cat(boxes, dim=1), self._weight)
        return Truth(truth.boxes, truth.labels, truth.valid, soft)


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
