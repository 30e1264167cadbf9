"""Features of pictures from a vision tower, which is called no more often than they can change."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.reasoners.feature_files import FeatureFiles, fingerprint
from models.reasoners.pictures import Picture, PictureMemory
from models.reasoners.prompts import EncodedImages, PromptEncoder


class Features(NamedTuple):
    """What the language model reads of one picture.

    Args:
        tokens: ``(n, width)``, in place of its placeholders.
        deepstack: as many for each of the first layers, added behind them; none in Qwen2.5-VL.
    """

    tokens: Tensor
    deepstack: tuple[Tensor, ...] = ()


class Vision:
    """Encodes pictures with a vision tower, and keeps their features.

    Inside ``once`` a tower encodes each picture once. Features of a frozen one are kept as long as the sample lives, so
    that passes with gradient, which come later, find them; those of a trained one are forgotten at the end, and passes
    with gradient encode anew. Outside nothing new is kept: whether a pass calls the tower must not depend on what this
    rank saw before, because where weights are sharded all ranks call it together.

    Args:
        encoder: of the pictures.
        is_frozen: whether neither weights nor adapters of the tower are trained.
        cache: folder where a frozen tower's features are kept for later epochs and other runs; None keeps none.
    """

    def __init__(self, encoder: PromptEncoder, is_frozen: bool, cache: Path | None = None) -> None:
        self.encoder = encoder
        self.is_frozen = is_frozen
        self.cache = cache
        self._files: FeatureFiles | None = None
        self._keeps = False
        # by whether they are the reference's, where its tower is another one
        self._memories: dict[bool, PictureMemory[Features]] = {False: PictureMemory(), True: PictureMemory()}

    @contextmanager
    def once(self) -> Iterator[None]:
        """Inside this context no weight changes."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False
            if not self.is_frozen:
                self.forget()

    def forget(self) -> None:
        """Forget everything, because the tower is another one now, or elsewhere."""
        for memory in self._memories.values():
            memory.clear()
        self._files = None

    def features(self, pictures: Sequence[Picture], network: Any, is_reference: bool = False) -> list[Features]:
        """Return the features that are known, and encode the other pictures, with gradient if the tower is trained.

        Args:
            pictures: any, some perhaps more than once.
            network: transformers' model that has the tower.
            is_reference: whether that is the policy that training started from.
        """
        lasts = self.is_frozen or (self._keeps and not torch.is_grad_enabled())
        memory = self._memories[is_reference and not self.is_frozen] if lasts else PictureMemory[Features]()
        unseen = [picture for picture in dict.fromkeys(pictures) if picture not in memory]
        fresh = dict(zip(unseen, self._read_or_encode(unseen, network), strict=True)) if unseen else {}
        if self._keeps and lasts:
            for picture, features in fresh.items():
                memory[picture] = features
        return [fresh[picture] if picture in fresh else memory[picture] for picture in pictures]

    def encode(self, pictures: Sequence[Picture], network: Any) -> list[Features]:
        """Run the tower on all pictures, whatever is known."""
        images = EncodedImages.concatenate([self.encoder.picture(picture) for picture in pictures])
        device = network.device
        output = network.get_image_features(images.pixel_values.to(device), images.grid.to(device), return_dict=True)
        levels = [output.pooler_output, *getattr(output, "deepstack_features", ())]
        return [Features(tokens, tuple(deepstack)) for tokens, *deepstack in zip(*levels, strict=True)]

    def _read_or_encode(self, pictures: Sequence[Picture], network: Any) -> list[Features]:
        """Read features from disk, and encode what is not there."""
        if self.cache is None or not self._keeps:
            return self.encode(pictures, network)
        self._files = self._files or FeatureFiles(self.cache, fingerprint(network.visual))
        keys = [FeatureFiles.key(self.encoder.picture(picture)) for picture in pictures]
        kept = {picture: self._files.read(key) for picture, key in zip(pictures, keys, strict=True)}
        unseen = [picture for picture in pictures if kept[picture] is None]
        for picture, (tokens, deepstack) in zip(unseen, self.encode(unseen, network) if unseen else [], strict=True):
            kept[picture] = (tokens, *deepstack)
            self._files.write(keys[pictures.index(picture)], (tokens, *deepstack))
        found = [[level.to(network.device) for level in kept[picture] or ()] for picture in pictures]
        return [Features(tokens, tuple(deepstack)) for tokens, *deepstack in found]
