"""Shapes: orientation of uv, frames at the poles, fitting to the stage; meshes that are not what they say."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor
from torch.nn.functional import normalize

from gonio.errors import GonioError, UsageError
from gonio.render import mesh_files
from gonio.render.mesh_files import read_mesh
from gonio.render.shapes import GENERATED, Shape, load_shape


def tangents(shape: Shape) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per face: middle, unit normal, dp/du and dp/dv, each [T, 3]."""
    p, uv = shape.positions[shape.faces].double(), shape.uv[shape.faces].double()
    e1, e2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    det = (d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])[:, None]
    du = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) / det
    dv = (e2 * d1[:, :1] - e1 * d2[:, :1]) / det
    return p.mean(1), normalize(torch.linalg.cross(e1, e2), dim=-1), du, dv


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_shapes_stand_on_the_stage(name: str) -> None:
    shape = load_shape(name)
    low, high = shape.positions.amin(0), shape.positions.amax(0)
    assert float((high - low).max()) == pytest.approx(2.0, abs=1e-5)
    assert float(low[2]) == pytest.approx(0.0, abs=1e-5)
    assert torch.allclose((low + high)[:2], torch.zeros(2), atol=1e-4)
    assert bool(torch.isfinite(shape.normals).all() and torch.isfinite(shape.uv).all())
    assert torch.allclose(shape.normals.norm(dim=-1), torch.ones(len(shape.normals)), atol=1e-4)


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_shapes_have_sound_frames(name: str) -> None:
    """Every face has area in space and texture, agrees with its normals, and is not mirrored."""
    shape = load_shape(name)
    _, normal, du, dv = tangents(shape)
    assert bool(torch.isfinite(du).all() and torch.isfinite(dv).all())
    assert float(du.norm(dim=-1).min()) > 1e-4
    handed = (torch.linalg.cross(du, dv) * normal).sum(-1)
    assert bool((handed > 0).all())  # letters are not mirrored anywhere
    agreement = (shape.normals[shape.faces].double() * normal[:, None]).sum(-1)
    assert float((agreement > 0.3).float().mean()) > 0.998


def test_plane_is_the_sample() -> None:
    """u to the right, v away from the camera, looking up."""
    _, normal, du, dv = tangents(load_shape("plane"))
    assert torch.allclose(normal, torch.tensor([0.0, 0.0, 1.0]).double().expand_as(normal))
    assert torch.allclose(du, torch.tensor([2.0, 0.0, 0.0]).double().expand_as(du))
    assert torch.allclose(dv, torch.tensor([0.0, 2.0, 0.0]).double().expand_as(dv))


@pytest.mark.parametrize("name", ["sphere", "shaderball"])
def test_texture_is_upright_seen_from_the_front(name: str) -> None:
    """On the outer faces towards the camera (at -y) v runs up and u to the right."""
    middle, normal, du, dv = tangents(load_shape(name))
    front = (normal[:, 1] < -0.8) & (middle[:, 1] < -0.5)
    assert int(front.sum()) > 100
    assert float(du[front][:, 0].min()) > 0
    assert float(dv[front][:, 2].min()) > 0


def test_cloth_hangs_the_right_way() -> None:
    """The sheet is laid on from above: v away from the camera, so that it runs up in front."""
    middle, normal, du, dv = tangents(load_shape("cloth"))
    front = (normal[:, 1] < -0.5) & (middle[:, 0].abs() < 0.2) & (middle[:, 2] > 0.2)
    assert float((dv[front][:, 2] > 0).double().mean()) > 0.95
    assert float((du[front][:, 0] > 0).double().mean()) > 0.95


def test_cloth_keeps_its_lengths() -> None:
    """A sheet does not stretch much: most of it within a third of the tile's size."""
    shape = load_shape("cloth")
    _, _, du, dv = tangents(shape)
    length = torch.cat([du.norm(dim=-1), dv.norm(dim=-1)])
    ratio = length / length.median()
    assert float(((ratio > 0.66) & (ratio < 1.5)).double().mean()) > 0.85


def test_sphere_tiles_are_square_on_the_equator() -> None:
    middle, _, du, dv = tangents(load_shape("sphere"))
    equator = (middle[:, 2] - 1).abs() < 0.05
    ratio = du[equator].norm(dim=-1) / dv[equator].norm(dim=-1)
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=0.02)


def test_uv_scale_repeats_more_often() -> None:
    assert torch.allclose(load_shape("plane", 3.0).uv, load_shape("plane").uv * 3)
    for wrong in (0.0, -1.0, math.nan, 1e9):
        with pytest.raises(UsageError, match="uv-scale"):
            load_shape("plane", wrong)


