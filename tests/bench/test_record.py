"""Rows are means over faces with intervals around them; a figure nobody has stays None."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch

from ostec.bench.record import FIGURES, Score, interval, table_rows


def score(method: str, photo: str, psnr_db: float | None, yaw_deg: float = 45.0, **more) -> Score:
    return Score("hold-out", method, photo, yaw_deg, psnr_db=psnr_db, **more)


SCORES = [
    score("mirror", "a", 20.0, ssim=0.6),
    score("mirror", "b", 24.0, ssim=0.8),
    score("mirror", "c", 22.0),
    score("prior", "a", 23.0),
    score("prior", "b", 23.0),
    score("prior", "c", 25.0),
    score("prior", "a", 30.0, yaw_deg=15.0),
]


def row(method: str, yaw_deg: float = 45.0) -> dict:
    rows = [row for row in table_rows(SCORES) if (row["method"], row["yaw_deg"]) == (method, yaw_deg)]
    assert len(rows) == 1
    return rows[0]


def test_a_row_per_method_and_pose() -> None:
    assert len(table_rows(SCORES)) == 3
    assert (row("mirror")["n"], row("prior")["n"], row("prior", 15.0)["n"]) == (3, 3, 1)


def test_variants_and_protocols_are_told_apart() -> None:
    more = [*SCORES, score("mirror", "a", 1.0, variant="jittered"), Score("scan", "mirror", "a", 45.0, psnr_db=2.0)]
    assert len(table_rows(more)) == 5
    assert {row["psnr_db"] for row in table_rows(more)} >= {1.0, 2.0, 22.0}


def test_means_leave_out_what_is_missing_or_no_number() -> None:
    assert row("mirror")["psnr_db"] == 22.0
    assert row("mirror")["ssim"] == pytest.approx(0.7)
    assert row("mirror")["lpips"] is None and row("mirror")["lpips_95"] is None
    spoilt = table_rows([*SCORES, score("mirror", "d", math.nan), score("mirror", "e", math.inf)])[0]
    assert (spoilt["n"], spoilt["psnr_db"]) == (5, 22.0)


def test_every_figure_is_in_a_row_with_its_interval() -> None:
    assert {"psnr_db", "ssim", "lpips", "delta_e", "identity", "seam", "detail", "within_2_std", "seconds"} == set(
        FIGURES
    )
    assert all(figure in row("prior") and f"{figure}_95" in row("prior") for figure in FIGURES)


def test_the_win_rate_compares_face_by_face_at_the_same_pose() -> None:
    assert row("prior")["win_rate_vs_mirror"] == pytest.approx(2 / 3)
    assert row("prior", 15.0)["win_rate_vs_mirror"] is None
    assert row("mirror")["win_rate_vs_mirror"] is None


def test_a_face_without_a_score_neither_wins_nor_loses() -> None:
    scores = [
        score("mirror", "a", 20.0),
        score("mirror", "b", None),
        score("prior", "a", 21.0),
        score("prior", "b", 1.0),
    ]
    assert table_rows(scores)[1]["win_rate_vs_mirror"] == 1.0


def test_intervals_hold_the_mean_and_narrow_with_more_faces() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).tolist()
    few, many = interval(values[:20]), interval(values)
    assert few and many and interval(values) == many
    for (low, high), sample in ((few, values[:20]), (many, values)):
        assert low < sum(sample) / len(sample) < high
    assert many[1] - many[0] < few[1] - few[0]
    assert many[1] - many[0] == pytest.approx(4 * 1 / 20, rel=0.2)
    assert interval([1.0]) is None and interval([]) is None
    assert interval([3.0, 3.0]) == (3.0, 3.0)


def test_scores_go_through_json_and_back() -> None:
    back = json.loads(json.dumps([asdict(score) for score in SCORES], allow_nan=False))
    assert [Score(**face) for face in back] == SCORES
    json.dumps(table_rows(SCORES), allow_nan=False)
