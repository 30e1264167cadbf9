"""How the learning rate starts."""


def warmup_factor(update: int, warmup_steps: int, released: bool = False) -> float:
    """Return the learning rate of an update as a fraction of the full one: linear warm-up, then constant.

    ``min(1, (update + 1) / max(1, warmup_steps))``. Veason-R1's published code leaves out the ``+ 1``, so that its
    first update changes nothing.

    Args:
        update: optimiser steps already taken.
        warmup_steps: updates until the full learning rate is reached.
        released: as the published code did.

    Returns:
        A factor in [0, 1].

    Example:
        >>> [warmup_factor(update, 2) for update in range(3)]
        [0.5, 1.0, 1.0]
        >>> [warmup_factor(update, 0, released=True) for update in range(2)]
        [0.0, 1.0]
    """
    return min(1.0, (update if released else update + 1) / max(1, warmup_steps))