def test_unknown_shape_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="shaderball"):
        load_shape("teapot")
    with pytest.raises(UsageError, match="obj"):
        load_shape("mesh.fbx")


def test_rotation_is_counter_clockwise_from_above() -> None:
    shape = load_shape("plane")
    turned = shape.rotated(90.0)
    corner = (shape.uv == torch.tensor([1.0, 0.0])).all(-1)
    assert torch.allclose(shape.positions[corner], torch.tensor([[1.0, -1.0, 0.0]]))
    assert torch.allclose(turned.positions[corner], torch.tensor([[1.0, 1.0, 0.0]]), atol=1e-6)


# ------------------------------------------------------------------------ mesh files

# An upright card in +y-up axes that faces +z: u to +x, v to +y, wider than high.
CARD = np.array([[-2.0, 0, 0], [2, 0, 0], [2, 2, 0], [-2, 2, 0]])
CARD_UV = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
CARD_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def card(uv: bool = True) -> trimesh.Trimesh:
    visual = trimesh.visual.TextureVisuals(uv=CARD_UV) if uv else None
    return trimesh.Trimesh(CARD, CARD_FACES, visual=visual, process=False)


def write(folder: Path, suffix: str, mesh: Any) -> Path:
    path = folder / f"card.{suffix}"
    mesh.export(path)
    return path


OBJ = "v -2 0 0\nv 2 0 0\nv 2 2 0\nv -2 2 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb"])
def test_meshes_are_y_up_and_face_the_camera(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, card())
    if suffix == "obj":
        path.write_text(OBJ)  # by hand, so that the convention is the format's, not trimesh's
    middle, normal, du, dv = tangents(load_shape(path))
    assert torch.allclose(normal, torch.tensor([0.0, -1.0, 0.0]).double().expand_as(normal), atol=1e-6)
    assert torch.allclose(du, torch.tensor([2.0, 0.0, 0.0]).double().expand_as(du), atol=1e-5)
    assert torch.allclose(dv, torch.tensor([0.0, 0.0, 1.0]).double().expand_as(dv), atol=1e-5)
    assert float(middle[:, 2].min()) > 0


def glb(tree: dict[str, Any], payload: bytes) -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    payload += b"\0" * (-len(payload) % 4)
    total = 12 + 8 + len(text) + 8 + len(payload)
    return (
        struct.pack("<4sII", b"glTF", 2, total)
        + struct.pack("<I4s", len(text), b"JSON") + text
        + struct.pack("<I4s", len(payload), b"BIN\0") + payload
    )  # fmt: skip


def glb_card(**changes: Any) -> bytes:
    """A binary glTF of the card by hand: uv with v down, as its specification says, and no material."""
    uv = CARD_UV.copy()
    uv[:, 1] = 1 - uv[:, 1]
    parts = [CARD.astype("<f4").tobytes(), uv.astype("<f4").tobytes(), CARD_FACES.astype("<u2").tobytes()]
    offsets = [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    views = [
        {"buffer": 0, "byteOffset": o, "byteLength": len(p)} for o, p in zip(offsets, parts, strict=True)
    ]
    kinds = [(5126, 4, "VEC3"), (5126, 4, "VEC2"), (5123, 6, "SCALAR")]
    accessors = [
        {"bufferView": i, "componentType": c, "count": n, "type": t} for i, (c, n, t) in enumerate(kinds)
    ]
    accessors[0] |= {"min": [-2, 0, 0], "max": [2, 2, 0]}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, parts))}],
    }
    return glb(tree | changes, b"".join(parts))


def test_glb_without_material_keeps_its_uv_and_turns_v_up(tmp_path: Path) -> None:
    path = tmp_path / "card.glb"
    path.write_bytes(glb_card())
    _, _, du, dv = tangents(load_shape(path))
    assert float(du[:, 0].min()) > 1.9
    assert float(dv[:, 2].min()) > 0.9


