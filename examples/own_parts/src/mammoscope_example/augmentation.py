"""An augmentation: multiplicative noise, as detectors of mammography have it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def speckle(strength: float) -> Callable[[Tensor, NDArray[np.float64], np.random.Generator], tuple[Tensor, object]]:
    """Make a change that multiplies each pixel by about 1.

    Parameters
    ----------
    strength
        Largest standard deviation of the factor.
    """

    def change(
        picture: Tensor, boxes: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[Tensor, NDArray[np.float64]]:
        # Drawn from the generator that is given: a run that goes on after a kill then sees what an unbroken one would.
        noise = rng.standard_normal(tuple(picture.shape), dtype=np.float32) * rng.uniform(0, strength)
        return picture * (1 + torch.from_numpy(noise).to(picture.device)), boxes

    return change
