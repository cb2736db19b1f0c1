"""Deep3DFaceRecon: a ResNet-50 estimates shape, expression and pose of the Basel Face Model from a crop of the photo.

Sources: "Accurate 3D Face Reconstruction with Weakly-Supervised Learning" (Deng et al., CVPR Workshops 2019, arXiv
1903.08527); names, crop and camera as in sicxu/Deep3DFaceRecon_pytorch @ 9167c71 (`models/networks.py`,
`models/bfm.py`, `util/preprocess.py`). `epoch_latest.pth` is {"net_recon": state dict, optimisers, schedules}; in the
state dict `backbone.*` is torchvision's ResNet-50 without `fc`, `final_layers.{0..6}` are 1 x 1 convolutions: 80
identity, 64 expression, 80 texture, 3 angles, 27 light, 2 + 1 translation. Input: RGB 0..1, 224 px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ostec.errors import BadGeometry, BadWeights
from ostec.geometry.align import apply_affine, invert_affine, square_crop
from ostec.geometry.camera import FACING, angles_deg, to_pixels
from ostec.geometry.sampling import warp
from ostec.heads.facemesh import load_facemesh_reconstructor
from ostec.heads.ostec_topology import load_topology
from ostec.interfaces import Reconstructor
from ostec.networks.facemesh_net import roll_deg
from ostec.networks.named_tensors import NamedTensors
from ostec.original.bfm import BaselModel, load_bfm
from ostec.original.matlab_files import read_matrices
from ostec.original.resnet50 import ResNet50
from ostec.types import Camera, Detection, Landmarks, Photo, Reconstruction, Topology
from ostec.weights.open import expecting, read_stored
from ostec.weights.tensors import require_finite

CROP_PX = 224
FOCAL_PX = 1015.0
"""Of the crop; the principal point is its middle, as in the renderer that the network was trained with."""
DISTANCE_M = 1.0
"""10 of the model's units, which are decimetres: BFM09 was scanned in micrometres, and 1e5 of them are one unit."""
UNIT_M = 0.1
RESCALE = 102.0
"""Crop px per unit of the standard face."""
_REMEDY = (
    "Give `epoch_latest.pth` of Deep3DFaceRecon_pytorch (ResNet-50, without `use_last_fc`); `ostec models list` says "
    "where it comes from."
)
_LANDMARKS_REMEDY = "`ostec models get deep3d-landmarks` downloads it; delete this one first."


@dataclass(frozen=True)
class Coefficients:
    """The network's estimate of one face."""

    identity: Tensor
    """[80], in standard deviations."""
    expression: Tensor
    """[64], likewise."""
    texture: Tensor
    """[80], likewise."""
    angles: Tensor
    """[3] radians about x, y, z: R = Rz Ry Rx takes the head to a camera frame with y up and z towards the camera."""
    light: Tensor
    """[27]: 9 spherical harmonics each for red, green and blue."""
    translation: Tensor
    """[3], decimetres, in that frame."""


