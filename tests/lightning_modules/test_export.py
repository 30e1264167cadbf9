"""A checkpoint, whole or in shards, as one folder that is the module in memory."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from dialogues import VeasonR1
from lightning_modules import AdamWConfig, SFTModule
from lightning_modules.callbacks import HFExport
from lightning_modules.checkpoints import seal
from lightning_modules.export import export, write_model
from lightning_modules.files import whole_folder
from lightning_modules.model_card import Source
from lightning_modules.weights import read_weights
from models.reasoners import LoRA, QwenVL, ScriptedReasoner
from models.reasoners.scratch import ScratchConfig, save
from tests.lightning_modules.ranks import Case, train_on_ranks
from tests.lightning_modules.test_adapters import run
from tests.lightning_modules.test_training import conversations, loader, parts, qwen


def write_configuration(folder: Path, **reasoner: Any) -> None:
    """Write what of a run's fit.yaml an export reads, beside data that are not there."""
    parts = {
        "reasoner": {"class_path": "models.reasoners.QwenVL", "init_args": reasoner},
        "dialogue": {"class_path": "dialogues.VeasonR1", "init_args": {"size": 56}},
    }
    model = {"class_path": "lightning_modules.SFTModule", "init_args": parts}
    (folder / "fit.yaml").write_text(yaml.safe_dump({"model": model, "data": {"class_path": "gone"}}))


class Run:
    """A finished run: its folder and its module in memory."""

    def __init__(self, folder: Path, base: Path, lora: dict[str, Any] | None) -> None:
        self.folder = folder
        self.base = base
        self.checkpoint = folder / "checkpoints" / "last.ckpt"
        self.module = SFTModule(reasoner=qwen(base, lora=lora and LoRA(**lora)), **parts(), optimizer=AdamWConfig(1e-2))
        keep = ModelCheckpoint(folder / "checkpoints", "last")
        write_configuration(folder, pretrained=str(base), dtype="float32", lora=lora)
        run(folder, 2, keep, HFExport()).fit(self.module, loader(conversations()))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=2), folder)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory, base) -> Run:
    return Run(tmp_path_factory.mktemp("full"), base, None)


@pytest.fixture(scope="module")
def lora(tmp_path_factory, base) -> Run:
    torch.manual_seed(0)  # of the adapters
    return Run(tmp_path_factory.mktemp("lora"), base, {"r": 4, "alpha": 8, "target_modules": "all-linear"})


def logits(finished: Run, model: Any) -> torch.Tensor:
    """What a transformers model says about a prompt with images."""
    reasoner = finished.module.reasoner
    episode = finished.module._episodes(conversations()[0])[0]
    images = reasoner.encoder.images(episode.sample, episode.chat)
    ids = reasoner.encoder.tokens(episode.chat, images.grid)[None]
    inputs = {"pixel_values": images.pixel_values.to(model.dtype), "image_grid_thw": images.grid}
    with torch.no_grad():
        said: torch.Tensor = model(
            input_ids=ids, mm_token_type_ids=(ids == reasoner.encoder.image_token).long(), **inputs
        ).logits
    return said


def opened(folder: Path, dtype: Any = torch.float32) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)


# --- the round trip


def test_full_weights_are_the_same_bits(full, tmp_path):
    export(full.checkpoint, tmp_path / "out")
    assert torch.equal(logits(full, opened(tmp_path / "out")), logits(full, full.module.reasoner.model))
    assert AutoProcessor.from_pretrained(tmp_path / "out").chat_template
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "config.json", "generation_config.json", "chat_template.jinja", "model.safetensors"} <= names


def test_merged_adapters_are_the_same_function(lora, tmp_path):
    export(lora.checkpoint, tmp_path / "out")
    # In float64, so that what differs is the rounding of the merged weights and not that of the arithmetic.
    trained = logits(lora, deepcopy(lora.module.reasoner.model).double())
    merged, base = (logits(lora, opened(folder, torch.float64)) for folder in (tmp_path / "out", lora.base))
    assert (merged - trained).abs().max() <= 1e-6 * trained.abs().max()
    assert (base - trained).abs().max() > 0.1


def test_adapters_alone_are_the_same_bits_on_the_base(lora, tmp_path):
    export(lora.checkpoint, tmp_path / "out", adapters_only=True)
    model = PeftModel.from_pretrained(opened(lora.base), tmp_path / "out")
    assert torch.equal(logits(lora, model), logits(lora, lora.module.reasoner.model))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    again = QwenVL(str(lora.base), dtype="float32", lora=LoRA(adapters=str(tmp_path / "out")))
    again.configure()
    assert torch.equal(logits(lora, again.model), logits(lora, lora.module.reasoner.model))


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_bfloat16_is_cast_float32(kind, tmp_path, request):
    checkpoint = request.getfixturevalue(kind).checkpoint
    export(checkpoint, tmp_path / "narrow", dtype="bfloat16")
    export(checkpoint, tmp_path / "wide", dtype="float32")
    narrow, wide = (load_file(tmp_path / name / "model.safetensors") for name in ("narrow", "wide"))
    assert narrow.keys() == wide.keys()
    for name, value in wide.items():
        assert value.dtype == torch.float32
        assert torch.equal(narrow[name], value.bfloat16()), name
    assert opened(tmp_path / "narrow", "auto").dtype == torch.bfloat16


