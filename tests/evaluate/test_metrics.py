"""Metrics: pinned by what they must say about simple pictures."""

import math

import pytest
import torch
from lpips_files import empty_hub, put_weights

from gonio.color import srgb_from_linear
from gonio.errors import GonioError
from gonio.evaluate import metrics
from gonio.models import perceptual
from gonio.models.perceptual import LPIPS_WEIGHTS, lpips_unavailable


def noise(frames: int = 2, height: int = 40, width: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(seed))


def left_half(height: int = 40, width: int = 48) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[:, : width // 2] = True
    return mask


def plain_ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """SSIM of two channels [H, W] by its definition, window by window."""
    offset = torch.arange(-5.0, 6.0, dtype=torch.float64)
    weight = torch.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    weight = weight / weight.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
            variance_a, variance_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
            covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * covariance + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (variance_a + variance_b + 9e-4))
            )
    return float(torch.stack(values).mean())


@pytest.mark.parametrize("offset, decibels", [(0.1, 20.0), (0.01, 40.0), (1.0, 0.0)])
def test_a_constant_offset_has_a_known_psnr(offset, decibels):
    black = torch.zeros(3, 16, 16, 3)
    value = metrics.psnr(black, black + offset)
    torch.testing.assert_close(value, torch.full((3,), decibels), atol=1e-4, rtol=0)


def test_identical_frames_are_perfect():
    x = noise()
    values = metrics.frame_metrics(x, x)
    assert values["psnr"] == metrics.MAX_PSNR
    assert values["ssim"] == pytest.approx(1.0, abs=1e-5)
    assert values["flip"] == values["mse"] == values["mape"] == 0.0
    assert set(values) == set(metrics.METRICS)


def test_frames_are_measured_one_by_one_then_averaged():
    black = torch.zeros(2, 16, 16, 3)
    estimate = black + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    torch.testing.assert_close(metrics.psnr(black, estimate), torch.tensor([20.0, 40.0]), atol=1e-4, rtol=0)
    linear = black + torch.tensor([0.001, 0.002]).view(2, 1, 1, 1)  # on the straight part of the sRGB curve
    expected = (-20 * math.log10(0.001 * 12.92) - 20 * math.log10(0.002 * 12.92)) / 2
    assert metrics.frame_metrics(black, linear)["psnr"] == pytest.approx(expected, abs=1e-3)


def test_mse_in_both_domains():
    truth, estimate = torch.full((1, 12, 12, 3), 1.0), torch.full((1, 12, 12, 3), 3.0)
    assert metrics.mse(truth, estimate).item() == pytest.approx(4.0)
    assert metrics.mse(truth, estimate, domain="log").item() == pytest.approx(math.log(2) ** 2, rel=1e-5)
    assert metrics.frame_metrics(truth, estimate)["mse"] == pytest.approx(4.0)


def test_mape_is_relative_to_the_truth_and_clipped():
    truth = torch.full((1, 4, 4, 3), 0.99)
    assert metrics.mape(truth, truth * 1.1).item() == pytest.approx(0.099, rel=1e-4)
    assert metrics.mape(truth * 1.1, truth).item() == pytest.approx(0.099 / (1.089 + 0.01), rel=1e-4)
    bright = torch.full((1, 4, 4, 3), 2.0)
    assert metrics.mape(bright, bright * 2).item() == pytest.approx(2 / 2.01, rel=1e-4)
    highlight = torch.full((1, 4, 4, 3), 4.0)
    assert metrics.mape(highlight, highlight * 100).item() == 0.0
    assert metrics.mape(torch.zeros(1, 4, 4, 3), torch.full((1, 4, 4, 3), 0.01)).item() == pytest.approx(1.0)


