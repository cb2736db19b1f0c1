"""Which files the parts and networks are read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostec.errors import MissingWeights
from ostec.registry.table import PartEntry, resolve, row, rows
from ostec.weights import locate
from ostec.weights.catalogue import WeightFile

_GENERATOR = "generator"


@dataclass(frozen=True)
class WeightSource:
    """A row of the table, and the paths of its files, which are all there."""

    entry: PartEntry
    paths: tuple[Path, ...]

    def load(self) -> Any:
        """The network. Raises `BadWeights`."""
        return resolve(self.entry.factory)(*self.paths)

    def files(self) -> list[tuple[WeightFile, Path]]:
        """Each file, and where it lies."""
        return list(zip(self.entry.files, self.paths, strict=True))


def find_source(entries: Iterable[PartEntry], folders: Sequence[Path]) -> WeightSource | None:
    """The row whose files are all there: in the first folder, else in the first two, and so on; of several in the same
    folders, the first row."""
    entries = list(entries)
    for count in range(1, len(folders) + 1):
        for entry in entries:
            if paths := locate.find_all(entry.files, folders[:count]):
                return WeightSource(entry, paths)
    return None


def find_generator(folders: Sequence[Path]) -> WeightSource | None:
    """The face generator in the first of the folders that has one."""
    return find_source(rows(_GENERATOR), folders)


def named_generator(path: Path) -> WeightSource:
    """A generator in a file of the user's own, of any StyleGAN2 layout. Raises `MissingWeights`."""
    if not path.is_file():
        raise MissingWeights(f"{path}: no such file. Give the file of a StyleGAN2 face generator.")
    for entry in rows(_GENERATOR):
        if entry.files[0].file == path.name:
            return WeightSource(entry, (path,))
    file = WeightFile(path.name, path.name, "face generator", "not known here: that of whoever trained it")
    factory = next(rows(_GENERATOR)).factory
    return WeightSource(PartEntry(_GENERATOR, path.name, factory, (file,)), (path,))


def find_networks(
    kinds: Sequence[str], folders: Sequence[Path], generator: Path | None = None
) -> dict[str, WeightSource]:
    """Kind -> source of those whose files are there, in the folders or in the package; none without a generator.

    A generator that networks were trained for goes with those alone. Raises `MissingWeights` where `generator` is not
    a file.
    """
    searched = (*folders, locate.DATA_DIR)
    chosen = named_generator(generator) if generator else find_generator(searched)
    if chosen is None:
        return {}
    found = {_GENERATOR: chosen}
    for kind in kinds:
        if kind == _GENERATOR:
            continue
        candidates = [entry for entry in rows(kind) if entry.auto]
        if own := [entry for entry in candidates if entry.only_with == chosen.entry.name]:
            source = find_source(own, (chosen.paths[0].parent,))
        else:
            source = find_source((entry for entry in candidates if not entry.only_with), searched)
        if source is not None:
            found[kind] = source
    return found


def no_generator(folders: Sequence[Path]) -> MissingWeights:
    """The error that says all that is needed to get a generator."""
    downloads = [file for entry in rows(_GENERATOR) for file in entry.files if file.url]
    first, smallest = downloads[0], min(downloads, key=lambda file: file.megabytes)
    return MissingWeights(
        f"the completer 'projection' needs a face generator and none is in {', '.join(map(str, folders))}. "
        f"`ostec models get {first.name}` downloads {first.file} ({first.megabytes} MB) from {first.url}, "
        f"`ostec models get {smallest.name}` a smaller and faster one; licence: {first.licence}. Any file that "
        "`ostec models list` names will do, and --generator takes any file of a StyleGAN2. Without one, "
        "`--completer prior` needs no download."
    )


def require_source(kind: str, name: str, folders: Sequence[Path]) -> WeightSource:
    """A part's files by its name. Raises `UnknownComponent`; `MissingWeights` naming each file that is absent."""
    entry = row(kind, name)
    return WeightSource(entry, locate.require(name, entry.files, folders))
