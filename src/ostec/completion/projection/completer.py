"""The completer of the paper: builds the base texture, projects the views, and reports on the searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from ostec.completion.projection.batching import RequestBatcher
from ostec.completion.projection.projector import PORTRAITS, GeneratorTraits, project_frontal, project_views
from ostec.completion.projection.view_search import FaceSearch, SearchRequest, SearchResponse, ViewSearch
from ostec.interfaces import Completer, Progress, Rasteriser
from ostec.settings import SearchSettings, Settings
from ostec.types import Atlas, Completed, Face

_BASE_SHARE, _FRONTAL_SHARE = 0.05, 0.25
"""Of the progress."""


class ProjectionCompleter:
    """Completes each rotated view by searching the W+ space of a face generator.

    `base` completes what no view shows, and remains where a search fails. The report names the networks of the loss
    that are missing, and repeats `remarks` on the generator. A generator whose `traits` are not of portraits makes no
    frontal picture. `submit` runs a request; by default `search` does so at once.
    """

    def __init__(
        self,
        search: ViewSearch,
        base: Completer,
        rasterise: Rasteriser,
        remarks: tuple[str, ...] = (),
        traits: GeneratorTraits = PORTRAITS,
        submit: Callable[[SearchRequest], SearchResponse] | None = None,
    ) -> None:
        self.search, self.base, self.rasterise = search, base, rasterise
        self.remarks, self.traits = remarks, traits
        self.submit = submit or search.submit

    def slots(self, count: int) -> Sequence[AbstractContextManager[ProjectionCompleter]]:
        """Completers whose views are searched in one batch (`interfaces.BatchingCompleter`)."""
        batcher = RequestBatcher(count, self.search)
        return [self._with_slot(batcher.slot(number)) for number in range(count)]

    @contextmanager
    def _with_slot(
        self, slot: AbstractContextManager[Callable[[SearchRequest], SearchResponse]]
    ) -> Iterator[ProjectionCompleter]:
        with slot as submit:
            yield ProjectionCompleter(self.search, self.base, self.rasterise, self.remarks, self.traits, submit)

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        size_px = self.search.generator.resolution
        search = FaceSearch(self.submit, settings, self.search.identity(face), size_px, progress)
        frontalize = settings.frontalize and self.traits.portraits
        end = 1 - _FRONTAL_SHARE if frontalize else 1.0
        base = None
        if settings.search.preset != "original":
            unsearched = replace(settings, search=SearchSettings())
            base = self.base(face, atlas, unsearched, lambda stage, done: progress(stage, _BASE_SHARE * done))
        rgb = None if base is None else base.texture.rgb
        done = project_views(face, atlas, rgb, search, self.traits, self.rasterise, (_BASE_SHARE, end))
        texture = done.texture if base is None else replace(done.texture, std=base.texture.std)
        frontal = None
        if frontalize:
            frontal = project_frontal(face, texture, search, settings.frontal_size, self.rasterise, (end, 1.0))
        warnings = [*self.remarks, *(base.notes.get("warnings", []) if base else []), *search.warnings]
        notes = {
            "loss_terms": self.search.terms_in_use(settings),
            "loss_history": search.history,
            "warnings": list(dict.fromkeys(warnings)),
        }
        return Completed(texture, done.completions, frontal, notes)
