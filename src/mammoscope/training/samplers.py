"""Which image is shown when."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mammoscope.training.errors import TrainingError
from mammoscope.training.recipe import SamplingSection

Floats = NDArray[np.float64]


def sampling_weights(
    labels: Sequence[NDArray[np.int64]], section: SamplingSection, hard_negatives: Sequence[int] = ()
) -> Floats | None:
    """How often each image is to be shown, relative to the others; ``None`` for all alike.

    A class held by a share f of the images gets the repeat factor max(1, sqrt(threshold / f)); an image that of its
    rarest class, one without boxes 1 (Gupta, Dollar and Girshick 2019, section 4). An image with hard negatives then
    gets that many times its weight. At last images without boxes as a whole get their share.

    Parameters
    ----------
    labels
        Per image the class index of each box.
    hard_negatives
        Per image how many boxes its readers rejected; empty where nobody did.

    Raises
    ------
    TrainingError
        If images without boxes are to be shown and there are none.
    """
    rejected = np.array(hard_negatives or [0] * len(labels)) > 0
    repeats_hard = section.hard_negatives != 1 and bool(rejected.any())
    if not section.repeat_threshold and section.without_boxes is None and not repeats_hard:
        return None
    weights = np.ones(len(labels))
    if section.repeat_threshold:
        for label in {int(label) for held in labels for label in held}:
            holds = np.array([label in held for held in labels])
            factor = max(1.0, float(np.sqrt(section.repeat_threshold / holds.mean())))
            weights[holds] = np.maximum(weights[holds], factor)
    if repeats_hard:
        weights[rejected] *= section.hard_negatives
    if section.without_boxes is not None:
        empty = np.array([not len(held) for held in labels])
        if section.without_boxes and not empty.any():
            raise TrainingError(
                f"sampling.without_boxes = {section.without_boxes} asks for images without boxes and the training "
                "images all have some: add normal mammograms to the data set or take the key out"
            )
        if empty.all():
            raise TrainingError("no training image has a box: there is nothing to learn")
        share = section.without_boxes
        weights[empty] *= share / weights[empty].sum() if empty.any() else 1.0
        weights[~empty] *= (1 - share) / weights[~empty].sum()
    return weights


class EndlessShuffle(Sampler[list[tuple[int, int]]]):
    """Batches of (draw, index) from a given iteration on; what an epoch shows depends on seed and epoch alone.

    Without weights an epoch shows every image once, and ``draw`` is the epoch. With weights an epoch is as long, and
    shows each image as often as its weight asks, rounded down or up by chance; ``draw`` then numbers what is shown, as
    no pair may come twice: it seeds the augmentation.

    Parameters
    ----------
    start, iterations
        The first iteration, and the one after the last.
    share
        (number, of how many processes): each takes its part of every batch.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        seed: int,
        start: int,
        iterations: int,
        share: tuple[int, int] = (0, 1),
        weights: Floats | None = None,
    ) -> None:
        self._size = size
        self._batch = batch
        self._seed = seed
        self._start = start
        self._iterations = iterations
        self._share = share
        self._weights = weights

    def __len__(self) -> int:
        return self._iterations - self._start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield one batch's keys per iteration left."""
        orders: dict[int, NDArray[np.intp]] = {}
        for iteration in range(self._start, self._iterations):
            keys = []
            for position in range(iteration * self._batch, (iteration + 1) * self._batch):
                epoch, place = divmod(position, self._size)
                if epoch not in orders:
                    orders = {epoch: self._order(epoch)}
                keys.append((epoch if self._weights is None else position, int(orders[epoch][place])))
            number, of = self._share
            yield keys[number::of]

    def _order(self, epoch: int) -> NDArray[np.intp]:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(self._size)
        if self._weights is None:
            return order
        # Systematic sampling: marks at equal distances on the weights laid end to end, in random order.
        ends = np.cumsum(self._weights[order])
        marks = (np.arange(self._size) + rng.random()) * (ends[-1] / self._size)
        drawn = order[np.minimum(np.searchsorted(ends, marks, side="right"), self._size - 1)]
        return rng.permutation(drawn)
