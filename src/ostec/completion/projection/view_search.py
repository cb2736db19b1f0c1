"""Searches the generator's latents for the views of one or more faces in one batch: shots in, completions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ostec.completion.projection.loss import FRONTAL_IDENTITY_WEIGHT, WEIGHTS, Target, ViewLoss, terms_in_use
from ostec.completion.projection.pivotal_tuning import tuned_pictures
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.search import ORIGINAL, PLANS, Plan, SearchResult, search
from ostec.completion.projection.starts import MapStart, best_random_latents, better_latents
from ostec.interfaces import Encoder, Generator, LossNetworks, Progress
from ostec.settings import Settings
from ostec.types import Completion, Face, Shot

MAX_FRAMES = 24
"""Of the film of a search."""
_RANDOM_STARTS = 32
_SEARCH_SHARE = 0.6
"""Of the progress, where views are tuned too."""


@dataclass(frozen=True)
class SearchRequest:
    """Shots of one face that are to be completed."""

    shots: tuple[Shot, ...]
    identity: Tensor | None
    """[1, E] of the person, where there is a network for it."""
    settings: Settings
    frontal: bool = False
    """The shot is the frontal picture: other steps, more weight on the identity, no film."""
    progress: Callable[[float], object] = lambda share: None
    """Called with the share of the work that is done; an error that it raises ends this request."""

    @property
    def steps(self) -> int:
        """Of the search."""
        search = self.settings.search
        return search.iterations_frontalize if self.frontal else search.iterations

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the loss terms."""
        return {**WEIGHTS, "identity": FRONTAL_IDENTITY_WEIGHT} if self.frontal else WEIGHTS


@dataclass(frozen=True)
class SearchResponse:
    """A request's completions; a view whose search failed at once stays as it was rendered."""

    completions: tuple[Completion, ...]
    warnings: tuple[str, ...]


