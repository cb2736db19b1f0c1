"""Parts by name: wrong names say what there is, devices and folders are checked, shipped files are undamaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from ostec import BadSettings, MissingWeights, UnknownComponent
from ostec.cli.commands import main
from ostec.registry import device
from ostec.registry.components import build, demo_photo, load_parts, neutral_head, select_parts
from ostec.registry.table import PART_KINDS, rows
from ostec.weights.catalogue import FILES
from ostec.weights.locate import DATA_DIR, fingerprint
from ostec.weights.shipped import check_shipped


def test_auto_picks_registered_names_and_says_so_in_one_line() -> None:
    selection = select_parts()
    assert tuple(selection.names) == PART_KINDS
    assert all(name in {entry.name for entry in rows(kind)} for kind, name in selection.names.items())
    assert selection.names["completer"] in selection.statement
    assert "\n" not in selection.statement


@pytest.mark.parametrize("kind", ["completer", "reconstructor", "detector", "segmenter"])
def test_an_unknown_name_lists_the_known_ones(kind: str) -> None:
    known = ", ".join(sorted(entry.name for entry in rows(kind)))
    with pytest.raises(UnknownComponent, match=f"no {kind} is called 'nonsense'; there is {known}"):
        select_parts(**{kind: "nonsense"})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownComponent, match="there is"):
        build(kind, "nonsense")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSettings, match="no CUDA GPU"):
        select_parts(device="cuda")
    with pytest.raises(BadSettings, match="choose auto, cpu, cuda"):
        select_parts(device="abacus")
    assert select_parts(device="cpu") == select_parts()


def test_a_gpu_that_computes_nothing_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(where: str) -> None:
        raise RuntimeError("CUDA error: no kernel image\nis available for execution")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "try_kernels", fail)
    selection = select_parts("projection")
    assert selection.device == "cpu" and "no kernel image is available" in selection.statement
    with pytest.raises(BadSettings, match="no kernel image"):
        select_parts(device="cuda")
    with pytest.warns(RuntimeWarning, match="no kernel image"):
        assert load_parts("projection").device == "cpu"
    assert "GPU" not in select_parts("prior").statement, "no part of these would use one"
    monkeypatch.setattr(device, "try_kernels", lambda where: None)
    assert select_parts("projection").device == "cuda" and select_parts("prior").device == "cpu"


def test_the_trial_of_a_device_computes_what_it_should() -> None:
    device.try_kernels("cpu")
    with pytest.raises(Exception, match=r"."):
        device.try_kernels("meta")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--source_dir", str(demo_photo()), "--save_dir", "out"],
        ["demo", "--save_dir", "out"],
        ["models", "list"],
        ["models", "check"],
        ["transfer", "{head}", "mediapipe", "--save_dir", "out"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_weights_folder_that_is_none_is_refused_everywhere(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [word.format(head=write_head(tmp_path)) for word in command]
    assert main([*command, "--weights_dir", "nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere: not a folder" in line
    monkeypatch.setenv("OSTEC_WEIGHTS", "gone")
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gone: not a folder" in line and "OSTEC_WEIGHTS" in line


def write_head(folder: Path) -> Path:
    """A textured OBJ file."""
    from ostec.files.obj import encode_mtl, encode_obj
    from ostec.files.photos import encode_png

    (folder / "head.obj").write_bytes(encode_obj(neutral_head("mediapipe").shape, "head.mtl"))
    (folder / "head.mtl").write_bytes(encode_mtl("head.png"))
    (folder / "head.png").write_bytes(encode_png(torch.full((3, 8, 8), 0.5)))
    return folder / "head.obj"


def test_models_list_looks_into_the_folder_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ffhq.pkl").touch()
    assert main(["models", "list", "--weights_dir", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    (tmp_path / "ffhq.pkl.sha256").write_text(f"{'0' * 64}  ffhq.pkl\n")
    assert main(["models", "check", "--weights_dir", str(tmp_path)]) == 2
    assert "ffhq.pkl" in capsys.readouterr().err


def test_load_parts_refuses_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="nowhere"):
        load_parts(weights_dir=tmp_path / "nowhere")


def test_parts_carry_their_names_and_the_licences_of_the_files_they_use() -> None:
    parts = load_parts()
    assert parts.names == select_parts().names
    facemesh = {"facemesh.safetensors", "facemesh_mirror.safetensors", "facemesh_topology.npz"}
    others = {"blazeface_back_256.safetensors", "selfie_segmentation.safetensors", "face_prior.safetensors"}
    assert set(parts.licences) == set(parts.weights) == facemesh | others
    other = select_parts("mirror", detector="mtcnn").licences
    assert "mtcnn.safetensors" in other and "blazeface_back_256.safetensors" not in other
    assert "face_prior.safetensors" not in other


def test_a_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    content = bytearray(torch.arange(100_000, dtype=torch.int32).numpy().tobytes())
    path.write_bytes(content)
    first = fingerprint(path)
    (tmp_path / "b.bin").write_bytes(content)
    assert fingerprint(tmp_path / "b.bin") == first
    path.write_bytes(content + b"\0")
    assert fingerprint(path) != first
    content[-1] ^= 1
    path.write_bytes(content)
    assert fingerprint(path) != first
    path.write_bytes(b"")
    assert len(fingerprint(path)) == 16


def test_shipped_files_are_listed_with_their_checksums() -> None:
    lines = (DATA_DIR / "SHA256SUMS").read_text().splitlines()
    actual = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(DATA_DIR.iterdir())
        if path.name != "SHA256SUMS"
    ]
    assert lines == actual, "after a change in src/ostec/data: make sums"
    networks = {path.name for path in DATA_DIR.iterdir()} - {"SHA256SUMS", "astronaut.jpg"}
    assert {file.file for file in FILES.values() if file.shipped} == networks
    assert check_shipped() == {}


def test_shipped_files_have_their_licence_line() -> None:
    table = (Path(__file__).parents[2] / "THIRD_PARTY.md").read_text()
    for path in DATA_DIR.iterdir():
        assert path.name in table or path.name == "SHA256SUMS"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    good = hashlib.sha256(b"good").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{good}  a.bin\n{good}  b.bin\n{good}  c.bin\n")
    (tmp_path / "a.bin").write_bytes(b"good")
    (tmp_path / "b.bin").write_bytes(b"bad")
    wrong = check_shipped(tmp_path)
    assert set(wrong) == {"b.bin", "c.bin"}
    assert "not the file that was shipped" in wrong["b.bin"]
    assert "missing" in wrong["c.bin"]
