"""The recurrences of the benchmark, each as ``step(carry, x) -> (carry, y)`` with a tuple as carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, Final

import torch
from torch import Tensor, nn

from membptt.kernels.compiled import compile_options

Carry = tuple[Tensor, ...]
Step = Callable[[Carry, Tensor], tuple[Carry, Tensor]]


@dataclass(frozen=True)
class Problem:
    """One gradient to compute.

    Args:
        cell: name of the cell.
        step: ``step(carry, x) -> (carry, y)``; counts its own evaluations in `counter`.
        bare: the same without the count.
        init: starting carry, constant.
        xs: inputs, one row a call of `step`; constant.
        params: the tensors whose gradients are wanted.
        unit: time steps that one call of `step` takes.
        output: a zero shaped as the outputs.
        counter: ``[forwards]``, in time steps.
        compile: whether `scan` compiles the cores; what it compiles does not count.
    """

    cell: str
    step: Step
    bare: Step
    init: Carry
    xs: Tensor
    params: tuple[Tensor, ...]
    unit: int
    output: Tensor
    counter: list[int]
    compile: bool = False

    @property
    def calls(self) -> int:
        """Calls of `step` that one forward pass takes."""
        return len(self.xs)

    @property
    def hidden_bytes(self) -> int:
        """Size of the carry."""
        return sum(leaf.nbytes for leaf in self.init)

    def shortened(self, calls: int) -> Problem:
        """Return the same problem on its first calls only."""
        return replace(self, xs=self.xs[:calls])

    def loss(self, carry: Carry, total: Tensor) -> Tensor:
        """Return a loss of the final carry and of the outputs' sum, so that outputs need not be kept."""
        mean = total / self.calls
        return mean.square().mean() + sum((leaf.square().mean() for leaf in carry), start=mean.new_zeros(()))


