"""`ostec models`: what there is, where it comes from, and whether it is whole. Part of the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ostec.errors import BadSettings, OstecError, UnknownComponent
from ostec.files.photos import write_atomically
from ostec.heads.ict_download import download_ict
from ostec.networks.stylegan2_files import converted
from ostec.registry.components import DATA, SHIPPED, check_shipped
from ostec.weights.catalogue import ICT_FACEKIT, LIBRARY, WeightFile
from ostec.weights.download import check_downloaded, download
from ostec.weights.locate import find, weights_folders

_DONE, _SET_UP = 0, 2
Complain = Callable[[object, int], int]


def show() -> int:
    """The table of all networks."""
    folders = weights_folders()
    table = Table("name", "file", "what", "MB", "licence", "where")
    for shipped in SHIPPED:
        path = DATA / shipped.file
        size = f"{path.stat().st_size / 1e6:.1f}" if path.is_file() else "missing"
        table.add_row("", shipped.file, shipped.what, size, shipped.licence, f"in the package; {shipped.origin}")
    for entry in LIBRARY:
        path = find(entry.file, folders)
        size = f"{path.stat().st_size / 1e6:.1f}" if path else f"{entry.megabytes or ''}"
        how = f"ostec models get {entry.name}" if entry.url else entry.how
        table.add_row(entry.name, entry.file, entry.what, size, entry.licence, str(path) if path else how)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(f"Looked for in {', '.join(map(str, folders))}, and one folder deeper.")
    return _DONE


def get(names: Sequence[str], weights_dir: Path | None, accepted: bool, complain: Complain) -> int:
    """Download files by name, after their licences have been agreed to."""
    known = {entry.name: entry for entry in LIBRARY}
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise UnknownComponent(f"no weights are called {', '.join(wrong) or 'nothing'}; there is {', '.join(known)}.")
    folder = weights_dir or weights_folders()[0]
    for name in names:
        entry = known[name]
        print(f"{entry.file}: {entry.what}. Licence: {entry.licence}. From {entry.url or 'elsewhere'}.")
        if entry.url and not (accepted or _agrees()):
            return complain(f"{name} was not downloaded: its licence was not agreed to (--accept-licence).", _SET_UP)
        print(f"{_download(entry, folder)}")
    return _DONE


def check(complain: Complain) -> int:
    """Every file of the package, and every one that was downloaded, against its checksum."""
    wrong = list(check_shipped().values())
    for entry in LIBRARY:
        path = find(entry.file, weights_folders())
        if path is not None and (reason := check_downloaded(path, entry)):
            wrong.append(reason)
    for reason in wrong:
        complain(reason, _SET_UP)
    if not wrong:
        print("Every file is what its checksum promises.")
    return _SET_UP if wrong else _DONE


def convert(paths: Sequence[str], complain: Complain) -> int:
    """A StyleGAN2 file of any layout to safetensors."""
    if len(paths) != 2 or not paths[1].endswith(".safetensors"):
        raise BadSettings("convert takes two files: a StyleGAN2 file, and the .safetensors file to write.")
    source, target = map(Path, paths)
    try:
        write_atomically(target, converted(source))
    except OstecError as error:
        return complain(error, _SET_UP)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB. The licence stays that of {source.name}.")
    return _DONE


def _agrees() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("Do you agree to it? [y/N] ").strip().lower() in ("y", "yes")


def _download(entry: WeightFile, folder: Path) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(entry.file, total=None)
        bring = download_ict if entry == ICT_FACEKIT else download
        return bring(entry, folder, lambda done, total: bar.update(task, completed=done, total=total or None))
