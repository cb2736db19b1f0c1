"""What only reproduces the released OSTeC (barisgecer/OSTeC): the networks, models and fits that it was made of.

Nobody imports this folder but `ostec.registry`, by name, when a user asks for one of these parts. All code in it was
written for this package (Apache-2.0); the files that it reads are other people's, come with none of their code, and are
under licences of their own, most of which allow research only:

- `mtcnn`, `mtcnn_nets`: the detector; layers and weights of the PyPI package mtcnn (MIT), shipped with this package.
- `graphonomy`, `graphonomy_graphs`, `graphonomy_segmenter`: the parser of skin; layers, edges and similarities of
  Gaoyiminggithub/Graphonomy (MIT). The licence of its weights `inference.pth` is not stated.
- `deep3d`, `bfm`, `matlab_files`: the fit; layout of sicxu/Deep3DFaceRecon_pytorch (MIT). Its weights were trained on
  photos for research only; the Basel Face Model 2009 and the expressions of Juyong/3DFace are for research only.
- `ganfit`: fits that GANFit made; no such file is public.
- `style_encoder`, `keras_files`, `keras_resnet`: the start of the search; the licence of `resnet_18_20191231.h5` is not
  stated, OSTeC's is CC BY-NC-SA 4.0 (non-commercial).
- `iresnet_npy`: InsightFace's ArcFace in `arcface50.npy`, for non-commercial research.
- `lpips_nvidia`: LPIPS in NVIDIA's files, NVIDIA Source Code License (non-commercial).
- `resnet50`: the network that `deep3d` and `style_encoder` share (He et al., CVPR 2016).

The licence of each file stands in `ostec.weights.catalogue` and in `THIRD_PARTY.md`.
"""

from __future__ import annotations
