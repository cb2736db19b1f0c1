"""How long does a photo take? The same as `ostec bench speed --source_dir FOLDER [options]`.

python benchmarks/speed.py FOLDER [--limit N] [--completer NAME]
"""

from __future__ import annotations

import sys

from ostec.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "speed", "--source_dir", *sys.argv[1:]]))
