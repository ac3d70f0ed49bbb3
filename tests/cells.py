"""Steps to differentiate: the recurrent cells of the suite, and plain autograd's answer for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor, nn


class Lstm(nn.Module):
    """LSTMCell: carry (h, c), output h."""

    def __init__(self, inputs: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, hidden)

    def init(self, batch: int) -> Any:
        return tuple(torch.randn(batch, self.cell.hidden_size) for _ in range(2))

    def forward(self, carry, x):
        h, c = self.cell(x, carry)
        return (h, c), h


class Gru(nn.Module):
    """GRUCell: carry h, output a readout of h."""

    def __init__(self, inputs: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.cell = nn.GRUCell(inputs, hidden)
        self.readout = nn.Linear(hidden, 2)

    def init(self, batch: int) -> Any:
        return torch.randn(batch, self.cell.hidden_size)

    def forward(self, carry, x):
        h = self.cell(x, carry)
        return h, self.readout(h)


class Tanh(nn.Module):
    """A plain tanh recurrence: carry in a dict, and with it a step counter."""

    def __init__(self, inputs: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(hidden, hidden) * 0.4)
        self.u = nn.Parameter(torch.randn(inputs, hidden) * 0.4)

    def init(self, batch: int) -> Any:
        return {"h": torch.randn(batch, len(self.w)), "count": torch.zeros((), dtype=torch.int64)}

    def forward(self, carry, x):
        h = torch.tanh(carry["h"] @ self.w + x @ self.u)
        return {"h": h, "count": carry["count"] + 1}, {"h": h, "norm": h.square().sum(-1)}


class ResidualMlp(nn.Module):
    """A residual MLP cell whose output is its own loss at that step."""

    def __init__(self, inputs: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(hidden + inputs, 8), nn.SiLU(), nn.Linear(8, hidden))

    def init(self, batch: int) -> Any:
        return [torch.randn(batch, self.net[2].out_features)]

    def forward(self, carry, x):
        h = carry[0] + 0.5 * self.net(torch.cat([carry[0], x], -1))
        return [h], (h - 1).square().mean()


CELLS: list[Callable[[], nn.Module]] = [Lstm, Gru, Tanh, ResidualMlp]


class Counting(nn.Module):
    """Counts how often its step is evaluated."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step
        self.calls = 0

    def forward(self, carry, x):
        self.calls += 1
        return self.step(carry, x)


def plain(step: Callable[..., Any], init: Any, xs: Tensor) -> tuple[Any, Any]:
    """What `scan` must equal: the loop, under plain autograd."""
    carry, ys = init, []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, optree.tree_map(lambda *leaves: torch.stack(leaves), *ys)


def problem(
    make: Callable[[], nn.Module], steps: int, dtype: torch.dtype, seed: int = 0
) -> tuple[nn.Module, Any, Tensor]:
    """A cell, a starting carry and inputs, all wanting gradients."""
    torch.manual_seed(seed)
    step = make().to(dtype)

    def prepare(leaf: Tensor) -> Tensor:
        return leaf.to(dtype).requires_grad_() if leaf.is_floating_point() else leaf

    init = optree.tree_map(prepare, step.init(2))
    return step, init, torch.randn(steps, 2, 3, dtype=dtype, requires_grad=True)


def gradients(result: Any, step: nn.Module, init: Any, xs: Tensor) -> list[Tensor]:
    """Gradients of a loss that weighs every element of carry and outputs differently."""
    loss = torch.zeros((), dtype=xs.dtype, device=xs.device)
    for leaf in optree.tree_leaves(result):
        if leaf.is_floating_point():
            weights = torch.linspace(-1, 1, leaf.numel(), dtype=leaf.dtype, device=leaf.device).cos()
            loss = loss + (weights.reshape(leaf.shape) * leaf).sum()
    wanted = [leaf for leaf in optree.tree_leaves(init) if leaf.requires_grad] + [xs, *step.parameters()]
    return list(torch.autograd.grad(loss, wanted))


def relative_error(computed: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any gradient, over that gradient's largest element."""
    return max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-300)) for a, b in zip(computed, expected, strict=True)
    )


def timed_step(w: Tensor, now: list[float], *, ahead: float, graph: float, backward: float) -> Callable[..., Any]:
    """Return a step that moves a clock: by so much without graph, with it, and in its backward."""

    def step(carry, x):
        now[0] += graph if carry.requires_grad else ahead
        carry = torch.tanh(carry * w + x)
        if carry.requires_grad:
            carry.register_hook(lambda grad: now.__setitem__(0, now[0] + backward))
        return carry, x

    return step
