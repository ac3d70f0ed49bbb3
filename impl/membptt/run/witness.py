"""Whether a recomputation meets the states of the first pass, bit by bit: ``check=True``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from membptt.state.leaves import bits
from membptt.state.trees import tree_leaves


class NotDeterministicError(RuntimeError):
    """A recomputation gave other bits."""


class Witness:
    """Remembers digests of the state and the outputs of every core, and compares each recomputation with them.

    Compared are evaluations that began with the same state. A kernel may round differently with graph, and what it
    gives may be handed on; a core that begins with other bits than before is compared from then on.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bytes, bool], dict[str, bytes]] = {}

    def see(
        self,
        core: int,
        given: Any,
        carry: Any,
        ys: Any,
        *,
        graph: bool = False,
        rounds: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take note of the state after `core` and of its outputs, or compare them.

        Args:
            core: the core.
            given: the state before it.
            carry: the state after it.
            ys: its outputs.
            graph: whether it was recorded.
            rounds: asked where the bits differ, and only with graph: whether that is rounding.

        Raises:
            RuntimeError: a bit differs that rounding with graph does not explain.
        """
        start = _digest(given)
        digests = {"state": _digest(carry), "output": _digest(ys)}
        known = self._seen.get((core, start, graph))  # this way of evaluating has bits of its own
        if known is None:
            known = self._seen.get((core, start, not graph))
            if known is not None and known != digests and rounds():
                known = None
        if known is not None and known != digests:
            what = "state" if known["state"] != digests["state"] else "output"
            raise NotDeterministicError(
                f"the step is not deterministic: recomputing core {core} gave another {what} than the first pass, "
                "so its gradient would belong to another function. Look for random numbers from a generator of its "
                "own, for numbers that change between calls, and for kernels without a deterministic variant "
                "(torch.use_deterministic_algorithms)"
            )
        self._seen.setdefault((core, start, graph), digests)


def _digest(tree: Any) -> bytes:
    sha = hashlib.blake2b(digest_size=16)
    for leaf in tree_leaves(tree):
        sha.update(f"{tuple(leaf.shape)} {leaf.dtype}".encode() if isinstance(leaf, Tensor) else repr(leaf).encode())
        if isinstance(leaf, Tensor):
            sha.update(bits(leaf).cpu().numpy().tobytes())
    return sha.digest()
