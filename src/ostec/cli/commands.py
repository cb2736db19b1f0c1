"""The command line: the settings dataclass plus one call. Exit code 0 all well, 1 some photo failed, 2 set-up error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from ostec._version import __version__
from ostec.errors import OstecError
from ostec.settings import FORMATS, SearchSettings, Settings

if TYPE_CHECKING:
    from ostec.batch.run import Event, Options
    from ostec.bench.run import Outcome

_DONE, _SOME_FAILED, _SET_UP, _INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class _SearchSettings(SearchSettings):
    """How a face generator is searched."""

    iterations: Annotated[int, arg(aliases=["-i"])] = SearchSettings.iterations


@dataclass(frozen=True)
class _Settings(Settings):
    """How one photo is completed."""

    mode: Annotated[Literal["soft", "hard", "auto"], arg(aliases=["-m"])] = Settings.mode
    frontalize: Annotated[bool, arg(aliases=["-f"])] = Settings.frontalize
    keep_intermediate: Annotated[bool, arg(aliases=["-p"])] = Settings.keep_intermediate
    search: Annotated[_SearchSettings, OmitArgPrefixes] = field(default_factory=_SearchSettings)


@dataclass(frozen=True)
class Run:
    """Complete the texture of the faces in a folder of photos, or in one photo."""

    source_dir: Path
    """Folder with photos, or one photo."""
    save_dir: Path
    """Folder for the results; photos that are done there are skipped."""
    settings: Annotated[_Settings, OmitArgPrefixes] = field(default_factory=_Settings)
    completer: str = "auto"
    """What fills the hidden parts: auto, or a name; a wrong name lists them."""
    reconstructor: str = "auto"
    """What fits the 3D face: auto, or a name; a wrong name lists them."""
    ganfit: Annotated[bool, arg(aliases=["-g"])] = False
    """Use GANFit's fits, NAME.pkl beside NAME.jpg: the same as --reconstructor ganfit."""
    detector: str = "auto"
    """What finds faces: auto, or a name; a wrong name lists them."""
    segmenter: str = "auto"
    """What tells skin from what hides it: auto, or a name; a wrong name lists them."""
    faces: Literal["largest", "all"] = "largest"
    """Which faces of a photo."""
    formats: tuple[str, ...] = FORMATS
    """Files to write, of png, obj and glb."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to compute on."""
    overwrite: bool = False
    """Also redo photos that are done."""
    recursive: bool = False
    """Also take the photos of subfolders."""
    batch_size: int = 1
    """Photos at work at the same time; their views are searched together, which takes more memory."""

    def __call__(self) -> int:
        from ostec.batch.run import Options, collect_photos

        options = Options(self.faces, _formats(self.formats), self.overwrite, self.batch_size)
        photos = collect_photos(self.source_dir, self.save_dir, self.recursive)
        return _complete(photos, self, options)


@dataclass(frozen=True)
class Demo:
    """Complete the bundled photo: the astronaut Eileen Collins, by NASA, public domain."""

    save_dir: Path = Path("ostec_demo")
    """Folder for the results."""

    def __call__(self) -> int:
        from ostec.batch.run import Options
        from ostec.registry.components import demo_photo

        photo = demo_photo()
        code = _complete([photo], Run(photo, self.save_dir, _Settings(frontalize=True)), Options())
        if code == _DONE:
            sheet, mesh = (self.save_dir / f"{photo.stem}{ending}" for ending in ("_sheet.jpg", ".glb"))
            print(f"Look at {sheet}; {mesh} opens in Blender and other 3D viewers.")
        return code


@dataclass(frozen=True)
class Transfer:
    """Carry a finished texture over to a mesh of another topology."""

    source: Positional[Path]
    """Textured mesh, .obj or .glb, as ostec run writes them."""
    target: Positional[str]
    """Mesh with UVs, .obj or .glb, or mediapipe for that model's neutral head."""
    save_dir: Path
    """Folder for the results."""
    texture_size: int = 1024
    """Side of the target's texture, px."""
    landmarks: Path | None = None
    """Text file for faces that are not found: x y z on the source, then x y z on the target, a line for each point."""

    def __call__(self) -> int:
        from ostec.errors import NoFace
        from ostec.mesh_transfer.run import transfer

        try:
            result = transfer(self.source, self.target, self.texture_size, self.landmarks)
        except NoFace as error:
            return _complain(error, _SOME_FAILED)
        files = result.save(self.save_dir)
        print(f"{float(result.coverage.float().mean()):.0%} of the texture has a counterpart; look at {files['sheet']}")
        return _DONE


@dataclass(frozen=True)
class Models:
    """Networks: list them; get weights that do not come along; check files; convert a StyleGAN2 file to safetensors."""

    action: Positional[Literal["list", "get", "check", "convert"]]
    names: Positional[tuple[str, ...]] = ()
    """get: names that the list has. convert: a StyleGAN2 file and the .safetensors file to write."""
    accept_licence: bool = False
    """get: take the licence as read and agreed to."""
    weights_dir: Path | None = None
    """get: where to; by default the folder that OSTEC_WEIGHTS names, or the user's data folder."""

    def __call__(self) -> int:
        from ostec.cli import models

        if self.action == "get":
            return models.get(self.names, self.weights_dir, self.accept_licence, _complain)
        if self.action == "convert":
            return models.convert(self.names, _complain)
        return models.show() if self.action == "list" else models.check(_complain)


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
    weights_dir: Path | None = None
    """Folder with the networks that compare faces, or one above it; looked into before OSTEC_WEIGHTS."""
    yaws_deg: tuple[float, ...] = ()
    """For hold-out: only these, without the harder variants; for slow completers."""

    def __call__(self) -> int:
        from ostec.bench.run import BenchOptions, run_completion

        methods = tuple(name.strip() for name in self.methods.split(",") if name.strip())
        places = self.source_dir, methods, self.json, self.sheet
        options = BenchOptions(
            self.protocol, *places, self.limit, self.texture_size, self.seed, self.weights_dir, self.yaws_deg
        )
        outcome = run_completion(options, _say, lambda reason: _complain(reason, _SOME_FAILED))
        _print_scores(outcome)
        return _SOME_FAILED if outcome.failed or not outcome.scores else _DONE


