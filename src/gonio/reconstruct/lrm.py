"""A material video -> a neural material in one pass of a large reconstruction model."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio import media
from gonio.camera import Trajectory, two_phase
from gonio.color import srgb_from_linear
from gonio.errors import GonioError, UsageError
from gonio.material_video import MaterialVideo
from gonio.models.autoencoder import channels_last, latent_statistics
from gonio.models.codec import load_codec
from gonio.models.load import (
    empty_transformer,
    load_autoencoder,
    load_transformer,
    random_autoencoder,
    random_transformer,
)
from gonio.models.packing import unpacked
from gonio.models.reconstruction import (
    CLASS,
    LRM_SPECS,
    ReconstructionModel,
    ReconstructionSpec,
    load_state,
)
from gonio.models.spec import find_spec
from gonio.models.text import load_text_encoder, prompt_tokens
from gonio.models.weight_files import open_weights, require_shapes, weights_path
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, Provenance
from gonio.pbr import resized_map
from gonio.reconstruct.universal import DECODERS, LatentSpace, load_universal
from gonio.rectify import rectify_video

SAME_PLACE = 1e-3


def find_lrm(name: str) -> ReconstructionSpec:
    if name not in LRM_SPECS:
        raise UsageError(f"no reconstruction model {name!r}; known are {', '.join(LRM_SPECS)}")
    return LRM_SPECS[name]


def decoder_of(size: str, *, pretrained: bool, seed: int = 0) -> tuple[Decoder, LatentSpace]:
    """MLPs "WxL" and the coordinates of their latents: universal ones, or random ones."""
    if pretrained:
        if size not in DECODERS:
            raise UsageError(f"no universal decoder {size}; known are {', '.join(DECODERS)}")
        universal = load_universal(size)
        return universal.decoder, universal.space
    width, layers = (int(number) for number in size.split("x"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(MaterialSpec(hidden_width=width, hidden_layers=layers))
    channels = decoder.spec.offset_channels + decoder.spec.reflectance_channels
    return decoder, LatentSpace.plain(channels, 1.0)


def new_model(
    spec: ReconstructionSpec,
    *,
    start: str = "video",
    decoder: str = "universal",
    weights: Path | None = None,
    seed: int = 0,
) -> ReconstructionModel:
    """A model to train. start: "video" takes the video model's weights (from a folder, else bundled or
    cached), "random" only its frozen autoencoder's encoder."""
    video = spec.video_spec
    autoencoder = load_autoencoder(video, weights if video.bundled_autoencoder is None else None)
    if start == "random":
        transformer = random_transformer(video, seed)
        autoencoder.decoder.load_state_dict(random_autoencoder(video, seed).decoder.state_dict())
    else:
        transformer = _video_transformer(spec, weights, seed)
    # A copy: the encoder's own tensor is made for inference and takes part in no gradient.
    null_text = prompt_tokens(load_text_encoder(video, weights), "").float().clone()
    mlps, space = decoder_of(spec.decoder, pretrained=decoder == "universal", seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReconstructionModel(spec, autoencoder, transformer, null_text, mlps, (space.mean, space.basis))


def _video_transformer(spec: ReconstructionSpec, weights: Path | None, seed: int) -> Any:
    """The video model's transformer, its packing folded into the first layer where it has one."""
    video = spec.video_spec
    if spec.begin is None:
        return load_transformer(video, weights)
    begin = find_spec(spec.begin)
    codec = load_codec(begin, weights if begin.bundled_autoencoder is None else None)
    if codec.packing is None:
        raise UsageError(f"model {spec.name}: begins with {begin.name}, whose latents are not packed")
    center, scale = (s.flatten() for s in latent_statistics(codec.autoencoder, codec.packing.mean))
    found = load_transformer(begin, weights).state_dict()
    # Nothing is recalled: what is seen is there.
    seen = begin.latent_channels + begin.position_channels
    found["patch_embedding.weight"] = found["patch_embedding.weight"][:, :seen]
    transformer = random_transformer(video, seed)
    transformer.load_state_dict(unpacked(found, codec.packing, center, scale), strict=False)
    return transformer


def load_model(spec: ReconstructionSpec, folder: Path | None = None) -> ReconstructionModel:
    """A trained model in eval mode, from a folder written by training, or bundled."""
    if folder is None:
        if spec.bundled is None:
            raise UsageError(f"model {spec.name} has no bundled weights; give their folder")
        folder = Path(str(resources.files("gonio"))) / "weights" / spec.bundled
    stated = media.read_json(folder / "config.json")
    if not isinstance(stated, dict) or stated.get("_class_name") != CLASS:
        raise GonioError(f"{folder}: holds no reconstruction model; name a folder written by gonio train lrm")
    try:
        spec = ReconstructionSpec(**stated["spec"])
        material = MaterialSpec(**stated["material"])
    except (KeyError, TypeError) as error:
        raise GonioError(f"{folder / 'config.json'}: malformed ({error})") from None
    tensors = open_weights(weights_path(folder))
    video = spec.video_spec
    channels = material.offset_channels + material.reflectance_channels
    autoencoder, transformer = load_autoencoder(video), empty_transformer(video)
    with torch.device("meta"):
        model = ReconstructionModel(
            spec,
            autoencoder,
            transformer,
            torch.zeros(tensors.shapes.get("null_text", (1, 1))),
            Decoder(material),
            (torch.zeros(channels), torch.eye(channels)),
        )
    expected = {name: tuple(tensor.shape) for name, tensor in model.stored().items()}
    require_shapes(folder, tensors.shapes, expected)
    load_state(model, {name: tensors.read(name).float() for name in expected})
    channels_last(model.autoencoder)
    return model.eval().requires_grad_(False)


def copy_weights(model: ReconstructionModel, folder: Path) -> None:
    """Put a trained model's weights into one of the same layout. GonioError where they do not fit."""
    tensors = open_weights(weights_path(folder))
    require_shapes(folder, tensors.shapes, {name: tuple(t.shape) for name, t in model.stored().items()})
    model.load_state_dict({name: tensors.read(name).float() for name in tensors.shapes}, strict=False)


def model_frames(spec: ReconstructionSpec, video: MaterialVideo, size: int) -> Tensor:
    """What a model sees of a video: [1, F, S, S, 3] display-encoded, of the frames it was trained for.

    A rectified model's frames that the video lacks are filled in, see `filled`. GonioError where the video
    has too few of them, or shows nothing.
    """
    wanted = two_phase(spec.frames)
    nearest, there = _matched(wanted, video.trajectory)
    if not has_frames_for(spec, video):
        raise GonioError(
            f"{spec.name} needs the {spec.frames} frames of the two-phase trajectory; this video of "
            f"{video.frames.shape[0]} lacks {int((~there).sum())} of them; use --method optimize"
        )
    chosen = video.subset(nearest[there].tolist())
    if not bool(torch.isfinite(chosen.frames).all()):
        raise GonioError("the video holds NaN or infinite values; make it again")
    if float(chosen.frames.amax()) <= 0:
        raise GonioError("the video is black everywhere; make it again")
    if spec.projection == "rectified":
        frames, seen = rectify_video(chosen, size)
        weight = seen[..., None].to(frames)
        mean = (frames * weight).sum((1, 2), keepdim=True) / weight.sum((1, 2), keepdim=True).clamp_min(1)
        frames = torch.where(seen[..., None], frames, mean)
    else:
        frames = torch.stack([resized_map(frame, size, size, wrap=False) for frame in chosen.frames])
    shown = srgb_from_linear(frames.clamp(0, 1))
    return filled(shown, there.nonzero()[:, 0].tolist(), wanted)[None]


def has_frames_for(spec: ReconstructionSpec, video: MaterialVideo) -> bool:
    """Whether a video has enough of the frames a model was trained for."""
    _, there = _matched(two_phase(spec.frames), video.trajectory)
    return int(there.sum()) >= spec.needed


def _matched(wanted: Trajectory, given: Trajectory) -> tuple[Tensor, Tensor]:
    """The nearest given frame of every wanted one, and whether it is the same. [F] twice"""
    distance, nearest = torch.cdist(_places(wanted), _places(given)).min(1)
    return nearest, distance < SAME_PLACE


def filled(frames: Tensor, known: list[int], trajectory: Trajectory) -> Tensor:
    """All frames of a trajectory from some: [K, ...] at the places `known` -> [F, ...].

    A frame that is not there is the mean of the two whose camera and light are nearest to its own.
    """
    places = _places(trajectory)
    # Of frames at one place (the light's circle ends where it began) only the first is a neighbour.
    twins = torch.cdist(places[known], places[known]) < SAME_PLACE
    distance = torch.cdist(places, places[known])
    distance[:, twins.tril(-1).any(1)] = torch.inf
    nearest = distance.topk(min(2, len(known)), largest=False).indices
    whole = frames[nearest].mean(1)
    whole[known] = frames
    return whole


def _places(trajectory: Trajectory) -> Tensor:
    """Camera and light of every frame. [F, 6]"""
    return torch.cat([trajectory.camera_position, trajectory.light_position], -1)


@torch.no_grad()
def reconstruct(
    model: ReconstructionModel,
    video: MaterialVideo,
    *,
    size: int | None = None,
    periodic: bool = False,
    provenance: Provenance | None = None,
) -> NeuralMaterial:
    """One pass. size: texels per side, a multiple of the model's stride; the frames' shorter side if None."""
    stride = model.spec.stride
    size = size or max(stride, min(video.frames.shape[1:3]) // stride * stride)
    if size % stride:
        raise UsageError(f"{size} texels a side: {model.spec.name} makes multiples of {stride}")
    textures = model(model_frames(model.spec, video, size), periodic=periodic)[0]
    decoder = Decoder(model.material_spec)
    decoder.load_state_dict(model.decoder.state_dict())
    return NeuralMaterial(*model.split(textures), decoder, provenance)
