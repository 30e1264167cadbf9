"""From LoRA-SFT to GRPO: what is trained, what stays, and what the policy is held to."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from dialogues.episode import Episode
from lightning_modules import AdamWConfig, GRPOModule, SFTModule
from lightning_modules.policy.losses import PolicyLoss
from models.reasoners import LoRA, QwenVL
from models.reasoners.scratch import ScratchConfig, save
from tests.lightning_modules.test_training import Vowels, conversations, fit, grpo, loader, parts, qwen, samples

START = {"full": None, "fresh": LoRA(r=2, target_modules="all-linear"), "continued": LoRA()}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Path:
    """A folder with a random model, and what LoRA-SFT made of it: the adapters alone, and all of it in one."""
    folder = tmp_path_factory.mktemp("stages")
    save(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=2), folder / "base")
    torch.manual_seed(0)  # of the adapters
    lora = LoRA(r=4, alpha=4, target_modules="all-linear")
    module = SFTModule(reasoner=qwen(folder / "base", lora=lora), **parts(), optimizer=AdamWConfig(1e-2))
    fit(module, conversations(), folder, steps=3)
    module.reasoner.save_pretrained(folder / "adapters", adapters_only=True)
    module.reasoner.save_pretrained(folder / "merged")
    return folder


class Record(Callback):
    """Keeps the KL of each step, and the answers of the last."""

    def __init__(self) -> None:
        self.kl: list[float] = []
        self.episodes: list[Episode] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.kl.append(float(trainer.callback_metrics["kl"]))
        self.episodes = [episode for group in outputs["groups"] for episode in group]


def second_stage(stages: Path, start: str, **options: Any) -> GRPOModule:
    """GRPO from where SFT ended, in one of three ways; weights move by their gradients alone."""
    continued = start == "continued"
    lora = LoRA(adapters=str(stages / "adapters")) if continued else START[start]
    reasoner = qwen(stages / ("base" if continued else "merged"), lora=lora, **options)
    torch.manual_seed(0)  # of the adapters
    return grpo(
        reasoner,
        rewards={"vowels": Vowels()},
        loss=PolicyLoss("grpo", beta=0.1),
        optimizer=AdamWConfig(1e-3, weight_decay=0.0),
    )


def run(folder: Path, steps: int, *callbacks: Callback) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        default_root_dir=folder,
        callbacks=[*callbacks],
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def logprobs(reasoner: QwenVL, episodes: list[Episode]) -> torch.Tensor:
    with torch.no_grad():
        return reasoner.logprobs(episodes).logprobs


def referred(module: GRPOModule, episodes: list[Episode]) -> torch.Tensor:
    with module.reasoner.reference():
        return logprobs(module.reasoner, episodes)


@pytest.mark.parametrize("start", START)
@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_two_steps_away_from_the_sft_policy(stages, tmp_path, start, tower):
    frozen, checkpointing = tower == "frozen", (start, tower) == ("continued", "trained")
    module = second_stage(stages, start, freeze_vision=frozen, gradient_checkpointing=checkpointing)
    module.configure_model()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    assert any(".visual." in name for name in trained) == (not frozen)
    assert all(".lora_" in name for name in trained) == (start != "full")

    record = Record()
    trainer = run(tmp_path, 2, record)
    trainer.fit(module, loader(samples()))

    # The policy starts as the reference, and leaves it.
    assert record.kl[0] == 0.0
    assert record.kl[1] > 0.0
    # The reference is what SFT made, then and now, and not what SFT began with.
    sft, base = qwen(stages / "merged"), qwen(stages / "base")
    sft.configure()
    base.configure()
    expected = logprobs(sft, record.episodes)
    assert torch.allclose(referred(module, record.episodes), expected, atol=1e-5)
    assert (logprobs(base, record.episodes) - expected).abs().max() > 0.1
    assert (logprobs(module.reasoner, record.episodes) - expected).abs().max() > 1e-3
    # What is trained has moved, all of it and nothing else; and switching policies has not changed what is trained.
    after = dict(module.named_parameters())
    assert {name for name, value in after.items() if value.requires_grad} == trained.keys()
    assert all(after[name] is value for name, value in trained.items())
    optimized = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimized == {id(value) for value in trained.values()}
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == trained.keys()


def test_the_reference_adapters_are_in_no_checkpoint_and_survive_a_resume(stages, tmp_path):
    whole = second_stage(stages, "continued")
    record = Record()
    run(tmp_path / "whole", 3, record).fit(whole, loader(samples()))

    keep = ModelCheckpoint(tmp_path, "half", every_n_train_steps=2)
    run(tmp_path / "first", 2, keep).fit(second_stage(stages, "continued"), loader(samples()))
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    resumed = second_stage(stages, "continued")
    assert not any("reference" in name for name in saved)
    run(tmp_path / "second", 3).fit(resumed, loader(samples()), ckpt_path=tmp_path / "half.ckpt", weights_only=True)

    assert torch.equal(referred(resumed, record.episodes), referred(whole, record.episodes))
    assert (referred(resumed, record.episodes) - logprobs(resumed.reasoner, record.episodes)).abs().max() > 1e-3
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_adapters_alone_are_the_policy_of_the_merged_folder(stages, tmp_path):
    """Written, read and written again they stay the same bits, in float32 beside weights of any dtype."""
    reasoner = QwenVL(str(stages / "base"), dtype="bfloat16", lora=LoRA(adapters=str(stages / "adapters")))
    reasoner.configure()
    dtypes = {name: value.dtype for name, value in reasoner.named_parameters()}
    assert all((dtype == torch.float32) == (".lora_" in name) for name, dtype in dtypes.items())
    reasoner.save_pretrained(tmp_path, adapters_only=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / name).read_bytes() == (stages / "adapters" / name).read_bytes()
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert len(targets) > 2
    assert targets == sorted(targets)


def test_merged_weights_are_rounded_once(stages, tmp_path):
    """bfloat16 from float32 adapters on bfloat16 weights is the rounded sum, not the sum of what was rounded."""
    lora = LoRA(adapters=str(stages / "adapters"))
    reasoner = QwenVL(str(stages / "base"), dtype="bfloat16", lora=lora)
    reasoner.configure()
    for dtype in ("float32", "bfloat16"):
        reasoner.save_pretrained(tmp_path / dtype, dtype)
    reasoner.save_pretrained(tmp_path / "as trained")
    wide, narrow, same = (
        QwenVL(str(tmp_path / name), dtype="float32") for name in ("float32", "bfloat16", "as trained")
    )
    for opened in (wide, narrow, same):
        opened.configure()
    for name, value in wide.state_dict().items():
        assert torch.equal(narrow.state_dict()[name], value.bfloat16().float()), name
        assert torch.equal(same.state_dict()[name], narrow.state_dict()[name]), name


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"r": 8}, r"r=8 and they have 4; leave it out"),
        ({"alpha": 16}, r"lora_alpha=16 and they have 4"),
        ({"target_modules": ".*q_proj"}, r"target_modules='\.\*q_proj' and they have"),
    ],
)
def test_a_configuration_that_contradicts_the_adapters_is_refused(stages, lora, message):
    with pytest.raises(ValueError, match=message):
        qwen(stages / "base", lora=LoRA(adapters=str(stages / "adapters"), **lora)).configure()


def test_a_configuration_may_repeat_what_the_adapters_are(stages):
    reasoner = qwen(stages / "base", lora=LoRA(r=4, alpha=4, adapters=str(stages / "adapters")))
    reasoner.configure()
    assert reasoner.model.peft_config["default"].r == 4


def test_dropout_of_somebody_elses_adapters_is_left_out(stages, tmp_path):
    shutil.copytree(stages / "adapters", tmp_path / "noisy")
    file = tmp_path / "noisy" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_dropout": 0.5}))
    policies = [qwen(stages / "base", lora=LoRA(adapters=str(folder))) for folder in (stages / "adapters", file.parent)]
    for policy in policies:
        policy.configure()
        assert policy.training
    episodes = SFTModule(reasoner=policies[0], **parts())._episodes(conversations()[0])
    assert torch.equal(*(logprobs(policy, episodes) for policy in policies))


def test_adapters_that_are_not_there_or_do_not_fit(stages, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json; write them by `thinkseg export"):
        qwen(stages / "base", lora=LoRA(adapters=str(tmp_path))).configure()
    save(ScratchConfig(hidden_size=64, intermediate_size=64, num_layers=1), tmp_path / "shallow")
    with pytest.raises(ValueError, match="they belong to another `pretrained`"):
        qwen(tmp_path / "shallow", lora=LoRA(adapters=str(stages / "adapters"))).configure()


def test_adapters_on_other_weights_are_pointed_out(stages, caplog):
    qwen(stages / "merged", lora=LoRA(adapters=str(stages / "adapters"))).configure()
    assert "were trained on" in caplog.text
    caplog.clear()
    qwen(stages / "base", lora=LoRA(adapters=str(stages / "adapters"))).configure()
    assert caplog.text == ""


def test_a_reference_that_was_not_kept_is_no_reference(stages):
    reasoner = qwen(stages / "base", lora=LoRA(adapters=str(stages / "adapters")))
    reasoner.configure()
    with pytest.raises(RuntimeError, match="none was kept"), reasoner.reference():
        pass


def test_there_are_no_adapters_to_save_without_lora(stages, tmp_path):
    reasoner = qwen(stages / "base")
    reasoner.configure()
    with pytest.raises(ValueError, match="trained without `lora`"):
        reasoner.save_pretrained(tmp_path, adapters_only=True)
