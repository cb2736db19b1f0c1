"""`python run_ostec.py …` is `ostec run …`."""

from __future__ import annotations

import sys

from ostec.cli.commands import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
