"""OSTeC itself: turn the face, let a face generator complete each view, lay it into the texture (paper, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch.nn import functional as F

from ostec.completion.objective import FRONTAL_IDENTITY_WEIGHT, WEIGHTS, Known, Objective, terms_in_use
from ostec.completion.rotation import complete_by_rotation
from ostec.completion.search import DEFAULT, ORIGINAL, best_of_random, search
from ostec.interfaces import Completer, Generator, Judges, Progress, Rasteriser
from ostec.settings import Settings
from ostec.texture.features import chart_of_parts, with_features
from ostec.texture.shoot import shoot
from ostec.texture.views import FRONT, in_batches, plan_views
from ostec.types import Atlas, Completed, Completion, Face, Shot

_RANDOM_STARTS = 32
_BASE_SHARE, _FRONTAL_SHARE = 0.05, 0.25
"""Of the progress."""


class ProjectionCompleter:
    """Completes each rotated view by searching the W+ space of a face generator.

    `base` completes what no view shows, and is what remains where a search fails. `judges` are the networks of the
    loss; those that are not there are named in the report.
    """

    def __init__(self, generator: Generator, judges: Judges, base: Completer, rasterise: Rasteriser) -> None:
        self.generator, self.judges, self.base, self.rasterise = generator, judges, base, rasterise

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        under = self.base(face, atlas, settings, lambda stage, done: progress(stage, _BASE_SHARE * done))
        end = 1 - _FRONTAL_SHARE if settings.frontalize else 1.0
        finisher = _Finisher(self.generator, self.judges, settings, self._identity(face))

        def finish(shots: tuple[Shot, ...], done: float, share: float) -> tuple[Completion, ...]:
            low, high = (_BASE_SHARE + (end - _BASE_SHARE) * at for at in (done, done + share))
            tell = _between(progress, "+".join(shot.view.name for shot in shots), low, high)
            return finisher.finish(shots, settings.iterations, WEIGHTS, tell)

        views = plan_views(face.mode)
        batches = tuple((view,) for view in views) if settings.preset == "original" else in_batches(views)
        size_px = self.generator.resolution
        completed = complete_by_rotation(face, atlas, batches, under.texture.rgb, finish, self.rasterise, size_px)
        frontal = None
        if settings.frontalize:
            known = chart_of_parts(face.texels, face.reconstruction.topology).float()
            shown = with_features(completed.texture, face).rgb
            shot = shoot(face.reconstruction, shown, known, FRONT, size_px, self.rasterise)
            weights = {**WEIGHTS, "identity": FRONTAL_IDENTITY_WEIGHT}
            tell = _between(progress, "frontal", end, 1.0)
            (done,) = finisher.finish((shot,), settings.iterations_frontalize, weights, tell)
            size = (settings.frontal_size, settings.frontal_size)
            frontal = F.interpolate(done.image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        warnings = [*under.notes.get("warnings", []), *finisher.warnings]
        notes = {"loss_terms": terms_in_use(self.judges), "warnings": warnings}
        return Completed(replace(completed.texture, std=under.texture.std), completed.completions, frontal, notes)

    def _identity(self, face: Face) -> Tensor | None:
        """[1, E] of the person in the photo, where there is a network for it."""
        if self.judges.identity is None:
            return None
        device = self.generator.w_avg.device
        landmarks_px = face.reconstruction.landmarks.points_px
        return self.judges.identity(face.photo.rgb[None].to(device), landmarks_px[None].to(device))


@dataclass
class _Finisher:
    """Searches the pictures of one face."""

    generator: Generator
    judges: Judges
    settings: Settings
    identity: Tensor | None
    warnings: list[str] = field(default_factory=list)

    def finish(
        self, shots: tuple[Shot, ...], steps: int, weights: Mapping[str, float], tell: Callable[[float], object]
    ) -> tuple[Completion, ...]:
        """The shots completed, in one batch; one whose search failed at once stays as it was rendered."""
        generator, seed = self.generator, self.settings.seed
        plan = ORIGINAL if self.settings.preset == "original" else DEFAULT
        known = Known.of(shots, self.identity, generator.w_avg.device)
        objective = Objective(known, self.judges, generator.w_avg, weights)
        start = best_of_random(generator, objective, len(shots), _RANDOM_STARTS, seed)
        found = search(generator, objective, start, plan, steps, seed, tell)
        pictures = (generator.synthesis(found.w_plus) / 2 + 0.5).clamp(0, 1).cpu()
        return tuple(
            self._completion(shot, picture, latent, history, diverged)
            for shot, picture, latent, history, diverged in zip(
                shots, pictures, found.w_plus.cpu(), found.history, found.diverged, strict=True
            )
        )

    def _completion(
        self, shot: Shot, picture: Tensor, latent: Tensor, history: tuple[float, ...], diverged: bool
    ) -> Completion:
        name = shot.view.name
        if not bool((shot.trust > 0).any()):
            self.warnings.append(f"{name}: nothing is known of this view; the generator made it up.")
        if diverged and not history:
            self.warnings.append(f"{name}: the search gave no finite loss; the view stays as it was rendered.")
            return Completion(shot, shot.image)
        if diverged:
            self.warnings.append(f"{name}: the search diverged after {len(history)} steps; its best was kept.")
        return Completion(shot, picture, latent, history)


def _between(progress: Progress, stage: str, low: float, high: float) -> Callable[[float], object]:
    return lambda share: progress(stage, low + (high - low) * share)
