"""What serves all photos of a benchmark, and the pictures that it collects: a row per face, tiles per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ostec.bench.metric_networks import MetricNetworks
from ostec.files.sheet import shrunk
from ostec.interfaces import Completer, Parts
from ostec.settings import Settings

TILE_PX = 224


@dataclass
class Gallery:
    """Collects tiles for the first `most_rows` rows."""

    most_rows: int = 16
    rows: dict[str, list[tuple[str, Tensor]]] = field(default_factory=dict)

    def show(self, row: str, caption: str, picture: Tensor) -> None:
        """Append [3, H, W] in 0..1 to a row, resized to a tile; does nothing for a new row if there are enough."""
        if row in self.rows or len(self.rows) < self.most_rows:
            self.rows.setdefault(row, []).append((caption, shrunk(picture, (TILE_PX, TILE_PX))))


@dataclass(frozen=True)
class Setup:
    """What a protocol uses for every photo."""

    methods: Mapping[str, Completer]
    """Name -> the completer that is measured."""
    parts: Parts
    networks: MetricNetworks
    settings: Settings
    gallery: Gallery
    yaws_deg: Sequence[float] = ()
    """For hold-out: only these, without the harder variants."""
