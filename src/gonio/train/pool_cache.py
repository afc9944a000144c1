"""A pool of rectified clips as the latent cache a video model is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.data.cache import CacheSettings, EncodeText, EncodeVideo, LatentCache, append_item, open_cache
from gonio.data.captions.templates import layouts_meant
from gonio.data.clip_captions import template_captions
from gonio.data.clips import ClipPool, hash_seed, transformed
from gonio.data.procedural.layouts import LAYOUTS
from gonio.models.condition import photo_clip
from gonio.models.spec import VideoModelSpec

# frames [F, H, W, 3] display-encoded, attributes of the procedural material -> whether to train on them
Accept = Callable[[Tensor, dict[str, Any]], bool]
CAPTIONS = 6  # of each variant
# The default's lamps a photo would cost more than the clip itself.
PHOTO_LAMPS = 12


def pool_cache(
    pool: ClipPool,
    out: Path,
    *,
    spec: VideoModelSpec,
    settings: CacheSettings,
    variants: int,
    seed: int,
    exclude: Sequence[str],
    encode_video: EncodeVideo,
    encode_text: EncodeText,
    photo: Callable[[int], Tensor] | None = None,
    photos: float = 1.0,
    only_varied: bool = False,
    accept: Accept | None = None,
    report: Callable[[int], None] | None = None,
) -> LatentCache:
    """Encode `variants` of the clips' symmetries, each with captions of its own that equal none of `exclude`.

    photo(index) -> [H, W, 3] display-encoded: a reference photo of the clip's material, turned with it.
    photos: share of the items that get one; only_varied: of the real and varied materials alone.
    accept: clips of other procedural materials of which it says no are left out.
    What is there is kept: a stopped run goes on.
    """
    known = open_cache(out, settings, encode_text)
    for index, record in enumerate(pool.records):
        draw = torch.Generator().manual_seed(hash_seed("variant", seed, index))
        order = torch.randperm(len(pool.symmetries), generator=draw).tolist()
        real = "category" in record  # a catalogue's, which procedural materials have none of
        varied = real or record["varied"]
        for variant in range(variants):
            name = f"{index:05d}_{variant}"
            if report is not None:
                report(index * variants + variant + 1)
            if name in known:
                continue
            if not _shows_its_layout(record["attributes"]):
                continue
            symmetry = pool.symmetries[order[variant % len(order)]]
            clip = transformed(pool.clip(index), symmetry).float().div(255)
            if accept is not None and not varied and not accept(clip, record["attributes"]):
                continue
            tensors = {"latents": encode_video(clip)}
            if photo is not None and (varied or not only_varied) and _gets_photo(seed, name, photos):
                picture = transformed(photo(index)[None], (*symmetry[:2], [0]))
                tensors["photo"] = encode_video(photo_clip(spec, picture[0], len(clip)))
            facts = {**record, **record["attributes"]}
            captions = template_captions(facts, f"{seed} {name}", count=CAPTIONS, exclude=exclude)
            tensors |= {f"text.{n}": encode_text(text) for n, text in enumerate(captions)}
            about = {"id": name, "captions": captions, "source": record["name"]}
            about["licence"] = record.get("licence") or "unstated"
            if "layout" in record["attributes"]:
                about["layout"] = f"{record['attributes']['family']} {record['attributes']['layout']}"
                about["meant"] = [_meant(text, record["attributes"]) for text in captions]
            append_item(out, about, tensors, settings)
    return LatentCache(out)


def _shows_its_layout(attributes: dict[str, Any]) -> bool:
    """Whether the pattern is that of the layout: in some colours and metals, that of a cloth is another."""
    layout = attributes.get("layout")
    return layout is None or LAYOUTS[attributes["family"]][layout] == attributes["pattern_family"]


def _meant(caption: str, attributes: dict[str, Any]) -> list[str]:
    """The layouts that the caption may mean."""
    family = attributes["family"]
    meant = layouts_meant(caption, family, LAYOUTS[family])
    if attributes["layout"] not in meant:  # said in words that another pattern has as its own
        meant = list(LAYOUTS[family])
    return [f"{family} {number}" for number in meant]


def _gets_photo(seed: int, name: str, share: float) -> bool:
    return hash_seed("photo", seed, name) % 1000 < 1000 * share
