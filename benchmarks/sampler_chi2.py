"""The sampler of reconstructed materials: Mitsuba's chi-squared test, and the energy of a white furnace.

    python benchmarks/sampler_chi2.py MATERIAL.safetensors... [--directions 6]

Every material x direction must pass at 1 % with the Sidak correction; a pdf spoiled by 10 % of wo.x must not.

Energy is the directional albedo: the integral of value over all light directions, averaged over the
texture, at 0, 30, 60 and 75 degrees of view. A passive material stays at or below 1; a network promises
nothing, so it is measured and printed.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.material_file import load_material
from gonio.mitsuba_setup import use_mitsuba
from gonio.neural_material import NeuralMaterial
from gonio.render import register

SIGNIFICANCE = 0.01
VIEWS = (0.0, 30.0, 60.0, 75.0)


def directions(count: int) -> list[list[float]]:
    """Views from near the zenith to 80 degrees, spread in azimuth."""
    result = []
    for i in range(count):
        theta, phi = math.radians(5 + 75 * i / max(1, count - 1)), 2.4 * i
        result.append([math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)])
    return result


def p_value(material: NeuralMaterial, wi: list[float], uv: list[float], spoil: bool) -> float:
    import mitsuba as mi

    from gonio.render.bsdf_plugin import share

    name = share(material)
    sample, pdf = mi.chi2.BSDFAdapter("neumip", {"type": "neumip", "material": name}, wi=wi, uv=uv)

    def spoiled(wo: Any, *rest: Any) -> Any:
        return pdf(wo, *rest) * (1 + 0.1 * wo.x)

    test = mi.chi2.ChiSquareTest(
        domain=mi.chi2.SphericalDomain(),
        sample_func=sample,
        pdf_func=spoiled if spoil else pdf,
        sample_dim=3,
        sample_count=400_000,
        res=51,
        ires=16,
    )
    # The raw p-value: the correction is applied once, here, over all tests.
    test.run(1e-12, test_count=1, quiet=True)
    return float(test.p_value)


def furnace(material: NeuralMaterial, degrees: float, lights: int = 64, points: int = 1024) -> Tensor:
    """Directional albedo [points, 3]: stratified uniform directions over the hemisphere."""
    generator = torch.Generator().manual_seed(0)
    uv = torch.rand(points, 1, 2, generator=generator).expand(points, lights**2 // 4, 2)
    cell = torch.cartesian_prod(torch.arange(lights // 2), torch.arange(lights // 2))
    z = (cell[:, 0] + 0.5) / (lights // 2)
    phi = (cell[:, 1] + 0.5) / (lights // 2) * 2 * math.pi
    radius = (1 - z * z).sqrt()
    wi = torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1).expand(points, -1, 3)
    theta = math.radians(degrees)
    wo = torch.tensor([math.sin(theta), 0.0, math.cos(theta)]).expand_as(wi)
    with torch.no_grad():
        return material.evaluate(uv, wi, wo).mean(1) * (2 * math.pi)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("materials", nargs="*", type=Path)
    parser.add_argument("--directions", type=int, default=6)
    options = parser.parse_args()
    if not options.materials:
        print("skipped: name material files written by gonio reconstruct")
        return
    use_mitsuba()
    register()
    count = len(options.materials) * options.directions
    threshold = 1 - (1 - SIGNIFICANCE) ** (1 / count)
    print(f"{count} tests, rejected below p = {threshold:.2e} (1 % with the Sidak correction)")
    head = "  ".join(f"{v:>4.0f} deg" for v in VIEWS)
    print(f"{'material':32} {'smallest p':>10} {'passed':>7}   spoiled p   furnace mean: {head}   over 1")
    for path in options.materials:
        material = load_material(path)
        values = [
            p_value(material, wi, [0.13 + 0.11 * i, 0.71 - 0.09 * i], spoil=False)
            for i, wi in enumerate(directions(options.directions))
        ]
        bad = p_value(material, directions(options.directions)[2], [0.35, 0.53], spoil=True)
        energy = [furnace(material, view) for view in VIEWS]
        over = torch.stack([(e > 1.001).any(-1).float().mean() for e in energy]).mean()
        means = "  ".join(f"{float(e.mean()):8.3f}" for e in energy)
        passed = sum(p >= threshold for p in values)
        print(
            f"{path.stem:32} {min(values):10.2e} {passed:>4}/{len(values)}   {bad:9.1e}   "
            f"{'':14}{means}   {float(over):6.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
