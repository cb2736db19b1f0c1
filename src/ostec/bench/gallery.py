"""The pictures of a benchmark: a row per face, a tile per method."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Gallery:
    """Collects tiles for the first rows it is shown."""

    most_rows: int = 16
    rows: dict[str, list[tuple[str, Tensor]]] = field(default_factory=dict)

    def show(self, row: str, caption: str, tile: Tensor) -> None:
        """Put [3, H, W] at the end of a row, or nowhere where there are rows enough."""
        if row in self.rows or len(self.rows) < self.most_rows:
            self.rows.setdefault(row, []).append((caption, tile))
