"""Networks of a spec: without memory, with random weights, or with weights from a folder, bundle or cache.

Every tensor and every field of the configuration is checked against the spec before diffusers loads it:
diffusers itself would fill a missing tensor with random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gonio import media
from gonio.errors import GonioError
from gonio.media.limits import reason
from gonio.models.hub import cached_part
from gonio.models.memory import MEMORY_FILE, Memory, load_memory
from gonio.models.spec import AUTOENCODER_DEFAULTS, TRANSFORMER_DEFAULTS, VideoModelSpec, plain
from gonio.models.token_shift import with_token_shift
from gonio.models.weight_files import (
    Shapes,
    folded_shape,
    open_weights,
    require_shapes,
    unfolded,
    weights_path,
)

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

TRANSFORMER, AUTOENCODER = "WanTransformer3DModel", "AutoencoderKLWan"
TEXT_ENCODER = "UMT5EncoderModel"  # of transformers; `text.load_umt5` reads it
SUBFOLDERS = {TRANSFORMER: "transformer", AUTOENCODER: "vae", TEXT_ENCODER: "text_encoder"}
_DEFAULTS = {TRANSFORMER: TRANSFORMER_DEFAULTS, AUTOENCODER: AUTOENCODER_DEFAULTS}
_STATISTICS = ("latents_mean", "latents_std")
# Weights of an attention that the released image model carries and never uses; diffusers skips them too.
_UNUSED = ".norm_added_q."
_TEXT_AND_TIME = ("text_embedder", "time_embedder")


def load_transformer(
    spec: VideoModelSpec,
    folder: Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> WanTransformer3DModel:
    """The spec's transformer in eval mode: from a folder, else bundled, else from the hub's cache.

    folder: in diffusers layout, the model's (with transformer/) or the network's own. dtype: of the weights,
    but for the norms, tables and time embedding, which diffusers keeps in fp32. GonioError where a file, a
    tensor or a field is wrong. A text model can be had from the weights of an image model whose photo comes
    in channels alone: these are left out, which is exactly what the image model does without a photo.
    """
    place = _place(spec, TRANSFORMER, folder, spec.bundled_transformer)
    wide = {**spec.transformer, "in_channels": spec.transformer["in_channels"] + spec.photo_channels}
    if spec.task == "image" or not _states(place, wide):
        return _completed(spec, _load(spec.transformer, TRANSFORMER, place, dtype, device))
    model = _load(wide, TRANSFORMER, place, dtype, device)
    _narrow_input(model, spec.transformer["in_channels"])
    return _completed(spec, model)


def load_memory_of(spec: VideoModelSpec, folder: Path | None = None) -> Memory | None:
    """The memory beside the transformer of `load_transformer`; None where that was trained without."""
    if not spec.memory:
        return None
    path = _place(spec, TRANSFORMER, folder, spec.bundled_transformer).parent / MEMORY_FILE
    # What is bundled has one: without it, it would draw much worse and not say why.
    return load_memory(path, channels=spec.memory) if folder is None or path.exists() else None


def load_autoencoder(
    spec: VideoModelSpec, folder: Path | None = None, *, device: str | torch.device = "cpu"
) -> AutoencoderKLWan:
    """The spec's autoencoder in eval mode, always in fp32; see `load_transformer` (with vae/)."""
    return _load(spec.autoencoder, AUTOENCODER, autoencoder_folder(spec, folder), torch.float32, device)


def autoencoder_folder(spec: VideoModelSpec, folder: Path | None = None) -> Path:
    """Where the spec's autoencoder is: below `folder`, else bundled, else in the hub's cache."""
    return _place(spec, AUTOENCODER, folder, spec.bundled_autoencoder)


def random_transformer(spec: VideoModelSpec, seed: int) -> WanTransformer3DModel:
    """The spec's transformer as Wan starts its training: predicts exactly zero until the head has learned.

    Uniform Xavier weights, zero biases; text and time embeddings normal(0, 0.02); the head zero.
    The same seed gives the same weights; the global generator is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(TRANSFORMER, spec.transformer)
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, nn.Linear):
                    if any(part in name for part in _TEXT_AND_TIME):
                        nn.init.normal_(module.weight, std=0.02)
                    else:
                        nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
            nn.init.xavier_uniform_(model.patch_embedding.weight.flatten(1))
            nn.init.zeros_(model.proj_out.weight)
    return _completed(spec, model)


def random_autoencoder(spec: VideoModelSpec, seed: int) -> AutoencoderKLWan:
    """The spec's autoencoder with its class's initial weights; latents' statistics 0 and 1 if unknown."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(AUTOENCODER, spec.autoencoder)


def meta_transformer(spec: VideoModelSpec) -> WanTransformer3DModel:
    """The spec's transformer on the meta device: names, shapes and counts without memory."""
    with torch.device("meta"):
        return _completed(spec, _build(TRANSFORMER, spec.transformer))


def empty_transformer(spec: VideoModelSpec) -> WanTransformer3DModel:
    """The spec's transformer without memory for weights, to be loaded with assign=True; its table of
    positions, which no file holds, is there."""
    model = meta_transformer(spec)
    config = model.config
    model.rope = type(model.rope)(
        config.attention_head_dim, tuple(config.patch_size), config.rope_max_seq_len
    )
    return model


def meta_autoencoder(spec: VideoModelSpec) -> AutoencoderKLWan:
    """The spec's autoencoder on the meta device."""
    with torch.device("meta"):
        return _build(AUTOENCODER, spec.autoencoder)


