r"""One sampling step and one training step of a video model at its true size, with random weights.

    python benchmarks/full_size.py [--model wan2.1-t2v-1.3b --frames 17 --resolution 512] \
        [--device cuda --dtype bf16]

The sampling step is two passes, with and without the prompt; the training step is one of a LoRA of rank 32 on
one clip, forward, backward and AdamW, with gradient checkpointing. Prints seconds, arithmetic, the share of
the machine's own gemm reached (MFU; what checkpointing computes again is not counted) and the peak memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from floor import flops, gemm_rate, peak_gib, seconds

from gonio.models.denoiser import Denoiser
from gonio.models.flow import draw_noise_levels, flow_loss, gaussian
from gonio.models.load import random_transformer
from gonio.models.lora import add_lora
from gonio.models.spec import find_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="wan2.1-t2v-1.3b")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    device, spec = options.device, find_spec(options.model)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    transformer = random_transformer(spec, 0).to(device, dtype)
    # Wan's head begins at zero, which no gradient passes.
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.02)
    shape = spec.latent_shape(options.frames, options.resolution, options.resolution)
    draw = torch.Generator().manual_seed(0)
    latents, noise = (gaussian((1, *shape), draw).to(device, dtype) for _ in range(2))
    text = gaussian((1, spec.text_tokens, spec.transformer["text_dim"]), draw).to(device, dtype)
    sigma, weight = (x.to(device) for x in draw_noise_levels(1, generator=draw, shift=spec.training_shift))
    denoiser = Denoiser(spec, transformer)
    rate = gemm_rate(device, dtype)
    count = sum(p.numel() for p in transformer.parameters())
    tokens = spec.token_count(options.frames, options.resolution, options.resolution)
    print(f"{spec.name}, {count / 1e9:.3f} B random weights, {options.frames} frames of {options.resolution}")
    print(f"pixels square, {tokens} tokens, {options.dtype} on {device}; gemm {rate / 1e12:.3f} TFLOP/s")

    def show(name: str, work: Callable[[], object], needed: int) -> None:
        took = seconds(work, device, options.rounds)
        share = needed / took / rate
        print(f"  {name:14} {took:8.2f} s  {needed / 1e12:8.2f} TFLOP  {share:.0%} of gemm  ", end="")
        print(f"peak memory {peak_gib(device):.1f} GiB", flush=True)

    def sampled() -> None:
        with torch.no_grad():
            for _ in range(2):
                found = denoiser(latents, torch.full((1,), 900.0, device=device), text)
        assert bool(found.isfinite().all())

    def loss() -> torch.Tensor:
        return flow_loss(lambda seen, at: denoiser(seen, at, text), latents, noise, sigma, weight)

    show("sampling step", sampled, flops(sampled))
    add_lora(transformer, rank=32)
    transformer.train()
    trained = [p for p in transformer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    needed = flops(lambda: loss().backward())
    transformer.enable_gradient_checkpointing()

    def step() -> None:
        value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert bool(value.isfinite())

    show("training step", step, needed)


if __name__ == "__main__":
    main()