def test_ssim_is_its_definition():
    x, y = noise(1, 17, 15, seed=1).double(), noise(1, 17, 15, seed=2).double()
    y = (0.6 * x + 0.4 * y).clamp(0, 1)
    expected = sum(plain_ssim(x[0, ..., c], y[0, ..., c]) for c in range(3)) / 3
    assert metrics.ssim(x, y).item() == pytest.approx(expected, abs=1e-9)
    assert 0.3 < expected < 0.95


def test_ssim_of_flat_pictures_is_the_luminance_term():
    x = torch.full((1, 16, 16, 3), 0.5, dtype=torch.float64)
    y = torch.full((1, 16, 16, 3), 0.8, dtype=torch.float64)
    expected = (2 * 0.5 * 0.8 + 1e-4) / (0.25 + 0.64 + 1e-4)
    assert metrics.ssim(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_flip_is_zero_to_one_and_grows_with_the_difference():
    black = torch.zeros(1, 32, 32, 3)
    assert metrics.flip(black, black).item() == 0.0
    small, large, white = (metrics.flip(black, black + value).item() for value in (0.1, 0.4, 1.0))
    assert 0 < small < large < white <= 1.0
    # Black against white is the largest difference the published metric knows.
    assert white == pytest.approx(0.967, abs=0.005)
    assert metrics.flip_map(black, black + 1).shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["psnr", "mse", "mape", "ssim", "flip"])
def test_what_lies_outside_the_mask_does_not_count(name):
    metric = getattr(metrics, name)
    truth, mask = noise(), left_half()
    estimate = (truth + 0.2 * noise(seed=5)).clamp(0, 1)
    ruined = torch.where(mask[..., None], estimate, 1 - estimate)
    torch.testing.assert_close(metric(truth, ruined, mask), metric(truth, estimate, mask))
    assert (metric(truth, ruined) - metric(truth, estimate)).abs().min() > 1e-3
    per_frame = mask.expand(2, -1, -1)
    torch.testing.assert_close(metric(truth, estimate, per_frame), metric(truth, estimate, mask))


@pytest.mark.parametrize("name", ["psnr", "mse", "mape", "ssim"])
def test_a_mask_equals_a_crop(name):
    metric = getattr(metrics, name)
    truth, estimate = noise(seed=3), noise(seed=4)
    masked, cropped = metric(truth, estimate, left_half()), metric(truth[:, :, :24], estimate[:, :, :24])
    torch.testing.assert_close(masked, cropped, atol=1e-6, rtol=1e-5)


def test_an_empty_mask_measures_nothing():
    truth, estimate = noise(), noise(seed=1)
    values = metrics.frame_metrics(truth, estimate, torch.zeros(40, 48, dtype=torch.bool))
    assert all(value is None for value in values.values())
    only_second = torch.zeros(2, 40, 48, dtype=torch.bool)
    only_second[1] = True
    assert metrics.mse(truth, estimate, only_second)[0].isnan()
    expected = metrics.frame_metrics(truth[1:], estimate[1:])
    assert metrics.frame_metrics(truth, estimate, only_second) == pytest.approx(expected)


def test_not_a_number_outside_the_mask_is_ignored():
    truth, mask = noise(), left_half()
    estimate = torch.where(mask[..., None], truth, math.nan)
    assert metrics.mse(truth, estimate, mask).abs().max() == 0
    assert metrics.flip(truth, estimate, mask).abs().max() == 0
    assert metrics.ssim(truth, estimate, mask).min() > 0.999


@pytest.mark.parametrize(
    "truth, estimate, mask, cure",
    [
        (noise(2), noise(3), None, "F, H, W, 3"),
        (noise(2)[0], noise(2)[0], None, "F, H, W, 3"),
        (noise(0), noise(0), None, "not empty"),
        (noise(), noise(), left_half(16, 16), "does not fit"),
        (noise(), noise(), torch.ones(40, 48), "bool"),
    ],
)
def test_wrong_shapes_are_one_line_errors(truth, estimate, mask, cure):
    for name in ("mse", "mape", "ssim", "flip", "psnr", "frame_metrics"):
        with pytest.raises(GonioError, match=cure):
            getattr(metrics, name)(truth, estimate, mask)


