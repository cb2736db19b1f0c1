"""`ostec models`: what there is, where it comes from, and whether it is undamaged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ostec.cli.options import DONE, SET_UP, complain
from ostec.errors import BadSettings, OstecError, UnknownComponent
from ostec.files.photos import write_atomically
from ostec.heads.ict_download import download_ict
from ostec.networks.stylegan2_files import converted
from ostec.weights.catalogue import FILES, WeightFile
from ostec.weights.download import check_downloaded, download
from ostec.weights.locate import DATA_DIR, download_folder, find, weights_folders
from ostec.weights.shipped import check_shipped


def show(weights_dir: Path | None) -> int:
    """The table of all networks."""
    folders = weights_folders(weights_dir)
    table = Table("name", "file", "what", "MB", "licence", "where")
    for entry in FILES.values():
        path = find(entry.file, (DATA_DIR,) if entry.shipped else folders)
        size = "missing" if entry.shipped else f"{entry.megabytes or ''}"
        where = f"ostec models get {entry.name}" if entry.url else entry.how
        if path is not None:
            size = f"{path.stat().st_size / 1e6:.1f}"
            where = f"in the package; {entry.how}" if entry.shipped else str(path)
        table.add_row(entry.name, entry.file, entry.what, size, entry.licence, where)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(f"Looked for in {', '.join(map(str, folders))}, and one folder deeper.")
    return DONE


def get(names: Sequence[str], weights_dir: Path | None, accepted: bool) -> int:
    """Download files by name, after their licences have been agreed to."""
    known = {name: entry for name, entry in FILES.items() if not entry.shipped}
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise UnknownComponent(f"no weights are called {', '.join(wrong) or 'nothing'}; there is {', '.join(known)}.")
    folder = download_folder(weights_dir)
    for name in names:
        entry = known[name]
        print(f"{entry.file}: {entry.what}. Licence: {entry.licence}. From {entry.url or 'elsewhere'}.")
        if entry.url and not (accepted or _agrees()):
            return complain(f"{name} was not downloaded: its licence was not agreed to (--accept-licence).", SET_UP)
        print(f"{_download(entry, folder)}")
    return DONE


def check(weights_dir: Path | None) -> int:
    """Every file of the package, and every one that was downloaded, against its checksum."""
    folders, wrong = weights_folders(weights_dir), list(check_shipped().values())
    for entry in FILES.values():
        path = None if entry.shipped else find(entry.file, folders)
        if path is not None and (reason := check_downloaded(path, entry)):
            wrong.append(reason)
    for reason in wrong:
        complain(reason, SET_UP)
    if not wrong:
        print("Every file is what its checksum promises.")
    return SET_UP if wrong else DONE


def convert(paths: Sequence[str]) -> int:
    """A StyleGAN2 file of any layout to safetensors."""
    if len(paths) != 2 or not paths[1].endswith(".safetensors"):
        raise BadSettings("convert takes two files: a StyleGAN2 file, and the .safetensors file to write.")
    source, target = map(Path, paths)
    try:
        write_atomically(target, converted(source))
    except OstecError as error:
        return complain(error, SET_UP)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB. The licence stays that of {source.name}.")
    return DONE


def _agrees() -> bool:
    if not sys.stdin.isatty():
        return False
    return input("Do you agree to it? [y/N] ").strip().lower() in ("y", "yes")


def _download(entry: WeightFile, folder: Path) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(entry.file, total=None)
        bring = download_ict if entry.name == "ict-facekit" else download
        return bring(entry, folder, lambda done, total: bar.update(task, completed=done, total=total or None))
