"""Videos to latents and back through diffusers' AutoencoderKLWan.

The class works through a video in chunks of 1, 4, 4, ... frames with a cache of features, which bounds memory
but leaves small convolutions. A causal network gives the same numbers when it sees the whole clip at once:
only the two resampling layers that change the number of frames treat the first frame apart. `encode_clip`
and `decode_clip` do that. For short clips they are several times faster, forwards and backwards.

An autoencoder with more than three channels a pixel takes all frames of a clip as channels of one
("stacked"): right for rectified clips, whose frames show the same texel at the same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from torch import Tensor

from gonio.models.single_frame import decode_frame, encode_frame

# Longer clips at larger sizes go through the class's own chunks: activations of a whole clip would not fit.
WHOLE_CLIP_PIXELS = 17 * 512 * 512


def channels_last(autoencoder: AutoencoderKLWan) -> AutoencoderKLWan:
    """Convolution weights with the channels innermost: several times faster on a CPU, in bf16 above all."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in autoencoder.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])
    return autoencoder


def encode(autoencoder: AutoencoderKLWan, frames: Tensor) -> Tensor:
    """Normalised latents (mode of the posterior).

    frames [B, F, H, W, 3] display-encoded in [0, 1], F = 4 n + 1 -> [B, z, n + 1, H / s, W / s], or
    [B, z, 1, H / s, W / s] where frames are stacked.
    """
    clip = clip_from_frames(autoencoder, frames)
    if _takes_whole(autoencoder, clip[0, 0].numel()):
        mean = encode_clip(autoencoder, clip)[:, : autoencoder.config.z_dim]
    else:
        mean = autoencoder.encode(clip).latent_dist.mode()
    center, scale = latent_statistics(autoencoder, mean)
    return (mean - center) / scale


def decode(autoencoder: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Inverse of `encode`: [B, z, f, h, w] -> [B, F, H, W, 3] display-encoded in [0, 1]."""
    center, scale = latent_statistics(autoencoder, latents)
    latents = latents * scale + center
    frames, ratio = 4 * latents.shape[2] - 3, autoencoder.spatial_compression_ratio
    if _takes_whole(autoencoder, frames * latents[0, 0, 0].numel() * ratio**2):
        clip = decode_clip(autoencoder, latents)
    else:
        clip = autoencoder.decode(latents, return_dict=False)[0]
    return frames_from_clip(clip).clamp(0, 1)


def _takes_whole(autoencoder: AutoencoderKLWan, pixels: int) -> bool:
    """Whether clips go through at once: small ones, unless tiles or slices were asked for."""
    return pixels <= WHOLE_CLIP_PIXELS and not (autoencoder.use_tiling or autoencoder.use_slicing)


def stacked_frames(config: Mapping[str, Any]) -> int:
    """How many frames are the channels of one; 1 for an ordinary video autoencoder."""
    return config["in_channels"] // (3 * (config["patch_size"] or 1) ** 2)


def clip_from_frames(autoencoder: AutoencoderKLWan, frames: Tensor) -> Tensor:
    """[B, F, H, W, 3] in [0, 1] -> [B, 3, F, H, W] in [-1, 1], or [B, 3 F, 1, H, W] stacked."""
    clip = (frames * 2 - 1).permute(0, 4, 1, 2, 3)
    return clip if stacked_frames(autoencoder.config) == 1 else clip.flatten(1, 2)[:, :, None]


def frames_from_clip(clip: Tensor) -> Tensor:
    """The inverse of `clip_from_frames`."""
    if clip.shape[1] != 3:
        clip = clip[:, :, 0].unflatten(1, (3, -1))
    return clip.permute(0, 2, 3, 4, 1) * 0.5 + 0.5


def latent_statistics(autoencoder: AutoencoderKLWan, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents' channels, from the configuration. [1, z, 1, 1, 1] x2"""
    mean, std = autoencoder.config.latents_mean, autoencoder.config.latents_std
    return tuple(like.new_tensor(values).view(1, -1, 1, 1, 1) for values in (mean, std))  # type: ignore[return-value]


def encode_clip(autoencoder: AutoencoderKLWan, clip: Tensor) -> Tensor:
    """Posterior moments of a whole clip. [B, 3, 4 n + 1, H, W] in [-1, 1] -> [B, 2 z, n + 1, h, w]."""
    if clip.shape[2] == 1:
        return encode_frame(autoencoder, clip[:, :, 0])[:, :, None]
    if autoencoder.config.patch_size is not None:
        clip = patchify(clip, patch_size=autoencoder.config.patch_size)
    encoder = autoencoder.encoder
    x = encoder.conv_in(clip)
    for layer in encoder.down_blocks:
        x = _resample(layer, x) if isinstance(layer, WanResample) else layer(x)
    return autoencoder.quant_conv(_head(encoder, encoder.mid_block(x)))


def decode_clip(autoencoder: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """A whole clip at once, not clipped. [B, z, n + 1, h, w] unnormalised -> [B, 3, 4 n + 1, H, W]."""
    if latents.shape[2] == 1:
        return decode_frame(autoencoder, latents[:, :, 0])[:, :, None]
    decoder = autoencoder.decoder
    x = decoder.mid_block(decoder.conv_in(autoencoder.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = resnet(x)
        if block.upsamplers is not None:
            x = _resample(block.upsamplers[0], x)
    x = _head(decoder, x)
    patch = autoencoder.config.patch_size
    return x if patch is None else unpatchify(x, patch_size=patch)


def _head(network: Any, x: Tensor) -> Tensor:
    return network.conv_out(network.nonlinearity(network.norm_out(x)))


def _resample(layer: WanResample, x: Tensor) -> Tensor:
    """WanResample over a whole clip: frames after the first are doubled or halved in number."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        b, c, t, h, w = x.shape
        pairs = layer.time_conv(x[:, :, 1:]).view(b, 2, c, t - 1, h, w)
        doubled = torch.stack(pairs.unbind(1), 3).view(b, c, 2 * (t - 1), h, w)
        x = torch.cat([x[:, :, :1], doubled], 2)
    frames = layer.resample(x.transpose(1, 2).flatten(0, 1))
    x = frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], 2)
    return x
