"""Searches the views of one or more faces in one batch: shots in, completions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ostec.completion.projection.film import FRAMES, Film
from ostec.completion.projection.loss import Known, Objective
from ostec.completion.projection.map_start import likeliest
from ostec.completion.projection.pivotal_tuning import tuned_pictures
from ostec.completion.projection.search import ORIGINAL, PLANS, Found, Pyramid, best_of_random, better_start, search
from ostec.interfaces import Encoder, Generator, Judges
from ostec.settings import Settings
from ostec.types import Completion, Shot

_RANDOM_STARTS = 32
_WITHOUT = "searches start without it."
_SEARCH_SHARE = 0.6
"""Of the progress, where views are tuned too."""


@dataclass(frozen=True)
class Job:
    """Shots of one face that are to be completed."""

    shots: tuple[Shot, ...]
    identity: Tensor | None
    """[1, E] of the person, where there is a network for it."""
    settings: Settings
    steps: int
    weights: Mapping[str, float]
    """Of the loss terms."""
    film: bool
    """Keep pictures of the search."""
    tell: Callable[[float], object]
    """Called with the share of the work that is done; what it raises stops the search."""


@dataclass(frozen=True)
class Answer:
    """A job's completions; one whose search failed at once stays as it was rendered."""

    completions: tuple[Completion, ...]
    warnings: tuple[str, ...]
    whole: bool
    """The search made pictures of the full size."""


class ViewSearch:
    """A generator and what judges its pictures. A search starts from the best of the `encoder`'s guess, where there
    is one, the mean latent and some random ones; where latents are normally distributed, from the likeliest."""

    def __init__(self, generator: Generator, judges: Judges, encoder: Encoder | None = None) -> None:
        self.generator, self.judges, self.encoder = generator, judges, encoder
        self.quick = generator.reduced() if generator.w_avg.is_cuda else generator

    def __call__(self, jobs: Sequence[Job]) -> list[Answer]:
        """Jobs that ask for the same kind of search share a batch, but for L-BFGS, whose rows share a line search."""
        batches: dict[tuple[object, ...], list[int]] = {}
        for index, job in enumerate(jobs):
            alone = index if job.settings.search.optimiser == "lbfgs" else None
            kind = job.settings, job.steps, job.film, tuple(job.weights.items()), alone
            batches.setdefault(kind, []).append(index)
        answers: dict[int, Answer] = {}
        for indices in batches.values():
            answers |= zip(indices, self._batch([jobs[index] for index in indices]), strict=True)
        return [answers[index] for index in range(len(jobs))]

    def _batch(self, jobs: Sequence[Job]) -> list[Answer]:
        generator, settings, steps = self.generator, jobs[0].settings, jobs[0].steps
        released = settings.search.preset == "original"
        searched, plan = (generator, ORIGINAL) if released else (self.quick, PLANS[settings.search.optimiser])
        if generator.has_normal_latents and not released:
            plan = plan.from_close()
        known = [Known.of(job.shots, job.identity, generator.w_avg.device) for job in jobs]
        objective = self._objective(Known.joined(known), jobs[0])
        start, warnings = self._start(objective, settings.seed, released)
        film = Film(objective, max(1, -(-steps // FRAMES))) if jobs[0].film else None

        def tell(share: float) -> None:
            for job in jobs:
                job.tell(share * (_SEARCH_SHARE if settings.search.tune else 1.0))

        found = search(searched, film or objective, start, plan, steps, settings.seed, tell)
        whole, answers, row = Pyramid.of(searched, plan, settings.seed).whole(plan), [], 0
        for job, its_known in zip(jobs, known, strict=True):
            its_found = found.rows(row, row + len(job.shots))
            films = [film and film.of(row + turn) for turn in range(len(job.shots))]
            completions, its_warnings = self._completions(job, its_known, its_found, films)
            answers.append(Answer(completions, (*warnings, *its_warnings), whole))
            row += len(job.shots)
        return answers

    def _objective(self, known: Known, job: Job) -> Objective:
        return Objective(known, self.judges, self.generator.w_avg, job.weights)

    def _start(self, objective: Objective, seed: int, released: bool) -> tuple[Tensor, tuple[str, ...]]:
        """Where the search of each picture starts, and warnings."""
        generator, images = self.generator, objective.known.image
        guess = None if self.encoder is None else self.encoder(images)
        wanted, warnings = (generator.num_ws, len(generator.w_avg)), ()
        if guess is not None and guess.shape[1:] != wanted:
            got, guess = tuple(guess.shape[1:]), None
            warnings = (f"the style encoder guesses latents of shape {got}, not the generator's {wanted}; {_WITHOUT}",)
        start = generator.w_avg.repeat(len(images), generator.num_ws, 1) if guess is None else guess
        if released:
            return start, warnings
        if generator.has_normal_latents:
            return likeliest(self.quick, images, objective.known.trust, start, seed), warnings
        random = best_of_random(self.quick, objective, len(images), _RANDOM_STARTS, seed)
        return random if guess is None else better_start(self.quick, objective, guess, random, seed), warnings

    def _completions(
        self, job: Job, known: Known, found: Found, films: Sequence[Tensor | None]
    ) -> tuple[tuple[Completion, ...], tuple[str, ...]]:
        """A job's completions, and warnings."""
        pictures, warnings = self._pictures(job, known, found.w_plus)
        completions = []
        for row, (shot, picture) in enumerate(zip(job.shots, (pictures / 2 + 0.5).clamp(0, 1).cpu(), strict=True)):
            name, history, diverged = shot.view.name, found.history[row], found.diverged[row]
            if not bool((shot.trust > 0).any()):
                warnings.append(f"{name}: nothing is known of this view; the generator made it up.")
            if diverged and not history:
                warnings.append(f"{name}: the search gave no finite loss; the view stays as it was rendered.")
                completions.append(Completion(shot, shot.image))
                continue
            if diverged:
                warnings.append(f"{name}: the search diverged after {len(history)} steps; its best was kept.")
            completions.append(Completion(shot, picture, found.w_plus[row].cpu(), history, films[row]))
        return tuple(completions), tuple(warnings)

    def _pictures(self, job: Job, known: Known, w_plus: Tensor) -> tuple[Tensor, list[str]]:
        """[N, 3, R, R] in -1..1, by the generator or by a copy that learns this face, and warnings."""
        if not job.settings.search.tune:
            return self.generator.synthesis(w_plus), []
        pictures, losses = tuned_pictures(
            self.generator,
            self._objective(known, job),
            w_plus,
            job.settings.search.tune,
            lambda share: job.tell(_SEARCH_SHARE + (1 - _SEARCH_SHARE) * share),
        )
        sound = bool(torch.isfinite(losses).all())
        return pictures, [] if sound else ["the tuning gave no finite loss; views stay as the search found them."]
