import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.models.deep_cnn import DeepCNN, DeepCNNConfig, Ensemble, gaussian
from training.models.local_contrast import local_contrast
from training.models.segnet import SegNet, SegNetConfig, brighten, max_pool_with_positions, max_unpool, two_thirds
from training.models.segnet_classic import SEGNET_BASIC, ClassicSegNet, ClassicSegNetConfig
from training.models.simple_cnn import SimpleCNN, SimpleCNNConfig


def _maps_full_of_ties(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, clipped at zero as after a ReLU: most windows tie.
    return torch.randint(-3, 3, (2, 5, 12, 16), generator=generator).clamp(min=0).float()


@pytest.mark.parametrize("seed", range(3))
def test_unpooling_puts_values_where_torch_does_even_on_ties(seed: int) -> None:
    x = _maps_full_of_ties(seed)
    pooled, positions = max_pool_with_positions(x)
    expected_pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(pooled, expected_pooled)
    # The decoder's values are not the pooled ones: distinct everywhere, so a wrong place cannot hide.
    decoder = torch.arange(1, pooled.numel() + 1).reshape(pooled.shape).float()
    assert torch.equal(max_unpool(decoder, positions), F.max_unpool2d(decoder, indices, [2, 2]))


def test_comparing_with_the_upsampled_maximum_would_be_wrong() -> None:
    x = _maps_full_of_ties(0)
    pooled = F.max_pool2d(x, 2)
    naive = (x == F.interpolate(pooled, scale_factor=2)).sum()
    _, positions = max_pool_with_positions(x)
    assert positions.sum() == pooled.numel() < naive


def test_unpooling_passes_gradients_to_the_values() -> None:
    _, positions = max_pool_with_positions(_maps_full_of_ties(1))
    values = torch.randn(2, 5, 6, 8, requires_grad=True)
    max_unpool(values, positions).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert torch.equal(values.grad, torch.ones_like(values))


def test_segnet_answers_at_the_size_it_was_asked() -> None:
    config = SegNetConfig(classes=4, widths=(4, 6, 8), encoder_blocks=(0, 1), decoder_blocks=(1, 0), dilations=(1, 2))
    model = SegNet(config).eval()
    assert model.config.stride == 8
    assert model(torch.rand(2, 3, 16, 24)).shape == (2, 4, 16, 24)


def test_dark_pictures_are_brightened_and_bright_ones_left() -> None:
    pictures = torch.stack([torch.full((3, 8, 8), value) for value in (0.02, 0.2, 0.4, 0.7, 1.0)])
    means = brighten(pictures, 0.4).mean(dim=(1, 2, 3))
    # The first needs a stronger gamma than is given.
    torch.testing.assert_close(means, torch.tensor([0.02**0.4, 0.4, 0.4, 0.7, 1.0]))


def test_bars_beside_a_dark_picture_do_not_count() -> None:
    dark = torch.rand(1, 3, 24, 32) / 4
    letterboxed = F.pad(dark, (0, 0, 4, 4), value=0.5)
    torch.testing.assert_close(brighten(letterboxed, 0.4)[..., 4:-4, :], brighten(dark, 0.4), atol=0.01, rtol=0)


def test_brightening_black_is_finite_and_keeps_the_order_of_values() -> None:
    assert torch.isfinite(brighten(torch.zeros(1, 3, 8, 8), 0.4)).all()
    ramp = torch.linspace(0, 0.4, 64).expand(1, 3, 8, 64)
    brightened = brighten(ramp.half(), 0.4)
    assert brightened.dtype == torch.float16
    assert (brightened.diff(dim=-1) >= 0).all()
    assert brightened.mean() > 1.5 * ramp.mean()


def test_segnet_brightens_what_is_dark_before_anything_else() -> None:
    config = SegNetConfig(classes=4, widths=(4, 6, 8), encoder_blocks=(0, 1), decoder_blocks=(1, 0), dilations=(1, 2))
    brightening, plain = SegNet(config).eval(), SegNet(replace(config, least_brightness=0.0)).eval()
    plain.load_state_dict(brightening.state_dict())  # nothing more to keep than without it
    dark = torch.rand(2, 3, 16, 24) / 2
    assert torch.equal(brightening(dark), plain(brighten(dark, config.least_brightness)))
    assert not torch.equal(brightening(dark), plain(dark))


def test_local_contrast_does_not_know_how_bright_or_strong_the_light_is() -> None:
    pictures = torch.rand(2, 3, 80, 96) / 2 + 0.2
    contrast = local_contrast(pictures)
    assert contrast.shape == pictures.shape
    torch.testing.assert_close(local_contrast(pictures + 0.2), contrast, atol=3e-4, rtol=0)  # two steps
    assert (local_contrast(pictures * 1.4) - contrast).abs().mean() < 0.2 * contrast.abs().mean()
    # A light that falls off across the picture, as a shadow's edge does.
    ramp = torch.linspace(-0.2, 0.2, 96)
    inside = (..., slice(None), slice(24, -24))
    assert (local_contrast(pictures + ramp) - contrast)[inside].abs().max() < 0.03


def test_local_contrast_is_of_what_is_near() -> None:
    pictures = torch.full((1, 3, 160, 160), 0.4)
    pictures[..., 80:84, 80:84] = 0.8
    contrast = local_contrast(pictures)
    assert contrast[..., 80:84, 80:84].min() > 2
    assert contrast[..., 120:, :].abs().max() < 1e-3
    assert contrast[..., 60, 82].max() < -1e-3  # darker than what is around it, since that is there


def test_local_contrast_of_plain_areas_is_the_same_all_over_and_of_noise_next_to_nothing() -> None:
    plain = local_contrast(torch.full((1, 3, 48, 64), 0.37))
    assert (plain == 0).all()
    noisy = 0.9 + torch.randn(1, 3, 48, 64) * 0.004
    assert local_contrast(noisy).std() < 0.05
    assert (local_contrast(noisy.half()).float() - local_contrast(noisy)).abs().max() < 0.01


def test_local_contrast_takes_any_size_as_if_its_last_pixels_went_on() -> None:
    odd = torch.rand(1, 3, 20, 28)
    assert torch.equal(local_contrast(odd), local_contrast(F.pad(odd, (0, 4, 0, 4), mode="replicate"))[..., :20, :28])


def test_segnet_sees_colours_and_local_contrast() -> None:
    torch.manual_seed(0)
    config = SegNetConfig(
        classes=4, widths=(4, 8), encoder_blocks=(0,), decoder_blocks=(0,), dilations=(), context=False
    )
    config = replace(config, least_brightness=0.0, second_look=False)
    both, colours = SegNet(config).eval(), SegNet(replace(config, local_contrast=False)).eval()
    pictures = torch.rand(1, 3, 32, 32) / 2
    stem = both.get_submodule("encoder.0.0.0")
    assert isinstance(stem, nn.Conv2d)
    state = both.state_dict()
    state["encoder.0.0.0.weight"] = stem.weight[:, :12].clone()
    colours.load_state_dict(state)
    with torch.no_grad():
        stem.weight[:, 12:] = 0
    torch.testing.assert_close(both(pictures), colours(pictures))
    with torch.no_grad():
        stem.weight.normal_()
        stem.weight[:, :12] = 0
    torch.testing.assert_close(both(pictures), both(pictures + 0.3), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("second_look", [False, True])
@pytest.mark.parametrize("block", [1, 2, 4])
def test_segnet_names_the_most_probable_class_of_every_pixel(block: int, second_look: bool) -> None:
    torch.manual_seed(0)
    config = SegNetConfig(classes=4, block=block, widths=(4, 8), encoder_blocks=(0,), decoder_blocks=(0,), dilations=())
    model = SegNet(replace(config, second_look=second_look)).eval()
    pictures = torch.rand(2, 3, 32, 48)
    assert torch.equal(model.predict(pictures), model(pictures).argmax(1))
    assert model.predict(pictures).min() < model.predict(pictures).max()


def test_segnet_looks_a_second_time_at_a_smaller_mirror_image() -> None:
    torch.manual_seed(0)
    config = SegNetConfig(classes=4, widths=(4, 8), encoder_blocks=(0,), decoder_blocks=(0,), dilations=(1,))
    config = replace(config, least_brightness=0.0)
    twice, once = SegNet(config), SegNet(replace(config, second_look=False))
    once.load_state_dict(twice.state_dict())  # nothing more to keep than without it
    pictures = torch.rand(2, 3, 24, 48)
    assert torch.equal(twice(pictures), once(pictures))  # while training
    twice.eval(), once.eval()
    smaller = F.interpolate(pictures, (16, 32), mode="bilinear")
    mirrored = F.interpolate(once(smaller.flip(-1)).flip(-1), (24, 48), mode="bilinear")
    alike = (twice(pictures) - (once(pictures) + mirrored) / 2).abs() < 1e-3
    assert alike.float().mean() > 0.9  # a rounding error may move the maximum of a pooling to another place
    odd = torch.rand(1, 3, 20, 28)  # multiples of the stride, not of three
    assert twice(odd).shape == (1, 4, 20, 28)
    wider = F.pad(odd, (0, 2, 0, 4), mode="replicate")  # what is beyond the picture is no edge to it
    assert torch.equal(twice._second_look(odd), twice._second_look(wider)[..., :20, :28])


def test_two_thirds_of_a_picture() -> None:
    pictures = torch.rand(2, 3, 24, 36)
    smaller = two_thirds(pictures)
    torch.testing.assert_close(smaller, F.interpolate(pictures, (16, 24), mode="bilinear"))
    assert (two_thirds(torch.full((1, 1, 24, 36), 0.7)) == torch.tensor(0.7)).all()


def test_segnet_without_batch_normalisation_answers_the_same() -> None:
    torch.manual_seed(0)
    config = SegNetConfig(classes=4, widths=(4, 8), encoder_blocks=(1,), decoder_blocks=(1,), dilations=(1, 2))
    model = SegNet(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    for _ in range(3):
        model(torch.rand(2, 3, 16, 24))  # statistics of its own
    folded, pictures = model.fold_batch_norm(), torch.rand(2, 3, 16, 24)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())  # itself, it can still train
    torch.testing.assert_close(folded(pictures), model.eval()(pictures), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "weights"),
    # Four 7×7 convolutions of 64 channels; VGG-16's, whose published number is 14,714,688 with 4,224 biases.
    [(SEGNET_BASIC, 49 * 64 * (3 + 3 * 64)), (ClassicSegNetConfig(), 14_714_688 - 4_224)],
)
def test_the_published_segnets(config: ClassicSegNetConfig, weights: int) -> None:
    model = ClassicSegNet(config).eval()
    assert sum(p.numel() for p in model.encoder.parameters() if p.ndim == 4) == weights
    assert len(model.encoder) == len(model.decoder)
    assert model(torch.rand(1, 3, 36, 52)).shape == (1, 11, 36, 52)  # neither is a multiple of 2 ** poolings


def test_an_ensemble_answers_the_mean_of_its_members_probabilities() -> None:
    torch.manual_seed(0)
    members = [DeepCNN().eval() for _ in range(3)]
    digits = torch.rand(4, 1, 28, 28)
    expected = torch.stack([member(digits).softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(Ensemble(members)(digits).softmax(1), expected)


def test_deep_cnn_is_the_chapters() -> None:
    model = DeepCNN()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [16, 16, 32, 32, 64, 64]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert [c.padding for c in convolutions] == [(1, 1), (1, 1), (1, 1), (2, 2), (1, 1), (1, 1)]
    assert model.features(torch.zeros(1, 1, 28, 28)).shape == (1, 64, 4, 4)
    assert (model.hidden.in_features, model.hidden.out_features, model.output.out_features) == (1024, 50, 10)
    # Weights and biases of the chapter's W1…W8, b1…b8
    assert sum(p.numel() for p in model.parameters()) == 123_552


def test_he_initialisation_keeps_the_scale_of_activations() -> None:
    torch.manual_seed(0)
    weight = DeepCNN().hidden.weight
    assert weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)


def test_dropout_zeroes_hidden_units_and_outputs_in_training_only() -> None:
    torch.manual_seed(0)
    model = DeepCNN()
    digits = torch.rand(64, 1, 28, 28)
    zeros = (model.train()(digits) == 0).float().mean().item()
    assert zeros == pytest.approx(0.5, abs=0.1)
    assert torch.equal(model.eval()(digits), model(digits))


def test_smoothing_softens_digits_in_evaluation_alone() -> None:
    torch.manual_seed(0)
    config = DeepCNNConfig(dropout=0, output_dropout=0)
    plain, smoothing = DeepCNN(config), DeepCNN(replace(config, smoothing=0.5))
    smoothing.load_state_dict(plain.state_dict())  # nothing more to keep than without it
    digits = torch.rand(2, 1, 28, 28)
    assert torch.equal(smoothing.train()(digits), plain(digits))
    softened = F.conv2d(digits, gaussian(0.5), padding=1)
    torch.testing.assert_close(smoothing.eval()(digits), plain(softened))
    assert not torch.allclose(plain(softened), plain(digits), atol=1e-3)
    torch.testing.assert_close(smoothing.fold_batch_norm().eval()(digits), plain(softened))


def test_the_gaussian_has_the_asked_deviation_and_keeps_brightness() -> None:
    kernel = gaussian(0.5)
    assert kernel.shape == (1, 1, 3, 3)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel[0, 0, 1, 2] / kernel[0, 0, 1, 1]) == pytest.approx(math.exp(-2))  # exp(−x²/2σ²) a pixel away
    assert torch.equal(gaussian(0)[0, 0], torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]))


