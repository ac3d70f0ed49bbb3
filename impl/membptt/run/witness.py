"""Whether a recomputation meets the states of the first pass, bit by bit."""

from __future__ import annotations

import hashlib
from typing import Any

import optree
from torch import Tensor

from membptt.state.leaves import bits


class Witness:
    """Remembers digests of the state and the outputs of every core, and compares each recomputation with them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], bytes] = {}

    def see(self, core: int, carry: Any, ys: Any) -> None:
        """Take note of the state after `core` and of its outputs, or compare them.

        Raises:
            RuntimeError: not one bit may differ, and one does.
        """
        for what, tree in (("state", carry), ("output", ys)):
            found = _digest(optree.tree_leaves(tree))
            if self._seen.setdefault((core, what), found) != found:
                raise RuntimeError(
                    f"the step is not deterministic: recomputing core {core} gave another {what} than the first pass, "
                    "so its gradient would belong to another function. Look for random numbers from a generator of its "
                    "own, for numbers that change between calls, and for kernels without a deterministic variant "
                    "(torch.use_deterministic_algorithms)"
                )


def _digest(leaves: list[Any]) -> bytes:
    sha = hashlib.blake2b(digest_size=16)
    for leaf in leaves:
        sha.update(f"{tuple(leaf.shape)} {leaf.dtype}".encode() if isinstance(leaf, Tensor) else repr(leaf).encode())
        if isinstance(leaf, Tensor):
            sha.update(bits(leaf).cpu().numpy().tobytes())
    return sha.digest()
