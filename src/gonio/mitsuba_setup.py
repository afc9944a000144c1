"""Choosing a Mitsuba variant this machine can run.

With LLVM 15 or older Dr.Jit aborts the whole process on real scenes, so the library is asked for its version
before `llvm_ad_rgb` is chosen; without a good one Gonio falls back to `scalar_rgb`, slower, and says so.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import glob
import os
import warnings

MINIMUM_LLVM = 16


def _candidates() -> list[str]:
    named = os.environ.get("DRJIT_LIBLLVM_PATH")
    if named:
        return [named]
    patterns = (
        "/usr/lib/*/libLLVM*.so*",
        "/usr/lib64/libLLVM*.so*",
        "/usr/lib/llvm-*/lib/libLLVM*.so*",
        "/opt/homebrew/opt/llvm/lib/libLLVM*.dylib",
        "/usr/local/opt/llvm/lib/libLLVM*.dylib",
    )
    found = [path for pattern in patterns for path in sorted(glob.glob(pattern), reverse=True)]
    library = ctypes.util.find_library("LLVM")
    return found + ([library] if library else [])


@functools.cache
def llvm_library() -> tuple[str, int] | None:
    """Path and major version of the first libLLVM that Dr.Jit can use, or None."""
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            version = (ctypes.c_uint * 3)()
            refs = [ctypes.byref(version, 4 * i) for i in range(3)]
            library.LLVMGetVersion(*refs)
        except (OSError, AttributeError):  # not loadable, or older than LLVMGetVersion (LLVM 16)
            continue
        if version[0] >= MINIMUM_LLVM:
            return path, int(version[0])
    return None


@functools.cache
def use_mitsuba(variant: str | None = None) -> str:
    """Set (once) and return the Mitsuba variant: the caller's, one already set, llvm_ad_rgb or scalar_rgb."""
    import mitsuba as mi

    if variant is None and mi.variant() is not None:
        return str(mi.variant())
    if variant is None:
        library = llvm_library()
        if library is not None:
            os.environ.setdefault("DRJIT_LIBLLVM_PATH", library[0])
            variant = "llvm_ad_rgb"
        else:
            variant = "scalar_rgb"
            warnings.warn(
                "no libLLVM 16 or newer was found: rendering with scalar_rgb, several times slower "
                "(Debian, Ubuntu: apt install libllvm19; or set DRJIT_LIBLLVM_PATH)",
                stacklevel=2,
            )
    mi.set_variant(variant)
    return variant
