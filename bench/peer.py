"""The loops of JAX and equinox, asked for their measurements: they run in another Python, which needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

_SCRIPT = Path(__file__).with_name("jax_loops.py")
_ONE_THREAD = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


class PeerError(RuntimeError):
    """The other Python cannot be started, or ended."""


class Loop(NamedTuple):
    """One loop of theirs.

    Args:
        kind: JAX's plain `lax.scan`, the same with `jax.checkpoint` in chunks, or equinox's checkpointed loop.
        size: steps a chunk, or states that are stored.
    """

    kind: Literal["scan", "checkpoint", "equinox"]
    size: int = 0

    def __str__(self) -> str:
        """Say it in a method's label."""
        return {"scan": "jax scan", "checkpoint": f"jax checkpoint by {self.size}"}.get(
            self.kind, f"equinox m={self.size}"
        )


class Peer:
    """A process of `jax_loops.py`, on one thread, which lives until the block ends.

    Args:
        python: of an environment with the extra `peers`.
        problem: how the cell is run: over a sequence, or on one input for all steps.
        cell: one of `bench.cells.CELLS`.
        calls: of the cell.
        loops: what is measured.
        weights: of the cell, in the order of its torch module.
        init: the starting carry.
        xs: inputs of all calls, or the one input.
        start_wanted: the gradient of the start is wanted, too.

    Attributes:
        versions: of jax and equinox.
        methods: of each loop, by its label: forwards and bytes.
        gradients: of each loop: of the start, where it is wanted, and of the weights.

    Raises:
        PeerError: it does not run there; says what it needs.
    """

    def __init__(
        self,
        python: str,
        problem: Literal["sequence", "relaxation"],
        cell: str,
        calls: int,
        loops: Sequence[Loop],
        *,
        weights: Sequence[Tensor],
        init: Sequence[Tensor],
        xs: Tensor,
        start_wanted: bool = False,
    ) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        try:
            # -P: the folder of the script is none to import from.
            self._process = subprocess.Popen([python, "-P", str(_SCRIPT)], env={**os.environ, **_ONE_THREAD}, **pipes)
        except OSError as error:
            raise PeerError(f"{python} cannot be started ({error}): name a Python with the extra `peers`") from error
        self._python = python
        with TemporaryDirectory() as folder:
            arrays, gradients = (str(Path(folder, f"{name}.npz")) for name in ("arrays", "gradients"))
            leaves = {f"weight {index}": leaf for index, leaf in enumerate(weights)}
            leaves |= {f"init {index}": leaf for index, leaf in enumerate(init)} | {"xs": xs}
            np.savez(arrays, **{name: leaf.detach().numpy() for name, leaf in leaves.items()})  # type: ignore[arg-type]
            question = {"problem": problem, "cell": cell, "calls": calls, "start_wanted": start_wanted}
            methods = {str(loop): loop for loop in loops}
            about = self._ask({**question, "methods": methods, "arrays": arrays, "gradients": gradients})
            wanted = len(weights) + len(init) * start_wanted
            with np.load(gradients) as file:
                self.gradients = {
                    label: [torch.from_numpy(file[f"{label} {index}"]) for index in range(wanted)] for label in methods
                }
        self.versions: dict[str, str] = about["versions"]
        self.methods: dict[str, dict[str, int]] = about["methods"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def time(self, label: str) -> float:
        """Return the seconds that one gradient by a method takes, compiled before."""
        return float(self._ask(label))

    def _ask(self, question: Any) -> Any:
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        try:
            pipes.stdin.write(json.dumps(question) + "\n")
            pipes.stdin.flush()
            return json.loads(pipes.stdout.readline())
        except (OSError, json.JSONDecodeError) as error:
            pipes.kill()
            pipes.communicate()
            raise PeerError(f"{self._python} gave no answer: jax and equinox have to be installed there") from error
