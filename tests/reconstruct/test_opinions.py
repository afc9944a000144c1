"""Two reconstructions count for as much as they explain of the frames, where there are none."""

import pytest
import torch

from gonio.camera import two_phase
from gonio.material_video import MaterialVideo
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, log_value
from gonio.reconstruct.observations import observe
from gonio.reconstruct.opinions import UNDERSTATED, Opinions
from gonio.reconstruct.plane import render_plane


def material(seed: int) -> NeuralMaterial:
    torch.manual_seed(seed)
    spec = MaterialSpec(offset_channels=2, reflectance_channels=3, hidden_width=8, hidden_layers=1)
    return NeuralMaterial(torch.zeros(8, 8, 2), torch.randn(8, 8, 3), Decoder(spec)).requires_grad_(False)


def seen_of(truth: NeuralMaterial):
    frames = render_plane(truth, two_phase(5), 8, 8)
    coverage = torch.ones(frames.shape[:3])
    return observe(MaterialVideo(frames=frames, coverage=coverage, trajectory=two_phase(5)))


def test_one_that_explains_the_frames_is_believed_and_equals_count_as_their_errors_are_known():
    good, bad = material(0), material(1)
    seen = seen_of(good)
    assert Opinions.weighed(good, bad, seen).own_share < 1e-3
    assert Opinions.weighed(bad, good, seen).own_share > 0.999
    assert Opinions.weighed(bad, bad, seen).own_share == pytest.approx(1 / (1 + UNDERSTATED))


def test_what_is_imagined_lies_between_the_opinions():
    one, other = material(0), material(1)
    opinions = Opinions(teacher=one, own=other, own_share=0.25)
    batch = opinions.imagined(500, torch.Generator().manual_seed(0))
    assert batch.uv.shape == (500, 2)
    assert bool((batch.wo[:, 2] > 0).all())
    said = [log_value(m.decoder, m.T_off, m.T_rgb, batch.uv, batch.wi, batch.wo) for m in (one, other)]
    torch.testing.assert_close(batch.target, 0.75 * said[0] + 0.25 * said[1])


def test_opinions_are_restored_from_their_state():
    opinions = Opinions(teacher=material(0), own=material(1), own_share=0.3)
    found = Opinions.restored(material(0), material(2), opinions.state())
    assert found.own_share == 0.3
    assert torch.equal(found.own.T_rgb, opinions.own.T_rgb)
