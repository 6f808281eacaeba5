"""Rain and night: they do what the scene's labels say, where they say it."""

import pytest
import torch
from torch import Tensor

from training.data.street_augmentation import StreetAugmentation
from training.data.street_weather import night, rain, shadow, wet_ground

SKY, HOUSE, ROAD = 0, 1, 3
GROUND = torch.tensor([False, False, False, True])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def street() -> Tensor:
    """Labels 60×80: a sky of 20 rows, 20 of houses, 20 of road."""
    return torch.tensor([SKY, HOUSE, ROAD]).repeat_interleave(20)[:, None].expand(60, 80).contiguous()


def test_wet_ground_mirrors_what_stands_on_it_and_nothing_else_changes() -> None:
    labels = street()
    labels[:, 40:] = ROAD  # where nothing stands above
    heights = torch.arange(60.0)[:, None].expand(60, 80) / 60
    image = torch.where(labels == ROAD, 0.0, heights).expand(3, 60, 80)
    wet = wet_ground(image, labels, GROUND, seeded())
    assert torch.equal(wet[:, :40], image[:, :40])
    assert torch.equal(wet[:, :, 42:], image[:, :, 42:])
    # Row 39 stands on the road: row 45 shows row 33, row 55 row 23. How much of it, is drawn.
    share = wet[:, 45, 1:38] / (33 / 60)
    torch.testing.assert_close(share, share[0, 0].expand_as(share), rtol=1e-4, atol=0)
    assert 0.15 <= share[0, 0] <= 0.6
    torch.testing.assert_close(wet[:, 54, 1:38], share * 24 / 60, rtol=1e-4, atol=0)


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
    for seed in range(5):
        rows = rain(scene, seeded(seed)).median(dim=1).values
        assert rows.max() - rows.min() < 0.95
        assert rows.max() < 1


def test_by_night_it_is_dark_and_the_sky_is_darkest() -> None:
    labels = street()
    means, skies = [], []
    for seed in range(20):
        image = night(torch.full((3, 60, 80), 0.6), labels, SKY, seeded(seed))
        means.append(image.median())
        skies.append(image[:, :20].median() / image[:, 40:].median())
    assert torch.stack(means).max() < 0.5
    assert torch.stack(skies).mean() < 0.8
    assert min(means) < 0.15 < max(means)


def test_night_does_not_black_out_what_was_dark_by_day() -> None:
    dark = torch.full((3, 60, 80), 0.08)
    brightest = [night(dark, street(), SKY, seeded(seed)).clamp(0, 1).mean() for seed in range(20)]
    assert max(brightest) > 0.05


def test_a_shadow_has_two_sides_and_spares_the_sky() -> None:
    labels = street()
    shares = []
    for seed in range(20):
        image = shadow(torch.full((3, 60, 80), 0.6), labels, SKY, seeded(seed))
        assert (image[:, :20] == 0.6).all()
        below = image[1, 20:]
        shades = below[(below < 0.6 * 0.76)]
        lit = below > 0.6 * 0.99
        assert lit.any() or shades.numel() > 0.9 * below.numel()
        shares.append(shades.numel() / below.numel())
        if shades.numel():
            assert image[2, 20:].min() > image[0, 20:].min()  # bluer
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_weather_comes_as_often_as_it_is_asked_for() -> None:
    count, still = 200, dict.fromkeys(("brightness", "contrast", "saturation", "gamma", "tint", "illumination"), 0.0)
    still |= dict.fromkeys(("haze", "dusk", "noise", "blur_probability", "paste_probability"), 0.0)
    images, labels = torch.full((count, 3, 24, 32), 0.9), torch.full((count, 24, 32), ROAD)
    labels[:, :12] = SKY
    images[:, :, :12] = 0.5
    augment = StreetAugmentation(crop=(24, 32), scales=(1, 1), stretch=1, rain=0.5, night=0.25, **still)  # type: ignore[arg-type]
    seen, targets = augment(images, labels, seeded())
    assert torch.equal(targets, labels)
    assert 0 <= seen.min() < seen.max() <= 1
    plain = (seen[:, :, :12] - 0.5).abs().amax(dim=(1, 2, 3)) < 0.01  # what is only wet has the sky that it had
    dry = plain & ((seen - images).abs().amax(dim=(1, 2, 3)) < 0.01)
    assert plain.float().mean() == pytest.approx(0.75 * 0.75, abs=0.1)
    assert dry.float().mean() == pytest.approx(0.75 * 0.5, abs=0.1)


@pytest.mark.parametrize(
    "settings", [{"rain": 0.1, "ground": (3, 5)}, {"night": 0.1, "sky": 5}, {"shadow": 0.1, "sky": 5}]
)
def test_sky_and_ground_must_be_classes(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"5.* to be below ignored_label 5"):
        StreetAugmentation(crop=(8, 8), ignored_label=5, pasted_classes=(), **settings)  # type: ignore[arg-type]
