"""A real workload: a character-level LSTM on real text, trained twice, with plain autograd and with `membptt.scan`."""

from __future__ import annotations

import hashlib
import math
import platform
import string
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench.machine import here
from bench.store import save_figure
from membptt import scan

NAME: Final = "fig_charlm"
ALPHABET: Final = string.printable  # one further symbol stands for every other character
State = tuple[Tensor, Tensor]
Window = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Setup:
    """One training run.

    Args:
        hidden: size of the LSTM.
        batch: streams of text side by side.
        steps: ``t``, characters a gradient reaches back over.
        slots: ``m``, hidden states `scan` may store.
        updates: gradient steps.
        characters: length of the text.
        rate: Adam's learning rate.
        seed: of the parameters.
    """

    hidden: int = 64
    batch: int = 16
    steps: int = 256
    slots: int = 10
    updates: int = 60
    characters: int = 400_000
    rate: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Curve:
    """What one way of taking the gradient did.

    Args:
        losses: mean loss of each update, nats a character.
        forwards: evaluations of the step in each update.
    """

    losses: list[float]
    forwards: list[int]


def measure() -> None:
    """Train both models on this machine: losses depend on its rounding, and on its Python's library as the text."""
    setup = Setup()
    text = read_text(setup.characters)
    plain, scanned = train_both(text, setup)
    where = here()
    content = {
        "figure": NAME,
        "complete": True,
        "command": f"python -m paper_figs.make {NAME} --measure",
        **{key: where[key] for key in ("device", "cpu", "threads", "versions")},
        "dtype": "float64",
        "source": source(text),
        "sha256": fingerprint(text),
        "setup": asdict(setup),
        "plain": asdict(plain),
        "scanned": asdict(scanned),
    }
    save_figure(NAME, content)


def train_both(text: str, setup: Setup, /) -> tuple[Curve, Curve]:
    """Train the same model on the same text, update by update in turn, in float64 on the CPU.

    Args:
        text: at least ``batch * (steps + 1)`` characters.
        setup: sizes.

    Returns:
        Plain autograd's curve, `scan`'s curve.

    Raises:
        ValueError: the text is too short.
    """
    stream = _encode(text, setup)
    with _one_thread():
        plain, scanned = _Training(setup, _plain), _Training(setup, _scanned)
        for number in tqdm(range(setup.updates), desc="charlm", unit="update", leave=False):
            window = _window(stream, number, setup)
            plain.update(window)
            scanned.update(window)
    return plain.curve, scanned.curve


def read_text(limit: int, /, root: Path | None = None) -> str:
    """Return the first `limit` characters of a folder's Python sources, in the order of their names.

    Args:
        limit: number of characters.
        root: a folder, or a file of any text. Default: the standard library, without what the build of this
            interpreter wrote there.

    Raises:
        ValueError: there is less text than that.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    files = [root] if root.is_file() else sorted(root.glob("*.py"), key=lambda path: path.name)
    parts: list[str] = []
    length = 0
    for file in files:
        if length >= limit:
            break
        if file.name.startswith("_sysconfigdata"):
            continue
        parts.append(file.read_text(encoding="utf-8", errors="replace"))
        length += len(parts[-1])
    if length < limit:
        raise ValueError(f"{root} holds {length} characters of text, {limit} are wanted")
    return "".join(parts)[:limit]


def source(text: str, /) -> str:
    """Return where the text comes from, in words, with its SHA-256."""
    return f"{len(text):,} characters of Python {platform.python_version()}'s library, sha256 {fingerprint(text)[:12]}"


def fingerprint(text: str, /) -> str:
    """Return the SHA-256 of the text."""
    return hashlib.sha256(text.encode()).hexdigest()


class CharLM(nn.Module):
    """One step of the language model: read a character, return the loss of predicting the next.

    Args:
        hidden: size of the LSTM.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        symbols = len(ALPHABET) + 1
        self.embed = nn.Embedding(symbols, hidden)
        self.cell = nn.LSTMCell(hidden, hidden)
        self.head = nn.Linear(hidden, symbols)
        self.evaluations = 0

    def forward(self, carry: State, x: Window) -> tuple[State, Tensor]:
        """Map ``(h, c)``, each ``(batch, hidden)``, and two ``(batch,)`` symbols to the next state and the loss."""
        self.evaluations += 1
        now, following = x
        h, c = self.cell(self.embed(now), carry)
        return (h, c), nn.functional.cross_entropy(self.head(h), following)


class _Training:
    def __init__(self, setup: Setup, unroll: Callable[[CharLM, State, Window, Setup], tuple[State, Tensor]]) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setup.seed)
            self._model = CharLM(setup.hidden).double()
        self._setup, self._unroll = setup, unroll
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=setup.rate)
        zero = torch.zeros(setup.batch, setup.hidden, dtype=torch.float64)
        self._state: State = (zero, zero.clone())
        self.curve = Curve([], [])

    def update(self, window: Window) -> None:
        """Take one gradient step; the state is handed on, the gradient is not."""
        before = self._model.evaluations
        self._optimizer.zero_grad()
        (h, c), losses = self._unroll(self._model, self._state, window, self._setup)
        loss = losses.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._state = (h.detach(), c.detach())
        self.curve.losses.append(loss.item())
        self.curve.forwards.append(self._model.evaluations - before)


def _plain(model: CharLM, state: State, window: Window, setup: Setup) -> tuple[State, Tensor]:
    losses = []
    for now, following in zip(*window, strict=True):
        state, loss = model(state, (now, following))
        losses.append(loss)
    return state, torch.stack(losses)


def _scanned(model: CharLM, state: State, window: Window, setup: Setup) -> tuple[State, Tensor]:
    state, losses = scan(model, state, window, policy="hsm", slots=setup.slots)
    return state, losses


def _encode(text: str, setup: Setup) -> Tensor:
    """Return symbols of shape ``(length, batch)``: each column a stretch of the text."""
    index = {character: number for number, character in enumerate(ALPHABET)}
    length = len(text) // setup.batch
    if length < setup.steps + 1:
        raise ValueError(f"{len(text)} characters are too few for {setup.batch} streams of {setup.steps} + 1")
    symbols = [index.get(character, len(ALPHABET)) for character in text[: length * setup.batch]]
    return torch.tensor(symbols).reshape(setup.batch, length).T.contiguous()


def _window(stream: Tensor, number: int, setup: Setup) -> Window:
    start = number * setup.steps % (math.floor((len(stream) - 1) / setup.steps) * setup.steps)
    part = stream[start : start + setup.steps + 1]
    return part[:-1], part[1:]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sum in one order, whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