def expected_shapes(class_name: str, config: Mapping[str, Any]) -> Shapes:
    """Every tensor that a network of this configuration stores. GonioError where it cannot be built.

    A tensor of several names, such as a shared embedding, is stored under the first.
    """
    try:
        with torch.device("meta"):
            model = _build(class_name, config)
    except (RuntimeError, ValueError, TypeError, ZeroDivisionError, IndexError) as error:
        raise GonioError(f"no {class_name} has this configuration ({reason(error)})") from None
    names: dict[int, str] = {}
    stored = model.state_dict(keep_vars=True)
    for name, tensor in stored.items():
        names.setdefault(id(tensor), name)
    return {name: tuple(stored[name].shape) for name in names.values()}


def _build(class_name: str, config: Mapping[str, Any]) -> Any:
    if class_name == TEXT_ENCODER:
        from transformers import UMT5Config, UMT5EncoderModel

        return UMT5EncoderModel(UMT5Config(**config))
    import diffusers

    known = dict(config)
    if class_name == AUTOENCODER:
        for field, neutral in zip(_STATISTICS, (0.0, 1.0), strict=True):
            known[field] = known[field] or [neutral] * config["z_dim"]
    return getattr(diffusers, class_name)(**known)


def _completed(spec: VideoModelSpec, transformer: Any) -> Any:
    """What a spec asks of its transformer beyond the class; no weights are added."""
    return with_token_shift(transformer) if spec.token_shift else transformer


def _states(place: Path, config: Mapping[str, Any]) -> bool:
    return _stated_config(place / "config.json", TRANSFORMER) == config


def _narrow_input(model: Any, channels: int) -> None:
    """Leave out the transformer's input channels beyond the first `channels`."""
    old = model.patch_embedding
    new = nn.Conv3d(channels, old.out_channels, old.kernel_size, old.stride, device=old.weight.device)
    new.weight = nn.Parameter(old.weight.detach()[:, :channels].clone(), requires_grad=False)
    new.bias = old.bias
    model.patch_embedding = new.requires_grad_(old.weight.requires_grad)
    model.register_to_config(in_channels=channels)


def _place(spec: VideoModelSpec, class_name: str, folder: Path | None, bundled: str | None) -> Path:
    """The folder of one network's config.json and weights."""
    part = SUBFOLDERS[class_name]
    if folder is not None:
        found = folder / part if (folder / part / "config.json").is_file() else folder
        if (found / "config.json").is_file():
            return found
        # What a training writes is a transformer alone: the rest of a mini model is the bundle's.
        alone = (folder / SUBFOLDERS[TRANSFORMER] / "config.json").is_file()
        if bundled is None or not alone:
            cure = "name a folder in diffusers layout" + (
                ", and this one with --transformer" if alone else ""
            )
            raise GonioError(f"{folder}: has no {part}/config.json; {cure}")
    if bundled is not None:
        found = Path(str(resources.files("gonio"))) / "weights" / bundled
        if not (found / "config.json").is_file():
            raise GonioError(f"{found}: the weights of {spec.name} are not there; install Gonio again")
        return found
    if spec.hub is None:
        raise GonioError(f"model {spec.name} names no weights of its own; give their folder")
    return cached_part(spec.hub, part)


def _load(
    config: Mapping[str, Any], class_name: str, place: Path, dtype: torch.dtype, device: str | torch.device
) -> Any:
    import diffusers

    stated = _stated_config(place / "config.json", class_name)
    _require_config(place / "config.json", stated, config)
    weights = open_weights(weights_path(place))
    found = {name: shape for name, shape in weights.shapes.items() if _UNUSED not in name}
    expected = expected_shapes(class_name, stated)
    if class_name == AUTOENCODER and _is_folded(found, expected):
        require_shapes(place, found, {name: folded_shape(shape) for name, shape in expected.items()})
        model = _build(class_name, stated)
        model.load_state_dict(
            {n: unfolded(weights.read(n).to(dtype), shape) for n, shape in expected.items()}
        )
        return model.to(device).eval()
    require_shapes(place, found, expected)
    try:
        # No bar for what takes a moment on a laptop; the commands have bars of their own.
        diffusers.utils.logging.disable_progress_bar()
        model = getattr(diffusers, class_name).from_pretrained(
            str(place), torch_dtype=dtype, local_files_only=True, use_safetensors=True
        )
        return model.to(device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise GonioError(f"{place}: cannot be loaded ({reason(error)}); check memory and files") from None


def _is_folded(found: Shapes, expected: Shapes) -> bool:
    """Whether an autoencoder of stacked frames is stored with the last temporal taps alone."""
    return all(found.get(name) == folded_shape(shape) for name, shape in expected.items())


def _stated_config(path: Path, class_name: str) -> dict[str, Any]:
    """A config.json with every field of the class; one that is absent has the default of the class."""
    document = media.read_json(path)
    if not isinstance(document, dict):
        raise GonioError(f"{path}: not a JSON object; fetch it again")
    if document.get("_class_name", class_name) != class_name:
        raise GonioError(f"{path}: describes a {document['_class_name']}, expected a {class_name}")
    return {key: plain(document.get(key, value)) for key, value in _DEFAULTS[class_name].items()}


def _require_config(path: Path, stated: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for field, value in wanted.items():
        if field in _STATISTICS and value is None:
            value = stated[field]
        if stated[field] != value:
            raise GonioError(f"{path}: {field} is {stated[field]}, the model's spec says {value}")
    for field in _STATISTICS:
        if field in stated and len(stated[field] or ()) != stated["z_dim"]:
            raise GonioError(f"{path}: {field} needs {stated['z_dim']} numbers")
