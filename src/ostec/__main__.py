"""`python -m ostec` is `ostec`."""

from __future__ import annotations

import sys

from ostec.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
