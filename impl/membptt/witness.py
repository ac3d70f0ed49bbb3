"""Whether a recomputation meets the states of the first pass, bit by bit."""

from __future__ import annotations

import hashlib
from typing import Any

import optree
import torch
from torch import Tensor


class Witness:
    """Remembers a digest of the state after every core, and compares each recomputation with it."""

    def __init__(self) -> None:
        self._seen: dict[int, bytes] = {}

    def see(self, core: int, carry: Any) -> None:
        """Take note of the state after `core`, or compare it.

        Raises:
            RuntimeError: not one bit may differ, and one does.
        """
        found = _digest(optree.tree_leaves(carry))
        if self._seen.setdefault(core, found) != found:
            raise RuntimeError(
                f"the step is not deterministic: recomputing core {core} gave another state than the first pass, so "
                "its gradient would belong to another function. Look for random numbers from a generator of its own, "
                "for numbers that change between calls, and for kernels without a deterministic variant "
                "(torch.use_deterministic_algorithms)"
            )


def _digest(leaves: list[Tensor]) -> bytes:
    sha = hashlib.blake2b(digest_size=16)
    for leaf in leaves:
        sha.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.digest()
