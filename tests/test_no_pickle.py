"""No pickle: files from strangers must never be able to run code.

`torch.load(..., weights_only=True)` reads tensors and nothing else; it is allowed for weights that others
publish only in that format. Everything Gonio writes is safetensors, JSON, EXR, PNG or mp4.
"""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "gonio"
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec"}


def offences(text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in FORBIDDEN else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name == "torch.load" and options.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
            if name == "torch.save":
                found.append("torch.save")
            if name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
                found.append("numpy.load with allow_pickle")
            found += [name] if name in CALLS else []
    return found


def test_no_source_file_unpickles():
    files = SOURCE.rglob("*.py")
    found = {str(file.relative_to(SOURCE)): offences(file.read_text("utf-8")) for file in files}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "torch.load('x', weights_only=False)",
        "torch.save({}, 'x')",
        "np.load('x', allow_pickle=True)",
        "eval('1')",
    ],
)
def test_an_offence_is_found(text):
    assert offences(text)
