"""The user's meshes: .obj, .ply and .glb with texture coordinates, checked before and after they are read.

glTF is +y up by its specification, .obj and .ply by custom: all three are turned so that +y becomes the
stage's +z and the side that faced +z faces the camera. trimesh hands out v up for all three formats.
"""

from __future__ import annotations

import io
import json
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.errors import GonioError
from gonio.media.limits import read_bytes, reason, shown
from gonio.render.shapes import Shape, join, smooth_normals

MAX_MESH_BYTES = 512 * 2**20
MAX_FACES = 4_000_000
MAX_VERTICES = 6_000_000
MAX_NODES = 10_000
GL_FLOAT = 5126
# Flatter edges are rounded, sharper ones stay, where a file has no normals.
CREASE_COSINE = 0.766  # 40 degrees between a face and its smoothed corner
# (x, y, z) -> (x, -z, y)
FROM_Y_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def read_mesh(path: Path) -> Shape:
    """The mesh of a file, all its parts in one, in the stage's axes. GonioError for any problem."""
    import trimesh

    suffix = path.suffix.lower().lstrip(".")
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_MESH_BYTES:
        raise GonioError(
            f"{shown(path)} has {size} bytes, the limit for meshes is {MAX_MESH_BYTES}; decimate it"
        )
    content = read_bytes(path)
    _check_header(path, suffix, content)
    if suffix == "glb":
        content = _geometry_only(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {"obj": {"skip_materials": True}, "ply": {"skip_materials": True}}.get(
                suffix, {}
            )
            # From memory, so that a mesh cannot make us open other files it names.
            loaded = trimesh.load_scene(io.BytesIO(content), file_type=suffix, process=False, **options)
            parts = _parts(path, loaded)
    except GonioError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise GonioError(
            f"{shown(path)} is not a readable .{suffix} mesh ({reason(error)}); export it again"
        ) from None
    if not parts:
        raise GonioError(f"{shown(path)} has no triangles; export it as a triangle mesh")
    shape = join(parts)
    return Shape(
        positions=shape.positions @ FROM_Y_UP.T,
        normals=shape.normals @ FROM_Y_UP.T,
        uv=shape.uv,
        faces=shape.faces,
    )


def _check_header(path: Path, suffix: str, content: bytes) -> None:
    """Refuse counts too large to allocate, as the file itself states them."""
    stated: dict[str, int] = {}
    if suffix == "ply":
        head = content[:65536].split(b"end_header")[0].decode("ascii", "replace")
        if not head.startswith("ply"):
            raise GonioError(f"{shown(path)} is not a PLY file; export it again")
        for kind, count in re.findall(r"element\s+(\w+)\s+(\d+)", head):
            stated[{"vertex": "vertices", "face": "faces"}.get(kind, kind)] = int(count[:18])
        # Each vertex has at least three numbers and each face four, of a byte or more.
        if 3 * stated.get("vertices", 0) + 4 * stated.get("faces", 0) > len(content):
            raise GonioError(f"{shown(path)} ends before the elements its header promises; export it again")
    elif suffix == "glb":
        stated["vertices"], stated["faces"] = _check_glb(path, content)
    else:
        stated["faces"] = content.count(b"\nf ")
        stated["vertices"] = content.count(b"\nv ")
    for name, limit in (("faces", MAX_FACES), ("vertices", MAX_VERTICES)):
        if stated.get(name, 0) > limit:
            raise GonioError(f"{shown(path)} has {stated[name]} {name}, the limit is {limit}; decimate it")


def _read_glb(path: Path, content: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON tree of a binary glTF, and the bytes behind it."""
    try:
        magic, _, total = struct.unpack_from("<4sII", content)
        length, kind = struct.unpack_from("<I4s", content, 12)
        if magic != b"glTF" or kind != b"JSON" or total > len(content) or 20 + length > len(content):
            raise ValueError("truncated, or no binary glTF")
        tree = json.loads(content[20 : 20 + length])
        if not isinstance(tree, dict):
            raise ValueError("no glTF object")
    except (ValueError, struct.error, RecursionError) as error:
        raise GonioError(
            f"{shown(path)} is not a readable .glb mesh ({reason(error)}); export it again"
        ) from None
    return tree, content[20 + length : total]


def _geometry_only(path: Path, content: bytes) -> bytes:
    """The same glTF without its pictures, and with one plain material on everything.

    Pictures are not needed; without any material trimesh drops the texture coordinates.
    """
    tree, rest = _read_glb(path, content)
    for name in ("images", "textures", "samplers", "animations", "skins", "cameras"):
        tree.pop(name, None)
    tree["materials"] = [{}]
    for mesh in tree.get("meshes", []):
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
            primitive["attributes"].pop("COLOR_0", None)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return head + text + rest


def _check_glb(path: Path, content: bytes) -> tuple[int, int]:
    """Vertices and triangles that the nodes of a binary glTF add up to; refuses what cannot be read right."""
    tree, _ = _read_glb(path, content)
    try:
        required = [str(name) for name in tree.get("extensionsRequired", [])]
        if required:
            raise GonioError(
                f"{shown(path)} needs the glTF extension {required[0][:60]}; export it without compression"
            )
        accessors = tree.get("accessors", [])
        if len(tree.get("nodes", [])) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
        vertices = faces = 0
        for use in [node["mesh"] for node in tree.get("nodes", []) if "mesh" in node]:
            for primitive in tree["meshes"][use]["primitives"]:
                count = accessors[primitive["attributes"]["POSITION"]]["count"]
                vertices += count
                faces += (accessors[primitive["indices"]]["count"] if "indices" in primitive else count) // 3
                texture = primitive["attributes"].get("TEXCOORD_0")
                if texture is not None and accessors[texture]["componentType"] != GL_FLOAT:
                    raise GonioError(
                        f"{shown(path)} has quantized texture coordinates; export it with float ones"
                    )
        return int(vertices), int(faces)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise GonioError(
            f"{shown(path)} is not a readable .glb mesh ({reason(error)}); export it again"
        ) from None


def _parts(path: Path, scene: Any) -> list[Shape]:
    """Every use of a mesh in the scene, in world space."""
    parts = []
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        mesh = scene.geometry[name]
        if not hasattr(mesh, "faces") or len(mesh.faces) == 0:
            continue
        uv = getattr(mesh.visual, "uv", None)
        vertices = np.asarray(mesh.vertices)
        if uv is None or len(uv) != len(vertices):
            raise GonioError(
                f"{shown(path)}: {_label(name)} has no texture coordinates; unwrap it and export it again"
            )
        own_normals = "vertex_normals" in mesh._cache
        normals = np.asarray(mesh.vertex_normals) if own_normals else None
        shape = _checked(path, vertices, normals, np.asarray(uv), np.asarray(mesh.faces))
        parts.append(_transformed(path, shape, torch.from_numpy(np.asarray(transform, dtype=np.float64))))
    return parts


def _label(name: Any) -> str:
    return "the mesh " + "".join(c if c.isprintable() else "?" for c in str(name))[:60]


def _checked(
    path: Path, vertices: np.ndarray, normals: np.ndarray | None, uv: np.ndarray, faces: np.ndarray
) -> Shape:
    points = torch.from_numpy(np.ascontiguousarray(vertices, dtype=np.float64)).float()
    texture = torch.from_numpy(np.ascontiguousarray(uv[:, :2], dtype=np.float64)).float()
    index = torch.from_numpy(np.ascontiguousarray(faces)).long()
    if int(index.min()) < 0 or int(index.max()) >= points.shape[0]:
        raise GonioError(f"{shown(path)}: faces name vertices that do not exist; export it again")
    for name, values in (("vertices", points), ("texture coordinates", texture)):
        bad = int((~torch.isfinite(values) | (values.abs() > 1e9)).any(-1).sum())
        if bad:
            raise GonioError(f"{shown(path)}: {bad} {name} are not usable numbers; export it again")
    span = float((points.amax(0) - points.amin(0)).max())
    corners = points[index]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    whole = cross.norm(dim=-1) > 1e-12 * span**2
    if span <= 0 or not bool(whole.any()):
        raise GonioError(f"{shown(path)}: all triangles have no area; export a mesh with a surface")
    index, cross = index[whole], cross[whole]
    if normals is not None:
        given = torch.from_numpy(np.ascontiguousarray(normals, dtype=np.float64)).float()
        if bool(torch.isfinite(given).all()) and bool((given.norm(dim=-1)[index] > 1e-6).all()):
            return Shape(positions=points, normals=normalize(given, dim=-1), uv=texture, faces=index)
    return _with_normals(points, texture, index, cross)


def _with_normals(points: Tensor, uv: Tensor, faces: Tensor, cross: Tensor) -> Shape:
    """Normals rounded over all faces that meet in a place, whatever their uv; creases stay sharp."""
    _, place = torch.unique(points, dim=0, return_inverse=True)
    smooth = smooth_normals(points, faces, place)[faces]  # [T, 3, 3]
    flat = normalize(cross, dim=-1, eps=1e-30)[:, None].expand_as(smooth)
    soft = (smooth * flat).sum(-1, keepdim=True) > CREASE_COSINE
    normals = torch.where(soft, smooth, flat)
    return Shape(
        positions=points[faces].reshape(-1, 3),
        normals=normals.reshape(-1, 3),
        uv=uv[faces].reshape(-1, 2),
        faces=torch.arange(faces.numel()).reshape(-1, 3),
    )


def _transformed(path: Path, shape: Shape, matrix: Tensor) -> Shape:
    """By a 4 x 4 matrix; a mirroring one turns the faces' sense, so that outside stays outside."""
    linear = matrix[:3, :3]
    if not bool(torch.isfinite(matrix).all()) or abs(float(torch.det(linear))) < 1e-30:
        raise GonioError(
            f"{shown(path)} has a node scaled to nothing; apply the transforms and export it again"
        )
    positions = (shape.positions.double() @ linear.T + matrix[:3, 3]).float()
    normals = normalize((shape.normals.double() @ torch.linalg.inv(linear)).float(), dim=-1)
    faces = shape.faces.flip(1) if float(torch.det(linear)) < 0 else shape.faces
    return Shape(positions=positions, normals=normals, uv=shape.uv, faces=faces)
