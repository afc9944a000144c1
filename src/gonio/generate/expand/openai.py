"""Prompt expansion by any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor

from gonio.color import srgb_from_linear
from gonio.errors import GonioError, UsageError
from gonio.generate.expand.base import Expansion
from gonio.generate.expand.chat import MAX_TOKENS, SYSTEM, accepted, instead, question
from gonio.models.text import check_prompt
from gonio.pictures import image_from_display

MAX_ANSWER_BYTES = 2**20
_PHOTO_SIDE = 512  # pixels; more is not looked at


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class OpenAIExpander:
    """`url` is the server's base, "https://host/v1"; the key, if any, is read from a variable when used.

    Unreachable, refusing or babbling servers give the template's expansion and a warning.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 30.0  # seconds without an answer
    temperature: float = 0.7

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f'{self.url!r} is no address of a server; give one like "http://localhost:8000/v1"'
            )

    def expand(self, text: str, image: Tensor | None = None, seed: int = 0) -> Expansion:
        text = check_prompt(text)
        try:
            answer = _content(self._post(self._body(text, image, seed)))
            return Expansion(text=accepted(answer), backend=self.model)
        except urllib.error.HTTPError as error:
            problem = f"HTTP status {error.code}"
            error.close()
        except urllib.error.URLError as error:
            problem = f"not reachable: {error.reason}"
        except TimeoutError:
            problem = f"no answer in {self.timeout:g} s"
        except (OSError, http.client.HTTPException) as error:
            problem = f"connection lost: {error or type(error).__name__}"
        except GonioError as error:
            problem = str(error)
        return instead(text, seed, self.url, problem)

    def _body(self, text: str, image: Tensor | None, seed: int) -> dict[str, Any]:
        content: Any = question(text, image is not None)
        if image is not None:
            picture = {"type": "image_url", "image_url": {"url": _data_url(image)}}
            content = [{"type": "text", "text": content}, picture]
        return {
            "model": self.model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": MAX_TOKENS,
            "seed": seed,
        }

    def _post(self, body: dict[str, Any]) -> bytes:
        """the server's answer; OSError (HTTPError, URLError, TimeoutError) or HTTPException without one."""
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise GonioError(f"the key in {self.key_variable} has characters that no key has")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        address = self.url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as reply:
            raw: bytes = reply.read(MAX_ANSWER_BYTES + 1)
        if len(raw) > MAX_ANSWER_BYTES:
            raise GonioError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        return raw


def _content(raw: bytes) -> object:
    """The first choice's text."""
    try:
        return json.loads(raw)["choices"][0]["message"]["content"]
    except (LookupError, TypeError, ValueError, RecursionError):
        raise GonioError("an answer that is no chat completion") from None


def _data_url(image: Tensor) -> str:
    """A photo [H, W, 3] linear, scaled down, as a JPEG inside an address."""
    picture = image_from_display(srgb_from_linear(image))
    picture.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
