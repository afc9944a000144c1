"""The large reconstruction model: a material video's latents -> the textures of a neural material, one pass.

    frozen encoder -> transformer as a regressor -> its first latent frame -> decoder with a new head

(VideoNeuMat, section 4.3.) It is made of a video model's own networks: only the last layers are new. The
textures come in the coordinates of the universal decoder in which its latents are a standard normal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn
from torch.nn.functional import gelu, pixel_shuffle

from gonio.errors import UsageError
from gonio.models.autoencoder import clip_from_frames, encode, latent_statistics
from gonio.models.condition import condition, position_channels
from gonio.models.periodic import on_torus
from gonio.models.regressor import first_frame_tokens, unpatched
from gonio.models.single_frame import decode_frame, fold
from gonio.models.spec import Projection, VideoModelSpec, find_spec
from gonio.neural_material import Decoder, MaterialSpec

Upsampler = Literal["decoder", "linear"]


@dataclass(frozen=True, kw_only=True)
class ReconstructionSpec:
    """One large reconstruction model.

    video: the spec its networks are taken from. begin: the packed video model whose weights, unpacked,
    training begins with; None: `video` itself. frames, projection: of its input. upsampler: the video model's
    decoder, or one linear layer a token (an ablation of the paper). residual: the regressor's output
    is added to the first frame's latents instead of taking their place. detail: channels of a path at full
    resolution that sees the frames beside what the decoder made of the latents; 0: none, as in the paper.
    It needs aligned, so rectified, frames. detail_blocks: of that path at half resolution. fewest: frames of
    the trajectory that a video must have, the others are filled in, which only rectified ones can be; None:
    more than half of them, or all. decoder: of the neural material. bundled: below gonio/weights.
    """

    name: str
    video: str
    begin: str | None = None
    frames: int = 17
    projection: Projection = "perspective"
    upsampler: Upsampler = "decoder"
    residual: bool = False
    detail: int = 0
    detail_blocks: int = 0
    fewest: int | None = None
    decoder: str = "64x4"
    bundled: str | None = None

    def __post_init__(self) -> None:
        if self.detail and self.projection != "rectified":
            raise UsageError(f"model {self.name}: a detail path needs rectified frames")
        if not 1 <= self.needed <= self.frames or (self.fewest and self.projection != "rectified"):
            raise UsageError(
                f"model {self.name}: fewest {self.fewest} of {self.frames} {self.projection} frames"
            )
        if self.video_spec.stacked and self.video_spec.frames != self.frames:
            made = self.video_spec.frames
            raise UsageError(f"model {self.name}: {self.video} stacks {made} frames, not {self.frames}")

    @property
    def video_spec(self) -> VideoModelSpec:
        return find_spec(self.video)

    @property
    def needed(self) -> int:
        """Frames of the trajectory that a video must have."""
        if self.fewest is not None:
            return self.fewest
        return self.frames - self.frames // 2 if self.projection == "rectified" else self.frames

    @property
    def stride(self) -> int:
        """Sides of the frames are multiples of this."""
        return self.video_spec.spatial_stride * self.video_spec.transformer["patch_size"][1]


MINI_LRM = ReconstructionSpec(
    name="mini-lrm",
    video="mini-unpacked",
    begin="mini-t2v",
    projection="rectified",
    residual=True,
    detail=64,
    detail_blocks=2,
    bundled="mini-lrm",
)
LRM_SPECS: dict[str, ReconstructionSpec] = {
    "mini-lrm": MINI_LRM,
    "lrm-wan1.3b": ReconstructionSpec(name="lrm-wan1.3b", video="wan2.1-t2v-1.3b"),
}


class DetailPath(nn.Module):
    """Full-resolution convolutions over the aligned frames and the decoder's picture of the latents.

    Between the first and the last, `blocks` residual ones at half resolution and twice the width look
    farther: shadows and highlights that belong to a bump lie some texels beside it.
    """

    def __init__(self, inputs: int, width: int, outputs: int, blocks: int = 0) -> None:
        super().__init__()
        self.seen = nn.Conv2d(inputs, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2) if blocks else None
        self.blocks = nn.ModuleList(_ResidualBlock(2 * width) for _ in range(blocks))
        self.up = nn.Conv2d(2 * width, 4 * width, 1) if blocks else None
        self.mixed = nn.Conv2d(width, width, 1)
        self.told = nn.Conv2d(width, outputs, 3, padding=1)
        for parameter in self.told.parameters():
            nn.init.zeros_(parameter)

    @property
    def reach(self) -> int:
        """Texels around one that it sees, rounded up to whole pairs."""
        return 4 * len(self.blocks) + 4

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H, W]; even sides."""
        x = gelu(self.seen(x))
        if self.down is not None and self.up is not None:
            half = self.down(x)
            for block in self.blocks:
                half = block(half)
            x = x + pixel_shuffle(self.up(half), 2)
        return self.told(gelu(self.mixed(x)))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(gelu(self.first(gelu(x))))


