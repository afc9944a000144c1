"""The fused layer is the plain one."""

import pytest
import torch
from torch.nn.functional import linear

from gonio import fused_linear


@pytest.mark.skipif(not fused_linear.available(torch.float32), reason="this torch has no fused layer")
@pytest.mark.parametrize("count", [1, 7, 4096])
def test_it_is_a_linear_layer_and_a_relu(count):
    draw = torch.Generator().manual_seed(count)
    x, weight, bias = (torch.randn(shape, generator=draw) for shape in ((count, 36), (64, 36), (64,)))
    found = fused_linear.linear_relu(x, weight, bias)
    torch.testing.assert_close(found, linear(x, weight, bias).relu(), atol=1e-4, rtol=1e-5)
    assert bool((found == 0).any())


def test_only_float32_has_it():
    assert not fused_linear.available(torch.float64) and not fused_linear.available(torch.bfloat16)
