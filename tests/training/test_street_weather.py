"""Rain, night and shadows: they do what the scene's labels say, where they say it."""

import pytest
import torch
from torch import Tensor

from training.data.street_augmentation import StreetAugmentation
from training.data.street_weather import night, rain, shadow, wet_ground

SKY, HOUSE, ROAD = 0, 1, 3
GROUND = torch.tensor([False, False, False, True])
SEEDS = range(20)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def street() -> Tensor:
    """Labels 60×80: a sky of 20 rows, 20 of houses, 20 of road."""
    return torch.tensor([SKY, HOUSE, ROAD]).repeat_interleave(20)[:, None].expand(60, 80).contiguous()


def by_day() -> Tensor:
    """3×60×80, the sky brighter than all else, as it is by day."""
    return torch.tensor([0.9, 0.45, 0.35]).repeat_interleave(20)[:, None].expand(3, 60, 80)


def calm(**settings: object) -> StreetAugmentation:
    """Nothing else is done to the street."""
    still = ("brightness", "contrast", "saturation", "gamma", "tint", "illumination", "haze", "dusk", "noise")
    zeros = dict.fromkeys((*still, "blur_probability", "paste_probability"), 0.0)
    geometry = {"crop": (60, 80), "scales": (1, 1), "stretch": 1, "sky": SKY, "ground": (ROAD,)}
    return StreetAugmentation(**geometry | zeros | settings)  # type: ignore[arg-type]


def test_wet_ground_is_darker_and_mirrors_what_stands_on_it_and_nothing_else_changes() -> None:
    labels = street()
    labels[:, 40:] = ROAD  # where nothing stands above
    heights = torch.arange(60.0)[:, None].expand(60, 80) / 60
    image = torch.where(labels == ROAD, 0.4, heights).expand(3, 60, 80)
    factors = []
    for seed in SEEDS:
        wet = wet_ground(image, labels, GROUND, seeded(seed))
        assert torch.equal(wet[:, :40], image[:, :40])
        assert torch.equal(wet[:, :, 42:], image[:, :, 42:])
        # Row 39 stands on the road: row 45 shows row 33, row 54 row 24. How much of it, is drawn.
        share = (wet[:, 45, 1:38] - wet[:, 54, 1:38]) / (9 / 60)
        torch.testing.assert_close(share, share[0, 0].expand_as(share), rtol=1e-3, atol=0)
        assert 0.15 <= share[0, 0] <= 0.6
        factors.append((wet[0, 45, 1] - share[0, 0] * 33 / 60) / (1 - share[0, 0]) / 0.4)
    assert 0.7 <= min(factors) < 0.8
    assert 0.9 < max(factors) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_rain_falls_in_lines_across_the_whole_picture(seed: int) -> None:
    fallen = rain(torch.zeros(3, 200, 80), seeded(seed))
    scene = fallen.min()
    assert torch.equal(fallen[0], fallen[1])  # it has no colour
    streaks = fallen[0] > scene + 1e-3
    assert 0.001 < streaks.float().mean() < 0.5
    assert fallen.max() <= 1
    # Streaks are long: of what is streaked, nearly all has a streak below it, straight or a pixel aside.
    below = torch.zeros_like(streaks)
    below[:-1] = streaks[1:]
    below[:-1, 1:] |= streaks[1:, :-1]
    below[:-1, :-1] |= streaks[1:, 1:]
    assert (below & streaks).sum() > 0.7 * streaks.sum()


def test_rain_makes_a_scene_flatter_and_darker() -> None:
    scene = torch.linspace(0, 1, 80).expand(3, 200, 80)
    means, spans = [], []
    for seed in SEEDS:
        rows = rain(scene, seeded(seed)).median(dim=1).values
        spans.append(rows.max() - rows.min())
        means.append(rain(torch.full((3, 200, 80), 0.8), seeded(seed)).median())
    assert max(spans) < 0.9
    assert min(means) < 0.55
    assert max(means) < 0.81


def test_a_shadow_has_two_sides_and_spares_the_sky() -> None:
    labels = street()
    shares = []
    for seed in SEEDS:
        image = shadow(torch.full((3, 60, 80), 0.6), labels, SKY, seeded(seed))
        assert (image[:, :20] == 0.6).all()
        below = image[1, 20:]
        shades = below[(below < 0.6 * 0.76)]
        assert (below > 0.6 * 0.99).any() or shades.numel() > 0.9 * below.numel()
        shares.append(shades.numel() / below.numel())
        if shades.numel():
            assert image[2, 20:].min() > image[0, 20:].min()  # bluer
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_by_night_it_is_dark_and_the_sky_is_darkest() -> None:
    pictures = [night(by_day(), street(), SKY, seeded(seed)) for seed in SEEDS]
    means = torch.stack([image.clamp(0, 1).mean() for image in pictures])
    skies = torch.stack([image[:, :20].median() / image[:, 40:].median() for image in pictures])
    assert means.max() < 0.5
    assert means.min() < 0.12
    assert (skies < 1.1).float().mean() > 0.8
    assert skies.min() < 0.3


