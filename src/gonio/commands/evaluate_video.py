"""gonio evaluate video: how good material videos are, without a truth to compare them with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import Positional, arg

from gonio.errors import UsageError

if TYPE_CHECKING:
    from gonio.evaluate.video import Measurement


@dataclass(frozen=True, kw_only=True)
class EvaluateVideo:
    """Measure material videos: parallax coherence, seam, prompt adherence, novelty, diversity, FVD.

    Results are written after every video; those that are already in the file are not measured again. What
    cannot be measured is null, with the reason in the row's notes. Nothing is downloaded.

    Example: gonio evaluate video generated/ --prompts prompts.jsonl --out results.json
    """

    videos: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="VIDEOS...", help_behavior_hint="(one or more)")
    ]
    """Material videos (folders or mp4 files), or folders of them."""
    out: Path
    """JSON file to write."""
    prompts: Annotated[Path | None, arg(metavar="FILE.jsonl", help_behavior_hint="")] = None
    """What each prompt asks for: one object a line with prompt, colour, family, metallic, roughness."""
    judge: Annotated[Path | None, arg(metavar="FILE.safetensors", help_behavior_hint="")] = None
    """Judge of categories, of gonio train category; the bundled one when left out."""
    training_set: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of material videos or pictures to look for copies in."""
    contact_sheet: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None
    """Picture to write: every video beside its nearest of the training set."""
    realism: Annotated[str | None, arg(metavar="MODULE:FUNCTION", help_behavior_hint="")] = None
    """Your own realism scorer: a Python function of frames [F, H, W, 3] in [0, 1] and the prompt."""
    fvd_weights: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """i3d_pretrained_400.pt, or the folder that holds it."""
    fvd_reference: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of videos whose distribution the Frechet video distance is taken to."""

    resume: ClassVar[str] = "run the same command again to go on after the last whole video"

    def run(self) -> None:
        from gonio.evaluate import video as evaluation
        from gonio.evaluate.similarity import find_videos
        from gonio.folders import make_room

        self._check()
        paths = list(dict.fromkeys(video for path in self.videos for video in find_videos(path)))
        if not paths:
            raise UsageError(f"{self.videos[0]}: no material videos in it; name folders that hold some")
        for file in (self.out, self.contact_sheet):
            if file is not None:
                make_room(file)
        measurement = self._measurement()
        rows = evaluation.load_rows(self.out, measurement.settings)
        known = {row["video"] for row in rows}
        for index, path in enumerate(paths):
            origin = f", from {self.out}" if str(path) in known else ""
            if str(path) not in known:
                rows = [*rows, evaluation.measure_video(path, measurement)]
                evaluation.save_rows(self.out, rows)
            row = next(row for row in rows if row["video"] == str(path))
            print(f"{index + 1}/{len(paths)} {path.name}: {_shown(row)}{origin}")
        diversity = evaluation.prompt_diversity(rows)
        together: dict[str, float | None] = {
            "diversity": sum(diversity.values()) / len(diversity) if diversity else None
        }
        notes = {} if diversity else {"diversity": "no prompt has two videos"}
        fvd, reason = self._fvd([Path(row["video"]) for row in rows])
        together["fvd"] = fvd
        if reason:
            notes["fvd"] = reason
        mean = evaluation.save_rows(self.out, rows, together=together, diversity_of=diversity, notes=notes)
        self._write_sheet(rows)
        print(f"{self.out}: {len(rows)} videos, mean {_shown(mean)}")

    def _check(self) -> None:
        if not self.videos:
            raise UsageError("no videos; name one or more")
        for path in (*self.videos, self.prompts, self.judge, self.training_set, self.fvd_reference):
            if path is not None and not path.exists():
                raise UsageError(f"{path}: does not exist")
        if self.out.suffix.lower() != ".json":
            raise UsageError(f"--out {self.out}: results are JSON; name it .json")
        if self.contact_sheet is not None and self.contact_sheet.suffix.lower() not in (".png", ".jpg"):
            raise UsageError(f"--contact-sheet {self.contact_sheet}: name it .png or .jpg")
        if self.contact_sheet is not None and self.training_set is None:
            raise UsageError("--contact-sheet shows neighbours; name a --training-set to find them in")
        if self.judge is not None and self.prompts is None:
            raise UsageError(f"--judge {self.judge}: judges by --prompts; name their file")
        if (self.fvd_weights is None) != (self.fvd_reference is None):
            raise UsageError("--fvd-weights and --fvd-reference belong together; give both or neither")

    def _measurement(self) -> Measurement:
        from gonio.evaluate.realism import load_scorer
        from gonio.evaluate.similarity import find_materials, pictures_of
        from gonio.evaluate.video import Measurement, TrainingSet, prompt_adherence
        from gonio.models.category import load_category_judge

        scorer = load_scorer(self.realism) if self.realism else None
        judge = load_category_judge(self.judge) if self.judge else None
        check = prompt_adherence(self.prompts, judge) if self.prompts else None
        training_set = None
        if self.training_set is not None:
            paths = find_materials(self.training_set)
            pictures = pictures_of(paths, "Reading the training set")
            training_set = TrainingSet(name=str(self.training_set), paths=paths, pictures=pictures)
        return Measurement(
            adherence=check,
            prompts=str(self.prompts) if self.prompts else None,
            judge=str(self.judge) if self.judge else None,
            training_set=training_set,
            scorer=scorer,
            scorer_name=self.realism,
        )

    def _fvd(self, paths: list[Path]) -> tuple[float | None, str | None]:
        """The distance of all videos to the reference, or None and the reason."""
        from gonio.evaluate.fvd import clip, frechet_video_distance, fvd_unavailable
        from gonio.evaluate.similarity import find_videos
        from gonio.progress import progress

        reason = fvd_unavailable(self.fvd_weights)
        if reason or self.fvd_weights is None or self.fvd_reference is None:
            return None, reason
        references = find_videos(self.fvd_reference)
        if min(len(paths), len(references)) < 2:
            return (
                None,
                f"fvd: {len(paths)} videos and {len(references)} references; give at least two",
            )
        with progress("Reading clips", len(paths) + len(references)) as step:
            clips = []
            for path in [*paths, *references]:
                clips.append(clip(_display_frames(path)))
                step()
        generated, truth = clips[: len(paths)], clips[len(paths) :]
        return frechet_video_distance(generated, truth, self.fvd_weights), None

    def _write_sheet(self, rows: list[dict[str, Any]]) -> None:
        from gonio.color import linear_from_srgb
        from gonio.evaluate.similarity import pair_sheet
        from gonio.media import write_image

        if self.contact_sheet is None:
            return
        pairs = [
            (Path(row["video"]), Path(row["nearest"]["video"]), row["nearest"]["distance"])
            for row in rows
            if row["nearest"]
        ]
        write_image(self.contact_sheet, linear_from_srgb(pair_sheet(pairs)))
        print(f"{self.contact_sheet}: {len(pairs)} videos beside their nearest")


def _display_frames(path: Path) -> Any:
    """Frames [F, H, W, 3] display-encoded of a material video, or of any video file."""
    from gonio.color import srgb_from_linear
    from gonio.material_video import load_material_video
    from gonio.media import read_video

    return read_video(path) if path.is_file() else srgb_from_linear(load_material_video(path).frames)


def _shown(values: dict[str, Any]) -> str:
    """The measures of a row, or their means, that are known."""
    from gonio.evaluate.video import MEASURES

    texts = []
    for key in (*MEASURES, "diversity", "fvd"):
        value = values.get(key)
        if isinstance(value, dict):
            value = value["distance"]
        if value is not None:
            texts.append(f"{key} {value}" if isinstance(value, bool) else f"{key} {value:.3f}")
    return ", ".join(texts) or "nothing could be measured"
