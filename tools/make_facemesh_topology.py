"""Make src/ostec/data/facemesh_topology.npz: triangles, mean shape, extension, subdivision, UV and regions.

    python tools/make_facemesh_topology.py --wheel mediapipe-0.10.21-….whl --faces FACES --ict ict_face_model.npz

FACES holds index.csv (columns file, source_repo) and the portraits it names. The same inputs give the same bits.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import facemesh_extension as extension
import facemesh_mean as mean_shapes
import facemesh_regions as regions
import facemesh_subdivision as subdivision
import facemesh_uv as uv_charts
import numpy as np
import torch
import tyro
from facemesh_mean import Array, Index

import ostec.files.photos
from ostec.detection.blazeface import load_detector
from ostec.networks.facemesh_net import load_facemesh_net, mesh_points

OUT = Path(__file__).resolve().parents[1] / "src" / "ostec" / "data" / "facemesh_topology.npz"
EXCLUDED_SOURCE = "SelfishGene/SFHQ-dataset"
"""Made with non-commercial weights."""
FITS = 400
MOST_YAW_DEG = 25.0
RING_PULL = np.array([0.02, 0.2, 1.0, 3.0, 3.0, 3.0])
RING_CALM = np.array([0.0, 0.002, 0.006, 0.015, 0.03, 0.05])
MIDDLE = 4
CHART_ALONG = np.array([0.25, 0.25, 0.29, 0.35, 0.45, 0.60, 0.84, 0.95, 1.05, 1.12, 1.15])
CHART_ACROSS = np.array([0.77, 0.77, 0.77, 0.78, 0.80, 0.85, 0.92, 0.98, 1.05, 1.12, 1.15])
CHART_FOREHEAD = np.maximum(CHART_ALONG, [0.30, 0.35, 0.55, 0.75, 0.85, 0.90, 0, 0, 0, 0, 0])
FOREHEAD_M = 0.05, 0.09
"""Size on the chart from the outermost ring over the face oval to 4 and more steps inside: radially, around. The
forehead is skin up to ring 3, and given room; it begins between these heights."""
CHART_MOUTH = 2.0
LEVELS = 2


def portrait_fits(faces: Path) -> Iterator[Array]:
    """[468, 3] of every usable training portrait: px, x right, y up, z out of the face."""
    detector, net = load_detector(), load_facemesh_net()
    with (faces / "index.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["source_repo"] != EXCLUDED_SOURCE]
    rows = [row for row in rows if row["file"].startswith("train/") and abs(float(row["yaw_deg"])) < MOST_YAW_DEG]
    for name in sorted(row["file"] for row in rows)[:: max(1, len(rows) // FITS)]:
        photo = ostec.files.photos.load_photo(faces / name)
        found = detector(photo)
        if found:
            points, presence = mesh_points(net, photo, found[0])
            if presence > 0.9:
                yield points.double().numpy() * [1.0, -1.0, -1.0]


def coarse_mesh(fits: list[Array], wheel: Path, ict: Path, mirror: Index) -> tuple[Array, list[Index], Index, Index]:
    """The mean head before subdivision: vertices [468 + E, 3], triangles by patch (skin, right eye, left eye, mouth),
    mirror map, and the face oval from the top over the subject's left."""
    mean = mean_shapes.mean_shape(fits, mirror)
    face = mean_shapes.symmetric_triangles(mean_shapes.read_triangles(wheel), mirror, mean)
    loops = mean_shapes.boundary_loops(face)
    fills = []
    for corners in (mean_shapes.RIGHT_EYE, mean_shapes.LEFT_EYE, mean_shapes.MOUTH):
        loop = next(loop for loop in loops if corners[0] in loop)
        fills.append(mean_shapes.close_loop(loop, corners, mean))
    oval = extension.oval_from_top(next(loop for loop in loops if mean_shapes.FOREHEAD_TOP in loop), mirror)
    closed = np.concatenate([face, *fills])
    near_border = np.flatnonzero(regions.rings_from(oval, closed, len(mean)) <= 3)
    surface = extension.head_surface(ict, mean, regions.LANDMARKS, near_border)
    rings = extension.lay_rings(surface, mean, oval, mean.mean(axis=0) - mean[oval])
    full_mirror = extension.ring_mirror(mirror, len(oval))
    shape = np.concatenate([mean, rings.reshape(-1, 3)])
    shape = (shape + shape[full_mirror] * extension.MIRRORED) / 2
    ring_faces = extension.ring_triangles(oval, len(mean), shape, full_mirror)
    triangles = np.concatenate([closed, ring_faces])
    shape = extension.relaxed(shape, triangles, len(mean), np.repeat(RING_PULL, len(oval)))
    return shape, [np.concatenate([face, ring_faces]), *fills], full_mirror, oval