def test_the_callback_writes_the_same_folder(full, lora, tmp_path):
    for name, finished in {"full": full, "lora": lora}.items():
        export(finished.checkpoint, tmp_path / name)
        for file in (tmp_path / name).iterdir():
            if file.name != "README.md":
                assert file.read_bytes() == (finished.folder / "hf" / file.name).read_bytes(), file.name


# --- shards


@pytest.mark.parametrize("name", ["state_dict", "model"])
def test_shards_of_torch_are_read_without_the_optimizer(full, tmp_path, name):
    state = full.module.state_dict()
    momentum = {"exp_avg": torch.zeros(3)}
    dcp.save({name: state, "optimizer_0": momentum}, checkpoint_id=tmp_path / "last.ckpt", no_dist=True)
    torch.save({"global_step": 5}, tmp_path / "last.ckpt" / "meta.pt")
    weights = read_weights(tmp_path / "last.ckpt", trust_shards=True)
    assert weights.step == 5
    assert weights.state.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(weights.state[key], value), key
    export(tmp_path / "last.ckpt", tmp_path / "out", full.folder / "fit.yaml", trust_shards=True)
    assert torch.equal(logits(full, opened(tmp_path / "out")), logits(full, full.module.reasoner.model))


@pytest.mark.slow
def test_shards_of_zero_are_one_folder(base, tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    case = Case("sft", "zero2", steps=2, save=str(checkpoint), reasoner={"freeze_vision": True})
    case.trainer = {"default_root_dir": tmp_path}
    truth = train_on_ranks(case, base)[0].weights[1]
    write_configuration(tmp_path, pretrained=str(base), dtype="bfloat16", freeze_vision=True)
    export(checkpoint, tmp_path / "out", dtype="float32", trust_shards=True)
    found = {f"model.{name}": value for name, value in opened(tmp_path / "out").state_dict().items()}
    assert found.keys() - truth.keys() == {"model.lm_head.weight"}  # tied
    for name, value in truth.items():
        # The optimiser's own float32 copy, although the configuration says bfloat16.
        assert torch.equal(found[name], value), name
    assert "| step | 2 |" in (tmp_path / "out" / "README.md").read_text()


def test_shards_are_opened_on_request_only(tmp_path):
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(ValueError, match=r"pickles, which run whatever code.*--trust_shards"):
        read_weights(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"file `latest` \(ZeRO\) or `.metadata`"):
        read_weights(tmp_path / "last.ckpt", trust_shards=True)


def test_the_callback_says_what_it_lacks_to_put_shards_together(base, tmp_path, caplog):
    class Sharded(ModelCheckpoint):
        """Finds its best checkpoint to be a folder in the end."""

        def on_fit_end(self, trainer, pl_module):
            path = Path(self.best_model_path)
            path.unlink()
            path.mkdir()
            (path / "shard").touch()
            seal(path)

    module = SFTModule(reasoner=qwen(base), **parts())
    keep = Sharded(tmp_path / "checkpoints", "best", monitor="loss", save_on_train_epoch_end=True)
    # Lightning puts checkpoint callbacks last, and this one has to come first.
    trainer = run(tmp_path, 1, keep)
    trainer.callbacks.append(HFExport())
    trainer.fit(module, loader(conversations()))
    assert f"the configuration '{tmp_path / 'fit.yaml'}'" in caplog.text
    assert not (tmp_path / "hf").exists()


# --- what is refused


def test_nothing_is_overwritten(full, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FileExistsError, match="a new or an empty folder"):
            export(full.checkpoint, taken)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_callback_replaces_models_only(base, tmp_path):
    def fit() -> None:
        run(tmp_path, 1, HFExport()).fit(SFTModule(reasoner=qwen(base), **parts()), loader(conversations()))

    fit()
    (tmp_path / "hf" / "model-00002-of-00009.safetensors").touch()  # of an earlier run with larger weights
    fit()
    assert not list((tmp_path / "hf").glob("model-*"))
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    (tmp_path / "hf" / "config.json").unlink()
    with pytest.raises(FileExistsError, match="a new or an empty folder"):
        fit()


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(NotImplementedError, match="no weights to save"):
        write_model(ScriptedReasoner(), tmp_path / "out", Source("SFTModule", VeasonR1(), "the last weights"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out") as unfinished:
        (unfinished / "new").rename(unfinished / "newer")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_what_is_missing_is_named(full, lora, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"as fit\.yaml in one of.*name it by `--config`"):
        export(tmp_path / "none.ckpt", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="Expected a checkpoint at"):
        export(full.folder / "checkpoints" / "none.ckpt", tmp_path / "out")
    with pytest.raises(ValueError, match=r"name the configuration of the same run by `--config`"):
        export(full.checkpoint, tmp_path / "out", lora.folder / "fit.yaml")
    (tmp_path / "test.yaml").write_text("model: {class_path: SFTModule}")
    with pytest.raises(ValueError, match=r"Expected the configuration of a run.*lacks 'init_args'"):
        export(full.checkpoint, tmp_path / "out", tmp_path / "test.yaml")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"it holds \['weights'\]"):
        read_weights(tmp_path / "other.ckpt")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_a_pickle_is_not_opened(tmp_path):
    torch.save({"state_dict": {}, "code": Path("x")}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        read_weights(tmp_path / "evil.ckpt", trust_shards=True)