def test_glb_nodes_are_placed_by_their_transforms(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(card(), node_name="a")
    scene.add_geometry(
        card(), node_name="b", transform=trimesh.transformations.translation_matrix([0, 0, -10])
    )
    mirror = np.diag([-1.0, 1, 1, 1])
    scene.add_geometry(card(), node_name="c", transform=mirror)
    shape = read_mesh(write(tmp_path, "glb", scene))
    assert shape.faces.shape == (6, 3)
    assert float(shape.positions[:, 1].max()) == pytest.approx(10.0)
    _, normal, _, _ = tangents(shape)
    # All three look to the camera, the mirrored one as well: its faces are turned round.
    assert torch.allclose(normal[:, 1], -torch.ones(6).double(), atol=1e-6)
    assert torch.allclose(shape.normals[:, 1], -torch.ones(len(shape.normals)), atol=1e-6)


def test_normals_are_smooth_across_uv_seams_and_sharp_at_creases(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(subdivisions=3)
    box = trimesh.creation.box()
    for mesh, expected in ((ball, "smooth"), (box, "flat")):
        uv = np.random.default_rng(0).random((len(mesh.faces) * 3, 2))
        mesh.unmerge_vertices()
        lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices] + [f"vt {u} {v}" for u, v in uv]
        lines += [f"f {a + 1}/{a + 1} {b + 1}/{b + 1} {c + 1}/{c + 1}" for a, b, c in mesh.faces]
        path = tmp_path / "m.obj"
        path.write_text("\n".join(lines))
        shape = read_mesh(path)
        _, face, _, _ = tangents(shape)
        if expected == "smooth":
            assert float((shape.normals - normalize(shape.positions, dim=-1)).abs().max()) < 0.02
        else:
            assert torch.allclose(
                shape.normals[shape.faces].double(), face[:, None].expand(-1, 3, 3), atol=1e-5
            )


def test_given_normals_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "n.obj"
    path.write_text(OBJ.split("f ")[0] + "vn 0 0.6 0.8\nf 1/1/1 2/2/1 3/3/1\nf 1/1/1 3/3/1 4/4/1\n")
    shape = read_mesh(path)
    assert torch.allclose(shape.normals, torch.tensor([0.0, -0.8, 0.6]).expand_as(shape.normals), atol=1e-6)


def ply_header(vertices: int, faces: int) -> bytes:
    return (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {vertices}\n"
        "property float x\nproperty float y\n"
        f"property float z\nproperty float s\nproperty float t\nelement face {faces}\n"
        "property list uchar int vertex_indices\nend_header\n"
    ).encode()


BAD = {
    "empty.obj": b"",
    "empty.glb": b"",
    "noise.glb": bytes(range(256)) * 8,
    "noise.ply": bytes(range(256)) * 8,
    "noise.obj": bytes(range(256)) * 8,
    "text.obj": b"hello\n",
    "no_faces.obj": OBJ.split("f ")[0].encode(),
    "no_uv.obj": b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "nan.obj": OBJ.replace("v 2 2 0", "v nan 2 0").encode(),
    "infinite.obj": OBJ.replace("v 2 2 0", "v inf 2 0").encode(),
    "nan_uv.obj": OBJ.replace("vt 1 1", "vt nan 1").encode(),
    "missing_vertex.obj": OBJ.replace("f 1/1 2/2 3/3", "f 1/1 2/2 99/3").encode(),
    "flat.obj": OBJ.replace("v 2 2 0", "v 0 0 0").replace("v -2 2 0", "v 1 0 0").encode(),
    "truncated.glb": glb_card()[:-40],
    "half_header.glb": glb_card()[:16],
    "huge.ply": ply_header(10**12, 10**12),
    "huge_digits.ply": ply_header(10**30, 5),
    "short.ply": ply_header(100, 100) + b"\0" * 64,
    "draco.glb": glb_card(extensionsRequired=["KHR_draco_mesh_compression"]),
    "huge_count.glb": glb_card(
        accessors=[
            {"bufferView": 0, "componentType": 5126, "count": 10**11, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ]
    ),
    "wrong_types.glb": glb_card(meshes=[{"primitives": 7}]),
    "zero_scale.glb": glb_card(nodes=[{"mesh": 0, "scale": [0, 0, 0]}]),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_meshes_are_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BAD[name])
    with pytest.raises(GonioError) as caught:
        load_shape(path)
    message = str(caught.value)
    assert name in message and "\n" not in message and ";" in message
    assert len(message) < 400


def test_missing_mesh_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GonioError, match="nowhere.obj"):
        load_shape(tmp_path / "nowhere.obj")


@pytest.mark.parametrize("suffix", ["ply", "glb"])
def test_mesh_without_uv_says_so(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(GonioError, match="texture coordinates.*unwrap"):
        load_shape(write(tmp_path, suffix, card(uv=False)))


def test_too_many_faces_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_files, "MAX_FACES", 1)
    for suffix in ("obj", "ply", "glb"):
        with pytest.raises(GonioError, match="faces, the limit is 1"):
            load_shape(write(tmp_path, suffix, card()))
    monkeypatch.setattr(mesh_files, "MAX_MESH_BYTES", 10)
    with pytest.raises(GonioError, match="bytes"):
        load_shape(tmp_path / "card.obj")


def test_real_meshes_load(data_root: Path) -> None:
    found = sorted(data_root.glob("meshes/*/*.obj")) + sorted(data_root.glob("meshes/*/*.glb"))
    assert found
    for path in found:
        shape = load_shape(path)
        assert shape.faces.shape[0] > 10
        assert bool(torch.isfinite(shape.normals).all())
