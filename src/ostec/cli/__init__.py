"""The command line."""

from __future__ import annotations

from ostec.cli.commands import main

__all__ = ["main"]