def test_lamps_shine_in_some_nights_and_give_them_their_colour() -> None:
    pictures = [night(by_day(), street(), SKY, seeded(seed)) for seed in SEEDS]
    # A place of light with a dark one far from it, both of the sky
    dazzled = [image[:, :20].mean(dim=0).max() > 5 * image[:, :20].median() for image in pictures]
    assert 0.1 < sum(map(float, dazzled)) / len(SEEDS) < 0.9
    warmth = torch.stack([image[0, 40:].median() / image[2, 40:].median() for image in pictures])
    assert warmth.max() > 1.5
    assert 0.8 < warmth.min() < 1.1


def test_there_is_grain_in_the_dark() -> None:
    grain = []
    for seed in SEEDS:
        image = night(by_day(), street(), SKY, seeded(seed))
        grain.append((image[..., 1:] - image[..., :-1]).std() / 2**0.5)
    assert min(grain) < 0.03
    assert max(grain) > 0.05


def test_night_does_not_black_out_what_was_dark_by_day() -> None:
    dark = torch.stack([night(0.15 * by_day(), street(), SKY, seeded(seed)).clamp(0, 1).mean() for seed in SEEDS])
    assert dark.mean() > 0.06
    assert dark.min() > 0.015


def test_weather_comes_as_often_as_it_is_asked_for() -> None:
    count, labels = 200, street()
    images, targets = by_day().expand(count, -1, -1, -1), labels.expand(count, -1, -1)

    def changed(seen: Tensor, rows: slice) -> Tensor:
        return (seen[:, :, rows] - images[:, :, rows]).abs().amax(dim=(1, 2, 3)) > 0.01

    sky, ground = slice(0, 20), slice(40, 60)
    for settings, above, below in (
        ({"shadow": 0.4}, 0.0, 0.4),
        ({"rain": 0.5}, 0.25, 0.5),
        ({"night": 0.25}, 0.25, 0.25),
        ({"shadow": 0.4, "rain": 0.5, "night": 0.25}, 1 - 0.75 * 0.75, 1 - 0.6 * 0.5 * 0.75),
        ({}, 0.0, 0.0),
    ):
        seen, same = calm(**settings)(images, targets, seeded())
        kept = torch.all(same == torch.stack([labels, labels.flip(-1)])[:, None], dim=(2, 3)).any(dim=0)
        assert kept.all()
        assert 0 <= seen.min() < seen.max() <= 1
        assert changed(seen, sky).float().mean() == pytest.approx(above, abs=0.1)
        assert changed(seen, ground).float().mean() == pytest.approx(below, abs=0.12)


def test_the_sky_that_is_named_is_the_dark_one() -> None:
    images, targets = by_day().expand(20, -1, -1, -1), street().expand(20, -1, -1)
    ratios = {}
    for sky in (SKY, HOUSE):
        seen, _ = calm(night=1.0, sky=sky)(images, targets, seeded())
        ratios[sky] = (seen[:, :, :20].mean() / seen[:, :, 20:40].mean()).item()
    assert ratios[SKY] < 0.8
    assert ratios[HOUSE] > 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ground": (3, 5)}, r"ground \(3, 5\) are to be below ignored_label 5"),
        ({"sky": 5}, r"sky \(5,\) are to be below ignored_label 5"),
        ({"night": 0.1}, "which class that is"),
        ({"shadow": 0.1}, "which class that is"),
        ({"rain": 0.1}, "which classes lie flat"),
    ],
)
def test_weather_needs_the_classes_that_it_is_for(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreetAugmentation(crop=(8, 8), ignored_label=5, pasted_classes=(), **settings)  # type: ignore[arg-type]


def test_two_classes_are_enough() -> None:
    augment = StreetAugmentation(crop=(24, 32), ignored_label=2, pasted_classes=(1,))
    images, labels = augment(torch.rand(4, 3, 40, 48), torch.ones(4, 40, 48, dtype=torch.int64), seeded())
    assert images.shape == (4, 3, 24, 32)
    assert set(labels.flatten().tolist()) <= {1, 2}


def test_a_scene_as_large_as_the_crop_fills_it() -> None:
    augment = calm(scales=(1.0, 1.5))
    images, labels = torch.full((50, 3, 60, 80), 0.5), torch.full((50, 60, 80), ROAD)
    for seed in SEEDS:
        seen, targets = augment(images, labels, seeded(seed))
        assert (targets == ROAD).all()
        assert seen.min() > 0.49
