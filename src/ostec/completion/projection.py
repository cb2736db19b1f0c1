"""OSTeC itself: turn the face, let a face generator complete each view, lay it into the texture (paper, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.film import FRAMES, Film
from ostec.completion.objective import FRONTAL_IDENTITY_WEIGHT, WEIGHTS, Known, Objective, terms_in_use
from ostec.completion.rotation import Finish, complete_by_rotation, seamless
from ostec.completion.search import ORIGINAL, PLANS, Found, Pyramid, best_of_random, better_start, search
from ostec.completion.tuning import tuned_pictures
from ostec.interfaces import Completer, Encoder, Generator, Judges, Progress, Rasteriser
from ostec.settings import Settings
from ostec.texture.features import chart_of_parts, with_features
from ostec.texture.released import join_as_released
from ostec.texture.shoot import shoot
from ostec.texture.views import FRONT, in_batches, plan_views
from ostec.types import Atlas, Completed, Completion, Face, Shot

_RANDOM_STARTS = 32
_FRONTAL = replace(FRONT, name="frontal")
_BASE_SHARE, _FRONTAL_SHARE, _SEARCH_SHARE = 0.05, 0.25, 0.6
"""Of the progress; the last of a view's, where it is tuned too."""


class ProjectionCompleter:
    """Completes each rotated view by searching the W+ space of a face generator.

    `base` completes what no view shows, and is what remains where a search fails. `judges` are the networks of the
    loss; those that are not there are named in the report. A search starts from the best of the `encoder`'s
    guess, where there is one, the mean latent and some random ones. `remarks` on the generator go into every report.
    """

    def __init__(
        self,
        generator: Generator,
        judges: Judges,
        base: Completer,
        rasterise: Rasteriser,
        encoder: Encoder | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.generator, self.judges, self.base, self.rasterise = generator, judges, base, rasterise
        self.encoder, self.remarks = encoder, remarks
        self.quick = generator.reduced() if generator.w_avg.is_cuda else generator

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        end = 1 - _FRONTAL_SHARE if settings.frontalize else 1.0
        finisher = _Finisher(self.generator, self.quick, self.judges, self.encoder, settings, self._identity(face))

        def finish(shots: tuple[Shot, ...], done: float, share: float) -> tuple[Completion, ...]:
            low, high = (_BASE_SHARE + (end - _BASE_SHARE) * at for at in (done, done + share))
            tell = _between(progress, "+".join(shot.view.name for shot in shots), low, high)
            return finisher.finish(shots, settings.iterations, WEIGHTS, tell)

        completed = self._rotated(face, atlas, settings, finish, progress)
        frontal = self._frontal(face, completed, settings, finisher, progress) if settings.frontalize else None
        notes = {
            "loss_terms": terms_in_use(self.judges, finisher.whole),
            "loss_history": finisher.history,
            "warnings": [*self.remarks, *completed.notes.get("warnings", []), *finisher.warnings],
        }
        return replace(completed, frontal=frontal, notes=notes)

    def _rotated(self, face: Face, atlas: Atlas, settings: Settings, finish: Finish, progress: Progress) -> Completed:
        """The texture after all views."""
        views, size_px = plan_views(face.mode), self.generator.resolution
        if settings.preset == "original":
            one_by_one = tuple((view,) for view in views)
            return complete_by_rotation(face, atlas, one_by_one, join_as_released, finish, self.rasterise, size_px, 0.0)
        under = self.base(face, atlas, settings, lambda stage, done: progress(stage, _BASE_SHARE * done))
        join, draft = seamless(under.texture.rgb), seamless(under.texture.rgb, draft=True)
        batches = in_batches(views)
        done = complete_by_rotation(face, atlas, batches, join, finish, self.rasterise, size_px, draft=draft)
        return replace(done, texture=replace(done.texture, std=under.texture.std), notes=under.notes)

    def _frontal(
        self, face: Face, completed: Completed, settings: Settings, finisher: _Finisher, progress: Progress
    ) -> Tensor:
        """[3, R, R]: the completed face from the front, with hair, ears and background that the generator makes up."""
        known = chart_of_parts(face.texels, face.reconstruction.topology).float()
        rgb = with_features(completed.texture, face).rgb
        shot = shoot(face.reconstruction, rgb, known, _FRONTAL, self.generator.resolution, self.rasterise)
        weights = {**WEIGHTS, "identity": FRONTAL_IDENTITY_WEIGHT}
        tell = _between(progress, _FRONTAL.name, 1 - _FRONTAL_SHARE, 1.0)
        (done,) = finisher.finish((shot,), settings.iterations_frontalize, weights, tell)
        size = (settings.frontal_size, settings.frontal_size)
        return F.interpolate(done.image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)

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
    quick: Generator
    """The same, to search with."""
    judges: Judges
    encoder: Encoder | None
    settings: Settings
    identity: Tensor | None
    warnings: list[str] = field(default_factory=list)
    whole: bool = True
    """The last search made pictures of the full size."""
    history: dict[str, list[float]] = field(default_factory=dict)
    """View -> loss by step."""

    def finish(
        self, shots: tuple[Shot, ...], steps: int, weights: Mapping[str, float], tell: Callable[[float], object]
    ) -> tuple[Completion, ...]:
        """The shots completed, in one batch; one whose search failed at once stays as it was rendered."""
        generator, settings = self.generator, self.settings
        released = settings.preset == "original"
        searched, plan = (generator, ORIGINAL) if released else (self.quick, PLANS[settings.optimiser])
        known = Known.of(shots, self.identity, generator.w_avg.device)
        objective = Objective(known, self.judges, generator.w_avg, weights)
        start = self._start(known.image, objective, released)
        film = Film(objective, max(1, -(-steps // FRAMES))) if settings.film and shots[0].view != _FRONTAL else None
        until = _SEARCH_SHARE if settings.tune else 1.0
        found = search(searched, film or objective, start, plan, steps, settings.seed, lambda at: tell(until * at))
        self.whole = Pyramid.of(searched, plan, settings.seed).whole(plan)
        if settings.tune:
            pictures = self._tuned(objective, found, lambda at: tell(until + (1 - until) * at))
        else:
            pictures = generator.synthesis(found.w_plus)
        pictures = (pictures / 2 + 0.5).clamp(0, 1).cpu()
        return tuple(
            self._completion(shot, picture, found, row, film)
            for row, (shot, picture) in enumerate(zip(shots, pictures, strict=True))
        )

    def _tuned(self, objective: Objective, found: Found, tell: Callable[[float], object]) -> Tensor:
        pictures, losses = tuned_pictures(self.generator, objective, found.w_plus, self.settings.tune, tell)
        if not bool(torch.isfinite(losses).all()):
            self.warnings.append("the tuning gave no finite loss; views stay as the search found them.")
        return pictures

    def _start(self, images: Tensor, objective: Objective, released: bool) -> Tensor:
        """Where the search of each image [N, 3, R, R] starts."""
        guess = self._guess(images)
        if released:
            return self.generator.w_avg.repeat(len(images), self.generator.num_ws, 1) if guess is None else guess
        random = best_of_random(self.quick, objective, len(images), _RANDOM_STARTS, self.settings.seed)
        return random if guess is None else better_start(self.quick, objective, guess, random, self.settings.seed)

    def _guess(self, images: Tensor) -> Tensor | None:
        """The encoder's latents, where there is one for this generator."""
        wanted = (self.generator.num_ws, len(self.generator.w_avg))
        guess = None if self.encoder is None else self.encoder(images)
        if guess is None or guess.shape[1:] == wanted:
            return guess
        self.encoder = None
        self.warnings.append(
            f"the style encoder guesses latents of shape {tuple(guess.shape[1:])}, not the generator's {wanted}; "
            "searches start without it."
        )
        return None

    def _completion(self, shot: Shot, picture: Tensor, found: Found, row: int, film: Film | None) -> Completion:
        name, history, diverged = shot.view.name, found.history[row], found.diverged[row]
        self.history[name] = [round(loss, 4) for loss in history]
        if not bool((shot.trust > 0).any()):
            self.warnings.append(f"{name}: nothing is known of this view; the generator made it up.")
        if diverged and not history:
            self.warnings.append(f"{name}: the search gave no finite loss; the view stays as it was rendered.")
            return Completion(shot, shot.image)
        if diverged:
            self.warnings.append(f"{name}: the search diverged after {len(history)} steps; its best was kept.")
        return Completion(shot, picture, found.w_plus[row].cpu(), history, film.of(row) if film else None)


def _between(progress: Progress, stage: str, low: float, high: float) -> Callable[[float], object]:
    return lambda share: progress(stage, low + (high - low) * share)
