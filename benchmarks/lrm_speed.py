"""One pass of a large reconstruction model, against its arithmetic at the machine's own rate of gemm.

    python benchmarks/lrm_speed.py [--model lrm-wan1.3b --resolution 1024 --device cuda --dtype bf16]

mini-lrm is the bundled one; lrm-wan1.3b has random weights, which take the same time as true ones. Parts are
timed apart: the encoder, the whole pass with and without it.
"""

from __future__ import annotations

import argparse

import torch
from floor import flops, gemm_rate, peak_gib, seconds

from gonio.models.load import random_autoencoder, random_transformer
from gonio.models.reconstruction import LRM_SPECS, ReconstructionModel
from gonio.reconstruct.lrm import decoder_of, load_model


def model_of(name: str) -> ReconstructionModel:
    spec = LRM_SPECS[name]
    if spec.bundled is not None:
        return load_model(spec)
    video = spec.video_spec
    null_text = torch.zeros(video.text_tokens, video.transformer["text_dim"])
    decoder, space = decoder_of(spec.decoder, pretrained=True)
    networks = random_autoencoder(video, 0), random_transformer(video, 0)
    return ReconstructionModel(spec, *networks, null_text, decoder, (space.mean, space.basis))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="mini-lrm", choices=list(LRM_SPECS))
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"), help="of the arithmetic")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    device, size = options.device, options.resolution
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    model = model_of(options.model).eval().to(device)
    frames = torch.rand(1, model.spec.frames, size, size, 3, device=device)
    rate = gemm_rate(device, dtype)
    print(f"{options.model}, {model.spec.frames} frames of {size}x{size}, {options.dtype} on {device}")
    print(f"gemm {rate / 1e9:.0f} GFLOP/s, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M weights")
    with torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bf16"):
        latents = model.encode(frames)
        parts = {
            "encoder": lambda: model.encode(frames),
            "rest": lambda: model(frames, latents),
            "whole": lambda: model(frames),
        }
        for name, work in parts.items():
            needed, took = flops(work), seconds(work, device)
            floor = needed / rate
            print(f"  {name:8} {took:8.3f} s  {needed / 1e9:10.1f} GFLOP  ", end="")
            print(f"floor {floor:8.3f} s, {took / floor:.1f} times it")
    print(f"  peak memory {peak_gib(device):.1f} GiB")


if __name__ == "__main__":
    main()
