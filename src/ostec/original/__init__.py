"""What only reproduces the released OSTeC (barisgecer/OSTeC): the networks, models and fits that it was made of.

`ostec.registry` alone imports it, by name, when a user asks for one of these parts. The code is this package's own
(Apache-2.0); the files that it reads hold no code, and most of their licences allow research only:

- `mtcnn`: the detector; layers and weights of the PyPI package mtcnn (MIT), shipped with this package.
- `graphonomy`: the parser of skin, of Gaoyiminggithub/Graphonomy (MIT); no licence is stated for `inference.pth`.
- `deep3d`, `bfm`: the fit, of sicxu/Deep3DFaceRecon_pytorch (MIT); its weights were trained on photos for research
  only, and the Basel Face Model 2009 and the expressions of Juyong/3DFace are for research only.
- `ganfit`: fits that GANFit made; no such file is public.
- `style_encoder`: the start of the search; no licence is stated for its file, OSTeC's is CC BY-NC-SA 4.0.
- `iresnet_npy`: InsightFace's ArcFace in `arcface50.npy`, for non-commercial research.
- `lpips_nvidia`: LPIPS in NVIDIA's files, NVIDIA Source Code License (non-commercial).

The licence of each file stands in `ostec.weights.catalogue` and in `THIRD_PARTY.md`.
"""

from __future__ import annotations
