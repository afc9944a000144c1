"""The only reader and writer of images, EXR, HDR, video and JSON: limits from headers, atomic output.

Every function raises `GonioError` with one line that names the file and the cure.
"""

from gonio.media.documents import MAX_JSON_BYTES, read_json, write_json
from gonio.media.exr import read_exr, read_exr_metadata, write_exr
from gonio.media.images import IMAGE_SUFFIXES, image_size, read_color, read_data, write_data_png, write_image
from gonio.media.limits import (
    MAX_CLIP_BYTES,
    MAX_EXR_SAMPLES,
    MAX_FILE_BYTES,
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    MAX_PIXELS,
    MAX_SIDE,
)
from gonio.media.output import atomic_folder, atomic_path, write_bytes
from gonio.media.video import read_video, write_video

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_CLIP_BYTES",
    "MAX_EXR_SAMPLES",
    "MAX_FILE_BYTES",
    "MAX_FRAMES",
    "MAX_FRAME_PIXELS",
    "MAX_JSON_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "atomic_folder",
    "atomic_path",
    "image_size",
    "read_color",
    "read_data",
    "read_exr",
    "read_exr_metadata",
    "read_json",
    "read_video",
    "write_bytes",
    "write_data_png",
    "write_exr",
    "write_image",
    "write_json",
    "write_video",
]
