"""Networks with weights drawn from a seed, the same in Detectron2 and here: nothing but numpy draws them."""

import zlib

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 160, 128
CLASSES = 2
MODELS = ("retinanet_R_50_FPN_3x", "retinanet_R_101_FPN_3x", "faster_rcnn_R_50_FPN_3x", "faster_rcnn_R_101_FPN_3x")
IMAGES = 2
BOXES = ([[20, 30, 60, 80], [70, 100, 110, 150]], [[30, 40, 110, 130]])
LABELS = ([0, 1], [1])


def image(seed: int) -> NDArray[np.uint8]:
    """A grey picture (ROWS, COLUMNS) of soft blobs on noise."""
    generator = np.random.default_rng(1000 + seed)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    picture = generator.normal(60, 12, (ROWS, COLUMNS))
    for _ in range(6):
        row, column, size = (
            generator.uniform(10, ROWS - 10),
            generator.uniform(10, COLUMNS - 10),
            generator.uniform(6, 30),
        )
        picture += 130 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * size**2))
    return np.clip(picture, 0, 255).astype(np.uint8)


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """Weights by Detectron2's names, each drawn from its own name, so that order does not count."""
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    values = generator.standard_normal(shape, dtype=np.float32)
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_var":
        return np.exp(0.5 * values)
    if kind == "running_mean":
        return 0.3 * values
    if ".norm." in name:
        if kind == "bias":
            return 0.2 * values
        # The last norm of a block adds to what comes in; small, so that a hundred layers do not explode.
        return (0.1 if ".conv3." in name else 1.0) * np.exp(0.2 * values)
    if kind == "bias":
        return _BIAS.get(name, np.float32(0)) + 0.05 * values
    gain = 0.1 if "fpn_lateral" in name or "top_block.p6" in name else _GAIN.get(name, 1.0)
    return values * np.float32(gain * np.sqrt(2 / np.prod(shape[1:])))


_GAIN = {
    # The stem takes pixels of 0 to 255 less a mean.
    "backbone.bottom_up.stem.conv1.weight": 0.02,
    "head.cls_score.weight": 1.5,
    "head.bbox_pred.weight": 0.15,
    "proposal_generator.rpn_head.anchor_deltas.weight": 0.15,
    "roi_heads.box_predictor.cls_score.weight": 3.0,
    "roi_heads.box_predictor.bbox_pred.weight": 0.5,
}
_BIAS = {
    "head.cls_score.bias": np.float32(-4),
    "roi_heads.box_predictor.cls_score.bias": np.array([0, 0, 2], np.float32),
}