class Deep3DNet(NamedTensors):
    """Crops to coefficients. `tensors` is the state dict `net_recon`; raises `BadWeights` naming `source`."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the network") -> None:
        super().__init__()
        require_finite(tensors, source)
        with expecting("Deep3DFaceRecon's network", source, _REMEDY):
            backbone = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
            self.backbone = ResNet50(backbone)
            heads = [tuple(tensors[f"final_layers.{i}.{part}"] for part in ("weight", "bias")) for i in range(7)]
            self.sizes = [len(weight) for weight, _ in heads]
            if self.sizes[3:] != [3, 27, 2, 1]:
                raise ValueError(f"heads of {self.sizes} numbers")
            self.keep("heads.weight", torch.cat([weight for weight, _ in heads]))
            self.keep("heads.bias", torch.cat([bias for _, bias in heads]))
            with torch.no_grad():
                self(torch.zeros(1, 3, 32, 32))

    def forward(self, crops: Tensor) -> Tensor:
        """[N, 3, 224, 224] sRGB 0..1 -> coefficients [N, 257], in the order of `Coefficients`."""
        return self.conv(self.backbone(crops).mean(dim=(2, 3), keepdim=True), "heads").flatten(1)

    def split(self, coefficients: Tensor) -> Coefficients:
        """[257] of one face, by what they mean."""
        return Coefficients(*coefficients.split([*self.sizes[:5], 3]))


class Deep3DReconstructor:
    """Fits the Basel Face Model 2009 to a face in a photo, under a perspective camera.

    Where each vertex lies in the photo (the original's dense landmarks) is `to_pixels(fit.vertices, fit.camera)`.
    """

    def __init__(
        self,
        find_landmarks: Reconstructor,
        net: Deep3DNet,
        model: BaselModel,
        topology: Topology,
        standard_points: Tensor,
        device: torch.device | str = "cpu",
    ) -> None:
        """`find_landmarks` gives the 68 points that the crop goes by; `standard_points` [5, 3], see `five_points`."""
        self._find_landmarks = find_landmarks
        self._net = net.to(device).eval()
        self._device = device
        self.model, self.topology, self.standard_points = model, topology, standard_points

    @torch.no_grad()
    def __call__(self, photo: Photo, detection: Detection) -> Reconstruction:
        """Raises `NoFace` where there turns out to be none."""
        found = self._find_landmarks(photo, detection).landmarks
        crop_from_photo = face_crop(found.points_px, self.standard_points)
        crop = warp(photo.rgb, crop_from_photo, (CROP_PX, CROP_PX), outside="zeros")
        coefficients = self._net.split(self._net(crop[None].to(self._device))[0].cpu())
        vertices = self.model.vertices(coefficients.identity, coefficients.expression)
        camera = photo_camera(coefficients, crop_from_photo, photo.size)
        landmarks = Landmarks(to_pixels(vertices[self.topology.landmark_vertices], camera), found.score)
        pitch_deg, yaw_deg, roll = angles_deg(camera.R)
        return Reconstruction(vertices, self.topology, camera, landmarks, yaw_deg, pitch_deg, roll)


def five_points(landmarks: Tensor) -> Tensor:
    """[5, C]: nose tip, eye at the picture's left, eye at its right, mouth corners likewise, of iBUG's [68, C]."""
    eyes = [landmarks[[a, b]].mean(dim=0) for a, b in ((36, 39), (42, 45))]
    return torch.stack([landmarks[30], *eyes, landmarks[48], landmarks[54]])


def face_crop(landmarks_px: Tensor, standard_points: Tensor) -> Tensor:
    """[2, 3] float64 affine from the photo to the crop, for [68, 2] px and the standard face's five points [5, 3].

    Least squares give the affine camera that takes the standard points to the photo's; the crop has 102 px to the unit
    and its origin in the middle. It is level with the photo, as the original's, except that heads that lie on a side or
    upside down are turned by quarter turns. Raises `BadGeometry` where the landmarks coincide.
    """
    points = five_points(landmarks_px).double()
    system = torch.cat([standard_points.double(), torch.ones(5, 1, dtype=torch.float64)], dim=1)
    affine = torch.linalg.lstsq(system, points).solution
    px_per_unit = float(affine[:3].norm(dim=0).mean())
    if not px_per_unit > 1e-3:
        raise BadGeometry("Eyes, nose and mouth coincide or are not finite; no crop fits these landmarks.")
    turn_deg = 90.0 * round(roll_deg(points[1], points[2]) / 90.0)
    return square_crop(affine[3], CROP_PX * px_per_unit / RESCALE, turn_deg, CROP_PX)


def photo_camera(coefficients: Coefficients, crop_from_photo: Tensor, size: tuple[int, int]) -> Camera:
    """The camera that took the photo of (height, width) `size`: head frame to its pixels.

    The crop's camera looks at the middle of the crop. The crop is a similarity: its scale and shift go into K, its turn
    into R and t, so that nothing is lost.
    """
    turned = Rotation.from_euler("xyz", coefficients.angles.double().numpy()).as_matrix()
    R = FACING.double() @ torch.from_numpy(turned)
    t = UNIT_M * FACING.double() @ coefficients.translation.double()
    t[2] += DISTANCE_M
    photo_from_crop = invert_affine(crop_from_photo)
    scale = photo_from_crop[:, :2].det().sqrt()
    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = photo_from_crop[:, :2] / scale
    K = torch.eye(3, dtype=torch.float64)
    K[:2, :2] *= FOCAL_PX * scale
    K[:2, 2] = apply_affine(photo_from_crop, torch.full((2,), CROP_PX / 2, dtype=torch.float64))
    return Camera(K.float(), (turn @ R).float(), (turn @ t).float(), size)


def load_deep3d_net(path: Path) -> Deep3DNet:
    """The network in `epoch_latest.pth`. Raises `MissingWeights`, `BadWeights`."""
    stored = read_stored(path, _REMEDY)
    tensors = stored.get("net_recon") if isinstance(stored, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise BadWeights(f"{path} holds no network by the name 'net_recon'. {_REMEDY}")
    return Deep3DNet(tensors, str(path))


def load_deep3d_reconstructor(*paths: Path, device: str) -> Deep3DReconstructor:
    """With its eleven files: regressor, standard face, Basel Face Model and the original's mesh; they are told apart
    by their public names. Raises `MissingWeights`, `BadWeights`."""
    files = {path.name: path for path in paths}
    net = load_deep3d_net(files["epoch_latest.pth"])
    topology = load_topology(files)
    model = load_bfm(files, *net.sizes[:2])
    if len(model.mean) != len(topology.paintable):
        raise BadWeights(
            f"{files['BFM_exp_idx.mat']} keeps {len(model.mean):,} vertices and {files['tcoords_alex.pkl']} has "
            f"{len(topology.paintable):,}: they belong to different meshes. `ostec models get` downloads both."
        )
    standard = read_matrices(files["similarity_Lm3D_all.mat"], {"lm": (68, 3)}, _LANDMARKS_REMEDY)["lm"]
    standard_points = five_points(torch.from_numpy(standard.astype(np.float64)))
    return Deep3DReconstructor(load_facemesh_reconstructor(), net, model, topology, standard_points, device)
