"""DeepSpeed ZeRO (arXiv 1910.02054): optimiser states, gradients and weights in shards over the ranks."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn

from lightning_modules.checkpoints import expect_trust, sealed_folder
from lightning_modules.parallelism import Parallelism
from models.reasoners.base import Reasoner

# DeepSpeed says so on stdout as soon as it is imported, in the middle of what `--print_config` prints.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())


class ZeROStrategy(Parallelism, DeepSpeedStrategy):
    """Lightning's DeepSpeed strategy, for manual optimisation over micro-batches and for rollouts.

    Gradients of several backward passes add up until the step. Under stage 3 the policy is partitioned while it is
    loaded, and gathered once for everything that a rollout batch needs without gradient. It also runs on CPUs, over
    gloo.

    Args:
        stage: 2 shards gradients and the optimiser's states, 3 weights too.
        offload_optimizer: keep the optimiser's states in main memory, and step there.
        offload_parameters: keep shards of weights in main memory; stage 3 only.
        trust_shards: open checkpoints, whose shards are pickles and can run code: for those of your own runs.
        process_group_backend: ``nccl`` or ``gloo``; by default what fits the device.
        **kwargs: of Lightning's ``DeepSpeedStrategy``.
    """

    def __init__(
        self,
        stage: Literal[2, 3] = 2,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        trust_shards: bool = False,
        process_group_backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            process_group_backend=process_group_backend,
            **kwargs,
        )
        assert isinstance(self.config, dict)
        # By default a step takes the gradient of the last backward pass alone.
        self.config["managed_gradient_accumulation"] = False
        # For DeepSpeed's own log of throughput only; batches of samples are of any size.
        self.config["train_micro_batch_size_per_gpu"] = 1
        # The optimiser is the module's; torch steps on the CPU as well.
        self.config["zero_force_ds_cpu_optimizer"] = False
        self.trust_shards = trust_shards
        self._has_gradients = False

    # --- on any device ---

    def setup_environment(self) -> None:
        """Start the processes, on CPUs too."""
        if isinstance(self.accelerator, CUDAAccelerator):
            super().setup_environment()
        else:
            DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        """Connect the processes."""
        import deepspeed

        if not isinstance(self.accelerator, CUDAAccelerator):
            # gloo will do; kernels for shared memory would be compiled, behind a lock that outlives a killed process.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self) -> torch.device:
        """Device of this process; DeepSpeed wants an index."""
        device: torch.device = super().root_device
        return device if device.index is not None else torch.device(device.type, 0)

    # --- model and steps ---

    def setup(self, trainer: Any) -> None:
        """Wrap the module into an engine that skips steps that are no numbers, in bfloat16 too."""
        self._init_config_if_needed()
        assert isinstance(self.config, dict)
        if self.config.get("bf16", {}).get("enabled"):
            self.config["bf16"]["check_grad_overflow"] = True
        super().setup(trainer)

    @contextmanager
    def model_sharded_context(self) -> Generator[None, None, None]:
        """Leave modules alone: `configure` partitions the policy, and nothing else."""
        self._init_config_if_needed()
        yield

    def configure(self, reasoner: Reasoner) -> None:
        """Load the networks of a reasoner; transformers partitions them on the way under stage 3."""
        import deepspeed
        from transformers.integrations.deepspeed import HfDeepSpeedConfig

        # transformers partitions what it loads as long as this object lives, so it must not outlive the policy's load:
        # a reference or a segmenter is whole on every rank.
        live = HfDeepSpeedConfig(self.config)
        try:
            reasoner.configure()
        finally:
            del live
        if self.zero_stage_3:
            for weight in reasoner.direct_weights():
                deepspeed.zero.register_external_parameter(reasoner, weight)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module's step itself: not the step but each of its micro-batches is a pass of the engine."""
        assert self.lightning_module is not None
        with self.precision_plugin.train_step_context():
            return self.lightning_module.training_step(*args, **kwargs)

    def pass_through(self, module: nn.Module, *args: Any) -> Any:
        """Call the module through the engine."""
        return self.deepspeed_engine(*args)

    @contextmanager
    def block_backward_sync(self) -> Generator[None, None, None]:
        """Reduce each backward pass into the shards: there is no place for whole gradients."""
        yield

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Note that there will be gradients."""
        self._has_gradients = True

    def ndim(self, parameter: nn.Parameter) -> int:
        """Return the number of dimensions; stage 3 leaves an empty tensor where a parameter was."""
        return len(getattr(parameter, "ds_shape", parameter.shape))

    def update(self, optimizer: LightningOptimizer, parameters: list[nn.Parameter], max_grad_norm: float) -> Tensor:
        """Let the engine reduce, check, clip and step."""
        moves = self._has_gradients
        self.deepspeed_engine.optimizer.clip_grad = max_grad_norm
        optimizer.step()
        norm = self.deepspeed_engine.get_global_grad_norm() if moves else 0.0
        return torch.as_tensor(norm, device=self.root_device)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        """Step, unless there was no backward pass: torch's optimisers leave alone what has no gradient."""
        if not self._has_gradients:
            return None
        self._has_gradients = False
        return super().optimizer_step(*args, **kwargs)

    # --- shards ---

    @property
    def shards_weights(self) -> bool:
        """Stage 3 does."""
        return self.zero_stage_3

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write a folder with the shards of all ranks, which is there as a whole or not at all."""
        with sealed_folder(self, filepath) as unfinished:
            super().save_checkpoint(checkpoint, unfinished, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the shards of a run of as many ranks.

        Raises:
            ValueError: unless ``trust_shards`` is set.
        """
        expect_trust(Path(checkpoint_path), self.trust_shards, "--trainer.strategy.trust_shards true")
        return super().load_checkpoint(checkpoint_path, weights_only)

    @contextmanager
    def whole_weights(self, module: nn.Module) -> Generator[None, None, None]:
        """Gather the weights of stage 3 once, and set the hooks aside that would gather and release each layer's.

        The hooks also record in which order modules are called, which must be the same on every rank.
        """
        if not self.zero_stage_3:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(module.parameters())), _without_hooks(module):
            yield


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@contextmanager
def _without_hooks(root: nn.Module) -> Generator[None, None, None]:
    kept = [(module, name, vars(module)[name]) for module in root.modules() for name in _HOOKS]
    for module, name, hooks in kept:
        setattr(module, name, type(hooks)())
    try:
        yield
    finally:
        for module, name, hooks in kept:
            setattr(module, name, hooks)
