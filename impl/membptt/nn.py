"""Torch's recurrent layers in a fixed number of stored states, and its `Sequential` in a budget of bytes.

Same constructors, same calls, same parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from membptt.calls.chain import chain
from membptt.calls.scan import scan
from membptt.planning.chain_plan import ChainPlan
from membptt.planning.choice import Policy
from membptt.slow.tier import SlowTier

Carry = tuple[Tensor, ...]


class _Scanned(nn.RNNBase):
    """What the three layers share: the sequence is cut into cores, and torch's own kernel runs each of them.

    Args:
        args: what the torch layer takes.
        slots: the budget ``m >= 1``, as in `scan`; an internal state is one core's.
        chunk: steps per core. A core's graph is what the kernel saves for its backward: larger cores are fewer kernel
            calls and a larger working core.
        policy: as in `scan`.
        internal: as in `scan`.
        internal_known: as in `scan`.
        spill: as in `scan`.
        kwargs: what the torch layer takes.
    """

    def __init__(
        self,
        *args: Any,
        slots: int,
        chunk: int = 32,
        policy: str | Policy = "hsm",
        internal: int = 1,
        internal_known: int | None = None,
        spill: bool | SlowTier = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.slots = slots
        self.chunk = chunk
        self.policy = policy
        self.internal = internal
        self.internal_known = internal_known
        self.spill = spill

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Any]:
        """Run the layer over a sequence.

        Args:
            input: ``(t, batch, input_size)``; ``(batch, t, input_size)`` where `batch_first`; ``(t, input_size)``.
            hx: starting state, shaped as the torch layer wants it; zeros if omitted.

        Returns:
            Output and final state, shaped as the torch layer's. To cut backpropagation between two calls, detach the
            final state before it is handed on, as with the torch layer.

        Raises:
            TypeError: a packed sequence.
            ValueError: `input` has neither 2 nor 3 dimensions, or no step; or see `scan`.
            RuntimeError: sizes do not fit the layer; or see `scan`.
        """
        if isinstance(input, PackedSequence):
            raise TypeError(
                f"membptt.nn.{type(self).__name__} takes no packed sequence: its batch shrinks along the sequence, and "
                "a stored state must keep its shape. Pad the sequences, and read each one's output at its own length"
            )
        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: expected input to be 2D or 3D, got {input.dim()}D")
        batched = input.dim() == 3
        xs = input if batched else input.unsqueeze(0 if self.batch_first else 1)
        carry = self._start(xs, hx, batched)
        self.check_forward_args(xs, carry if self.mode == "LSTM" else carry[0], None)  # type: ignore[arg-type]
        run = self._both_directions if self.bidirectional else self._one_direction
        output, carry = run(xs.transpose(0, 1) if self.batch_first else xs, carry)
        if self.batch_first:
            output = output.transpose(0, 1)
        if not batched:
            output = output.squeeze(0 if self.batch_first else 1)
            carry = tuple(leaf.squeeze(1) for leaf in carry)
        return output, carry if self.mode == "LSTM" else carry[0]

    def extra_repr(self) -> str:
        """Show the budget behind the layer's sizes."""
        policy = self.policy if isinstance(self.policy, str) else self.policy.title
        spill = ", spill=True" if self.spill is True else f", spill={self.spill}" if self.spill else ""
        return f"{super().extra_repr()}, slots={self.slots}, chunk={self.chunk}, policy={policy}{spill}"

    def _start(self, xs: Tensor, hx: Any, batched: bool) -> Carry:
        """Return the starting state's leaves, ``(layers * directions, batch, size)`` each."""
        if hx is None:
            batch = len(xs) if self.batch_first else xs.shape[1]
            layers = self.num_layers * (2 if self.bidirectional else 1)
            sizes = [self.proj_size or self.hidden_size, self.hidden_size][: 2 if self.mode == "LSTM" else 1]
            return tuple(xs.new_zeros(layers, batch, size) for size in sizes)
        carry: Carry = tuple(hx) if self.mode == "LSTM" else (hx,)
        wanted = 3 if batched else 2
        if any(leaf.dim() != wanted for leaf in carry):
            raise RuntimeError(
                f"{type(self).__name__}: for {wanted}D input, hx must be {wanted}D, "
                f"got shapes {[tuple(leaf.shape) for leaf in carry]}"
            )
        return carry if batched else tuple(leaf.unsqueeze(1) for leaf in carry)

    def _one_direction(self, xs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Scan once: a core runs through all layers."""
        return self._scan(xs, carry, self.all_weights)

    def _both_directions(self, xs: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Scan each layer in either direction; the next layer needs both, so its whole input sequence is kept."""
        final = []
        weights = self.all_weights
        for row in range(0, 2 * self.num_layers, 2):
            if row > 0:
                xs = nn.functional.dropout(xs, self.dropout, self.training)
            ahead, back = (tuple(leaf[layer : layer + 1] for leaf in carry) for layer in (row, row + 1))
            ys, ahead = self._scan(xs, ahead, weights[row : row + 1])
            sy, back = self._scan(xs.flip(0), back, weights[row + 1 : row + 2])
            xs = torch.cat([ys, sy.flip(0)], -1)
            final += [ahead, back]
        return xs, tuple(torch.cat(leaves) for leaves in zip(*final, strict=True))

    def _scan(self, xs: Tensor, carry: Carry, layers: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Carry]:
        groups = self._groups(layers)

        def segment(carry: Carry, xs: Tensor) -> tuple[Carry, Tensor]:
            finals = []
            for index, (rows, weights) in enumerate(groups):
                if index > 0:
                    xs = nn.functional.dropout(xs, self.dropout)
                xs, out = self._kernel(xs, tuple(leaf[rows] for leaf in carry), weights)
                finals.append(out)
            leaves = (torch.cat(rows) if len(rows) > 1 else rows[0] for rows in zip(*finals, strict=True))
            # Under autocast the kernel may return a narrower dtype; widening it for the next core loses nothing.
            return tuple(leaf.to(before.dtype) for leaf, before in zip(leaves, carry, strict=True)), xs

        carry, ys = scan(
            segment,
            carry,
            xs,
            slots=self.slots,
            policy=self.policy,
            internal=self.internal,
            internal_known=self.internal_known,
            spill=self.spill,
            params=[weight for _, weights in groups for weight in weights],
            chunk=self.chunk,
            segments=True,
        )
        return ys, tuple(leaf.to(ys.dtype) for leaf in carry)

    def _groups(self, layers: Sequence[Sequence[Tensor]]) -> list[tuple[slice, list[Tensor]]]:
        """Say which layers go into one kernel call, and with which weights."""
        # cuDNN draws inter-layer dropout from a state of its own, which a recomputation could not restore: it is drawn
        # here instead, between calls of one layer each.
        if not (self.dropout and self.training and len(layers) > 1):
            weights = [weight for layer in layers for weight in layer]
            return [(slice(0, len(layers)), _contiguous(weights) if self.bidirectional else weights)]
        return [(slice(row, row + 1), _contiguous(layer)) for row, layer in enumerate(layers)]

    def _kernel(self, xs: Tensor, carry: Carry, weights: Sequence[Tensor]) -> tuple[Tensor, Carry]:
        kernel = _KERNELS[self.mode]
        hx = carry if self.mode == "LSTM" else carry[0]
        ys, *finals = kernel(xs, hx, weights, self.bias, len(carry[0]), 0.0, self.training, False, False)
        return ys, tuple(finals)


_KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


def _contiguous(weights: Sequence[Tensor]) -> list[Tensor]:
    """Lay a layer's weights out in one piece of memory, which cuDNN would otherwise do again at every call."""
    if not weights[0].is_cuda:
        return list(weights)
    pieces = torch.split(torch.cat([weight.reshape(-1) for weight in weights]), [weight.numel() for weight in weights])
    return [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]


class LSTM(_Scanned, nn.LSTM):  # type: ignore[misc]
    """`torch.nn.LSTM` in a fixed number of stored states.

    Takes what `torch.nn.LSTM` takes, and by keyword `slots`, `chunk`, `policy`, `internal`, `internal_known` and
    `spill` as `scan` does; ``state_dict`` is the torch layer's. Inter-layer dropout draws its masks core by core.

    Ref: gruslys2016, Algorithm 2. Claim: nn-gradients-equal-torch.
    """


class GRU(_Scanned, nn.GRU):  # type: ignore[misc]
    """`torch.nn.GRU` in a fixed number of stored states; see `LSTM`.

    Ref: gruslys2016, Algorithm 2. Claim: nn-gradients-equal-torch.
    """


class RNN(_Scanned, nn.RNN):  # type: ignore[misc]
    """`torch.nn.RNN` in a fixed number of stored states; see `LSTM`.

    Ref: gruslys2016, Algorithm 2. Claim: nn-gradients-equal-torch.
    """


class Sequential(nn.Sequential):
    """`torch.nn.Sequential` in a budget of bytes.

    Takes what `torch.nn.Sequential` takes; ``state_dict``, indexing and slicing are its own, and a slice has the same
    budget. Each module is a block of a `chain`: what is stored of it, and what is recomputed, is planned at the first
    call with an input of new shapes.

    Args:
        args: modules, or one ordered dict of them.
        budget: bytes, or text, as for `chain`.
        plan: in place of a budget, what `plan_chain` returned for these modules.

    Raises:
        TypeError: not exactly one of `budget` and `plan` is given.

    Claim: chain-gradients-equal-autograd.
    """

    def __init__(self, *args: Any, budget: int | str | None = None, plan: ChainPlan | None = None) -> None:
        if (budget is None) == (plan is None):
            raise TypeError("give exactly one of budget= and plan=")
        super().__init__(*args)
        self.budget = budget
        self.plan = plan

    def forward(self, input: Any) -> Any:
        """Run the modules one after the other; see `chain`."""
        return chain(self, input, budget=self.budget, plan=self.plan)

    def extra_repr(self) -> str:
        """Show the budget."""
        return f"budget={self.budget!r}" if self.plan is None else f"plan={self.plan.peak_bytes} bytes"

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        if self.budget is None:
            raise TypeError("a plan is made for all the modules: slice a Sequential with budget=, or plan anew")
        return type(self)(OrderedDict(list(self._modules.items())[index]), budget=self.budget)
