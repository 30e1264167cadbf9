"""Features on disk: what was written comes back, or nothing does."""

import errno
import logging
import multiprocessing
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from models.reasoners import feature_files
from models.reasoners.feature_files import FeatureFiles, fingerprint
from models.reasoners.prompts import EncodedImages
from models.reasoners.scratch import ScratchConfig, save

ROOT = Path(__file__).parents[2]
KEY = "ab" * 20


def features(dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(12, width, generator=generator).to(dtype) for width in (8, 8, 4))


def equal(got: tuple[torch.Tensor, ...] | None, expected: tuple[torch.Tensor, ...]) -> bool:
    return got is not None and all(
        one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(got, expected, strict=True)
    )


@pytest.fixture
def files(tmp_path: Path) -> FeatureFiles:
    return FeatureFiles(tmp_path / "cache", "tower")


def file(files: FeatureFiles) -> Path:
    return files.folder / "ab" / f"{KEY}.safetensors"


# --- what comes back ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_written_comes_back(files: FeatureFiles, dtype: torch.dtype) -> None:
    assert files.read(KEY) is None
    files.write(KEY, features(dtype))
    assert equal(files.read(KEY), features(dtype))
    assert equal(FeatureFiles(files.folder.parent, "tower").read(KEY), features(dtype))
    assert [path for path in files.folder.rglob("*") if path.is_file()] == [file(files)]
    # not for another frame, nor from another tower
    assert files.read("ac" * 20) is None
    assert FeatureFiles(files.folder.parent, "other").read(KEY) is None


def test_parts_of_one_tensor_with_gradient(files: FeatureFiles) -> None:
    whole = torch.arange(24.0).reshape(4, 6).requires_grad_()
    parts = (whole[:2], whole[1:], whole.T, whole[:0], whole.sum())
    files.write(KEY, parts)
    assert equal(files.read(KEY), tuple(part.detach() for part in parts))


def test_eleven_tensors_keep_their_order(files: FeatureFiles) -> None:
    written = tuple(torch.tensor(number) for number in range(11))
    files.write(KEY, written)
    assert equal(files.read(KEY), written)


def test_a_key_is_of_all_that_the_tower_reads() -> None:
    def image(first: float = 0.5, grid: tuple[int, ...] = (1, 2, 4), dtype: torch.dtype = torch.float32) -> str:
        patches = torch.zeros(8, 6, dtype=dtype)
        patches[0, 0] = first
        return FeatureFiles.key(EncodedImages(patches, torch.tensor([grid])))

    assert image() == image()
    assert len(image()) == 40
    assert len({image(), image(-0.5), image(0.0), image(-0.0), image(grid=(1, 4, 2)), image(dtype=torch.float16)}) == 6


def test_a_key_does_not_depend_on_how_patches_lie_in_memory() -> None:
    patches, grid = torch.randn(8, 6), torch.tensor([[1, 2, 4]])
    batch = torch.cat([torch.randn(3, 6), patches])
    key = FeatureFiles.key(EncodedImages(patches, grid))
    assert FeatureFiles.key(EncodedImages(batch[3:], grid)) == key
    assert FeatureFiles.key(EncodedImages(patches.T.contiguous().T, grid)) == key


# --- damages ---


def header(content: bytes, change: str, to: str) -> bytes:
    length = 8 + int.from_bytes(content[:8], "little")
    text = content[8:length].decode()
    assert change in text
    text = text.replace(change, to)
    return len(text.encode()).to_bytes(8, "little") + text.encode() + content[length:]


