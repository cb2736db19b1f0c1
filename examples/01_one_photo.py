"""One photo to a texture, a mesh and a frontal portrait: python examples/01_one_photo.py [photo] [folder]."""

import sys

import ostec

photo = sys.argv[1] if len(sys.argv) > 1 else ostec.demo_photo()
save_dir = sys.argv[2] if len(sys.argv) > 2 else "out"

result = ostec.complete(photo, settings=ostec.Settings(frontalize=True))
files = result.save(save_dir, name="example")

print(f"yaw {result.reconstruction.yaw_deg:.0f}°, {result.report['mode']} mode")
print(f"seen in the photo: {float((result.seen.confidence > 0.4).float().mean()):.0%} of the texture")
for kind, path in files.items():
    print(f"{kind:8} {path}")
