"""Low-rank adapters: put on, gone on with, switched to the policy that training started from, merged, saved alone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

logger = logging.getLogger(__name__)

#: Names of peft's adapters: the one that is trained, and the frozen one that is the reference.
TRAINED, REFERENCE = "default", "reference"
#: What new adapters are where a configuration does not say.
NEW: dict[str, Any] = {
    "r": 8,
    "lora_alpha": 16,
    "target_modules": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
}


@dataclass
class LoRA:
    """Low-rank adapters, trained instead of the weights. They are float32, whatever the dtype of the weights.

    Args:
        r: rank; None is that of ``adapters``, or 8.
        alpha: scale, the update is multiplied by ``alpha / r``; None is that of ``adapters``, or 16.
        target_modules: regular expression over module names, or ``all-linear``, which takes in the vision tower; None
            is that of ``adapters``, or the linear layers of the language model.
        adapters: folder to go on from, as ``thinkseg export --adapters_only`` writes it. Without it adapters start at
            zero, and the reference is the model without them; with it, the reference is the model with those.
    """

    r: int | None = None
    alpha: int | None = None
    target_modules: str | None = None
    adapters: str | None = None

    def config(self) -> LoraConfig:
        """Return peft's configuration.

        Raises:
            FileNotFoundError: if there are no adapters in ``adapters``.
            ValueError: if they are not what the other fields say.
        """
        fields: dict[str, Any] = {"r": self.r, "lora_alpha": self.alpha, "target_modules": self.target_modules}
        given = {name: value for name, value in fields.items() if value is not None}
        if self.adapters is None:
            return LoraConfig(**NEW | given)
        if not (Path(self.adapters) / "adapter_config.json").is_file():
            raise FileNotFoundError(
                f"Expected adapters in `lora.adapters={self.adapters!r}`, but there is no adapter_config.json; "
                "write them by `thinkseg export --adapters_only`"
            )
        config = LoraConfig.from_pretrained(self.adapters)
        if not isinstance(config, LoraConfig):
            raise ValueError(f"Expected LoRA adapters in '{self.adapters}', but got {config.peft_type}")
        saved = vars(config)
        for name, value in given.items():
            if saved[name] != value:
                raise ValueError(
                    f"Expected `lora` to say nothing else than the adapters in '{self.adapters}', but it has "
                    f"{name}={value!r} and they have {saved[name]!r}; leave it out to take theirs"
                )
        config.lora_dropout = 0.0  # a policy that differs from one pass to the next is none
        return config


def attach(model: Any, lora: LoRA, pretrained: str) -> PeftModel:
    """Freeze a transformers model and put adapters on it: new ones at zero, or those of ``lora.adapters``.

    Args:
        model: a transformers model.
        lora: which adapters.
        pretrained: what the model was loaded from.
    """
    config = lora.config()
    if lora.adapters is not None and config.base_model_name_or_path != pretrained:
        logger.warning(
            "The adapters in '%s' were trained on %r, but `pretrained` is %r: they mean nothing on other weights",
            lora.adapters, config.base_model_name_or_path, pretrained,
        )  # fmt: skip
    config.inference_mode = False
    config.base_model_name_or_path = pretrained
    adapted: PeftModel = get_peft_model(model, config, TRAINED)
    if lora.adapters is not None:
        _read(adapted, TRAINED, lora.adapters)
    return adapted


def keep_reference(model: PeftModel, lora: LoRA) -> None:
    """Load ``lora.adapters`` a second time, frozen; adapters that start at zero need no copy."""
    if lora.adapters is None or REFERENCE in model.peft_config:
        return
    with _flags_kept(model):
        model.add_adapter(REFERENCE, lora.config())
        _read(model, REFERENCE, lora.adapters)
    for name, parameter in model.named_parameters():
        if _of_reference(name):
            parameter.requires_grad_(False)


@contextmanager
def reference(model: PeftModel, lora: LoRA) -> Iterator[None]:
    """Inside this context a model computes with the adapters it started from; for passes without gradients.

    Raises:
        RuntimeError: if it started from adapters that were not kept.
    """
    if lora.adapters is not None and REFERENCE not in model.peft_config:
        raise RuntimeError("Expected a reference policy, but none was kept: call `keep_reference`")
    with _flags_kept(model):
        if lora.adapters is None:
            with model.disable_adapter():
                yield
            return
        model.set_adapter(REFERENCE)
        try:
            yield
        finally:
            model.set_adapter(TRAINED)


def merge(model: PeftModel, dtype: torch.dtype) -> Any:
    """Return a copy on the CPU whose weights of ``dtype`` hold the adapters: added in float32, and rounded once."""
    return copy(model, torch.float32).merge_and_unload().to(dtype)


def copy(model: Any, dtype: torch.dtype) -> Any:
    """Return a copy on the CPU with weights of ``dtype``."""
    weights = {id(p): nn.Parameter(p.detach().to("cpu", dtype, copy=True), False) for p in model.parameters()}
    return deepcopy(model, weights)  # deepcopy takes from here what it would have to copy


def save(model: PeftModel, folder: Path, dtype: torch.dtype) -> None:
    """Write the trained adapters and their configuration, without the weights they are put on."""
    weights = {name: value.to(dtype) for name, value in model.state_dict().items() if f".{TRAINED}." in name}
    config = model.peft_config[TRAINED]
    for name, value in vars(config).items():
        if isinstance(value, set):  # the order of a set of names is another in every process
            setattr(config, name, sorted(value))
    model.save_pretrained(str(folder), selected_adapters=[TRAINED], state_dict=weights)


def leave_reference_out(module: nn.Module) -> None:
    """Let a module's state be without the reference, which is always loaded from where training started."""
    module.register_state_dict_post_hook(_leave_out)
    module.register_load_state_dict_post_hook(_excuse)


def _leave_out(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for name in [name for name in state if _of_reference(name)]:
        del state[name]


def _excuse(module: nn.Module, keys: Any) -> None:
    # ZeRO writes frozen parameters beside the state, so they may be there too.
    for names in (keys.missing_keys, keys.unexpected_keys):
        names[:] = [name for name in names if not _of_reference(name)]


def _of_reference(name: str) -> bool:
    return f".{REFERENCE}." in name


def _read(model: PeftModel, name: str, folder: str) -> None:
    """Fill an adapter with the weights in a folder."""
    # `is_trainable`, because peft would switch the whole model to evaluation otherwise.
    result = model.load_adapter(folder, name, is_trainable=True)
    if result.missing_keys or result.unexpected_keys:
        raise ValueError(
            f"Expected the adapters in '{folder}' to fit the model, but they lack {result.missing_keys[:3]} and "
            f"have {result.unexpected_keys[:3]} beside it; they belong to another `pretrained`"
        )


@contextmanager
def _flags_kept(model: nn.Module) -> Iterator[None]:
    """Inside this context peft may switch adapters; afterwards the same parameters are trained as before."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
