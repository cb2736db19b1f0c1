"""Photos at work at the same time: groups in threads, the writer beside them, and other ways to do the jobs."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from fakes import SETTINGS, FakeSelection, complete, detect, make_photos, run, statuses, write

from ostec.batch.plan import BatchOptions, Job, PartSelection, Plan
from ostec.batch.run import run_batch
from ostec.batch.summary import BatchLog, Event
from ostec.batch.work import complete_photo, save
from ostec.errors import BadSettings, Cancelled, CannotWrite, NoFace
from ostec.interfaces import Completer, Progress
from ostec.settings import Settings
from ostec.types import Atlas, Completed, Detection, Face, Photo, Result

ALL = BatchOptions(faces="all")


@pytest.mark.parametrize("error", [Cancelled("stopped"), RuntimeError("out of memory")])
def test_an_error_or_cancel_of_one_job_ends_no_other_of_its_group(tmp_path: Path, error: Exception) -> None:
    def fail_a(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        if face.photo.name.endswith("a.jpg"):
            raise error
        return complete(face, atlas, settings, progress)

    photos = make_photos(tmp_path / "in", *(f"{letter}.jpg" for letter in "abcd"))
    summary = run(photos, tmp_path / "out", FakeSelection(completer=fail_a), options=BatchOptions(batch_size=2))
    assert [record.status for record in summary.records] == ["failed", "done", "done", "done"]
    assert str(error) in summary.records[0].reason


def test_another_executor_can_do_the_jobs(tmp_path: Path) -> None:
    """Here one that gives each job to `work` on the spot."""
    photos, loaded = make_photos(tmp_path / "in", "a.jpg", "b_noface.jpg", "three.jpg"), []

    def execute(jobs: Iterable[Job], plan: Plan, selection: PartSelection, log: BatchLog) -> None:
        parts = selection.load()
        for job in jobs:
            try:
                for name, result in complete_photo(job, parts, plan.settings, plan.options.faces, lambda *_: True):
                    log.add(job.index, files=save(result, plan.folder, name, plan.options.formats))
                log.report(job.index, 1.0, status="done")
            except NoFace as error:
                log.fail(job.index, error)
            loaded.append(job.name)

    summary = run_batch(photos, tmp_path / "out", FakeSelection(), SETTINGS, ALL, execute=execute)
    assert [record.status for record in summary.records] == ["done", "failed", "done"]
    assert [record.files for record in summary.records] == [
        record.files for record in run(photos, tmp_path / "alone", options=ALL).records
    ]
    assert loaded == ["a", "b_noface", "three"]


def test_writing_overlaps_with_the_next_photo(tmp_path: Path) -> None:
    next_photo_at_work = threading.Event()
    overlapped = []

    def watching_detect(photo):
        if photo.name.endswith("b.jpg"):
            next_photo_at_work.set()
        return detect(photo)

    def waiting_write(result, save_dir, name, formats):
        overlapped.append(next_photo_at_work.wait(timeout=20))
        return write(result, save_dir, name, formats)

    photos = make_photos(tmp_path / "in", "a.jpg", "b.jpg")
    assert run(photos, tmp_path / "out", FakeSelection(waiting_write, watching_detect)).count("done") == 2
    assert overlapped == [True, True]


def test_a_photo_is_reported_done_while_the_next_is_at_work(tmp_path: Path) -> None:
    events: list[Event] = []
    a_is_written = threading.Event()

    def patient_detect(photo):
        assert photo.name.endswith("a.jpg") or a_is_written.wait(timeout=20)
        return detect(photo)

    def telling_write(result, save_dir, name, formats):
        files = write(result, save_dir, name, formats)
        a_is_written.set()
        return files

    photos = make_photos(tmp_path / "in", "a.jpg", "b.jpg")
    run(photos, tmp_path / "out", FakeSelection(telling_write, patient_detect), on_event=events.append)
    a_done = next(i for i, event in enumerate(events) if event.record.status == "done")
    b_half = next(i for i, event in enumerate(events) if event.index == 1 and event.share > 0.5)
    assert a_done < b_half


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_photos_at_work_together_end_as_each_alone(tmp_path: Path, batch_size: int) -> None:
    names = ("a.jpg", "b_noface.jpg", "c_crash.jpg", "d.jpg", "three.jpg", "f.jpg")
    photos, events = make_photos(tmp_path / "in", *names), list[Event]()
    options = BatchOptions(faces="all", batch_size=batch_size)
    summary = run(photos, tmp_path / "out", options=options, on_event=events.append)
    assert [record.status for record in summary.records] == ["done", "failed", "failed", "done", "done", "done"]
    alone = run(photos, tmp_path / "alone", options=ALL)
    assert [record.files for record in summary.records] == [record.files for record in alone.records]
    ends = [event.index for event in events if event.record.status != "waiting"]
    assert sorted(ends) == list(range(6))
    choice = FakeSelection()
    assert run(photos, tmp_path / "out", choice, options=options).count("skipped") == 4
    assert choice.loads == 1


def test_photos_of_a_group_are_at_work_at_the_same_time(tmp_path: Path) -> None:
    met = threading.Barrier(3, timeout=20)

    def meeting_detect(photo: Photo) -> list[Detection]:
        met.wait()
        return detect(photo)

    photos = make_photos(tmp_path / "in", *(f"{letter}.jpg" for letter in "abcdef"))
    choice = FakeSelection(detector=meeting_detect)
    assert run(photos, tmp_path / "out", choice, options=BatchOptions(batch_size=3)).count("done") == 6


def test_a_group_shares_the_completer_s_slots(tmp_path: Path) -> None:
    counts = []

    class Shared:
        def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
            raise AssertionError("only its slots are asked")

        def slots(self, count: int) -> list[AbstractContextManager[Completer]]:
            counts.append(count)
            return [nullcontext(complete)] * count

    photos = make_photos(tmp_path / "in", *(f"{letter}.jpg" for letter in "abc"))
    choice = FakeSelection(completer=Shared())
    assert run(photos, tmp_path / "out", choice, options=BatchOptions(batch_size=2)).count("done") == 3
    assert counts == [2, 1]


def test_a_full_disk_stops_the_others_of_a_group(tmp_path: Path) -> None:
    full = threading.Event()

    def failing_write(result: Result, save_dir: Path, name: str, formats: tuple[str, ...]) -> Mapping[str, Path]:
        full.set()
        raise CannotWrite(f"{name}.png: full") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def patient_detect(photo: Photo) -> list[Detection]:
        assert photo.name.endswith("a.jpg") or full.wait(timeout=20)
        return detect(photo)

    photos = make_photos(tmp_path / "in", *(f"{letter}.jpg" for letter in "abcd"))
    with pytest.raises(CannotWrite, match="no photo can be written"):
        run(photos, tmp_path / "out", FakeSelection(failing_write, patient_detect), options=BatchOptions(batch_size=2))
    assert statuses(tmp_path / "out")[0] == "failed"
    assert statuses(tmp_path / "out")[2:] == ["waiting", "waiting"]
    assert not list((tmp_path / "out").glob("*.png"))


def test_an_interrupt_leaves_the_photos_of_a_group_waiting(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.index == 2 and event.share > 0.5:
            raise KeyboardInterrupt

    photos = make_photos(tmp_path / "in", *(f"{letter}.jpg" for letter in "abcde"))
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out", options=BatchOptions(batch_size=2), on_event=interrupt)
    found = statuses(tmp_path / "out")
    assert found[:2] == ["done", "done"] and found[2] == found[4] == "waiting" and "failed" not in found
    assert run(photos, tmp_path / "out", options=BatchOptions(batch_size=2)).count("failed") == 0


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(BadSettings, match="batch_size"):
        BatchOptions(batch_size=0)