def test_folding_batch_norm_changes_no_answer_and_leaves_the_chapters_layers() -> None:
    torch.manual_seed(0)
    model = DeepCNN(DeepCNNConfig(batch_norm=True))
    for _ in range(3):  # give the running statistics something to differ from their start
        model(torch.rand(16, 1, 28, 28))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    model.eval()
    folded = model.fold_batch_norm().eval()
    digits = torch.rand(8, 1, 28, 28)
    torch.testing.assert_close(folded(digits), model(digits), rtol=1e-4, atol=1e-4)
    assert [type(a) for a in folded.modules()] == [type(b) for b in DeepCNN().modules()]


def _simple_cnn() -> SimpleCNN:
    """One whose batch normalisation does something."""
    torch.manual_seed(0)
    model = SimpleCNN(SimpleCNNConfig(size=16, kernel_size=5, widths=(3, 4, 5), dropout=0.5, smoothing=0.5))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    for _ in range(3):
        model(torch.rand(16, 1, 16, 16))
    return model.eval()


def test_a_simple_cnn_pads_nothing_and_pools_nothing() -> None:
    model = SimpleCNN(SimpleCNNConfig(kernel_size=7, widths=(16, 32, 48, 64)))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.padding) for c in convolutions] == [
        (width, (7, 7), (0, 0)) for width in (16, 32, 48, 64)
    ]
    assert model.features(torch.zeros(2, 1, 28, 28)).shape == (2, 64, 4, 4)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="7 convolutions of 5×5 leave nothing of 28×28 pixels"):
        SimpleCNN(SimpleCNNConfig(kernel_size=5, widths=(4,) * 7))


def test_a_simple_cnn_softens_digits_and_drops_values_as_it_should() -> None:
    model, digits = _simple_cnn(), torch.rand(4, 1, 16, 16)
    features = model.features(F.conv2d(digits, gaussian(0.5), padding=1)).flatten(1)
    torch.testing.assert_close(model(digits), model.output(features))
    assert not torch.equal(model.train()(digits), model(digits))  # dropout


def test_a_simple_cnn_without_batch_normalisation_answers_the_same() -> None:
    model, digits = _simple_cnn(), torch.rand(4, 1, 16, 16)
    folded = model.fold_batch_norm().eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())  # itself, it can still train
    torch.testing.assert_close(folded(digits), model(digits), rtol=1e-4, atol=1e-4)
