"""A folder of photos with the networks loaded once: python examples/02_many_photos.py photos out."""

import sys
from pathlib import Path

import ostec

source_dir, save_dir = (Path(argument) for argument in sys.argv[1:3])
parts = ostec.load_parts()

for path in sorted(source_dir.iterdir()):
    try:
        result = ostec.complete(path, parts=parts)
    except ostec.OstecError as error:
        print(f"skipped: {error}", file=sys.stderr)
        continue
    result.save(save_dir, formats=("png", "glb"))
    print(path.name, f"{sum(result.report['seconds'].values()):.2f} s")