def test_ssim_refuses_frames_below_its_window():
    with pytest.raises(GonioError, match="at least 11"):
        metrics.ssim(noise(1, 10, 20), noise(1, 10, 20))


# ------------------------------------------------------------------------ LPIPS: never downloads


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with empty_hub(tmp_path, monkeypatch) as folder:
        yield folder


def test_without_weights_lpips_is_none_and_says_why(hub):
    assert metrics.frame_metrics(noise(), noise(seed=1))["lpips"] is None
    reason = lpips_unavailable()
    assert reason is not None and LPIPS_WEIGHTS in reason and "\n" not in reason
    with pytest.raises(GonioError, match="no weights"):
        metrics.lpips(noise(), noise(seed=1))


def test_without_the_package_lpips_is_none_and_says_why(hub, monkeypatch):
    put_weights(hub)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    assert metrics.frame_metrics(noise(), noise(seed=1))["lpips"] is None
    assert "pip install" in (lpips_unavailable() or "")


@pytest.mark.parametrize("error, cure", [(ImportError("nothing"), "pip install"), (RuntimeError, "fit")])
def test_a_package_that_does_not_start_is_a_reason(hub, monkeypatch, error, cure):
    def fail(name):
        raise error

    put_weights(hub)
    monkeypatch.setattr(perceptual, "import_module", fail)
    assert cure in (lpips_unavailable() or "")


def test_lpips_uses_the_weights_on_disk(hub):
    weights = put_weights(hub)
    trunk = perceptual.lpips_network().net.state_dict()
    assert torch.equal(trunk["slice1.0.weight"], weights["features.0.weight"])
    assert torch.equal(trunk["slice5.10.bias"], weights["features.10.bias"])
    assert len(trunk) == len(weights)


def test_lpips_is_zero_for_identical_frames_and_grows(hub):
    put_weights(hub)
    x, y = noise(), noise(seed=1)
    assert lpips_unavailable(x.shape) is None
    assert metrics.lpips(x, x).abs().max() == 0
    assert (0 < metrics.lpips(x, 0.8 * x + 0.2 * y)).all()
    assert (metrics.lpips(x, 0.8 * x + 0.2 * y) < metrics.lpips(x, y)).all()
    display = srgb_from_linear(x), srgb_from_linear(y)
    assert metrics.frame_metrics(x, y)["lpips"] == pytest.approx(metrics.lpips(*display).mean().item())


def test_lpips_is_the_packages_value_and_its_map_agrees(hub):
    put_weights(hub)
    x, y = noise(1, 64, 64), noise(1, 64, 64, seed=1)
    network = perceptual.lpips_network()
    theirs = network(x.movedim(-1, 1) * 2 - 1, y.movedim(-1, 1) * 2 - 1).item()
    assert metrics.lpips(x, y).item() == pytest.approx(theirs, rel=1e-6)
    everything = torch.ones(64, 64, dtype=torch.bool)
    assert metrics.lpips(x, y, everything).item() == pytest.approx(theirs, rel=0.1)


def test_lpips_ignores_the_background_and_refuses_tiny_frames(hub):
    put_weights(hub)
    x, y = noise(), noise(seed=1)
    assert metrics.lpips(x, torch.where(left_half()[..., None], x, y), left_half()).abs().max() == 0
    assert "at least" in (lpips_unavailable(noise(1, 16, 16).shape) or "")


def test_wrong_weights_are_a_one_line_error(hub):
    weights = put_weights(hub)
    weights.popitem()
    torch.save(weights, hub / LPIPS_WEIGHTS)
    with pytest.raises(GonioError, match="alexnet") as error:
        metrics.lpips(noise(), noise(seed=1))
    assert "\n" not in str(error.value)
