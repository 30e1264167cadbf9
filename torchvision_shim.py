"""Make a CUDA-built torchvision importable beside a CPU-only torch.

PyPI's torchvision is compiled for CUDA. Beside a CPU torch its extension cannot be loaded, its Python code then refers
to operators nobody declared, and the failing import takes ``lightning``, ``peft`` and the vision classes of
``transformers`` with it. Declaring the two operators is enough for everything that is pure Python, which is all that
thinkseg and its dependencies use. On a matching pair of builds this module does nothing.
"""

import sys

import torch

_DECLARED: list[torch.library.Library] = []  # a Library undeclares its operators when it is collected


def declare_missing_operators() -> bool:
    """Declare the torchvision operators that a mismatched build lacks, and import torchvision.

    Returns:
        True if operators had to be declared, False if torchvision imports by itself (or is not installed).
    """
    try:
        import torchvision
    except ModuleNotFoundError:
        return False
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)
        import torchvision  # noqa: F401

        return True
    return False


declare_missing_operators()
