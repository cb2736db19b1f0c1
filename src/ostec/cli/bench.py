"""`ostec bench`."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, subcommand

from ostec.cli.options import DONE, SOME_FAILED, GeneratorOptions, PartOptions, complain
from ostec.settings import Settings

if TYPE_CHECKING:
    from ostec.bench.run import Outcome


@dataclass(frozen=True)
class BenchCompletion:
    """Measure how well completers invent what is hidden: prints a table, writes JSON and a sheet of pictures."""

    protocol: Literal["hold-out", "re-photo", "scan"]
    """Hide texels of frontal photos; photograph completed heads anew; or photograph a scanned head."""
    source_dir: Path
    """Folder of photos, or one photo; for scan a folder with a .glb file, or the file."""
    json: Path
    """File for the scores."""
    sheet: Path | None = None
    """JPEG file for the pictures."""
    methods: str = "mirror,prior"
    """Completers and baselines, separated by commas; a wrong name lists them."""
    limit: int | None = None
    """Take only so many photos, evenly over the folder."""
    texture_size: int = 256
    """Side of the textures that are compared, px."""
    seed: int = 0
    """Of everything random."""
    parts: Annotated[GeneratorOptions, OmitArgPrefixes] = field(default_factory=GeneratorOptions)
    yaws_deg: tuple[float, ...] = ()
    """For hold-out: only these, without the harder variants; for slow completers."""

    def __call__(self) -> int:
        from ostec.bench.run import BenchOptions, run_completion

        methods = tuple(name.strip() for name in self.methods.split(",") if name.strip())
        places = self.source_dir, methods, self.json, self.sheet
        numbers = self.limit, self.texture_size, self.seed
        options = BenchOptions(self.protocol, *places, *numbers, **asdict(self.parts), yaws_deg=self.yaws_deg)
        outcome = run_completion(options, _say, lambda reason: complain(reason, SOME_FAILED))
        _print_scores(outcome)
        return SOME_FAILED if outcome.failed or not outcome.scores else DONE


@dataclass(frozen=True)
class BenchSpeed:
    """Measure the seconds per photo by stage, after a warm-up, and compare them with a matrix product."""

    source_dir: Path
    """Folder of photos, or one photo."""
    json: Path | None = None
    """File for the figures."""
    parts: Annotated[PartOptions, OmitArgPrefixes] = field(default_factory=PartOptions)
    limit: int | None = None
    """Take only so many photos, evenly over the folder."""
    texture_size: int = Settings.texture_size
    """Side of the textures, px."""

    def __call__(self) -> int:
        from rich.console import Console

        from ostec.bench.run import find_sources
        from ostec.bench.speed import measure_speed, speed_table

        photos = find_sources(self.source_dir, self.limit)
        parts = self.parts.select().load()
        settings = Settings(texture_size=self.texture_size)
        speed = measure_speed(photos, parts, settings, lambda reason: complain(reason, SOME_FAILED))
        Console().print(speed_table(speed))
        peak = "" if speed.peak_mb is None else f", {speed.peak_mb:.0f} MB at most"
        print(f"{len(speed.seconds)} photos, {len(speed.failed)} failed{peak}")
        if self.json is not None:
            speed.save(self.json)
        return SOME_FAILED if speed.failed else DONE


@dataclass(frozen=True)
class Bench:
    """Benchmarks: how well completers invent what is hidden, and how long a photo takes."""

    what: OmitArgPrefixes[
        OmitSubcommandPrefixes[
            Annotated[BenchCompletion, subcommand("completion")] | Annotated[BenchSpeed, subcommand("speed")]
        ]
    ]

    def __call__(self) -> int:
        return self.what()


def _print_scores(outcome: Outcome) -> None:
    from rich.console import Console

    from ostec.bench.run import result_table

    options, failed = outcome.options, len(outcome.failed)
    if outcome.scores:
        Console(width=None if sys.stdout.isatty() else 160).print(result_table(outcome.rows))
    scored = len({score.photo for score in outcome.scores})
    passed = len(outcome.skipped) - failed
    print(f"{scored} scored, {passed} passed over, {failed} failed; see {options.json}")


def _say(line: str) -> None:
    print(line, flush=True)