class ReconstructionModel(nn.Module):
    """The networks of one large reconstruction model, with the MLPs its textures are made for.

    Takes ownership of the autoencoder and the transformer it is given: their last layers are replaced, the
    encoder is frozen. null_text: [N, D], the context of the empty prompt. space: mean [C] and basis [C, C] of
    the universal decoder's latents.
    """

    null_text: Tensor
    mean: Tensor
    basis: Tensor

    def __init__(
        self,
        spec: ReconstructionSpec,
        autoencoder: Any,
        transformer: Any,
        null_text: Tensor,
        decoder: Decoder,
        space: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.spec = spec
        self.video_spec = spec.video_spec
        self.autoencoder, self.transformer, self.decoder = autoencoder, transformer, decoder
        for part in (autoencoder.encoder, autoencoder.quant_conv):
            part.requires_grad_(False)
        fold(autoencoder.decoder)
        fold(autoencoder.post_quant_conv)
        self.register_buffer("null_text", null_text.float())
        self.register_buffer("mean", space[0])
        self.register_buffer("basis", space[1])
        self._new_heads()

    def _new_heads(self) -> None:
        """The layers that no video model has. Textures begin at the mean material."""
        spec, transformer, autoencoder = self.spec, self.transformer, self.autoencoder
        patch = autoencoder.config.patch_size or 1
        self.upsample: nn.Linear | None = None
        if spec.upsampler == "linear":
            outputs = self.channels * spec.stride**2
            self.upsample = nn.Linear(transformer.proj_out.in_features, outputs)
            for parameter in self.upsample.parameters():
                nn.init.zeros_(parameter)
            autoencoder.decoder.requires_grad_(False)
            autoencoder.post_quant_conv.requires_grad_(False)
            transformer.proj_out.requires_grad_(False)
        else:
            with torch.no_grad():
                width = transformer.proj_out.in_features
                transformer.proj_out.weight.normal_(std=0.0 if spec.residual else width**-0.5)
                transformer.proj_out.bias.zero_()
                transformer.scale_shift_table.normal_(std=width**-0.5)
            old = autoencoder.decoder.conv_out
            head = WanCausalConv3d(old.in_channels, self.channels * patch**2, 3, padding=1)
            with torch.no_grad():
                head.weight.normal_(std=0.1 * (9 * old.in_channels) ** -0.5)
                head.bias.zero_()
            fold(head)
            autoencoder.decoder.conv_out = head
        self.detail: DetailPath | None = None
        if spec.detail:
            places = self.video_spec.position_channels
            inputs = 3 * spec.frames + places + self.channels
            self.detail = DetailPath(inputs, spec.detail, self.channels, spec.detail_blocks)

    @property
    def channels(self) -> int:
        """Of both textures."""
        return self.material_spec.offset_channels + self.material_spec.reflectance_channels

    @property
    def material_spec(self) -> MaterialSpec:
        return self.decoder.spec

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """frames [B, F, H, W, 3] display-encoded -> latents [B, z, f, h, w]."""
        return encode(self.autoencoder, frames)

    def forward(self, frames: Tensor, latents: Tensor | None = None, *, periodic: bool = False) -> Tensor:
        """frames [B, F, H, W, 3] display-encoded in [0, 1] -> T_off and T_rgb joined [B, H, W, 24].

        latents: of the frames, where they are known. periodic: the textures shall tile; the convolutions see
        the opposite border beyond each.
        """
        latents = self.encode(frames) if latents is None else latents
        coarse = self._coarse(latents, periodic)
        if self.detail is not None:
            coarse = coarse + self._detail(frames, coarse, periodic)
        code = coarse.permute(0, 2, 3, 1).float()
        return self.mean + code @ self.basis.T

    def split(self, textures: Tensor) -> tuple[Tensor, Tensor]:
        """[..., 24] -> T_off [..., 12], T_rgb [..., 12], contiguous."""
        count = self.material_spec.offset_channels
        return textures[..., :count].contiguous(), textures[..., count:].contiguous()

    def _coarse(self, latents: Tensor, periodic: bool) -> Tensor:
        """[B, 24, H, W] in whitened coordinates."""
        told = condition(self.video_spec, latents)
        seen = latents if told is None else torch.cat([latents, told], 1)
        tokens = first_frame_tokens(self.transformer, seen, self.null_text)
        _, p_h, p_w = self.transformer.config.patch_size
        rows, columns = latents.shape[-2] // p_h, latents.shape[-1] // p_w
        if self.upsample is not None:
            side = self.spec.stride
            return unpatched(self.upsample(tokens), rows, columns, (side, side))
        found = unpatched(self.transformer.proj_out(tokens), rows, columns, (p_h, p_w))
        if self.spec.residual:
            found = found + latents[:, :, 0]
        center, scale = (s[:, :, 0] for s in latent_statistics(self.autoencoder, found))
        found = found * scale + center
        if not periodic:
            return decode_frame(self.autoencoder, found)
        return on_torus(lambda z: decode_frame(self.autoencoder, z), found)

    def _detail(self, frames: Tensor, coarse: Tensor, periodic: bool) -> Tensor:
        assert self.detail is not None
        aligned = clip_from_frames(self.autoencoder, frames).flatten(1, 2)
        octaves = self.video_spec.position_octaves
        parts = [aligned, coarse]
        if octaves is not None:
            height, width = coarse.shape[-2:]
            places = position_channels(height, width, octaves).to(coarse)
            parts.insert(1, places.expand(len(coarse), -1, -1, -1))
        seen = torch.cat(parts, 1)
        return on_torus(self.detail, seen, self.detail.reach) if periodic else self.detail(seen)

    def stored(self) -> dict[str, Tensor]:
        """The tensors of a file: all but the frozen encoder."""
        return {n: tensor for n, tensor in self.state_dict().items() if not n.startswith(_ENCODER)}

    def config(self) -> dict[str, Any]:
        return {"_class_name": CLASS, "spec": asdict(self.spec), "material": self.material_spec.to_json()}


CLASS = "GonioReconstructionModel"
# The frozen encoder, which the video model has: no part of a stored model.
_ENCODER = ("autoencoder.encoder.", "autoencoder.quant_conv.")


def load_state(model: ReconstructionModel, tensors: Mapping[str, Tensor]) -> None:
    """Put stored tensors into a model of the same spec; every one must be there and fit."""
    missing, unexpected = model.load_state_dict(dict(tensors), strict=False, assign=True)
    missing = [name for name in missing if not name.startswith(_ENCODER)]
    if missing or unexpected:
        raise UsageError(f"weights of {model.spec.name} do not fit: {[*missing, *unexpected][:3]}")