@dataclass(frozen=True)
class BenchSpeed:
    """Measure the seconds per photo by stage, after a warm-up, and compare them with a matrix product."""

    source_dir: Path
    """Folder of photos, or one photo."""
    json: Path | None = None
    """File for the figures."""
    completer: str = "auto"
    """What fills the hidden parts: auto, or a name; a wrong name lists them."""
    reconstructor: str = "auto"
    """What fits the 3D face: auto, or a name; a wrong name lists them."""
    limit: int | None = None
    """Take only so many photos, evenly over the folder."""
    texture_size: int = Settings.texture_size
    """Side of the textures, px."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to compute on."""
    weights_dir: Path | None = None
    """Folder with weight files, or one above it; looked into before OSTEC_WEIGHTS."""

    def __call__(self) -> int:
        from rich.console import Console

        from ostec.bench.run import find_sources
        from ostec.bench.speed import measure_speed, speed_table
        from ostec.registry.components import load_parts

        photos = find_sources(self.source_dir, self.limit)
        parts = load_parts(self.completer, self.reconstructor, self.device, self.weights_dir)
        settings = Settings(texture_size=self.texture_size)
        speed = measure_speed(photos, parts, settings, lambda reason: _complain(reason, _SOME_FAILED))
        Console().print(speed_table(speed))
        peak = "" if speed.peak_mb is None else f", {speed.peak_mb:.0f} MB at most"
        print(f"{len(speed.seconds)} photos, {len(speed.failed)} failed{peak}")
        if self.json is not None:
            speed.save(self.json)
        return _SOME_FAILED if speed.failed else _DONE


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


_Command = (
    Annotated[Run, subcommand("run")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Transfer, subcommand("transfer")]
    | Annotated[Models, subcommand("models")]
    | Annotated[Bench, subcommand("bench")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv`, by default the process's, and give the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # file names need not be printable
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd tags in photos that can be read all the same
    if argv == ["--version"]:
        print(f"ostec {__version__}")
        return _DONE
    try:
        command = tyro.cli(
            _Command,
            prog="ostec",
            description="One photo of a face in, a complete UV texture on a 3D head mesh out; or: ostec --version",
            args=argv,
            config=(FlagCreatePairsOff,),
        )
        return command()
    except OstecError as error:
        return _complain(error, _SET_UP)
    except KeyboardInterrupt:
        return _complain("interrupted; run the same command again to finish the rest.", _INTERRUPTED)


def _complete(photos: Sequence[Path], run: Run, options: Options) -> int:
    from ostec.batch.run import run_batch
    from ostec.errors import CannotWrite
    from ostec.registry.components import choose

    reconstructor = _reconstructor(run)
    choice = choose(run.completer, reconstructor, run.device, detector=run.detector, segmenter=run.segmenter)
    print(f"ostec {__version__}: {choice.statement}")
    with _Display(len(photos)) as display:
        try:
            summary = run_batch(photos, run.save_dir, choice, run.settings, options, display)
        except CannotWrite as error:
            return _complain(error, _SOME_FAILED if display.failures else _SET_UP)
    counts = [f"{summary.count(status)} {status}" for status in ("done", "skipped", "failed")]
    print(f"{', '.join(counts)}; see {run.save_dir / 'summary.json'}")
    return _SOME_FAILED if summary.count("failed") else _DONE


class _Display:
    """Shows a batch's events: a bar with the time left on a terminal, else one line per photo."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bar = None
        self.failures = 0
        self._reached = 0.0
        if self._console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> _Display:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        record = event.record
        finished = record.status != "waiting"
        if record.status == "failed":
            self.failures += 1
            self._console.print(f"ostec: {_one_line(record.reason)}")
        if self._bar:
            self._reached = max(self._reached, event.index + event.share)
            self._bar.update(self._task, completed=self._reached, description=record.name)
        elif finished and record.status != "failed":
            seconds = f" in {record.seconds:.1f} s" if record.status == "done" else ""
            print(f"[{event.index + 1}/{event.total}] {record.photo}: {record.status}{seconds}", flush=True)


def _reconstructor(run: Run) -> str:
    """Raises `BadSettings` where two are asked for."""
    from ostec.errors import BadSettings

    if run.ganfit and run.reconstructor not in ("auto", "ganfit"):
        raise BadSettings(f"--ganfit and --reconstructor {run.reconstructor} ask for two things; choose one.")
    return "ganfit" if run.ganfit else run.reconstructor


def _formats(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Separated by spaces or commas. Raises `BadSettings`."""
    from ostec.errors import BadSettings

    formats = tuple(name.lower() for group in asked for name in group.split(",") if name)
    if not formats or not set(formats) <= set(FORMATS):
        raise BadSettings(f"formats is {' '.join(asked)!r}; choose from {', '.join(FORMATS)}.")
    return formats


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


def _complain(what: object, code: int) -> int:
    print(f"ostec: {_one_line(str(what))}", file=sys.stderr)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())