DAMAGES = {
    "empty": lambda content: b"",
    "a few bytes": lambda content: content[:5],
    "half a header": lambda content: content[:50],
    "half": lambda content: content[: len(content) // 2],
    "the last byte": lambda content: content[:-1],
    "more": lambda content: content + b"\0",
    "no safetensors": lambda content: b"\xff" * len(content),
    "another file": lambda content: torch.randn(300).numpy().tobytes(),
    "a bit of the numbers": lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    "a dtype": lambda content: header(content, "BF16", "F16"),
    "a shape": lambda content: header(content, "[12,4]", "[4,12]"),
    "a name": lambda content: header(content, '"1"', '"7"'),
    "no digest": lambda content: header(content, "digest", "dig"),
    "no metadata": lambda content: feature_files.save({"0": torch.zeros(3)}),
    "a list": lambda content: (2).to_bytes(8, "little") + b"[]",
    "nested": lambda content: (200_000).to_bytes(8, "little") + b"[" * 200_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_absent_and_written_again(files: FeatureFiles, damage: str, caplog) -> None:
    files.write(KEY, features())
    content = file(files).read_bytes()
    damaged = DAMAGES[damage](content)
    assert damaged != content
    file(files).write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert files.read(KEY) is None
        files.write(KEY, features())
        assert equal(files.read(KEY), features())
    assert caplog.records == []


# --- disks ---


def test_a_disk_that_fills_up_ends_the_writing_with_one_warning(files: FeatureFiles, monkeypatch, caplog) -> None:
    files.write(KEY, features())

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(feature_files, "write_atomically", full)
    for number in range(3):
        files.write(f"{number:040d}", features())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"no longer kept in '{files.folder}': [Errno 28] No space left on device" in caplog.text
    monkeypatch.undo()
    files.write("0" * 40, features())
    assert files.read("0" * 40) is None  # it stays at that
    assert equal(files.read(KEY), features())  # what is there is still used


def test_a_file_that_cannot_be_finished_leaves_nothing_behind(files: FeatureFiles) -> None:
    """A process that may write files of 300 bytes only."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        files.write(KEY, features())
        os._exit(files.read(KEY) is not None or files._writable)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [path for path in files.folder.rglob("*") if path.is_file()] == []


def test_a_file_in_the_place_of_the_folder(files: FeatureFiles, caplog) -> None:
    files.folder.parent.write_text("no folder")
    assert files.read(KEY) is None
    files.write(KEY, features())
    assert files.read(KEY) is None
    assert len(caplog.records) == 1


def test_a_folder_in_the_place_of_a_file(files: FeatureFiles, caplog) -> None:
    file(files).mkdir(parents=True)
    assert files.read(KEY) is None
    files.write(KEY, features())
    assert len(caplog.records) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_is_read_only(files: FeatureFiles, caplog) -> None:
    files.write(KEY, features())
    files.folder.chmod(0o500)
    try:
        files.write("0" * 40, features())
        assert equal(files.read(KEY), features())
    finally:
        files.folder.chmod(0o700)
    assert len(caplog.records) == 1


def test_several_processes_write_the_same(files: FeatureFiles, caplog) -> None:
    large = tuple(tensor.repeat(500, 1) for tensor in features())
    context = multiprocessing.get_context("fork")
    begin = context.Event()

    def work() -> None:
        begin.wait()
        for _ in range(20):
            files.write(KEY, large)
        os._exit(not files._writable)

    processes = [context.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    begin.set()
    with caplog.at_level(logging.INFO):
        while any(process.is_alive() for process in processes):
            got = files.read(KEY)
            assert got is None or equal(got, large)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert caplog.records == []  # none was damaged
    assert equal(files.read(KEY), large)
    assert [path for path in files.folder.rglob("*") if path.is_file()] == [file(files)]


# --- towers ---


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    save(ScratchConfig(family=request.param, hidden_size=32, intermediate_size=32, num_layers=1), folder)
    return folder


def tower(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).model.visual


def test_a_fingerprint_is_of_configuration_dtype_and_weights(folder: Path, tmp_path: Path) -> None:
    name = fingerprint(tower(folder))
    assert name == fingerprint(tower(folder).eval().requires_grad_(False))
    assert len(name) == 32
    moved = tmp_path / "elsewhere"
    AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(moved)
    assert fingerprint(tower(moved)) == name

    with torch.autocast("cpu", torch.bfloat16):
        assert fingerprint(tower(folder)) != name
    others = [tower(folder, torch.bfloat16)]
    for change in ("a weight", "a bias", "the configuration"):
        other = tower(folder)
        if change == "the configuration":
            other.config.spatial_merge_size = 4
        else:
            weight = other.patch_embed.proj.weight if change == "a weight" else other.merger.get_parameter(_bias(other))
            with torch.no_grad():
                weight.flatten()[-1] += 1e-3
        others.append(other)
    assert len({name, *map(fingerprint, others)}) == 5


def _bias(tower: torch.nn.Module) -> str:
    return next(name for name, _ in tower.merger.named_parameters() if name.endswith("bias"))


def test_a_fingerprint_does_not_depend_on_chunks_or_memory_layout(folder: Path, monkeypatch) -> None:
    network = tower(folder)
    name = fingerprint(network)
    monkeypatch.setattr(feature_files, "_CHUNK", 7)
    assert fingerprint(network) == name
    weight = network.merger.get_parameter(_bias(network).replace("bias", "weight"))
    weight.data = weight.data.t().contiguous().t() if weight.ndim == 2 else weight.data
    assert fingerprint(network) == name


def test_weights_that_are_not_there_have_no_fingerprint(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected whole weights .* on meta; take the fingerprint after"):
        fingerprint(tower(folder).to("meta"))
    partitioned = tower(folder)
    partitioned.patch_embed.proj.weight.data = torch.empty(0)
    with pytest.raises(ValueError, match=r"`patch_embed.proj.weight` has shape \(0,\) on cpu"):
        fingerprint(partitioned)


@pytest.mark.slow
def test_a_fingerprint_is_the_same_in_another_process(folder: Path) -> None:
    program = (
        "import torchvision_shim, sys; from transformers import AutoModelForImageTextToText as A; import torch; "
        "from models.reasoners.feature_files import fingerprint; "
        "print(fingerprint(A.from_pretrained(sys.argv[1], dtype=torch.float32).model.visual))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == fingerprint(tower(folder))