def make(fits: list[Array], wheel: Path, ict: Path, mirror: Index) -> dict[str, np.ndarray]:
    """The file's arrays by name; `ostec.heads.facemesh.facemesh_model` says what they are."""
    shape, patches, coarse_mirror, oval = coarse_mesh(fits, wheel, ict, mirror)
    faces_count, coarse_count = len(mirror), len(shape)
    triangles = np.concatenate(patches)
    steps_out = regions.rings_from(np.arange(faces_count), triangles, coarse_count)
    rim = np.arange(coarse_count - len(oval), coarse_count)
    steps_in = regions.rings_from(oval, triangles, coarse_count)
    uv = uv_charts.lay_out(shape, triangles, rim, coarse_mirror, wanted_chart(shape, patches, steps_in, steps_out))
    report_stretch(shape, triangles, uv, faces_count)

    mobile = np.zeros(faces_count, dtype=bool)
    mobile[np.concatenate(patches[1:3])] = True
    weights = regions.pose_weights(shape[:faces_count], mobile, oval)
    follow = extension.follow_map(shape, triangles, faces_count, weights, np.repeat(RING_CALM, len(oval)))
    follow = (follow + follow[coarse_mirror[faces_count:] - faces_count][:, mirror]) / 2

    fraction = np.clip(1 - steps_out / (extension.RINGS + 0.0), 0.0, 1.0)
    fine, fine_uv, fade, beyond = shape, uv, fraction * fraction * (3 - 2 * fraction), (steps_out > 0) * 1.0
    patch_of = np.repeat(np.arange(len(patches)), [len(p) for p in patches])
    faces, fine_mirror = triangles, coarse_mirror
    for _ in range(LEVELS):
        level = subdivision.refine(faces, fine_mirror)
        fine, fine_uv, fade, beyond = (level.halve(values) for values in (fine, fine_uv, fade, beyond))
        faces, fine_mirror, patch_of = level.triangles, level.mirror, np.repeat(patch_of, 4)
    fine_patches = [faces[patch_of == k] for k in range(len(patches))]
    plate = subdivision.whole_weights(subdivision.thin_plate_map(fine, fine_patches, fine_mirror, coarse_count))
    fine = plate @ shape / np.asarray(plate.sum(axis=1))
    groups = regions.region_groups(fine, fine_uv, faces, patch_of, beyond, fine_mirror)
    return {
        "face_mean": shape[:faces_count].astype(np.float32),
        "extension_mean": shape[faces_count:].astype(np.float32),
        "extension_map": follow.astype(np.float32),
        "subdivision_weights": plate.data.astype(np.int16),
        "subdivision_columns": plate.indices.astype(np.int16),
        "subdivision_starts": plate.indptr.astype(np.int32),
        "faces": faces.astype(np.int16),
        "uv": fine_uv.astype(np.float32),
        "mirror": fine_mirror.astype(np.int16),
        "landmark_vertices": regions.LANDMARKS.astype(np.int16),
        "pose_weights": weights.astype(np.float32),
        "face_weight": fade.astype(np.float32),
        **{f"region_{name}": group for name, group in groups.items()},
    }


def wanted_chart(shape: Array, patches: list[Index], steps_in: Index, steps_out: Index) -> uv_charts.Wanted:
    """Larger towards the middle of the face, flatter rings outside, room for an open mouth."""
    triangles = np.concatenate(patches)
    depth = np.where(steps_out > 0, -steps_out, steps_in)
    knots = np.arange(-extension.RINGS, MIDDLE + 1)
    above = np.clip((shape[:, 1] - FOREHEAD_M[0]) / (FOREHEAD_M[1] - FOREHEAD_M[0]), 0.0, 1.0)
    below, top, across = (np.interp(depth, knots, sizes) for sizes in (CHART_ALONG, CHART_FOREHEAD, CHART_ACROSS))
    along, across = (sizes[triangles].mean(axis=1) for sizes in (below + above * (top - below), across))
    field = np.where((steps_out > 0)[triangles].any(axis=1, keepdims=True), depth[triangles] * 1.0, 0.0)
    mouth = slice(len(triangles) - len(patches[-1]), None)
    field[mouth] = shape[patches[-1], 1]
    along[mouth] *= CHART_MOUTH
    return uv_charts.Wanted(along, across, field)


def report_stretch(shape: Array, triangles: Index, uv: Array, faces_count: int) -> None:
    """Print how the chart stretches."""
    values = uv_charts.stretch(shape, triangles, uv)
    share = values["weight"]
    a, b = (uv[triangles[:, k]] - uv[triangles[:, 0]] for k in (1, 2))
    texels = (a[:, 1] * b[:, 0] - a[:, 0] * b[:, 1]) / 2
    on_face = (triangles < faces_count).all(axis=1)
    print(
        f"chart: {int((texels <= 0).sum())} flipped triangles, {texels.sum():.3f} of the square used, "
        f"{texels[on_face].sum() / texels.sum():.3f} of that by the face"
    )
    for name, part in (("all", np.ones(len(triangles), dtype=bool)), ("face", on_face)):
        rms, mean_angle = (
            float(np.average(v[part], weights=share[part])) for v in (values["l2"] ** 2, values["angle"])
        )
        print(
            f"  {name}: L2 stretch {rms**0.5:.3f}, singular values {values['least'][part].min():.2f} to "
            f"{values['most'][part].max():.2f}, quasi-conformal mean {mean_angle:.2f}, "
            f"95 % {np.percentile(values['angle'][part], 95):.2f}, max {values['angle'][part].max():.2f}"
        )


def main(wheel: Path, faces: Path, ict: Path, out: Path = OUT) -> None:
    """Make the file at `out`."""
    torch.set_num_threads(1)
    mirror = load_facemesh_net().mirror.numpy()
    arrays = make(list(portrait_fits(faces)), wheel, ict, mirror)
    np.savez_compressed(out, allow_pickle=False, **arrays)
    print(f"{out}: {len(arrays['uv'])} vertices, {len(arrays['faces'])} triangles, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    tyro.cli(main)
