"""Picks parts by name or by what is there, and builds them. The names themselves stand in `registry.table`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostec.errors import BadSettings
from ostec.registry.device import pick_device
from ostec.registry.sources import WeightSource, find_generator, find_networks, no_generator, require_source
from ostec.registry.table import PART_KINDS, PartEntry, resolve, row, rows
from ostec.weights import locate
from ostec.weights.catalogue import WeightFile
from ostec.weights.locate import DATA_DIR, weights_folders

if TYPE_CHECKING:
    from ostec.interfaces import Parts
    from ostec.types import Mesh


@dataclass(frozen=True)
class PartSelection:
    """Parts picked by name and not yet built."""

    entries: Mapping[str, PartEntry]
    """Kind -> row of the table."""
    statement: str
    """One line for people: what was picked, and what would make it better."""
    device: str
    """What they compute on: "cpu" or "cuda"."""
    folders: tuple[Path, ...]
    """Where weight files are looked for."""
    networks: Mapping[str, WeightSource] = field(default_factory=dict)
    """Kind -> source, of the networks that the completer is put together from."""
    remark: str = ""
    """Why a GPU that is there is not used."""

    @property
    def names(self) -> Mapping[str, str]:
        """Kind -> name."""
        return {kind: entry.name for kind, entry in self.entries.items()}

    @property
    def licences(self) -> Mapping[str, str]:
        """Weight file -> licence, of the files that these parts use."""
        return {file.file: file.licence for file, _ in self._files()}

    @property
    def weights(self) -> Mapping[str, str]:
        """Weight file -> `fingerprint`, of the files that these parts use."""
        return {file.file: locate.fingerprint(path) for file, path in self._files()}

    def load(self) -> Parts:
        """Build them. Raises `MissingWeights`, `BadWeights`."""
        from ostec.interfaces import Parts

        built = {kind: self._build(entry) for kind, entry in self.entries.items()}
        return Parts(
            rasterise=built.pop("rasteriser"),
            **built,
            writer=resolve("ostec.files.results:FileWriter")(),
            names=self.names,
            licences=self.licences,
            device=self.device,
            weights=self.weights,
        )

    def _build(self, entry: PartEntry) -> Any:
        return _build(entry, self.folders, self.device, self.networks)

    def _files(self) -> list[tuple[WeightFile, Path]]:
        """The files that these parts use, as far as they are there."""
        used = [pair for source in self.networks.values() for pair in source.files()]
        for entry in self.entries.values():
            used += [(file, DATA_DIR / file.file) for file in entry.shipped]
            found = ((file, locate.find(file.file, self.folders)) for file in entry.files)
            used += [(file, path) for file, path in found if path is not None]
        return list(dict.fromkeys(used))


def select_parts(
    completer: str = "auto",
    reconstructor: str = "auto",
    device: str = "auto",
    weights_dir: Path | None = None,
    *,
    detector: str = "auto",
    segmenter: str = "auto",
    generator: Path | None = None,
) -> PartSelection:
    """Pick a part of every kind; "auto" takes the best that can be built here.

    Raises `UnknownComponent`, `BadSettings` for a device that cannot be had, and `MissingWeights` where `weights_dir`
    or `generator` is not there. That a part's own files are missing is said by `PartSelection.load`.
    """
    folders = weights_folders(weights_dir)
    if generator is not None and completer == "auto":
        completer = "projection"
    wanted = {"completer": completer, "reconstructor": reconstructor, "detector": detector, "segmenter": segmenter}
    entries = {kind: _pick(kind, wanted.get(kind, "auto"), folders) for kind in PART_KINDS}
    kinds = entries["completer"].networks
    if generator is not None and not kinds:
        raise BadSettings(f"the completer {completer!r} uses no generator; leave out --generator {generator}.")
    networks = find_networks(kinds, folders, generator) if kinds else {}
    remark = ""
    if any(entry.on_device for entry in entries.values()) or device != "auto":
        device, remark = pick_device(device)
    device = device if any(entry.on_device for entry in entries.values()) else "cpu"
    where = "the GPU" if device == "cuda" else f"the CPU, as {remark}" if remark else "the CPU"
    picked = f"{entries['completer'].name} completion on the {entries['reconstructor'].name} mesh, on {where}"
    statement = f"{picked}; {_better(entries['completer'], networks, folders)}."
    return PartSelection(entries, statement, device, folders, networks, remark)


def load_parts(
    completer: str = "auto",
    reconstructor: str = "auto",
    device: str = "auto",
    weights_dir: str | Path | None = None,
    *,
    detector: str = "auto",
    segmenter: str = "auto",
    generator: str | Path | None = None,
) -> Parts:
    """Pick and build the parts; they serve any number of photos.

    `completer`, `reconstructor`, `detector` and `segmenter` are names of parts (a wrong one lists them) or "auto",
    `device` is "auto", "cpu" or "cuda". `weights_dir` is a folder with weight files of your own, looked into before the
    one that `OSTEC_WEIGHTS` names and the user's data folder; `generator` is a file with a StyleGAN2 to use in place of
    the best one there. Raises `UnknownComponent`, `BadSettings`, `MissingWeights`, `BadWeights`.
    """
    folder, file = (None if path is None else Path(path) for path in (weights_dir, generator))
    names = {"detector": detector, "segmenter": segmenter}
    selection = select_parts(completer, reconstructor, device, folder, **names, generator=file)
    if selection.remark:
        warnings.warn(f"computing on the CPU: {selection.remark}", RuntimeWarning, stacklevel=2)
    return selection.load()


def build(
    kind: str, name: str, weights_dir: Path | None = None, device: str = "cpu", generator: Path | None = None
) -> Any:
    """One part by kind and name. Raises `UnknownComponent`, `MissingWeights`, `BadWeights`."""
    entry, folders = row(kind, name), weights_folders(weights_dir)
    networks = find_networks(entry.networks, folders, generator) if entry.networks else {}
    return _build(entry, folders, device, networks)


def head_names() -> list[str]:
    """The reconstructors that `neutral_head` knows."""
    return [entry.name for entry in rows("reconstructor") if entry.neutral_head]


def neutral_head(name: str, weights_dir: Path | None = None) -> Mesh:
    """The mesh of one of `head_names` before it is fitted. Raises `MissingWeights`, `BadWeights`."""
    source = require_source("reconstructor", name, weights_folders(weights_dir))
    return resolve(source.entry.neutral_head)(*source.paths)


def demo_photo() -> Path:
    """The bundled photo: the astronaut Eileen Collins, by NASA, public domain."""
    return DATA_DIR / "astronaut.jpg"


def _pick(kind: str, name: str, folders: tuple[Path, ...]) -> PartEntry:
    """The row by its name, or the first that `auto` may take and whose files are there."""
    if name != "auto":
        return row(kind, name)
    return next(entry for entry in rows(kind) if entry.auto and _is_there(entry, folders))


def _is_there(entry: PartEntry, folders: tuple[Path, ...]) -> bool:
    has_files = locate.find_all(entry.files, folders) is not None
    return has_files and (not entry.networks or find_generator(folders) is not None)


def _build(entry: PartEntry, folders: tuple[Path, ...], device: str, networks: Mapping[str, WeightSource]) -> Any:
    factory = resolve(entry.factory)
    if entry.kind == "rasteriser":
        return factory
    if entry.networks and not networks:
        raise no_generator(folders)
    arguments: list[Any] = [networks] if entry.networks else []
    arguments += locate.require(entry.name, entry.files, folders)
    if entry.optional:
        arguments.append(partial(locate.require, entry.name, entry.optional, folders))
    return factory(*arguments, **({"device": device} if entry.on_device else {}))


def _better(completer: PartEntry, networks: Mapping[str, WeightSource], folders: tuple[Path, ...]) -> str:
    if completer.networks:
        generator = networks.get("generator")
        return f"generator {generator.paths[0].name}" if generator else "its generator is missing"
    if generator := find_generator(folders):
        return f"--completer projection would use {generator.paths[0].name}"
    return "a face generator would make it better: see ostec models list"
