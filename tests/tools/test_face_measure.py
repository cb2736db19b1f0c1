"""Known rotations are measured as what they are; points on a scan are found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from face_measure import Seen, on_scan, rotation_error_deg, scan_parts, table, visible

from ostec.bench.scan import load_scan
from ostec.geometry.camera import rotation, to_pixels


@pytest.mark.parametrize("off", [(0.0, 7.0, 0.0), (5.0, 0.0, 0.0), (0.0, 0.0, -4.0)])
def test_an_angle_off_is_that_angle(off: tuple[float, float, float]) -> None:
    truth = rotation(0.0, 30.0, 0.0)
    error, yaw_error = rotation_error_deg(rotation(off[0], 30.0 + off[1], off[2]), truth)
    # the turn by which two heads at the same yaw differ in pitch or roll is that pitch or roll
    assert error == pytest.approx(sum(abs(angle) for angle in off), rel=0.01)
    assert yaw_error == pytest.approx(off[1], abs=1e-3)


def test_the_table_holds_medians() -> None:
    row = Seen(45.0, 0.0, "flat", 1.0, -1.0, 2.0, 20.0)
    rows = [replace(row, error_percent=value) for value in (2.0, 3.0, 40.0)]
    line = next(line for line in table(rows).splitlines() if line.startswith("   45"))
    assert "3.0%" in line


def test_points_of_a_scan_are_found_where_they_are_seen(assets: Path) -> None:
    scan, parts = load_scan(assets / "scan" / "lee_perry_smith.glb"), scan_parts()
    front, side = scan.camera(0.0, 0.0), scan.camera(90.0, 0.0)
    nose = scan.head.vertices[scan.head.vertices[:, 2].argmax()][None]
    again = on_scan(scan, to_pixels(nose, front), front, parts)
    assert float((again - nose).norm()) < 0.002
    ears = scan.head.vertices[[int(scan.head.vertices[:, 0].argmax()), int(scan.head.vertices[:, 0].argmin())]]
    assert visible(torch.cat([nose, ears]), scan, side, parts).tolist() == [True, False, True]