class ViewSearch:
    """A generator and the networks of its loss.

    A search starts from the best of the `encoder`'s guess, where there is one, the mean latent and some random ones;
    where latents are normally distributed, from the MAP estimate.
    """

    def __init__(self, generator: Generator, networks: LossNetworks, encoder: Encoder | None = None) -> None:
        self.generator, self.networks, self.encoder = generator, networks, encoder
        self._exact = Pyramid(generator)
        self._quick = Pyramid(generator.reduced()) if generator.w_avg.is_cuda else self._exact
        self._map_start = MapStart(self._exact)

    def __call__(self, requests: Sequence[SearchRequest]) -> list[SearchResponse | Exception]:
        """For each request its response, or the error that ended it.

        Requests for the same kind of search share a batch, except with L-BFGS, whose line search would couple them.
        """
        batches: dict[tuple[object, ...], list[int]] = {}
        for index, request in enumerate(requests):
            alone = index if request.settings.search.optimiser == "lbfgs" else None
            kind = request.settings, request.frontal, alone
            batches.setdefault(kind, []).append(index)
        responses: dict[int, SearchResponse | Exception] = {}
        for indices in batches.values():
            responses |= zip(indices, self._search_batch([requests[index] for index in indices]), strict=True)
        return [responses[index] for index in range(len(requests))]

    def submit(self, request: SearchRequest) -> SearchResponse:
        """The response to one request, searched at once; raises what its progress raises."""
        (response,) = self([request])
        if isinstance(response, Exception):
            raise response
        return response

    def identity(self, face: Face) -> Tensor | None:
        """[1, E] of the person in the photo, where there is a network for it."""
        if self.networks.identity is None:
            return None
        return self.networks.identity(face.photo.rgb[None], face.reconstruction.landmarks.points_px[None])

    def terms_in_use(self, settings: Settings) -> dict[str, str]:
        """Term of the loss -> "on", or why it is off."""
        pyramid, plan = self._plan(settings)
        sizes_px = {pyramid.usable_size(size_px) for size_px, _ in plan.sizes_px}
        return terms_in_use(self.networks, self.generator.resolution in sizes_px)

    def _search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchResponse | Exception]:
        """Requests for the same kind of search. One whose progress raises an error ends; the others go on."""
        settings, errors = requests[0].settings, dict[int, Exception]()
        pyramid, plan = self._plan(settings)
        plan = replace(plan, frames=MAX_FRAMES if settings.search.film and not requests[0].frontal else 0)
        device = self.generator.w_avg.device
        targets = [Target.from_shots(request.shots, request.identity, device) for request in requests]
        loss = ViewLoss(Target.concatenated(targets), self.networks, self.generator.w_avg, requests[0].weights)
        start, warnings = self._start(loss, settings)

        def progress(share: float) -> None:
            for index, request in enumerate(requests):
                try:
                    if index not in errors:
                        request.progress(share * (_SEARCH_SHARE if settings.search.tune else 1.0))
                except Exception as error:
                    errors[index] = error
            if len(errors) == len(requests):
                raise _AllEnded

        try:
            result = search(pyramid, loss, start, plan, requests[0].steps, settings.seed, progress)
        except _AllEnded:
            return [errors[index] for index in range(len(requests))]
        responses: list[SearchResponse | Exception] = []
        first = 0
        for index, (request, target) in enumerate(zip(requests, targets, strict=True)):
            last = first + len(target.image)
            if index not in errors:
                try:
                    completions, more = self._completions(request, target, result.items(first, last))
                    responses.append(SearchResponse(completions, (*warnings, *more)))
                except Exception as error:
                    errors[index] = error
            if index in errors:
                responses.append(errors[index])
            first = last
        return responses

    def _plan(self, settings: Settings) -> tuple[Pyramid, Plan]:
        """The pictures that are compared, and how to search."""
        if settings.search.preset == "original":
            return self._exact, ORIGINAL
        plan = PLANS[settings.search.optimiser]
        return self._quick, plan.from_close() if self.generator.has_normal_latents else plan

    def _start(self, loss: ViewLoss, settings: Settings) -> tuple[Tensor, tuple[str, ...]]:
        """Where the search of each picture starts, [N, L, W], and warnings."""
        generator, image, warnings = self.generator, loss.target.image, ()
        guess = None if self.encoder is None else self.encoder(image)
        shape = generator.num_ws, len(generator.w_avg)
        if guess is not None and guess.shape[1:] != shape:
            warnings = (
                f"the style encoder guesses latents of shape {tuple(guess.shape[1:])}, not the generator's {shape}; "
                "searches start without it.",
            )
            guess = None
        start = generator.w_avg.repeat(len(image), generator.num_ws, 1) if guess is None else guess
        if settings.search.preset == "original":
            return start, warnings
        if generator.has_normal_latents:
            return self._map_start(image, loss.target.trust, start), warnings
        random = best_random_latents(self._quick, loss, len(image), _RANDOM_STARTS, settings.seed)
        return random if guess is None else better_latents(self._quick, loss, guess, random), warnings

    def _completions(
        self, request: SearchRequest, target: Target, result: SearchResult
    ) -> tuple[tuple[Completion, ...], list[str]]:
        """One request's completions, and warnings."""
        pictures, warnings = self._pictures(request, target, result.w_plus)
        pictures, w_plus = (pictures / 2 + 0.5).clamp(0, 1).cpu(), result.w_plus.cpu()
        frames = None if result.frames is None else result.frames.cpu()
        completions = []
        for index, shot in enumerate(request.shots):
            name, history, diverged = shot.view.name, result.history[index], result.diverged[index]
            if not bool((shot.trust > 0).any()):
                warnings.append(f"{name}: nothing is known of this view; the generator made it up.")
            if diverged and not history:
                warnings.append(f"{name}: the search gave no finite loss; the view stays as it was rendered.")
                completions.append(Completion(shot, shot.image))
                continue
            if diverged:
                warnings.append(f"{name}: the search diverged after {len(history)} steps; its best was kept.")
            film = None if frames is None else frames[index]
            completions.append(Completion(shot, pictures[index], w_plus[index], history, film))
        return tuple(completions), warnings

    def _pictures(self, request: SearchRequest, target: Target, w_plus: Tensor) -> tuple[Tensor, list[str]]:
        """[N, 3, R, R] in -1..1, by the generator or by a copy that learns this face, and warnings."""
        steps = request.settings.search.tune
        if not steps:
            return self.generator.synthesis(w_plus), []

        def progress(share: float) -> None:
            request.progress(_SEARCH_SHARE + (1 - _SEARCH_SHARE) * share)

        loss = ViewLoss(target, self.networks, self.generator.w_avg, request.weights)
        pictures, losses = tuned_pictures(self.generator, loss, w_plus, steps, progress)
        finite = bool(torch.isfinite(losses).all())
        return pictures, [] if finite else ["the tuning gave no finite loss; views stay as the search found them."]


class _AllEnded(Exception):
    """Every request of a batch was ended by its progress."""


@dataclass
class FaceSearch:
    """The searches for one face, with a log for its report."""

    submit: Callable[[SearchRequest], SearchResponse]
    """`ViewSearch.submit`, or a slot of a batch of faces."""
    settings: Settings
    identity: Tensor | None
    """[1, E] of the person, where there is a network for it."""
    size_px: int
    """Side of the generator's pictures."""
    progress: Progress
    warnings: list[str] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    """View -> loss by step."""

    def __call__(
        self, shots: tuple[Shot, ...], span: tuple[float, float], frontal: bool = False
    ) -> tuple[Completion, ...]:
        """The shots completed, in one batch; `span` is the progress before and after."""
        (low, high), names = span, "+".join(shot.view.name for shot in shots)

        def progress(share: float) -> None:
            self.progress(names, low + (high - low) * share)

        response = self.submit(SearchRequest(shots, self.identity, self.settings, frontal, progress))
        self.warnings += response.warnings
        for completion in response.completions:
            self.history[completion.shot.view.name] = [round(loss, 4) for loss in completion.history]
        return response.completions
