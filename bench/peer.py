"""The loops of JAX and equinox, asked for their measurements: they run in another Python, which needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

_SCRIPT = Path(__file__).with_name("equinox_loop.py")
_ONE_THREAD = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


class PeerError(RuntimeError):
    """The other Python cannot be started, or ended."""


class Peer:
    """A process of `equinox_loop.py`, on one thread, which lives until the block ends.

    Args:
        python: of an environment with the extra `peers`.
        problem: `steps`, `slots`, and as nested lists `x` and `wanted`: the start and the weights of a GRU cell.

    Raises:
        PeerError: it does not run there; says what it needs.
    """

    def __init__(self, python: str, problem: dict[str, Any]) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        try:
            # -P: the folder of the script is none to import from.
            self._process = subprocess.Popen([python, "-P", str(_SCRIPT)], env={**os.environ, **_ONE_THREAD}, **pipes)
        except OSError as error:
            raise PeerError(f"{python} cannot be started ({error}): name a Python with the extra `peers`") from error
        self._python = python
        about = self._ask(problem)
        self.versions: dict[str, str] = about["versions"]
        self.methods: dict[str, dict[str, Any]] = about["methods"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def time(self) -> dict[str, float]:
        """Return the seconds that one gradient of every method takes, compiled before."""
        return {label: float(seconds) for label, seconds in self._ask({}).items()}

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        try:
            pipes.stdin.write(json.dumps(question) + "\n")
            pipes.stdin.flush()
            answer: dict[str, Any] = json.loads(pipes.stdout.readline())
        except (OSError, json.JSONDecodeError) as error:
            pipes.kill()
            pipes.communicate()
            raise PeerError(f"{self._python} gave no answer: jax and equinox have to be installed there") from error
        return answer
