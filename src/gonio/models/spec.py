"""What a video model is, in numbers: its networks' configurations and how it is sampled and trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf, prod
from pathlib import Path
from typing import Any, Literal

from gonio import media
from gonio.errors import UsageError

# Every field of the diffusers classes, with the values of the released Wan 2.1 14B text model: a spec
# names only what differs, and a comparison with a config.json sees every field.
TRANSFORMER_DEFAULTS: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}
AUTOENCODER_DEFAULTS: dict[str, Any] = {
    "base_dim": 96,
    "decoder_base_dim": None,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],  # the class spells it so
    "dropout": 0.0,
    # Statistics of the latents by channel. None: whatever stands beside the weights.
    "latents_mean": [
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ],
    "latents_std": [
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    ],
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
}
Projection = Literal["perspective", "rectified"]
TEXT_ENCODERS = ("umt5-xxl", "minilm")
IMAGE_ENCODERS = ("clip-vit-h",)
MASK_CHANNELS = 4  # one for each frame that a latent frame stands for
# The attention of the class finds the image tokens by counting 512 text tokens from the end.
TEXT_TOKENS_BEFORE_IMAGE = 512
PATCH = 2  # latents along a side that are packed together
TEMPORAL_STRIDE = 4  # AutoencoderKLWan encodes one frame, then fours, whatever its configuration says


@dataclass(frozen=True, kw_only=True)
class VideoModelSpec:
    """One video diffusion model. Raises UsageError where the parts do not fit together.

    transformer and autoencoder hold the fields of diffusers' WanTransformer3DModel and AutoencoderKLWan
    (those left out have the values of the released 14B text model).
    projection: what a frame shows, "perspective" (as the camera sees it) or "rectified" (unwarped to the
    sample's uv). position_octaves: the network is told each latent's place in the sample, as u, v and sine
    waves of so many octaves behind the noise; None: it is not, as in Wan, whose attention knows differences
    of places only. Light and camera are near the sample, so that what a rectified frame shows depends on
    where. packed: the flow works on so many principal components of patches of 2x2 latents (`packing`), 0: on
    the latents. token_shift: the feed-forward layers see the tokens around (`token_shift`).
    photo_guided: an image model that knows clips without photo too, so that guidance leads away from what it
    would make with neither prompt nor photo; else, as in Wan, only the prompt is guided by.
    expand: how prompts are expanded unless the user says: "template", for models of long captions, or "none".
    preconditioned: the transformer's output is what `flow.velocity_from_residual` takes, not the velocity.
    memory: of a layout that the prompt recalls the network is told so many channels (`memory`); 0: none.
    resolution: pixels per side the model was trained for. shifts: of the flow's noise level,
    s' = shift * s / (1 + (shift - 1) * s). hub: repository with the diffusers layout.
    bundled_*: folders of weights below gonio/weights.
    """

    name: str
    task: str  # "text" | "image"
    transformer: Mapping[str, Any]
    autoencoder: Mapping[str, Any]
    text_encoder: str
    text_tokens: int
    image_encoder: str | None = None
    projection: Projection = "perspective"
    position_octaves: int | None = None
    packed: int = 0
    token_shift: bool = False
    preconditioned: bool = False
    memory: int = 0
    photo_guided: bool = False
    expand: str = "template"
    frames: int = 81
    resolution: int = 512
    sampling_shift: float = 5.0
    training_shift: float = 5.0
    guidance: float = 5.0
    steps: int = 50
    hub: str | None = None
    bundled_transformer: str | None = None
    bundled_autoencoder: str | None = None

    def __post_init__(self) -> None:
        for part, defaults in (("transformer", TRANSFORMER_DEFAULTS), ("autoencoder", AUTOENCODER_DEFAULTS)):
            given: Mapping[str, Any] = getattr(self, part)
            unknown = sorted(set(given) - set(defaults))
            if unknown:
                raise self._error(f"the {part} has no field {unknown[0]!r}; known are {', '.join(defaults)}")
            complete = {key: plain(given.get(key, value)) for key, value in defaults.items()}
            object.__setattr__(self, part, complete)
        self._check()

    def _error(self, problem: str) -> UsageError:
        return UsageError(f"model {self.name}: {problem}")

    def _check(self) -> None:
        transformer, autoencoder = self.transformer, self.autoencoder
        for field, allowed in (
            ("task", ("text", "image")),
            ("text_encoder", TEXT_ENCODERS),
            ("image_encoder", (None, *IMAGE_ENCODERS)),
            ("projection", ("perspective", "rectified")),
            ("expand", ("template", "none")),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise self._error(f"{field} is {value!r}; it must be one of {', '.join(map(str, allowed))}")
        for field in ("text_tokens", "frames", "resolution", "steps"):
            if type(getattr(self, field)) is not int or getattr(self, field) < 1:
                raise self._error(f"{field} is {getattr(self, field)!r}; it must be a whole number above 0")
        octaves = self.position_octaves
        if octaves is not None and (type(octaves) is not int or not 0 <= octaves <= 8):
            raise self._error(f"position_octaves is {octaves!r}; it must be a whole number up to 8, or null")
        limit = PATCH**2 * autoencoder["z_dim"]
        if type(self.packed) is not int or not 0 <= self.packed <= limit:
            raise self._error(f"packed is {self.packed!r}; it must be a whole number up to {limit}")
        if type(self.memory) is not int or not 0 <= self.memory <= self.latent_channels:
            raise self._error(
                f"memory is {self.memory!r}; it must be a whole number up to {self.latent_channels}"
            )
        for field in ("token_shift", "preconditioned", "photo_guided"):
            if type(getattr(self, field)) is not bool:
                raise self._error(f"{field} is {getattr(self, field)!r}; it must be true or false")
        if self.photo_guided and self.task != "image":
            raise self._error("photo_guided is for image models; leave it out")
        if self.preconditioned and not self.packed:
            raise self._error("preconditioned needs packed latents, whose deviations are known")
        for field in ("sampling_shift", "training_shift", "guidance"):
            value = getattr(self, field)
            if type(value) not in (int, float) or not 0 < value < inf:
                raise self._error(f"{field} is {value!r}; it must be a number above 0")
        if len(autoencoder["temperal_downsample"]) != len(autoencoder["dim_mult"]) - 1:
            raise self._error("temperal_downsample needs one entry less than dim_mult")
        halvings = sum(autoencoder["temperal_downsample"])
        if self.stacked and (halvings or self.stacked_frames != self.frames):
            raise self._error(
                f"an autoencoder of {self.stacked_frames} stacked frames takes just these, as one"
            )
        if not self.stacked and halvings != 2:
            raise self._error("temperal_downsample must halve the frames twice: the class encodes by fours")
        self._expect("autoencoder", "scale_factor_spatial", self.autoencoder_stride)
        z = self.latent_channels
        self._expect("transformer", "out_channels", z)
        given = 0 if self.task == "text" else self.photo_channels
        self._expect("transformer", "in_channels", z + self.position_channels + self.memory + given)
        self._expect("transformer", "added_kv_proj_dim", self.width if self.image_encoder else None)
        if (transformer["image_dim"] is None) != (self.image_encoder is None):
            raise self._error("image_dim of the transformer and image_encoder go together; give both or none")
        if self.image_encoder and self.text_tokens != TEXT_TOKENS_BEFORE_IMAGE:
            raise self._error(f"with an image encoder, text_tokens must be {TEXT_TOKENS_BEFORE_IMAGE}")
        check_frames(self, self.frames)
        check_size(self, self.resolution, self.resolution)

    def _expect(self, part: str, field: str, value: Any) -> None:
        found = getattr(self, part)[field]
        if found != value:
            raise self._error(f"{field} of the {part} is {found}; it must be {value} to fit the rest")

    @property
    def width(self) -> int:
        """Channels of a token in the transformer."""
        return self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"]

    @property
    def photo_channels(self) -> int:
        """Of an image model's input, behind all others: mask and photo."""
        return MASK_CHANNELS + self.latent_channels

    @property
    def position_channels(self) -> int:
        """Of the transformer's input, behind the latents; see `position_octaves`."""
        return 0 if self.position_octaves is None else 2 + 4 * self.position_octaves

    @property
    def stacked_frames(self) -> int:
        """Frames that are the channels of one for the autoencoder; 1 for a video autoencoder."""
        return self.autoencoder["in_channels"] // (3 * (self.autoencoder["patch_size"] or 1) ** 2)

    @property
    def stacked(self) -> bool:
        return self.stacked_frames > 1

    @property
    def autoencoder_stride(self) -> int:
        """Pixels per latent of the autoencoder, along a side."""
        return 2 ** (len(self.autoencoder["dim_mult"]) - 1) * (self.autoencoder["patch_size"] or 1)

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent of the flow, along a side."""
        return self.autoencoder_stride * (PATCH if self.packed else 1)

    @property
    def latent_channels(self) -> int:
        """Of the flow's latents."""
        return self.packed or self.autoencoder["z_dim"]

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """[C, F, H, W] of the latents of a clip of valid size."""
        check_frames(self, frames)
        check_size(self, height, width)
        stride = self.spatial_stride
        depth = 1 if self.stacked else 1 + (frames - 1) // TEMPORAL_STRIDE
        return self.latent_channels, depth, height // stride, width // stride

    def token_count(self, frames: int, height: int, width: int) -> int:
        """Tokens that the transformer sees for a clip of valid size."""
        latents = self.latent_shape(frames, height, width)
        return prod(n // p for n, p in zip(latents[1:], self.transformer["patch_size"], strict=True))


def plain(value: Any) -> Any:
    """Tuples as lists, as JSON would give them back, so that configurations can be compared."""
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_frames(spec: VideoModelSpec, frames: int) -> None:
    """Refuse a frame count the autoencoder would silently cut: it must be 4n + 1 (and fit the positions)."""
    if spec.stacked and frames != spec.stacked_frames:
        raise UsageError(f"{frames} frames: {spec.name} makes {spec.stacked_frames}, no more and no less")
    longest = TEMPORAL_STRIDE * (spec.transformer["rope_max_seq_len"] - 1) + 1
    if 1 <= frames <= longest and frames % TEMPORAL_STRIDE == 1:
        return
    below = min(max((frames - 1) // TEMPORAL_STRIDE, 0) * TEMPORAL_STRIDE + 1, longest)
    nearest = [below, below + TEMPORAL_STRIDE] if 1 <= frames < longest else [below]
    raise UsageError(
        f"{frames} frames: {spec.name} takes 4n+1, at most {longest}; nearest {_listed(nearest)}"
    )


def check_size(spec: VideoModelSpec, height: int, width: int) -> None:
    """Refuse a frame size that is no multiple of the autoencoder's stride times the transformer's patch."""
    for name, value, patch in (
        ("height", height, spec.transformer["patch_size"][1]),
        ("width", width, spec.transformer["patch_size"][2]),
    ):
        step = spec.spatial_stride * patch
        largest = step * spec.transformer["rope_max_seq_len"]
        if step <= value <= largest and value % step == 0:
            continue
        below = min(max(value // step, 1) * step, largest)
        nearest = [below, below + step] if step <= value < largest else [below]
        raise UsageError(
            f"a {name} of {value} pixels: {spec.name} takes multiples of {step}, at most {largest}; "
            f"nearest {_listed(nearest)}"
        )


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))


def find_spec(name: str) -> VideoModelSpec:
    """The spec of a known name or of a JSON file (FILE.json)."""
    if name.endswith(".json"):
        return read_spec(Path(name))
    if name not in SPECS:
        raise UsageError(f"no model {name!r}; known are {', '.join(SPECS)}, or name a spec file .json")
    return SPECS[name]


def read_spec(path: Path) -> VideoModelSpec:
    """A spec from a JSON object with the fields of VideoModelSpec; an unknown field is an error."""
    document = media.read_json(path)
    if not isinstance(document, dict):
        raise UsageError(f"{path}: a spec is a JSON object; see VideoModelSpec for its fields")
    known = {field.name for field in fields(VideoModelSpec)}
    unknown = sorted(set(document) - known)
    if unknown:
        raise UsageError(f"{path}: unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
    try:
        return VideoModelSpec(**document)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{path}: malformed spec ({error}); correct the field") from None


_SMALL_WAN = {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
_IMAGE_WAN = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}

# The mini family. Change the numbers here and nowhere else. Its rectified frames show the same texel at the
# same place, so all 17 are the channels of one: a picture whose every texel is its reflectance under 17 pairs
# of view and light. Each 4x4 texels of it (816 numbers) become one latent.
_MINI_FRAMES = 17
_MINI_LATENTS = 60
_MINI_PATCH = 4
_MINI_AUTOENCODER = {
    "patch_size": _MINI_PATCH,
    "in_channels": 3 * _MINI_FRAMES * _MINI_PATCH**2,
    "out_channels": 3 * _MINI_FRAMES * _MINI_PATCH**2,
    "base_dim": 128,
    "z_dim": _MINI_LATENTS,
    "dim_mult": [1],
    "num_res_blocks": 1,
    "temperal_downsample": [],
    "attn_scales": [],
    "scale_factor_spatial": _MINI_PATCH,
    "latents_mean": None,
    "latents_std": None,
}
_MINI_PACKED = 96
_MINI_PLACES = 10  # channels
_MINI_MEMORY = 48
_MINI_TRANSFORMER = {
    "patch_size": [1, 1, 1],
    "num_attention_heads": 4,
    "attention_head_dim": 64,
    "in_channels": _MINI_PACKED + _MINI_PLACES + _MINI_MEMORY,
    "out_channels": _MINI_PACKED,
    "ffn_dim": 1024,
    "num_layers": 8,
    "freq_dim": 128,
    "text_dim": 384,
    "rope_max_seq_len": 1024,
}
_MINI: dict[str, Any] = {
    "autoencoder": _MINI_AUTOENCODER,
    "text_encoder": "minilm",
    "text_tokens": 64,
    "projection": "rectified",
    "position_octaves": 2,
    "packed": _MINI_PACKED,
    "token_shift": True,
    "preconditioned": True,
    "memory": _MINI_MEMORY,
    "frames": _MINI_FRAMES,
    "resolution": 128,
    "sampling_shift": 3.0,
    "training_shift": 2.7,
    "guidance": 2.0,
    # Its captions are short, and what expansion adds (wear, tiny gaps) it takes for what shall be seen.
    "expand": "none",
    "steps": 20,
    "bundled_autoencoder": "mini/vae",
}

SPECS: dict[str, VideoModelSpec] = {
    spec.name: spec
    for spec in (
        # One network with and without a photo: the text model is the image model without its channels.
        VideoModelSpec(
            name="mini-t2v",
            task="text",
            transformer=_MINI_TRANSFORMER,
            bundled_transformer="mini/transformer",
            # A photo says more than a prompt and needs less: 2 for the image model.
            **_MINI | {"guidance": 3.0},
        ),
        VideoModelSpec(
            name="mini-i2v",
            task="image",
            photo_guided=True,
            transformer={
                **_MINI_TRANSFORMER,
                "in_channels": 2 * _MINI_PACKED + _MINI_PLACES + _MINI_MEMORY + MASK_CHANNELS,
            },
            bundled_transformer="mini/transformer",
            **_MINI,
        ),
        # mini-t2v with its packing folded into its first layer (`packing.unpacked`): what the reconstruction
        # model is made of, which must see all of the latents.
        VideoModelSpec(
            name="mini-unpacked",
            task="text",
            transformer={
                **_MINI_TRANSFORMER,
                "patch_size": [1, PATCH, PATCH],
                "in_channels": _MINI_LATENTS + _MINI_PLACES,
                "out_channels": _MINI_LATENTS,
            },
            **_MINI | {"packed": 0, "preconditioned": False, "memory": 0},
        ),
        VideoModelSpec(
            name="wan2.1-t2v-1.3b",
            task="text",
            transformer=_SMALL_WAN,
            autoencoder={},
            text_encoder="umt5-xxl",
            text_tokens=512,
            sampling_shift=8.0,
            guidance=6.0,
            hub="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        ),
        VideoModelSpec(
            name="wan2.1-t2v-14b",
            task="text",
            transformer={},
            autoencoder={},
            text_encoder="umt5-xxl",
            text_tokens=512,
            hub="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        ),
        VideoModelSpec(
            name="wan2.1-i2v-14b",
            task="image",
            transformer=_IMAGE_WAN,
            autoencoder={},
            text_encoder="umt5-xxl",
            text_tokens=512,
            image_encoder="clip-vit-h",
            sampling_shift=3.0,
            steps=40,
            hub="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        ),
    )
}
