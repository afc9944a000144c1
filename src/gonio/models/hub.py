"""Released models on the Hugging Face hub: what of them is on this machine, and how they get there."""

from __future__ import annotations

from pathlib import Path

from gonio.errors import GonioError
from gonio.media.limits import reason

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder")


def cached_part(repository: str, part: str) -> Path:
    """A network's folder in the hub's local cache; nothing is fetched. GonioError where it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cure = f"fetch it (hf download {repository}, or gonio generate --download), or name its --weights"
    try:
        root = Path(snapshot_download(repository, allow_patterns=[f"{part}/*"], local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        raise GonioError(f"{repository} is not on this machine; {cure}") from None
    if not (root / part / "config.json").is_file():
        raise GonioError(f"{root}: holds no {part}/config.json; {cure}")
    return root / part


def fetched_model(repository: str) -> Path:
    """The folder of a model in the hub's cache, after what of it was missing has been downloaded.

    A stopped download goes on. GonioError where the hub cannot be reached or knows no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["model_index.json", *(f"{part}/*.{end}" for part in PARTS for end in ("json", "safetensors"))]
    patterns += ["tokenizer/*"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        cure = "check the connection, or give --weights a folder"
        raise GonioError(f"{repository} cannot be downloaded ({reason(error)}); {cure}") from None
