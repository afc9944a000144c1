"""gonio evaluate: the papers' metrics from one command."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, Suppress, arg, subcommand

from gonio.commands.evaluate_ablations import EvaluateAblations
from gonio.commands.evaluate_video import EvaluateVideo
from gonio.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from gonio.evaluate.reconstruction import Case
    from gonio.material_video import MaterialVideo
    from gonio.neural_material import NeuralMaterial


@dataclass(frozen=True, kw_only=True)
class EvaluateReconstruction:
    """Reconstruct materials and measure the results on views and lights they were not made from.

    Maps are scanned and measured on the 81 cross-joined frames; of material videos every second frame is used
    and the others are measured. PSNR, SSIM, FLIP and LPIPS are of display-encoded frames; MSE is of linear
    radiance, MAPE of linear radiance clipped to [0, 4]: the mean of |x - y| / (y + 0.01), y the truth.
    Results are written after every material; those that are already in the file are not made again, unless a
    contact sheet is asked for. Scans are kept in the cache folder ($GONIO_CACHE).

    Example: gonio evaluate reconstruction maps/moss maps/brick --views 17 --out results.json
    """

    inputs: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="INPUTS...", help_behavior_hint="(one or more)")
    ]
    """Folders of PBR maps, or folders of material videos."""
    out: Path
    """JSON file to write."""
    method: Literal["lrm", "refine", "optimize", "scratch"] = "optimize"
    """lrm: one pass of the reconstruction model; refine: goes on from its result; optimize: a fit from the
    universal decoder; scratch: from random numbers."""
    model: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Reconstruction model made by gonio train lrm; the bundled one when left out."""
    views: Literal[17, 81] = 17
    """Frames of the two-phase trajectory to reconstruct from."""
    resolution: int = 256
    """Pixels of the frames and texels of the material, per side."""
    faulty: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Give the scans the faults of generated videos: jitter, drift, noise, an autoencoder's round trip."""
    upper_bound: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Reconstruct from the 81 test frames themselves: what the representation can do at best."""
    contact_sheet: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None
    """Picture to write: truth, reconstruction, FLIP error and offset map of each material."""

    resume: ClassVar[str] = "run the same command again to go on after the last whole material"

    def run(self) -> None:
        from gonio.color import linear_from_srgb
        from gonio.evaluate import results
        from gonio.evaluate.reconstruction import evaluate_case
        from gonio.folders import make_room
        from gonio.map_names import find_maps
        from gonio.media import write_image
        from gonio.models.perceptual import lpips_unavailable
        from gonio.pictures import contact_sheet
        from gonio.scan import ScanSettings

        names = [path.resolve().name for path in self.inputs]
        self._check(names)
        ScanSettings(resolution=self.resolution)  # its limits
        videos = self._are_videos()
        if not videos:
            for folder in self.inputs:
                find_maps(folder)
        for file in (self.out, self.contact_sheet):
            if file is not None:
                make_room(file)
        settings: dict[str, Any] = {
            "method": self._method_name(),
            "views": "half" if videos else 81 if self.upper_bound else self.views,
            "resolution": self.resolution,
        }
        rows = results.load_rows(self.out, settings)
        pictures: list[list[Tensor]] = []
        labels: list[list[str]] = []
        for index, (name, folder) in enumerate(zip(names, self.inputs, strict=True)):
            known = [row for row in rows if row["material"] == name]
            if known and self.contact_sheet is None:
                print(f"{index + 1}/{len(names)} {name}: {known[0]['psnr']:.2f} dB, from {self.out}")
                continue
            case = self._case(folder, video=videos)
            measured, estimate = evaluate_case(case, partial(self._reconstruct, of_video=videos))
            reason = lpips_unavailable(case.truth.frames.shape)
            row = results.make_row(name, settings, measured, {"lpips": reason} if reason else {})
            rows = [other for other in rows if other["material"] != name] + [row]
            results.save_rows(self.out, rows)
            seconds = f"{row['seconds']:.1f} s"
            print(f"{index + 1}/{len(names)} {name}: {row['psnr']:.2f} dB, SSIM {row['ssim']:.3f}, {seconds}")
            if self.contact_sheet is not None:
                shown = _pictures(case, estimate)
                pictures.append(list(shown.values()))
                labels.append([f"{name}: {label}" if label == "truth" else label for label in shown])
        if self.contact_sheet is not None:
            write_image(self.contact_sheet, linear_from_srgb(contact_sheet(pictures, labels)))
        print(f"{self.out}: {len(rows)} materials, mean {_mean(rows):.2f} dB")

    def _are_videos(self) -> bool:
        """Whether the inputs are material videos; some of each would make no table."""
        from gonio.material_video import MANIFEST

        videos = [(path / MANIFEST).exists() for path in self.inputs]
        if any(videos) and not all(videos):
            raise UsageError(f"{self.inputs[videos.index(False)]}: no material video, as others are")
        if any(videos) and (self.upper_bound or self.faulty):
            raise UsageError("--upper-bound and --faulty are for maps; leave them out")
        return any(videos)

    def _case(self, folder: Path, *, video: bool) -> Case:
        from gonio.evaluate.reconstruction import half_case, make_case
        from gonio.material_video import load_material_video
        from gonio.pbr import load_material_maps

        if video:
            return half_case(load_material_video(folder))
        views = 0 if self.upper_bound else self.views
        maps = load_material_maps(folder)
        return make_case(maps, views=views, resolution=self.resolution, faulty=self.faulty)

    def _method_name(self) -> str:
        """Of the rows: results of different methods and models are not mixed in one file."""
        name = f"{self.method} upper bound" if self.upper_bound else self.method
        name += " faulty" if self.faulty else ""
        return f"{name} ({self.model})" if self.model else name

    def _check(self, names: list[str]) -> None:
        if not names:
            raise UsageError("no materials; name one folder of maps or more")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise UsageError(f"two folders are called {twice[0]}; rename one, rows are told apart by name")
        if self.out.suffix.lower() != ".json":
            raise UsageError(f"--out {self.out}: results are JSON; name it .json")
        if self.contact_sheet is not None and self.contact_sheet.suffix.lower() not in (".png", ".jpg"):
            raise UsageError(f"--contact-sheet {self.contact_sheet}: name it .png or .jpg")

    def _reconstruct(self, video: MaterialVideo, *, of_video: bool) -> NeuralMaterial:
        from gonio.reconstruct.run import Reconstruction, reconstruct_shown

        size = None if of_video else self.resolution
        how = Reconstruction(method=self.method, size=size, model=self.model)
        return reconstruct_shown(video, how)[0]


def _mean(rows: list[dict[str, Any]]) -> float:
    return sum(row["psnr"] for row in rows) / len(rows)


# Seen from the zenith, lit from 69 degrees at an azimuth of 45: a frame in which relief shows.
_SHOWN_FRAME = 2


def _pictures(case: Case, estimate: NeuralMaterial) -> dict[str, Tensor]:
    """Truth, reconstruction, FLIP error and horizontal offset of one unseen frame, display-encoded."""
    from gonio.color import srgb_from_linear
    from gonio.evaluate.metrics import flip_map
    from gonio.evaluate.reconstruction import offset_map, render_truth_views
    from gonio.pictures import error_picture, offset_picture

    truth = case.truth.subset([_SHOWN_FRAME])
    shown = srgb_from_linear(render_truth_views(estimate, truth))
    wanted = srgb_from_linear(truth.frames)
    offset = offset_map(estimate, truth.frames.shape[1])
    limit = max(float(offset.abs().max()), 1e-3)
    return {
        "truth": wanted[0],
        "reconstruction": shown[0],
        "FLIP error": error_picture(flip_map(wanted, shown)[0]),
        f"u offset, 45 degrees, +-{limit:.3f}": offset_picture(offset, limit)[0],
    }


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure how good results are.

    Example: gonio evaluate reconstruction maps/moss --out results.json
    """

    command: (
        Annotated[EvaluateReconstruction, subcommand("reconstruction")]
        | Annotated[EvaluateVideo, subcommand("video")]
        | Annotated[EvaluateAblations, subcommand("ablations")]
        | Annotated[None, Suppress]
    )
    """What to measure."""
