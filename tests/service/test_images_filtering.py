"""The fast filters and distances against their definitions, written out."""

import numpy as np
import pytest

from service.images.components import distance_inside, distance_to
from service.images.filtering import greatest
from service.images.ink import energy_threshold


@pytest.mark.parametrize("limit", [1, 2, 5, 40])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_distances_are_to_the_nearest_set_pixel(share: float, limit: int) -> None:
    targets = np.random.default_rng(1).random((23, 31)) < share
    rows, columns = np.nonzero(targets)
    expected = np.full(targets.shape, float(limit))
    for (y, x), _ in np.ndenumerate(targets):
        if len(rows):
            expected[y, x] = min(limit, np.hypot(rows - y, columns - x).min())
    assert distance_to(targets, limit) == pytest.approx(expected)
    assert distance_inside(np.ones((9, 9), np.bool_), 20).max() == 5


@pytest.mark.parametrize("window", [1, 3, 5, 9, 49])
def test_the_greatest_within_a_square(window: int) -> None:
    values = np.random.default_rng(2).random((19, 26)).astype(np.float32)
    padded = np.pad(values, window // 2, "edge")
    expected = np.lib.stride_tricks.sliding_window_view(padded, (window, window)).max((2, 3))
    assert np.array_equal(greatest(values, window), expected)


def test_pixels_of_the_fullest_ink_count() -> None:
    amount = np.zeros((40, 40), np.float32)
    amount[:8], amount[8:14] = 0.3, 1.0  # many have exactly the greatest amount
    assert 0.3 <= energy_threshold(amount) < 1
