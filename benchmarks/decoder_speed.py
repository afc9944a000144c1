"""Decoder speed against the machine's own sgemm, interleaved in one run.

    python benchmarks/decoder_speed.py

Prints the arithmetic of evaluate and of evaluate + gradients (three times the multiply-adds of evaluate; what
recomputation costs is not counted as useful work) as shares of a 2048^3 sgemm, medians over rounds.
"""

from __future__ import annotations

import statistics

import torch
from floor import once
from torch.nn.functional import normalize

from gonio.blocks import for_each_block
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, log_value

POINTS = 1 << 17
ROUNDS = 9


def main() -> None:
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    uv = torch.rand(POINTS, 2)
    wi, wo = (normalize(torch.randn(POINTS, 3), dim=-1).abs() for _ in range(2))
    print(f"{torch.get_num_threads()} threads; sgemm 2048^3; {POINTS} points on 256x256 textures")
    columns = ("decoder", "sgemm", "evaluate", "share", "+ gradients", "share")
    print("  ".join(f"{c:>12}" for c in columns) + "  (GFLOP/s)")
    for width, layers in ((64, 4), (32, 2)):
        spec = MaterialSpec(hidden_width=width, hidden_layers=layers)
        T_off, T_rgb = torch.randn(256, 256, 12), torch.randn(256, 256, 12)
        material = NeuralMaterial(T_off.clone(), T_rgb.clone(), Decoder(spec))
        T_off.requires_grad_(True), T_rgb.requires_grad_(True)
        sinks = [(torch.zeros_like(T_off), torch.zeros_like(T_rgb)) for _ in range(torch.get_num_threads())]

        def evaluate(material: NeuralMaterial = material) -> None:
            with torch.no_grad():
                material.evaluate(uv, wi, wo)

        def gradients(
            material: NeuralMaterial = material,
            T_off: torch.Tensor = T_off,
            T_rgb: torch.Tensor = T_rgb,
            sinks: list[tuple[torch.Tensor, torch.Tensor]] = sinks,
        ) -> None:
            def block(start: int, stop: int) -> None:
                part = slice(start, stop)
                sink = sinks[(start // (stop - start)) % len(sinks)]
                log_value(material.decoder, T_off, T_rgb, uv[part], wi[part], wo[part], sink).sum().backward()

            for_each_block(POINTS, block)

        evaluate(), gradients(), a @ b
        rates: dict[str, list[float]] = {"sgemm": [], "evaluate": [], "gradients": []}
        for _ in range(ROUNDS):
            rates["sgemm"].append(2 * 2048**3 / once(lambda: a @ b) / 1e9)
            work = spec.flops_per_point * POINTS / 1e9
            rates["evaluate"].append(work / once(evaluate))
            rates["gradients"].append(3 * work / once(gradients))
        share = {
            name: statistics.median(x / s for x, s in zip(rates[name], rates["sgemm"], strict=True))
            for name in ("evaluate", "gradients")
        }
        middle = {name: statistics.median(values) for name, values in rates.items()}
        row = [f"{width}x{layers}", f"{middle['sgemm']:.0f}"]
        for name in ("evaluate", "gradients"):
            row += [f"{middle[name]:.0f}", f"{share[name]:.0%}"]
        print("  ".join(f"{c:>12}" for c in row))


if __name__ == "__main__":
    main()
