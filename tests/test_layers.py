"""Data flows one way: a module imports only what stands before it in this list (docs: CONTRIBUTING.md)."""

import ast
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "gonio"
LAYERS = (
    "errors color blocks folders progress bsdf mitsuba_setup pictures camera media environment "
    "environment_encoding map_names pbr texture fused_linear neural_material material_video rectify "
    "material_file scan models data reconstruct generate train render evaluate report demo "
    "doctor commands cli __main__"
).split()


def imported(file: Path) -> set[str]:
    """The modules directly below `gonio` that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write gonio...."
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("gonio.")}
    return found - {"__version__"}


def violations(source: Path) -> list[str]:
    found = []
    for file in sorted(source.rglob("*.py")):
        layer = file.relative_to(source).parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        allowed = set(LAYERS[: LAYERS.index(layer) + 1])
        found += [f"{file.relative_to(source)} imports {name}" for name in sorted(imported(file) - allowed)]
    return found


def test_low_layers_never_import_higher_ones():
    assert violations(SOURCE) == []


def test_every_module_has_its_layer():
    modules = {p.stem for p in SOURCE.glob("*.py")} | {p.parent.name for p in SOURCE.glob("*/__init__.py")}
    assert modules - {"__init__"} == set(LAYERS)


def test_a_violation_is_found(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "x.py").write_text("def f():\n    from gonio.scan import scan\n")
    (tmp_path / "color.py").write_text("from gonio import pbr\nimport torch\n")
    assert violations(tmp_path) == ["color.py imports pbr", "media/x.py imports scan"]
