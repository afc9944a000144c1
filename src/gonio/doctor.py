"""What this machine can run, what it loses, and the cure."""

from __future__ import annotations

import os
import platform
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from gonio.errors import GonioError
from gonio.folders import cache_folder, make_folder

MINIMUM_PYTHON = (3, 11)
_LOW_MEMORY = 4 * 2**30  # bytes
_LOW_DISK = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """state: "good"; "lost", something is slower or absent; "broken", Gonio cannot work."""

    name: str
    state: Literal["good", "lost", "broken"]
    text: str


def examine() -> Iterator[Finding]:
    """All findings, most basic first."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "torch": _torch,
        "cuda": _cuda,
        "mitsuba": _mitsuba,
        "libLLVM": _llvm,
        "denoiser": _denoiser,
        "weights": _weights,
        "generator": _generator,
        "LPIPS": _lpips,
        "cache": _cache,
        "machine": _machine,
    }
    for name, check in checks.items():
        try:
            yield check()
        except Exception as error:  # a doctor reports what breaks, whatever it is
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield Finding(name=name, state="broken", text=f"{problem}; install gonio again")


def _python() -> Finding:
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    if tuple(map(int, platform.python_version_tuple()[:2])) < MINIMUM_PYTHON:
        text = f"{platform.python_version()}; install {wanted} or newer"
        return Finding(name="python", state="broken", text=text)
    return Finding(name="python", state="good", text=f"{platform.python_version()} on {platform.platform()}")


def _torch() -> Finding:
    torch = import_module("torch")
    return Finding(name="torch", state="good", text=f"{torch.__version__}, {torch.get_num_threads()} threads")


def _cuda() -> Finding:
    torch = import_module("torch")
    if torch.cuda.is_available():
        return Finding(name="cuda", state="good", text=torch.cuda.get_device_name(0))
    return Finding(name="cuda", state="lost", text="no GPU that torch can use; everything runs on the CPU")


def _mitsuba() -> Finding:
    from gonio.mitsuba_setup import use_mitsuba

    mitsuba, drjit = import_module("mitsuba"), import_module("drjit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the absence of LLVM is the next finding
        variant = use_mitsuba()
    one = mitsuba.Float(1.0)
    total = float(one + one) if "scalar" in variant else float(drjit.sum(mitsuba.Float([1.0, 1.0]))[0])
    if total != 2.0:
        text = f"{variant} adds 1 and 1 to {total}; install it again"
        return Finding(name="mitsuba", state="broken", text=text)
    text = f"{mitsuba.__version__} with drjit {drjit.__version__}, variant {variant}"
    return Finding(name="mitsuba", state="good", text=text)


def _llvm() -> Finding:
    from gonio.mitsuba_setup import MINIMUM_LLVM, llvm_library

    found = llvm_library()
    if found:
        return Finding(name="libLLVM", state="good", text=f"{found[1]} at {found[0]}")
    text = (
        f"no libLLVM {MINIMUM_LLVM} or newer: rendering and scanning are several times slower; "
        "apt install libllvm19, or set DRJIT_LIBLLVM_PATH"
    )
    return Finding(name="libLLVM", state="lost", text=text)


def _denoiser() -> Finding:
    import numpy as np

    try:
        import pyoidn

        picture = np.full((16, 16, 3), 0.5, dtype=np.float32)
        pyoidn.denoise(picture, albedo=picture, normal=picture, hdr=True)
        return Finding(name="denoiser", state="good", text=f"Open Image Denoise, pyoidn {version('pyoidn')}")
    except (ImportError, OSError, RuntimeError, PackageNotFoundError) as error:
        text = f"no denoiser ({error}); scan with --no-denoise, or pip install pyoidn"
        return Finding(name="denoiser", state="lost", text=" ".join(text.split()))


def _weights() -> Finding:
    from gonio.reconstruct.universal import DECODERS, bundled_path, load_universal

    missing = [size for size in DECODERS if not bundled_path(size).is_file()]
    if missing:
        text = f"{bundled_path(missing[0])} is missing: only --method scratch works; install gonio again"
        return Finding(name="weights", state="lost", text=text)
    for size in DECODERS:
        load_universal(size)
    return Finding(name="weights", state="good", text=f"universal decoders {', '.join(DECODERS)}")


def _generator() -> Finding:
    """The bundled text model end to end, but for its sampling."""
    from gonio.generate.pipeline import load_generator, member

    try:
        load_generator(member("mini", "text"))
    except GonioError as error:
        text = f"gonio generate has no bundled model: {error}"
        return Finding(name="generator", state="lost", text=text)
    return Finding(name="generator", state="good", text="bundled mini models, text encoder MiniLM")


def _lpips() -> Finding:
    from gonio.models.perceptual import lpips_unavailable

    reason = lpips_unavailable()
    if reason:
        text = f"{reason.removeprefix('lpips: ')} (until then the metric is null)"
        return Finding(name="LPIPS", state="lost", text=text)
    return Finding(name="LPIPS", state="good", text="package and weights are there")


def _cache() -> Finding:
    try:
        folder = make_folder(cache_folder())
    except GonioError as error:
        return Finding(name="cache", state="broken", text=f"{error}; or set GONIO_CACHE")
    free = shutil.disk_usage(folder).free
    state: Literal["good", "lost"] = "good" if free >= _LOW_DISK else "lost"
    cure = "" if state == "good" else "; free some or set GONIO_CACHE"
    return Finding(name="cache", state=state, text=f"{folder}, {free / 2**30:.1f} GiB free{cure}")


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return Finding(name="machine", state="good", text=f"{cores} cores")
    state: Literal["good", "lost"] = "good" if memory >= _LOW_MEMORY else "lost"
    cure = "" if state == "good" else "; keep --resolution at 256 or below"
    return Finding(
        name="machine", state=state, text=f"{cores} cores, {memory / 2**30:.1f} GiB of memory{cure}"
    )
