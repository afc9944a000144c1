"""Does Residual Parallax Coherence tell right videos from wrong ones?

    python benchmarks/rpc_sanity.py [MAPS...] [--resolution 256] [--frames 81] [--most 8]

Materials are scanned along the two-phase path (scans are kept in the cache folder). Each scan is
measured as it is, and spoilt in three ways that leave every single picture as good as it was:

    shuffled   the pictures of the camera phase in another order
    frozen     one picture for all cameras
    flat       one rectified picture seen from all cameras: a print of the material, without its relief
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import cv2
import torch
from data_maps import chosen_maps

from gonio.camera import two_phase
from gonio.evaluate.reconstruction import TRUTH_SPP, cached_scan
from gonio.evaluate.rpc import RPCSettings, camera_phase, residual_parallax_coherence
from gonio.material_video import MaterialVideo
from gonio.pbr import load_material_maps
from gonio.rectify import rectify_video, reproject
from gonio.scan.measure import ScanSettings


def variants(video: MaterialVideo, seed: int = 0) -> dict[str, MaterialVideo]:
    """The video itself and the three spoilt ones."""
    phase = camera_phase(video.trajectory)
    generator = torch.Generator().manual_seed(seed)
    mixed = list(range(video.trajectory.frames))
    for place, other in zip(phase, torch.randperm(len(phase), generator=generator).tolist(), strict=True):
        mixed[place] = phase[other]
    first = phase[0]
    frozen = [first if index in phase else index for index in range(video.trajectory.frames)]
    return {
        "correct": video,
        "shuffled": _with_pictures(video, video.frames[mixed], video.coverage[mixed]),
        "frozen": _with_pictures(video, video.frames[frozen], video.coverage[frozen]),
        "flat": _flat(video, phase),
    }


def _flat(video: MaterialVideo, phase: list[int]) -> MaterialVideo:
    """Every camera of the phase sees the picture that the overhead camera saw just before it."""
    before = video.subset([phase[0] - 1])
    texture = rectify_video(before)[0].expand(len(phase), -1, -1, -1)
    height, width = video.frames.shape[1:3]
    seen, covered = reproject(texture, video.trajectory.subset(phase), height, width)
    frames, coverage = video.frames.clone(), video.coverage.clone()
    frames[phase], coverage[phase] = seen, covered
    return _with_pictures(video, frames, coverage)


def _with_pictures(video: MaterialVideo, frames: torch.Tensor, coverage: torch.Tensor) -> MaterialVideo:
    return MaterialVideo(frames=frames, coverage=coverage, trajectory=video.trajectory)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("maps", nargs="*", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--frames", type=int, choices=(17, 41, 81), default=17)
    parser.add_argument("--most", type=int, default=8, help="materials")
    options = parser.parse_args()
    cv2.setNumThreads(torch.get_num_threads())
    settings = ScanSettings(resolution=options.resolution, spp=TRUTH_SPP, denoise=False, aov=False)
    losses: dict[str, list[float]] = {}
    for folder in chosen_maps(options.maps, with_height=True, most=options.most):
        material = load_material_maps(folder)
        video = cached_scan(material, two_phase(options.frames), settings)
        row = {
            kind: residual_parallax_coherence(spoilt, RPCSettings()).loss
            for kind, spoilt in variants(video).items()
        }
        for kind, loss in row.items():
            losses.setdefault(kind, []).append(loss)
        shown = "  ".join(f"{kind} {loss:.3f}" for kind, loss in row.items())
        print(f"{folder.name:32} {shown}", flush=True)
    for kind, values in losses.items():
        print(f"{kind:10} mean RPC loss {statistics.mean(values):.3f} over {len(values)} materials")
    wins = sum(
        all(right < wrong[i] for wrong in list(losses.values())[1:])
        for i, right in enumerate(losses["correct"])
    )
    print(f"the correct video has the lowest loss in {wins} of {len(losses['correct'])} materials")


if __name__ == "__main__":
    main()
