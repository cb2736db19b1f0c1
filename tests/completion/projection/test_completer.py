"""The projection completer on the painted head, with a small random generator in place of one of faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_stylegan2 import generator_tensors, without_mapping
from synthetic import all_skin, head, paint, photograph

from ostec.completion.mirror import MirrorCompleter
from ostec.completion.projection.completer import ProjectionCompleter
from ostec.completion.projection.loss import terms_in_use
from ostec.completion.projection.projector import GeneratorTraits
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.starts import MapStart
from ostec.completion.projection.view_search import MAX_FRAMES, SearchRequest, SearchResponse, ViewSearch
from ostec.errors import Cancelled
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Encoder, LossNetworks
from ostec.networks.stylegan2 import Generator
from ostec.settings import SearchSettings, Settings
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY, in_batches, plan_views, shoot
from ostec.types import Atlas, Completed, Face

SIZE = 96
GENERATOR = Generator(generator_tensors(resolution=32, channels=8))
NO_NETWORKS = LossNetworks()
SHORT = SearchSettings(iterations=6, iterations_frontalize=4)
SETTINGS = Settings(texture_size=SIZE, frontalize=True, frontal_size=64, search=SHORT)


class Perception:
    """Sees plain differences."""

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def features(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        return [pictures * self.gain]

    def compare(self, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
        return (first[0] - second[0]).square().mean(dim=(1, 2, 3))


def known(yaw_deg: float = 20.0, mode: str = "soft") -> tuple[Face, Atlas]:
    face = head(yaw_deg)
    photo = photograph(face, paint(SIZE))
    texels = bake_texels(face, (SIZE, SIZE), rasterise)
    seen = unwrap(photo.rgb, face.camera, face, texels, rasterise, all_skin())
    kind = "soft" if mode == "soft" else "hard"
    return Face(photo, face, all_skin(), texels, kind), Atlas().add("photo", seen, PHOTO_PRIORITY[kind], "photo")


def searching(**changes: Any) -> Settings:
    return Settings(texture_size=SIZE, search=SearchSettings(**changes))


def complete(
    networks: LossNetworks = NO_NETWORKS,
    settings: Settings = SETTINGS,
    mode: str = "soft",
    progress: Callable[[str, float], object] = lambda *_: None,
    generator: Generator = GENERATOR,
) -> Completed:
    with torch.no_grad():
        return completer(networks, generator)(*known(mode=mode), settings, progress)


def completer(
    networks: LossNetworks = NO_NETWORKS, generator: Generator = GENERATOR, encoder: Encoder | None = None
) -> ProjectionCompleter:
    return ProjectionCompleter(ViewSearch(generator, networks, encoder), MirrorCompleter(), rasterise)


def test_every_view_is_searched_and_laid_into_the_texture() -> None:
    (face, atlas), done = known(), complete()
    seen = atlas.photo
    trusted = face.texels.inside & (seen.confidence >= TRUSTED)
    assert [c.shot.view for c in done.completions] == list(plan_views("soft"))
    assert all(c.latent is not None and c.latent.shape == (8, 8) for c in done.completions)
    assert all(0 < len(c.history) <= 6 for c in done.completions)
    assert torch.equal(done.texture.rgb[:, trusted], seen.rgb[:, trusted])
    reached = (done.texture.confidence > TRUSTED) & ~trusted
    assert int(reached.sum()) > 100
    plain = MirrorCompleter()(face, atlas, SETTINGS, lambda *_: None).texture.rgb
    assert float((done.texture.rgb - plain)[:, reached].abs().mean()) > 0.02
    assert done.frontal is not None and done.frontal.shape == (3, 64, 64)
    assert list(done.notes["loss_history"]) == [*(view.name for view in plan_views("soft")), "frontal"]
    assert all(done.notes["loss_history"][c.shot.view.name] == pytest.approx(c.history) for c in done.completions)


def test_hard_mode_begins_with_the_front() -> None:
    assert complete(mode="hard").completions[0].shot.view.name == "front"


def test_a_generator_of_heads_makes_no_frontal_picture() -> None:
    traits = GeneratorTraits(portraits=False)
    heads = ProjectionCompleter(ViewSearch(GENERATOR, NO_NETWORKS), MirrorCompleter(), rasterise, traits=traits)
    with torch.no_grad():
        done = heads(*known(), SETTINGS, lambda *_: None)
    portrait = complete()
    assert done.frontal is None and portrait.frontal is not None
    assert torch.equal(done.texture.rgb, portrait.texture.rgb)


def test_the_original_takes_one_view_after_the_other() -> None:
    """Then the right view knows what the left one added."""
    original = complete(settings=searching(iterations=2, preset="original"))
    default = complete(settings=searching(iterations=2))
    trust = [float(done.completions[4].shot.trust.mean()) for done in (original, default)]
    assert trust[0] > trust[1]
    assert [len(batch) for batch in in_batches(plan_views("hard"))] == [1, 1, 2, 2]


def test_a_tuned_view_is_closer_to_what_is_known() -> None:
    def error(done: Completed) -> float:
        return sum(float(((c.image - c.shot.image) * c.shot.trust).abs().mean()) for c in done.completions[:1])

    plain, tuned = (complete(settings=searching(iterations=4, tune=tune)) for tune in (0, 40))
    assert error(tuned) < 0.9 * error(plain)


def test_tuning_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(generator: Generator, loss: object, w_plus: torch.Tensor, steps: int, progress: object):
        return generator.synthesis(w_plus), torch.full((len(w_plus),), torch.inf)

    monkeypatch.setattr("ostec.completion.projection.view_search.tuned_pictures", fails)
    done = complete(settings=searching(iterations=2, tune=2))
    assert any("tuning gave no finite loss" in warning for warning in done.notes["warnings"])


def test_a_bad_guess_gives_way_to_a_random_start() -> None:
    with torch.no_grad():
        guessing = completer(encoder=lambda pictures: torch.full((len(pictures), 8, 8), 50.0))
        done = guessing(*known(), SETTINGS, lambda *_: None)
    assert torch.equal(done.texture.rgb, complete().texture.rgb)


def test_a_discriminator_that_sees_no_full_picture_is_named() -> None:
    networks = LossNetworks(discriminator=lambda x: x.mean().view(1, 1))
    terms = terms_in_use(networks, full_resolution=False)
    assert "full resolution" in terms["discriminator"]
    assert terms_in_use(networks)["discriminator"] == complete(networks).notes["loss_terms"]["discriminator"] == "on"


def test_every_optimiser_finds_something() -> None:
    for name in ("adam", "lbfgs"):
        done = complete(settings=searching(iterations=8, optimiser=name))
        assert done.completions and all(min(c.history) < c.history[0] for c in done.completions)


def test_a_film_shows_the_search_from_start_to_end() -> None:
    done = complete(settings=searching(iterations=6, film=True))
    for completion in done.completions:
        assert completion.film is not None and completion.film.dtype == torch.uint8
        assert completion.film.shape == (6, 3, 256, 256)
        first, last = (completion.film[i].float() / 255 for i in (0, -1))
        assert not torch.equal(first, last)
    assert all(completion.film is None for completion in complete().completions)
    long = complete(settings=searching(iterations=31, film=True)).completions[0].film
    assert long is not None and len(long) <= MAX_FRAMES
    none = complete(settings=searching(iterations=0, film=True))
    assert all(completion.film is None for completion in none.completions)


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again = complete(), complete()
    assert torch.equal(first.texture.rgb, again.texture.rgb)
    assert first.frontal is not None and again.frontal is not None and torch.equal(first.frontal, again.frontal)


def test_terms_without_a_network_are_named() -> None:
    state = complete().notes["loss_terms"]
    assert {term for term, said in state.items() if said == "on"} == {"pixels", "ms_ssim", "latent"}
    assert all(
        "off" in state[term]
        for term in ("perceptual", "features", "discriminator", "landmarks", "heat_maps", "identity")
    )


def test_networks_that_are_there_are_used() -> None:
    used: set[str] = set()

    def note(name: str, answer: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def network(*pictures: torch.Tensor) -> torch.Tensor:
            used.add(name)
            return answer(*pictures)

        return network

    networks = LossNetworks(
        landmarks=note("landmarks", lambda x: x.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 68, 2)),
        identity=note("identity", lambda x, points: x.mean(dim=(2, 3))),
        perception=Perception(),
        discriminator=note("discriminator", lambda x: x.mean().view(1, 1)),
    )
    done = complete(networks)
    assert used == {"landmarks", "identity", "discriminator"}
    assert {term for term, said in done.notes["loss_terms"].items() if said != "on"} == {"heat_maps"}


def test_heat_maps_take_the_place_of_points() -> None:
    class Spots:
        """Sees brightness, and expects none."""

        def predict(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures[:, :1].expand(-1, 68, -1, -1)

        def target(self, landmarks_px: torch.Tensor, picture_px: int) -> torch.Tensor:
            assert float(landmarks_px.min()) > 0 and float(landmarks_px.max()) < picture_px
            return torch.zeros(len(landmarks_px), 68, picture_px, picture_px)

    def never(pictures: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the network of points was called")

    done = complete(LossNetworks(landmarks=never, heat_maps=Spots()))
    terms = done.notes["loss_terms"]
    assert terms["heat_maps"] == "on" and "heat maps take its place" in terms["landmarks"]
    assert float(done.completions[0].image[0].mean()) < float(complete().completions[0].image[0].mean())


def test_an_encoder_s_guess_is_where_the_search_starts() -> None:
    guess = torch.full((8, 8), 0.25)
    with torch.no_grad():
        guessing = completer(encoder=lambda pictures: guess.expand(len(pictures), -1, -1))
        settings = searching(iterations=0, preset="original")
        done = guessing(*known(), settings, lambda *_: None)
    assert all(c.latent is not None and torch.equal(c.latent, guess) for c in done.completions)


def test_of_normal_latents_the_search_starts_at_the_map_estimate_and_is_short() -> None:
    heads = Generator(without_mapping(generator_tensors(resolution=32, channels=8)))
    guess = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    face, atlas = known()
    with torch.no_grad():
        guessing = completer(generator=heads, encoder=lambda pictures: guess.expand(len(pictures), -1, -1))
        unmoved = guessing(face, atlas, searching(iterations=0), lambda *_: None)
        searched = guessing(face, atlas, searching(iterations=200), lambda *_: None)
    (first, *_), start = unmoved.completions, guess.expand(1, -1, -1)
    estimate = MapStart(Pyramid(heads))(first.shot.image[None], first.shot.trust[None, None], start)
    assert first.latent is not None and torch.equal(first.latent, estimate[0])
    assert all(10 < len(c.history) < 100 and min(c.history) < c.history[0] for c in searched.completions)
    reduced = completer(generator=heads, encoder=lambda pictures: guess.expand(len(pictures), -1, -1))
    reduced.search._quick = Pyramid(heads.reduced())  # as on a GPU: the start is made in float32 all the same
    with torch.no_grad():
        (again, *_) = reduced(face, atlas, searching(iterations=0), lambda *_: None).completions
    assert again.latent is not None and torch.equal(again.latent, estimate[0])


def test_an_encoder_for_another_generator_is_left_aside_and_named() -> None:
    with torch.no_grad():
        guessing = completer(encoder=lambda pictures: torch.zeros(len(pictures), 18, 512))
        done = guessing(*known(), SETTINGS, lambda *_: None)
    assert torch.equal(done.texture.rgb, complete().texture.rgb)
    assert [w for w in done.notes["warnings"] if "(18, 512)" in w and "(8, 8)" in w] == done.notes["warnings"]
    assert len(done.notes["warnings"]) == 1


def test_a_search_that_fails_leaves_the_view_as_rendered_and_says_so() -> None:
    done = complete(LossNetworks(perception=Perception(gain=torch.nan)))
    assert all(torch.equal(c.image, c.shot.image) and c.latent is None for c in done.completions)
    assert len(done.notes["warnings"]) == 6 and "no finite loss" in done.notes["warnings"][0]
    assert bool(torch.isfinite(done.texture.rgb).all())


def test_progress_rises_and_stops_the_search() -> None:
    shares: list[float] = []
    complete(progress=lambda stage, share: shares.append(share))
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)

    def stop(stage: str, share: float) -> None:
        if share > 0.3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        complete(progress=stop)


def test_faces_searched_together_come_out_as_each_alone() -> None:
    turned, batches = (20.0, -35.0, 5.0), list[int]()
    settings = Settings(
        texture_size=SIZE, frontalize=True, frontal_size=64, search=SearchSettings(iterations=6, optimiser="adam")
    )

    class Watched(ViewSearch):
        def __call__(self, requests: Sequence[SearchRequest]) -> list[SearchResponse | Exception]:
            batches.append(sum(len(request.shots) for request in requests))
            return super().__call__(requests)

    faces = [known(yaw_deg, "hard" if abs(yaw_deg) > 30 else "soft") for yaw_deg in turned]
    alone = [completer()(*face, settings, lambda *_: None) for face in faces]
    batches.clear()
    slots = ProjectionCompleter(Watched(GENERATOR, NO_NETWORKS), MirrorCompleter(), rasterise).slots(len(faces))

    @torch.no_grad()
    def complete_in_slot(number: int) -> Completed:
        with slots[number] as batched:
            return batched(*faces[number], settings, lambda *_: None)

    with ThreadPoolExecutor(len(faces)) as pool:
        together = list(pool.map(complete_in_slot, range(len(faces))))
    assert batches == [3, 5, 6, 4, 1]
    for one, other in zip(alone, together, strict=True):
        assert one.notes["loss_history"].keys() == other.notes["loss_history"].keys()
        assert one.frontal is not None and other.frontal is not None
        assert float((one.texture.rgb - other.texture.rgb).abs().max()) < 1e-4
        assert float((one.frontal - other.frontal).abs().max()) < 5e-3


def requests(settings: Settings) -> list[SearchRequest]:
    """Of two shots and of one."""
    face, atlas = known()
    shots = tuple(
        shoot(face.reconstruction, atlas.photo.rgb, face.texels.inside.float(), view, 32, rasterise)
        for view in plan_views("soft")[:3]
    )
    return [SearchRequest(some, None, settings) for some in (shots[:2], shots[2:])]


@pytest.mark.parametrize("change", [{"tune": 3}, {"film": True}, {"optimiser": "lbfgs"}, {"preset": "original"}])
def test_the_result_of_a_face_does_not_depend_on_the_others(change: dict[str, Any]) -> None:
    settings = searching(**{"iterations": 5, "optimiser": "adam", **change})
    search, both = ViewSearch(GENERATOR, NO_NETWORKS), requests(settings)
    with torch.no_grad():
        together, alone = search(both), [search.submit(request) for request in both]
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, SearchResponse)
        for first, second in zip(one.completions, other.completions, strict=True):
            assert float((first.image - second.image).abs().max()) < 5e-3
            assert first.history == pytest.approx(second.history, rel=1e-3)
            assert (first.film is None) == (second.film is None) == (not settings.search.film)


@pytest.mark.parametrize(("tune", "from_share"), [(0, 0.3), (3, 0.3), (3, 0.9)])
def test_a_cancelled_request_ends_alone(tune: int, from_share: float) -> None:
    """Whether its search is cancelled or its tuning."""
    calls: list[float] = []

    def cancel(share: float) -> None:
        calls.append(share)
        if share >= from_share:
            raise Cancelled("stopped")

    search = ViewSearch(GENERATOR, NO_NETWORKS)
    first, second = requests(searching(iterations=5, tune=tune, optimiser="adam"))
    with torch.no_grad():
        whole = search.submit(second)
        ended, other = search([replace(first, progress=cancel), second])
        assert isinstance(ended, Cancelled) and isinstance(other, SearchResponse)
        assert sum(share >= from_share for share in calls) == 1
        assert float((whole.completions[0].image - other.completions[0].image).abs().max()) < 1e-3
        assert all(isinstance(one, Cancelled) for one in search([replace(first, progress=cancel)] * 2))
        with pytest.raises(Cancelled):
            search.submit(replace(first, progress=cancel))
