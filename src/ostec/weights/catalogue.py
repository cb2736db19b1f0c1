"""Files with weights: what each is for, whose it is, and where it comes from. The list itself is `catalogue.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightFile:
    """A file that the package can make use of."""

    name: str
    """What the registry's table and `ostec models get` call it."""
    file: str
    """What it is called on disk."""
    what: str
    licence: str
    url: str | None = None
    """None where there is no public address."""
    how: str = ""
    """How to get it where there is no address; of a file in the package, where it comes from."""
    megabytes: int = 0
    """About."""
    sha256: str = ""
    """The checksum, or as much of its beginning as is publicly known."""
    member: str = ""
    """The file that is used, where it is an archive of several."""
    shipped: bool = False
    """It comes in the package."""


FILES: Mapping[str, WeightFile] = {
    name: WeightFile(name, **fields)
    for name, fields in tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8")).items()
}
"""Name -> file."""
