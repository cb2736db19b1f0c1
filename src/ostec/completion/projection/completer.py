"""OSTeC itself: turn the face, let a face generator complete each view, lay it into the texture (paper, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch.nn import functional as F

from ostec.completion.projection.batching import Together
from ostec.completion.projection.loss import FRONTAL_IDENTITY_WEIGHT, WEIGHTS, terms_in_use
from ostec.completion.projection.released_blend import join_as_released
from ostec.completion.projection.rotation import Finish, complete_by_rotation, over, seamless
from ostec.completion.projection.view_search import Answer, Job, ViewSearch
from ostec.interfaces import Completer, Progress, Rasteriser
from ostec.settings import SearchSettings, Settings
from ostec.texture.features import chart_of_parts, with_features
from ostec.texture.shoot import shoot
from ostec.texture.views import FRONT, in_batches, plan_views
from ostec.types import Atlas, Completed, Completion, Face, Shot

_FRONTAL = replace(FRONT, name="frontal")
_BASE_SHARE, _FRONTAL_SHARE = 0.05, 0.25
"""Of the progress."""


@dataclass(frozen=True)
class Style:
    """What a generator's pictures are like."""

    portraits: bool = True
    """Portraits with hair, on a background; else only heads as views show them."""
    finest_px: int = 1
    """It draws nothing finer than this."""
    guess_trust: float = 0.0
    """How much the search heeds what the base completer makes of hidden parts, next to 1 for what is known."""


_PORTRAITS = Style()


class ProjectionCompleter:
    """Completes each rotated view by searching the W+ space of a face generator.

    `base` completes what no view shows, and is what remains where a search fails. Networks of the loss that are not
    there are named in the report; `remarks` on the generator go into every report. A generator whose `style` is not of
    portraits is not asked for the frontal picture. `ask` has views searched, by default by `search` at once.
    """

    def __init__(
        self,
        search: ViewSearch,
        base: Completer,
        rasterise: Rasteriser,
        remarks: tuple[str, ...] = (),
        style: Style = _PORTRAITS,
        ask: Callable[[Job], Answer] | None = None,
    ) -> None:
        self.search, self.base, self.rasterise = search, base, rasterise
        self.remarks, self.style = remarks, style
        self.ask = ask or (lambda job: search([job])[0])

    def seats(self, count: int) -> Sequence[AbstractContextManager[ProjectionCompleter]]:
        """Completers whose views are searched in one batch (`interfaces.Sharing`)."""
        together = Together(count, self.search)
        return [self._seated(together.seat(number)) for number in range(count)]

    @contextmanager
    def _seated(self, seat: AbstractContextManager[Callable[[Job], Answer]]) -> Iterator[ProjectionCompleter]:
        with seat as ask:
            yield ProjectionCompleter(self.search, self.base, self.rasterise, self.remarks, self.style, ask)

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        draws_frontal = settings.frontalize and self.style.portraits
        end = 1 - _FRONTAL_SHARE if draws_frontal else 1.0
        finisher = _Finisher(self.ask, settings, self._identity(face))

        def finish(shots: tuple[Shot, ...], done: float, share: float) -> tuple[Completion, ...]:
            low, high = (_BASE_SHARE + (end - _BASE_SHARE) * at for at in (done, done + share))
            tell = _between(progress, "+".join(shot.view.name for shot in shots), low, high)
            return finisher.finish(shots, settings.search.iterations, WEIGHTS, tell, film=settings.search.film)

        completed = self._rotated(face, atlas, settings, finish, progress)
        frontal = self._frontal(face, completed, settings, finisher, progress) if draws_frontal else None
        warnings = [*self.remarks, *completed.notes.get("warnings", []), *finisher.warnings]
        notes = {
            "loss_terms": terms_in_use(self.search.judges, finisher.whole),
            "loss_history": finisher.history,
            "warnings": list(dict.fromkeys(warnings)),
        }
        return replace(completed, frontal=frontal, notes=notes)

    def _rotated(self, face: Face, atlas: Atlas, settings: Settings, finish: Finish, progress: Progress) -> Completed:
        """The texture after all views."""
        views, size_px = plan_views(face.mode), self.search.generator.resolution
        if settings.search.preset == "original":
            one_by_one = tuple((view,) for view in views)
            return complete_by_rotation(face, atlas, one_by_one, join_as_released, finish, self.rasterise, size_px, 0.0)
        plain = replace(settings, search=SearchSettings())
        under = self.base(face, atlas, plain, lambda stage, done: progress(stage, _BASE_SHARE * done))
        join, draft = seamless(under.texture.rgb), seamless(under.texture.rgb, draft=True)
        batches = in_batches(views)
        lay = over(face, atlas.textures[0], under.texture.rgb, self.rasterise, self.style.finest_px)
        guessed = self.style.guess_trust
        done = complete_by_rotation(
            face, atlas, batches, join, finish, self.rasterise, size_px, draft=draft, lay=lay, guessed=guessed
        )
        return replace(done, texture=replace(done.texture, std=under.texture.std), notes=under.notes)

    def _frontal(
        self, face: Face, completed: Completed, settings: Settings, finisher: _Finisher, progress: Progress
    ) -> Tensor:
        """[3, R, R]: the completed face from the front, with hair, ears and background that the generator makes up."""
        known = chart_of_parts(face.texels, face.reconstruction.topology).float()
        rgb = with_features(completed.texture, face).rgb
        shot = shoot(face.reconstruction, rgb, known, _FRONTAL, self.search.generator.resolution, self.rasterise)
        weights = {**WEIGHTS, "identity": FRONTAL_IDENTITY_WEIGHT}
        tell = _between(progress, _FRONTAL.name, 1 - _FRONTAL_SHARE, 1.0)
        (done,) = finisher.finish((shot,), settings.search.iterations_frontalize, weights, tell)
        size = (settings.frontal_size, settings.frontal_size)
        return F.interpolate(done.image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)

    def _identity(self, face: Face) -> Tensor | None:
        """[1, E] of the person in the photo, where there is a network for it."""
        if self.search.judges.identity is None:
            return None
        device = self.search.generator.w_avg.device
        landmarks_px = face.reconstruction.landmarks.points_px
        return self.search.judges.identity(face.photo.rgb[None].to(device), landmarks_px[None].to(device))


@dataclass
class _Finisher:
    """Has the views of one face searched, and keeps account."""

    ask: Callable[[Job], Answer]
    settings: Settings
    identity: Tensor | None
    warnings: list[str] = field(default_factory=list)
    whole: bool = True
    """The last search made pictures of the full size."""
    history: dict[str, list[float]] = field(default_factory=dict)
    """View -> loss by step."""

    def finish(
        self,
        shots: tuple[Shot, ...],
        steps: int,
        weights: Mapping[str, float],
        tell: Callable[[float], object],
        film: bool = False,
    ) -> tuple[Completion, ...]:
        """The shots completed."""
        answer = self.ask(Job(shots, self.identity, self.settings, steps, weights, film, tell))
        self.warnings += answer.warnings
        self.whole = answer.whole
        for done in answer.completions:
            self.history[done.shot.view.name] = [round(loss, 4) for loss in done.history]
        return answer.completions


def _between(progress: Progress, stage: str, low: float, high: float) -> Callable[[float], object]:
    return lambda share: progress(stage, low + (high - low) * share)