def problem(
    cell: str,
    steps: int,
    *,
    quick: bool = False,
    sizes: dict[str, int] | None = None,
    batch: int | None = None,
    device: str = "cpu",
    dtype: Any = torch.float32,
) -> Problem:
    """Make one cell with its inputs, the same ones every time.

    Args:
        cell: one of `CELLS`.
        steps: time steps; a multiple of what one call of the cell takes.
        quick: the tiny size of tests.
        sizes: others than the benchmark's.
        batch: another than the benchmark's.
        device: where everything lives.
        dtype: of everything.

    Raises:
        ValueError: an unknown cell, or a length that it cannot be cut into.
    """
    if cell not in CELLS:
        raise ValueError(f"no cell {cell!r}; there are {', '.join(CELLS)}")
    make, usual, small = CELLS[cell]
    torch.manual_seed(0)
    module = make(**(sizes or (small if quick else usual))).to(device=device, dtype=dtype)
    unit = getattr(module, "unit", 1)
    if steps % unit:
        raise ValueError(f"{cell} is run in segments of {unit} steps; {steps} is no multiple")
    batch = batch or (3 if quick else BATCH)
    init = tuple(torch.zeros(batch, *shape, device=device, dtype=dtype) for shape in module.carry)
    shape = (steps, batch, module.inputs) if unit == 1 else (steps // unit, unit, batch, module.inputs)
    # Drawn on the CPU: every device gets the same numbers.
    xs = torch.randn(shape, dtype=dtype).to(device)
    with torch.no_grad():
        output = torch.zeros_like(module(init, xs[0])[1])
    return _counted(Problem(cell, module, module, init, xs, tuple(module.parameters()), unit, output, [0]))


def compiled(given: Problem, block: int, options: dict[str, Any] | None = None) -> Problem:
    """Return the problem with `block` calls of the step compiled into one.

    Args:
        given: an eager problem.
        block: divides the number of calls.
        options: of `torch.compile`.

    Raises:
        ValueError: it does not.
    """
    if given.calls % block:
        raise ValueError(f"{given.calls} calls cannot be cut into blocks of {block}")

    def run(carry: Carry, xs: Tensor) -> tuple[Carry, Tensor]:
        total: Any = 0
        for x in xs.unbind(0):
            carry, y = given.bare(carry, x)
            total = total + y
        return carry, total

    # A code object of its own: the compiler counts recompilations by code object, and cells must not share a limit.
    own = FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    # Static shapes: every block is alike.
    fast = torch.compile(own, dynamic=False, fullgraph=True, options=options)
    xs = given.xs.view(given.calls // block, block, *given.xs.shape[1:])
    return _counted(replace(given, bare=fast, xs=xs, unit=given.unit * block))


def merged(given: Problem, block: int) -> Problem:
    """Return the problem with `block` calls compiled as `scan` does with ``compile=True``: products of a weight merged.

    Raises:
        ValueError: `block` does not divide the number of calls.
    """
    return compiled(given, block, compile_options())


def joined(given: Problem) -> Problem:
    """Return the problem with cores that `scan` compiles itself."""
    return replace(given, step=given.bare, compile=True)


def fused(given: Problem, block: int) -> Problem:
    """Return the problem with `block` calls of the step run by torch's own kernel for whole sequences.

    Args:
        given: an eager problem whose cell is one of `FUSED`.
        block: divides the number of calls.

    Raises:
        ValueError: no such kernel, or `block` does not divide.
    """
    if given.cell not in FUSED:
        raise ValueError(f"torch has a kernel for whole sequences of {', '.join(FUSED)}, not of {given.cell!r}")
    if given.calls % block:
        raise ValueError(f"{given.calls} calls cannot be cut into blocks of {block}")
    kernel: Any = FUSED[given.cell]
    # The very weights of the cell: nn.LSTM and nn.LSTMCell store theirs alike.
    weights = list(given.params)
    if weights[0].is_cuda:
        _lie_as_cudnn_wants(given.cell, weights)

    def run(carry: Carry, xs: Tensor) -> tuple[Carry, Tensor]:
        hx = tuple(leaf.unsqueeze(0) for leaf in carry)
        ys, *following = kernel(xs, hx if len(hx) > 1 else hx[0], weights, True, 1, 0.0, True, False, False)
        return tuple(leaf.squeeze(0) for leaf in following), ys.sum(0)

    xs = given.xs.view(given.calls // block, block, *given.xs.shape[1:])
    return _counted(replace(given, bare=run, xs=xs, unit=given.unit * block))


def _lie_as_cudnn_wants(cell: str, weights: list[Tensor]) -> None:
    """Move the weights into one piece of memory; else every kernel call copies them, and saves the copy."""
    import torch.backends.cudnn.rnn as cudnn  # noqa: PLC0415  (only with CUDA)

    hidden, features = weights[1].shape[1], weights[0].shape[1]
    mode = cudnn.get_cudnn_mode(cell.upper())  # type: ignore[no-untyped-call]
    with torch.no_grad():
        torch._cudnn_rnn_flatten_weight(weights, 4, features, mode, hidden, 0, 1, False, False)


def _counted(given: Problem) -> Problem:
    """Let the step count, outside of anything compiled."""
    counter = [0]

    def step(carry: Carry, x: Tensor) -> tuple[Carry, Tensor]:
        counter[0] += given.unit
        return given.bare(carry, x)

    return replace(given, step=step, counter=counter)


class Lstm(nn.Module):
    """`torch.nn.LSTMCell`: carry (h, c), output h."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(hidden, hidden)
        self.inputs, self.carry = hidden, ((hidden,), (hidden,))

    def forward(self, carry: Carry, x: Tensor) -> tuple[Carry, Tensor]:
        """Run one step."""
        h, c = self.cell(x, carry)
        return (h, c), h


class Gru(nn.Module):
    """`torch.nn.GRUCell`: carry h, output h."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(hidden, hidden)
        self.inputs, self.carry = hidden, ((hidden,),)

    def forward(self, carry: Carry, x: Tensor) -> tuple[Carry, Tensor]:
        """Run one step."""
        h = self.cell(x, carry[0])
        return (h,), h


class Spiking(nn.Module):
    """A recurrent layer of leaky integrate-and-fire neurons: carry (potential, spikes), output spikes.

    The potential decays, gathers input and recurrent spikes, and loses 1 where the neuron fired.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.feed = nn.Linear(hidden, hidden)
        self.recur = nn.Linear(hidden, hidden, bias=False)
        self.inputs, self.carry = hidden, ((hidden,), (hidden,))

    def forward(self, carry: Carry, x: Tensor) -> tuple[Carry, Tensor]:
        """Run one step."""
        potential, spikes = carry
        potential = 0.9 * potential + self.feed(x) + self.recur(spikes) - spikes
        spikes = _Spike.apply(potential - 1)  # type: ignore[no-untyped-call]
        return (potential, spikes), spikes


class _Spike(torch.autograd.Function):
    """The step function, with the derivative of a fast sigmoid as surrogate gradient."""

    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        slope: Tensor = (1 + 10 * above.abs()).square()
        return grad / slope


class StateSpace(nn.Module):
    """A selective state-space block, a segment of steps a call: carry is the state, output the segment's sum.

    The state ``s`` (channels x states, diagonal) follows ``s = exp(-dt A) s + dt B u`` and is read as ``C s + D u``,
    gated; ``dt``, ``B`` and ``C`` depend on the input. Within the segment the recurrence is solved by doubling.
    """

    def __init__(self, width: int, states: int, unit: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, 2 * width)
        self.select = nn.Linear(width, width + 2 * states)
        self.out = nn.Linear(width, width)
        self.log_rate = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        self.unit, self.inputs, self.carry = unit, width, ((width, states),)
        self._split = (width, states, states)

    def forward(self, carry: Carry, x: Tensor) -> tuple[Carry, Tensor]:
        """Run one segment."""
        u, gate = self.into(x).chunk(2, -1)
        dt, b, c = self.select(u).split(self._split, -1)
        dt = nn.functional.softplus(dt)
        decay = torch.exp(-dt.unsqueeze(-1) * self.log_rate.exp())
        state = (dt * u).unsqueeze(-1) * b.unsqueeze(-2)
        span = 1
        while span < len(x):
            # Every position takes over what the one `span` before it has gathered.
            late = state[span:] + decay[span:] * state[:-span]
            state = torch.cat([state[:span], late])
            decay = torch.cat([decay[:span], decay[span:] * decay[:-span]])
            span *= 2
        state = state + decay * carry[0]
        y = (state * c.unsqueeze(-2)).sum(-1) + self.skip * u
        return (state[-1],), self.out(y * nn.functional.silu(gate)).sum(0)


class AttentionMemory(nn.Module):
    """A controller with a key-value memory of fixed size, read and written by attention: carry (h, keys, values)."""

    def __init__(self, hidden: int, rows: int, width: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(hidden + width, hidden)
        self.ask = nn.Linear(hidden, width)
        self.write = nn.Linear(hidden, 3 * width + 1)
        self.place = nn.Parameter(torch.randn(rows, width))  # tells the rows apart while they are empty
        self.inputs, self.carry = hidden, ((hidden,), (rows, width), (rows, width))

    def forward(self, carry: Carry, x: Tensor) -> tuple[Carry, Tensor]:
        """Run one step."""
        h, keys, values = carry
        read = self._attend(self.ask(h), keys).unsqueeze(-2) @ values
        h = self.cell(torch.cat([x, read.squeeze(-2)], -1), h)
        width = values.shape[-1]
        where, key, value, gate = self.write(h).split((width, width, width, 1), -1)
        weight = (torch.sigmoid(gate) * self._attend(where, keys)).unsqueeze(-1)
        keys = keys + weight * (torch.tanh(key).unsqueeze(-2) - keys)
        values = values + weight * (torch.tanh(value).unsqueeze(-2) - values)
        return (h, keys, values), h

    def _attend(self, query: Tensor, keys: Tensor) -> Tensor:
        scores = (keys + self.place) @ query.unsqueeze(-1)
        return torch.softmax(scores.squeeze(-1) / query.shape[-1] ** 0.5, -1)


BATCH: Final = 16
FUSED: Final[dict[str, Callable[..., Any]]] = {"lstm": torch.lstm, "gru": torch.gru}
CELLS: Final[dict[str, tuple[Callable[..., Any], dict[str, int], dict[str, int]]]] = {
    "lstm": (Lstm, {"hidden": 256}, {"hidden": 4}),
    "gru": (Gru, {"hidden": 256}, {"hidden": 4}),
    "spiking": (Spiking, {"hidden": 256}, {"hidden": 4}),
    "state-space": (
        StateSpace,
        {"width": 64, "states": 16, "unit": 20},
        {"width": 4, "states": 2, "unit": 5},
    ),
    "attention-memory": (
        AttentionMemory,
        {"hidden": 128, "rows": 16, "width": 32},
        {"hidden": 4, "rows": 3, "width": 2},
    ),
}
