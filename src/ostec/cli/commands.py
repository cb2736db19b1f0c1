"""The command line: the settings dataclass plus one call. Exit code 0 all well, 1 some photo failed, 2 set-up error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg, subcommand

from ostec._version import __version__
from ostec.cli.bench import Bench
from ostec.cli.options import DONE, INTERRUPTED, SET_UP, SOME_FAILED, PartOptions, WeightOptions, complain
from ostec.errors import OstecError
from ostec.settings import FORMATS, SearchSettings, Settings

if TYPE_CHECKING:
    from ostec.batch.plan import BatchOptions


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
    parts: Annotated[PartOptions, OmitArgPrefixes] = field(default_factory=PartOptions)
    faces: Literal["largest", "all"] = "largest"
    """Which faces of a photo."""
    formats: tuple[str, ...] = FORMATS
    """Files to write, of png, obj and glb."""
    overwrite: bool = False
    """Also redo photos that are done."""
    recursive: bool = False
    """Also take the photos of subfolders."""
    batch_size: int = 1
    """Photos at work at the same time; their views are searched together, which takes more memory."""

    def __call__(self) -> int:
        from ostec.batch.plan import BatchOptions, collect_photos

        options = BatchOptions(self.faces, _formats(self.formats), self.overwrite, self.batch_size)
        photos = collect_photos(self.source_dir, self.save_dir, self.recursive)
        return _complete(photos, self.save_dir, self.parts, self.settings, options)


@dataclass(frozen=True)
class Demo:
    """Complete the bundled photo: the astronaut Eileen Collins, by NASA, public domain."""

    save_dir: Path = Path("ostec_demo")
    """Folder for the results."""
    parts: Annotated[PartOptions, OmitArgPrefixes] = field(default_factory=PartOptions)

    def __call__(self) -> int:
        from ostec.batch.plan import BatchOptions
        from ostec.registry.components import demo_photo

        photo = demo_photo()
        code = _complete([photo], self.save_dir, self.parts, Settings(frontalize=True), BatchOptions())
        if code == DONE:
            sheet, mesh = (self.save_dir / f"{photo.stem}{ending}" for ending in ("_sheet.jpg", ".glb"))
            print(f"Look at {sheet}; {mesh} opens in Blender and other 3D viewers.")
        return code


@dataclass(frozen=True)
class Transfer:
    """Carry a finished texture over to a mesh of another topology."""

    source: Positional[Path]
    """Textured mesh, .obj or .glb, as ostec run writes them."""
    target: Positional[str]
    """Mesh with UVs, .obj or .glb, or mediapipe or ict for that model's neutral head."""
    save_dir: Path
    """Folder for the results."""
    texture_size: int = 1024
    """Side of the target's texture, px."""
    landmarks: Path | None = None
    """Text file for faces that are not found: x y z on the source, then x y z on the target, a line for each point."""
    weights: Annotated[WeightOptions, OmitArgPrefixes] = field(default_factory=WeightOptions)

    def __call__(self) -> int:
        from ostec.errors import NoFace
        from ostec.mesh_transfer.run import transfer

        try:
            result = transfer(self.source, self.target, self.texture_size, self.landmarks, self.weights.weights_dir)
        except NoFace as error:
            return complain(error, SOME_FAILED)
        files = result.save(self.save_dir)
        print(f"{float(result.coverage.float().mean()):.0%} of the texture has a counterpart; look at {files['sheet']}")
        return DONE


@dataclass(frozen=True)
class Models:
    """Networks: list them; get weights that do not come along; check files; convert a StyleGAN2 file to safetensors."""

    action: Positional[Literal["list", "get", "check", "convert"]]
    names: Positional[tuple[str, ...]] = ()
    """get: names that the list has. convert: a StyleGAN2 file and the .safetensors file to write."""
    accept_licence: bool = False
    """get: take the licence as read and agreed to."""
    weights_dir: Path | None = None
    """Folder with weight files, looked into before OSTEC_WEIGHTS and the user's data folder. get: where to download
    to; by default the folder that OSTEC_WEIGHTS names, or the user's data folder."""

    def __call__(self) -> int:
        from ostec.cli import models

        if self.action == "get":
            return models.get(self.names, self.weights_dir, self.accept_licence)
        if self.action == "convert":
            return models.convert(self.names)
        return models.show(self.weights_dir) if self.action == "list" else models.check(self.weights_dir)


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
    # torch reads this with its first tensor: memory for large ones then comes in large pages, and StyleGAN2 at 1024 px
    # takes two thirds of the time. It does nothing where the system has none.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for stream in (sys.stdout, sys.stderr):  # file names need not be printable
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd tags in photos that can be read all the same
    if argv == ["--version"]:
        print(f"ostec {__version__}")
        return DONE
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
        return complain(error, SET_UP)
    except KeyboardInterrupt:
        return complain("interrupted; run the same command again to finish the rest.", INTERRUPTED)


def _complete(
    photos: Sequence[Path], save_dir: Path, parts: PartOptions, settings: Settings, options: BatchOptions
) -> int:
    from ostec.batch.run import run_batch
    from ostec.cli.display import Display
    from ostec.errors import CannotWrite

    selection = parts.select()
    print(f"ostec {__version__}: {selection.statement}")
    with Display(len(photos)) as display:
        try:
            summary = run_batch(photos, save_dir, selection, settings, options, display)
        except CannotWrite as error:
            return complain(error, SOME_FAILED if display.failures else SET_UP)
    counts = [f"{summary.count(status)} {status}" for status in ("done", "skipped", "failed")]
    print(f"{', '.join(counts)}; see {save_dir / 'summary.json'}")
    return SOME_FAILED if summary.count("failed") else DONE


def _formats(given: tuple[str, ...]) -> tuple[str, ...]:
    """Separated by spaces or commas. Raises `BadSettings`."""
    from ostec.errors import BadSettings

    formats = tuple(name.lower() for group in given for name in group.split(",") if name)
    if not formats or not set(formats) <= set(FORMATS):
        raise BadSettings(f"formats is {' '.join(given)!r}; choose from {', '.join(FORMATS)}.")
    return formats
