"""Prompt expansion: the person's words stay, nothing contradicts them, and failing servers do no harm."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gonio.data.captions import PREFIX
from gonio.data.captions.words import COLOR_NAMING_WORDS, METAL_WORDS, words_of
from gonio.errors import GonioError, UsageError
from gonio.generate.expand import NoExpander, TemplateExpander, choose_expander
from gonio.generate.expand.local import LocalExpander, load_expander
from gonio.generate.expand.openai import OpenAIExpander

PROMPTS = (
    "green moss", "red clay bricks with pale mortar", "polished gold with fine scratches", "rusty iron plate",
    "white knitted wool sweater", "dark walnut veneer, glossy", "grey slate tiles", "fresh snow", "zorblax",
    "peeling turquoise paint on wood", "black granite, polished", "circuit board", "crocodile leather", "mud",
)  # fmt: skip
LIGHT = {"light", "lighting", "shadow", "shadows", "illumination", "lit"}


def test_the_template_keeps_the_words_and_adds_neither_colour_nor_metal_nor_light():
    telling = COLOR_NAMING_WORDS | METAL_WORDS | LIGHT
    for prompt in PROMPTS:
        for seed in range(60):
            made = TemplateExpander().expand(prompt, seed=seed)
            assert made.text.startswith(f"{PREFIX} {prompt}, ") and made.ok and made.backend == "template"
            assert set(words_of(made.text)) & telling == set(words_of(prompt)) & telling, made.text
            assert 20 <= len(made.text.split()) <= 60


def test_the_template_does_not_age_what_is_new_or_grows():
    for prompt in ("polished marble", "fresh snow", "green moss", "glazed tiles"):
        for seed in range(40):
            text = TemplateExpander().expand(prompt, seed=seed).text
            assert not {"age", "ageing", "wear", "use"} & set(words_of(text)), text
    assert any("age" in TemplateExpander().expand("cracked wall", seed=s).text for s in range(5))


def test_the_template_speaks_of_the_thing_not_of_what_lies_beside_it():
    def said(prompt: str) -> str:
        return " ".join(TemplateExpander().expand(prompt, seed=s).text for s in range(30))

    assert "thousands of tiny parts" in said("green moss on damp stone")
    assert "recessed joints" in said("gold mosaic tiles")
    assert "grain lines" in said("peeling paint on wood") and "grain lines" not in said("wool")
    assert "recessed joints" not in said("zorblax")


def test_a_seed_is_one_expansion_and_seeds_differ():
    texts = [TemplateExpander().expand("green moss", seed=seed).text for seed in range(20)]
    assert texts == [TemplateExpander().expand("green moss", seed=seed).text for seed in range(20)]
    assert len(set(texts)) > 8


def test_what_is_long_already_stays():
    once = TemplateExpander().expand("green moss").text
    again = TemplateExpander().expand(once)
    assert again.text == once and "already" in again.note
    assert NoExpander().expand("  green   moss ").text == "green moss"


@pytest.mark.parametrize("expander", [NoExpander(), TemplateExpander()])
@pytest.mark.parametrize("prompt", ["", "  ", "x" * 2001, "moss\x00", None])
def test_what_is_no_prompt_is_refused(expander: Any, prompt: Any):
    with pytest.raises(UsageError):
        expander.expand(prompt)


class Server(ThreadingHTTPServer):
    """A chat server on this machine whose reply a test sets; it keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.reply, self.delay = 200, b"", 0.0
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def says(self, content: object) -> None:
        self.reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        time.sleep(self.server.delay)
        try:
            self.send_response(self.server.status)
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(self.server.reply)
        except OSError:  # the client has left
            pass

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_server_is_asked_as_openai_is(server: Server, monkeypatch: pytest.MonkeyPatch):
    server.says('  "Cushion moss with a dense velvety surface"\n')
    expander = choose_expander(server.url, model="some-model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = expander.expand("green moss", seed=7)
    assert made.text == f"{PREFIX} cushion moss with a dense velvety surface"
    assert (made.backend, made.ok, made.note) == ("some-model", True, "")
    path, headers, body = server.asked[0]
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    assert (body["model"], body["seed"]) == ("some-model", 7)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert "green moss" in body["messages"][1]["content"]
    monkeypatch.setenv("OPENAI_API_KEY", " sk-secret\n")
    expander.expand("green moss")
    assert server.asked[1][1]["Authorization"] == "Bearer sk-secret"


def test_a_photo_travels_with_the_question(server: Server):
    server.says("The video shows red bricks")
    photo = torch.zeros(40, 900, 3)
    photo[..., 0] = 0.5
    made = OpenAIExpander(url=server.url, model="m").expand("bricks", photo)
    assert made.text == "The video shows red bricks"
    text, picture = server.asked[0][2]["messages"][1]["content"]
    assert "bricks" in text["text"]
    data = picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.width == 512
    red, green, _ = image.convert("RGB").getpixel((100, 10))
    assert abs(red - 188) < 6 and green < 8  # display-encoded


@pytest.mark.parametrize(
    ("status", "reply", "problem"),
    [
        (500, b"oops", "HTTP status 500"),
        (401, b"{}", "HTTP status 401"),
        (302, b"", "HTTP status 302"),
        (200, b"<html>", "no chat completion"),
        (200, b"[]", "no chat completion"),
        (200, b'{"choices": []}', "no chat completion"),
        (200, b"\xff\xfe\x00", "no chat completion"),
        (200, b"[" * 100_000, "no chat completion"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "not text"),
        (200, b'{"choices": [{"message": {"content": "  "}}]}', "empty"),
        (200, b'{"choices": [{"message": {"content": "moss\\u0000"}}]}', "control characters"),
        (200, json.dumps({"choices": [{"message": {"content": "x" * 3000}}]}).encode(), "3000 characters"),
        (200, b" " * (2**20 + 1), "more than 1048576 bytes"),
    ],
)
def test_whatever_a_server_does_the_template_goes_on(server: Server, status: int, reply: bytes, problem: str):
    server.status, server.reply = status, reply
    server.headers = {"Location": f"{server.url}/elsewhere"} if status == 302 else {}
    with pytest.warns(UserWarning, match=problem) as caught:
        made = OpenAIExpander(url=server.url, model="m").expand("green moss", seed=3)
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert not made.ok and problem in made.note and made.backend == "template"
    assert made.text == TemplateExpander().expand("green moss", seed=3).text
    assert len(server.asked) == 1  # a redirect is not followed: it would carry the key away


def test_slow_and_absent_servers(server: Server):
    server.delay = 0.5
    with pytest.warns(UserWarning, match="no answer in 0.1 s|timed out"):
        assert not OpenAIExpander(url=server.url, model="m", timeout=0.1).expand("green moss").ok
    with pytest.warns(UserWarning, match="not reachable"):
        made = OpenAIExpander(url="http://127.0.0.1:9/v1", model="m", timeout=1.0).expand("green moss")
    assert made.text.startswith(PREFIX)


def test_an_impossible_key_is_not_sent_or_shown(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geheim\nHost: evil")
    with pytest.warns(UserWarning, match="OPENAI_API_KEY") as caught:
        OpenAIExpander(url=server.url, model="m").expand("green moss")
    assert not server.asked and "geheim" not in str(caught[0].message)


def test_choices():
    assert isinstance(choose_expander("none"), NoExpander)
    assert isinstance(choose_expander("template"), TemplateExpander)
    for wrong in ("gpt", "ftp://host/v1", "http://"):
        with pytest.raises(UsageError):
            choose_expander(wrong, model="m")
    with pytest.raises(UsageError, match="which model"):
        choose_expander("http://localhost:1/v1")


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights with a byte tokenizer and a chat template."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("chat")
    letters = Tokenizer(BPE({c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}, []))
    letters.pre_tokenizer, letters.decoder = ByteLevel(add_prefix_space=False), ByteDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=2048, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_local_model_writes_by_seed_and_nonsense_falls_back(chat_folder: Path):
    expander = load_expander(chat_folder, dtype="fp32")
    before = torch.random.get_rng_state()
    first, second, other = (expander._ask("green moss", seed) for seed in (1, 1, 2))
    assert first == second != other and len(first) > 20
    assert torch.equal(before, torch.random.get_rng_state())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = expander.expand("green moss", seed=1)  # random bytes: control characters in all likelihood
    assert made.text.startswith(PREFIX) and made.ok == (not caught)


def test_a_local_models_answer_is_the_expansion(chat_folder: Path):
    class Speaks(LocalExpander):
        def _ask(self, text: str, seed: int) -> str:
            return "<think>moss?\nyes</think>\n**Lush moss**, dense"

    loaded = load_expander(chat_folder)
    made = Speaks(loaded.model, loaded.tokenizer, name="chat").expand("moss", torch.zeros(2, 2, 3))
    assert made.text == f"{PREFIX} lush moss**, dense" and made.ok
    assert "photo was not looked at" in made.note


def test_folders_without_a_chat_model(tmp_path: Path, chat_folder: Path):
    with pytest.raises(GonioError, match="no config.json"):
        choose_expander(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(GonioError, match="no chat model can be loaded"):
        choose_expander(str(tmp_path))
    assert isinstance(choose_expander(str(chat_folder)), LocalExpander)
