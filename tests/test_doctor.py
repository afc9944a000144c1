"""What the doctor says of a machine that lacks something."""

from __future__ import annotations

from gonio import mitsuba_setup
from gonio.doctor import Finding, examine


def finding(name: str) -> Finding:
    return next(found for found in examine() if found.name == name)


def test_without_a_library_rendering_is_slower_and_the_cure_is_named(monkeypatch):
    monkeypatch.setattr(mitsuba_setup, "llvm_library", lambda: None)
    found = finding("libLLVM")
    assert found.state == "lost"
    assert found.text.startswith(f"no libLLVM {mitsuba_setup.MINIMUM_LLVM} or newer")
    assert "several times slower" in found.text and "apt install libllvm19" in found.text


def test_a_library_is_named_with_its_version(monkeypatch):
    monkeypatch.setattr(mitsuba_setup, "llvm_library", lambda: ("/usr/lib/libLLVM.so.19", 19))
    found = finding("libLLVM")
    assert (found.state, found.text) == ("good", "19 at /usr/lib/libLLVM.so.19")
