"""Crops around rare classes, so that a class of few pixels is seen more often than it would be by chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RareCrops:
    """With some probability, a crop is laid around a pixel of a class that is drawn among those of the image.

    Attributes:
        probability: Of doing so, 0 to 1.
        class_odds: Per class how likely it is drawn among those that the image shows, relative to the others.
    """

    probability: float
    class_odds: Sequence[float]

    def choose(
        self,
        mask: NDArray[np.int32],
        size: tuple[int, int],
        window: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[int, int] | None:
        """Where a crop begins, or `None` for any place.

        Args:
            mask: `(height, width)` class ids of the whole image.
            size: Height and width after resizing.
            window: Height and width of the crop, at most the size.
            rng: Generator of all random numbers.

        Returns:
            Top and left of the crop in the resized image. The drawn pixel lies anywhere in it.
        """
        if rng.random() >= self.probability:
            return None
        # Every second row and column shows all but the smallest objects, at a quarter of the cost.
        seen = mask[::2, ::2]
        counts = np.bincount(
            seen[(seen >= 0) & (seen < len(self.class_odds))], minlength=len(self.class_odds)
        )
        odds = np.asarray(self.class_odds) * (counts > 0)
        if not odds.any():
            return None
        label = rng.choice(len(odds), p=odds / odds.sum())
        places = np.flatnonzero(seen.ravel() == label)
        row, column = divmod(int(places[rng.integers(len(places))]), seen.shape[1])
        starts = []
        for place, source, target, extent in zip((2 * row, 2 * column), mask.shape, size, window):
            center = int((place + 0.5) * target / source)
            start = center - int(rng.integers(extent))
            starts.append(min(max(start, 0), target - extent))
        return starts[0], starts[1]
