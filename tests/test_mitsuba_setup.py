"""Which Mitsuba variant Gonio takes, and that a machine without a good libLLVM is told, once, and works."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys

import pytest

from gonio.mitsuba_setup import MINIMUM_LLVM, llvm_library


def alone(program: str) -> list:
    """What a program run by an interpreter of its own has put into its list `said`: variants are for life."""
    begin = (
        "import json, warnings\n"
        "import mitsuba as mi\n"
        "from gonio import mitsuba_setup\n"
        "from gonio.mitsuba_setup import use_mitsuba\n"
        "said = []\n"
        "def no_library(): mitsuba_setup.llvm_library = lambda: None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{begin}{program}\nprint(json.dumps(said))"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_a_library_the_scalar_variant_is_set_and_one_warning_names_the_cure():
    variant, now, again, warnings = alone(
        "no_library()\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    said += [use_mitsuba(), mi.variant(), use_mitsuba()]\n"
        "said.append([str(warning.message) for warning in caught])"
    )
    assert (variant, now, again) == ("scalar_rgb",) * 3
    assert len(warnings) == 1 and warnings[0].startswith(f"no libLLVM {MINIMUM_LLVM} or newer was found")
    assert "apt install libllvm19" in warnings[0] and "DRJIT_LIBLLVM_PATH" in warnings[0]


def test_a_variant_that_is_set_already_is_kept_without_a_word():
    assert (
        alone(
            "no_library()\n"
            "mi.set_variant('scalar_spectral')\n"
            "warnings.simplefilter('error')\n"
            "said += [use_mitsuba(), mi.variant()]"
        )
        == ["scalar_spectral"] * 2
    )


@pytest.mark.skipif(llvm_library() is None, reason="this machine has no libLLVM that Dr.Jit can use")
def test_with_a_library_the_compiled_variant_is_set():
    assert (
        alone("warnings.simplefilter('error')\nsaid += [use_mitsuba(), mi.variant()]") == ["llvm_ad_rgb"] * 2
    )


@pytest.mark.parametrize("path", ["/nowhere/libLLVM.so", ctypes.util.find_library("c")])
def test_a_library_that_is_missing_or_no_new_llvm_is_none(monkeypatch, path):
    """An LLVM older than 16 lacks LLVMGetVersion, as the C library does."""
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", path)
    assert llvm_library.__wrapped__() is None
