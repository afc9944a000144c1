"""A small cache of clips with chosen layouts, as the memory is made of."""

import pytest
import torch

from gonio.data.cache import CacheSettings
from gonio.data.clips import ClipSettings, make_pool
from gonio.models.spec import find_spec
from gonio.models.text import load_minilm, prompt_tokens
from gonio.train.pool_cache import pool_cache

LAYOUT_COUNT = 14


def layouts_cache(tmp_path_factory):
    """Two items of each of the first 14 layouts, their latents random, their texts read as ever."""
    draw, encoder = torch.Generator().manual_seed(0), load_minilm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("clips")))
        pool = make_pool(ClipSettings(procedural=LAYOUT_COUNT, resolution=32, plain=True, layouts="chosen"))
    return pool_cache(
        pool,
        tmp_path_factory.mktemp("latents"),
        spec=find_spec("mini-t2v"),
        settings=CacheSettings(model="mini-t2v", numbers="fp32", projection="rectified", size=32),
        variants=2,
        seed=0,
        exclude=(),
        encode_video=lambda frames: torch.randn(96, 1, 4, 4, generator=draw),
        encode_text=lambda text: prompt_tokens(encoder, text),
    )
