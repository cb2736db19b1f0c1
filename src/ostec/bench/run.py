"""Runs a benchmark: applies a protocol to each photo; writes a table, a JSON file and a sheet of pictures."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table

from ostec._version import __version__
from ostec.bench.gallery import Gallery, Setup
from ostec.bench.holdout import known_texture, score_hold_out
from ostec.bench.methods import load_methods
from ostec.bench.metric_networks import load_metric_networks
from ostec.bench.record import FIGURES, Score, failure, table_rows
from ostec.errors import BadPhoto, BadSettings
from ostec.files.photos import cannot_write, encode_sheet, find_photos, load_photo, write_atomically
from ostec.pipeline import find_faces
from ostec.registry import components
from ostec.registry.device import pick_device
from ostec.settings import Settings
from ostec.types import Photo

PROTOCOLS = ("hold-out", "re-photo", "scan")
_NOT_KNOWN = "skipped: the face is not frontal, or too little of it is seen"
Listener = Callable[[str], Any]


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, on what, and where to write it."""

    protocol: Literal["hold-out", "re-photo", "scan"]
    source_dir: Path
    """Folder of photos, or one photo; for `scan` a folder with a .glb file, or the file."""
    methods: tuple[str, ...]
    """Names that `load_methods` takes."""
    json: Path
    sheet: Path | None = None
    limit: int | None = None
    """Use at most so many photos, spread evenly over the folder."""
    texture_size: int = 256
    seed: int = 0
    weights_dir: Path | None = None
    """Folder with weight files, looked into before the usual ones."""
    generator: Path | None = None
    """File of the generator that `projection` searches; by default the best one there."""
    device: str = "auto"
    yaws_deg: tuple[float, ...] = ()
    """For `hold-out`: only these yaws, without the harder variants."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise BadSettings(f"protocol is {self.protocol!r}; choose {', '.join(PROTOCOLS)}.")
        if self.yaws_deg and self.protocol != "hold-out":
            raise BadSettings(f"yaws are for the protocol hold-out, not for {self.protocol}.")
        if not all(0 < yaw_deg < 90 for yaw_deg in self.yaws_deg):
            raise BadSettings(f"yaws are {self.yaws_deg} degrees; choose between 0 and 90.")
        if self.sheet is not None and self.sheet.resolve().parent == self.source_dir.resolve():
            raise BadSettings(f"{self.sheet}: next time it would be read as a photo; choose another folder.")


@dataclass
class Outcome:
    """The results of a run."""

    options: BenchOptions
    scores: list[Score] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Photo -> why the protocol does not use it, or how it failed."""
    failed: list[str] = field(default_factory=list)
    """The skipped photos that failed."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table, sorted by variant in the order of the scores, pose, and method in the order of the options."""
        variants = list(dict.fromkeys(score.variant for score in self.scores))

        def place(row: dict[str, Any]) -> tuple[int, float, float, int]:
            where = variants.index(row["variant"]), row["pitch_deg"], row["yaw_deg"]
            return (*where, self.options.methods.index(row["method"]))

        return sorted(table_rows(self.scores), key=place)

    def save(self, gallery: Gallery) -> list[dict[str, Any]]:
        """Write JSON and sheet; returns the rows. Raises `CannotWrite`."""
        options, rows = self.options, self.rows
        content = {
            "protocol": options.protocol,
            "version": __version__,
            "seed": options.seed,
            "texture_size": options.texture_size,
            "methods": list(options.methods),
            "skipped": self.skipped,
            "failed": self.failed,
            "rows": rows,
            "per_face": [asdict(score) for score in self.scores],
        }
        write_atomically(options.json, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        if options.sheet is not None and gallery.rows:
            write_atomically(options.sheet, encode_sheet(list(gallery.rows.values())))
        return rows


def run_completion(
    options: BenchOptions, say: Listener = lambda line: None, complain: Listener = lambda line: None
) -> Outcome:
    """Measure the methods on every photo and write the results; an interrupted run writes what it has.

    `say` gets a line per photo, `complain` one per photo that failed; the others go on. Raises `BadPhoto` where there
    is no photo, `CannotWrite` (if possible before the work), `UnknownComponent`, `BadSettings`, `MissingWeights`,
    `BadWeights`.
    """
    for path in filter(None, (options.json, options.sheet)):
        check_writable(path)
    settings = Settings(mode="soft", texture_size=options.texture_size, seed=options.seed)
    sources = find_sources(options.source_dir, options.limit, scans=options.protocol == "scan")
    device, _ = pick_device(options.device)
    own = "auto" if options.protocol == "re-photo" else "mirror"  # only re-photo makes use of the parts' own completer
    parts = components.load_parts(completer=own, device=device, weights_dir=options.weights_dir)
    methods = load_methods(options.methods, options.weights_dir, device, options.generator)
    networks = load_metric_networks(options.weights_dir)
    setup = Setup(methods, parts, networks, settings, Gallery(), options.yaws_deg)
    outcome = Outcome(options)
    try:
        for index in range(len(sources)):
            _measure(outcome, setup, sources, index, say, complain)
    finally:
        outcome.save(setup.gallery)
    return outcome


def check_writable(path: Path) -> None:
    """Create the folder of a file; raises `CannotWrite` if the file could not be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise cannot_write(path, error) from error


def result_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table to print: means, and half the width of the 95 % interval of the PSNR."""
    table = Table("case", "yaw", "pitch", "method", "n", "PSNR dB", "SSIM", "LPIPS", "ΔE", "identity", "seam", "detail")
    for title in ("in 2 std", "wins", "s"):
        table.add_column(title)
    for row in rows:
        low, high = row["psnr_db_95"] or (math.nan, math.nan)
        spread = f" ±{(high - low) / 2:.1f}" if high >= low else ""
        decimals = {"ssim": 3, "lpips": 3, "delta_e": 1, "identity": 3, "seam": 2, "detail": 2, "within_2_std": 2}
        decimals |= {"win_rate_vs_mirror": 2, "seconds": 2}
        table.add_row(
            row["variant"],
            f"{row['yaw_deg']:.0f}",
            f"{row['pitch_deg']:.0f}",
            row["method"],
            str(row["n"]),
            _shown(row["psnr_db"], 1) + spread,
            *(_shown(row[figure], places) for figure, places in decimals.items()),
        )
    return table


def _scores(protocol: str, setup: Setup, source: Path, background: Path) -> Iterable[Score] | None:
    """None where the protocol does not use the photo."""
    if protocol == "scan":
        from ostec.bench.scan import load_scan, score_scan

        return score_scan(load_scan(source), setup)
    if protocol == "re-photo":
        from ostec.bench.rephoto import score_re_photo

        return score_re_photo(_photo(source), _photo(background), setup)
    photo = _photo(source)
    known = known_texture(photo, find_faces(photo, setup.parts)[0], setup.parts, setup.settings.texture_size)
    return None if known is None else score_hold_out(known, setup)


@torch.no_grad()
def _measure(
    outcome: Outcome, setup: Setup, sources: Sequence[Path], index: int, say: Listener, complain: Listener
) -> None:
    """Add the scores of one photo, of all methods at all poses; none if any of them fails."""
    source, start = sources[index], time.perf_counter()
    count = f"[{index + 1}/{len(sources)}] {source.name}"
    try:
        scores = _scores(outcome.options.protocol, setup, source, sources[(index + 1) % len(sources)])
        if scores is None:
            outcome.skipped[source.name] = _NOT_KNOWN
        outcome.scores += [_finite(score) for score in scores or ()]
        say(f"{count}: {_NOT_KNOWN if scores is None else f'{time.perf_counter() - start:.1f} s'}")
    except Exception as error:
        reason = failure(error, source)
        outcome.skipped[source.name] = reason
        outcome.failed.append(source.name)
        complain(reason)


def find_sources(source: Path, limit: int | None, scans: bool = False) -> list[Path]:
    """The photos of a folder (with `scans`, its .glb files), or the one file; at most `limit`, spread evenly.

    Raises `BadPhoto` where there is none, `BadSettings` for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise BadSettings(f"limit is {limit}; choose 1 or more.")
    found = sorted(source.glob("*.glb")) if scans and source.is_dir() else find_photos(source)
    if not found:
        raise BadPhoto(f"{source}: no {'.glb file' if scans else 'photo'} in this folder. Name another folder.")
    count = min(limit or len(found), len(found))
    return [found[i * len(found) // count] for i in range(count)]


def _photo(path: Path) -> Photo:
    """The photo, named after its file without the folder, so that scores do not depend on the folder."""
    return replace(load_photo(path), name=path.name)


def _finite(score: Score) -> Score:
    """The score, with None in place of figures that are not finite."""
    values = {name: getattr(score, name) for name in FIGURES}
    return replace(score, **{name: None for name, value in values.items() if value is None or not math.isfinite(value)})


def _shown(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"
