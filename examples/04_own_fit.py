"""Use a fit made elsewhere: write NAME.npz beside the photo, and complete the face with --reconstructor file.

Here the fit is our own, so that the example runs without another program; docs/other-fits.md has one for FLAME.
python examples/04_own_fit.py [photo] [folder]
"""

import shutil
import sys
from pathlib import Path

import numpy as np

import ostec

photo = Path(sys.argv[1] if len(sys.argv) > 1 else ostec.demo_photo())
save_dir = Path(sys.argv[2] if len(sys.argv) > 2 else "out")
copy = save_dir / "photos" / photo.name
copy.parent.mkdir(parents=True, exist_ok=True)
shutil.copyfile(photo, copy)

# Any program that fits a mesh to a photo can take the place of the next line.
fit = ostec.complete(copy, settings=ostec.Settings(texture_size=128)).reconstruction
np.savez(
    copy.with_suffix(".npz"),
    vertices=fit.vertices,
    units_per_metre=1,
    faces=fit.topology.faces,
    uv=fit.topology.uv,
    landmark_vertices=fit.topology.landmark_vertices,
    K=fit.camera.K,
    R=fit.camera.R,
    t=fit.camera.t,
    camera_model=fit.camera.model,
)

result = ostec.complete(copy, parts=ostec.load_parts(reconstructor="file"))
again = result.reconstruction
result.save(save_dir, formats=("png", "glb"))
print(f"{len(again.vertices)} vertices, yaw {again.yaw_deg:.0f}°: {save_dir / photo.stem}.png")
