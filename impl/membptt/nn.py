"""Torch's recurrent layers in a fixed number of stored states, and its `Sequential` in a budget of bytes.

Same constructors, same calls, same parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from membptt.calls.chain import chain
from membptt.calls.plan import plan
from membptt.calls.scan import scan
from membptt.planning.chain_plan import ChainPlan
from membptt.planning.choice import Policy, check_means
from membptt.planning.plan_file import Plan
from membptt.run.inputs import Rows
from membptt.slow.tier import SlowTier
from membptt.torch_private import children_of, untraced
from membptt_theory.options import TooSmallError, parse_bytes

Carry = tuple[Tensor, ...]
_CHUNK: Final = 32  # steps of a core, where nobody says and nothing is planned


class _Scanned(nn.RNNBase):
    """What the three layers share: the sequence is cut into cores, and torch's own kernel runs each of them."""

    compiled = False

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Run the layer over a sequence, or a batch of sequences.

        Args:
            input: ``(t, batch, input_size)``; ``(batch, t, input_size)`` where `batch_first`; ``(t, input_size)``; or
                a `PackedSequence`, of sequences of different lengths, sorted or not.
            hx: starting state, shaped as the torch layer wants it; zeros if omitted.

        Returns:
            Output and final state, as the torch layer's: of packed sequences a packed output, and the state of each
            sequence at its own end. To cut backpropagation between two calls, detach the final state before it is
            handed on, as with the torch layer.

        Raises:
            ValueError: `input` has neither 2 nor 3 dimensions; or see `scan`.
            RuntimeError: no step, or sizes that do not fit the layer; or see `scan`.
        """
        rows, carry = self._given(input, hx)
        output: Any
        output, carry = (self._both_directions if self.bidirectional else self._one_direction)(rows, carry)
        if isinstance(input, PackedSequence):
            output = input._replace(data=output)
            carry = _rearranged(carry, input.unsorted_indices)
        elif self.batch_first and input.dim() == 3:
            output = output.transpose(0, 1)
        elif input.dim() == 2:
            output = output.squeeze(1)
            carry = tuple(leaf.squeeze(1) for leaf in carry)
        return output, carry if self.mode == "LSTM" else carry[0]

    def planned(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        budget: int | str,
        chunk: int | None = None,
        policy: str = "auto",
        spill: bool | SlowTier = False,
    ) -> Plan:
        """Measure the layer on a short run and choose what is stored within a budget, as `membptt.plan` does.

        Args:
            input: as for `forward`, as is `hx`; only shapes matter, and the number of steps.
            hx: starting state.
            budget: as for `membptt.plan`, as are `chunk`, `policy` and `spill`.
            chunk: steps per core.
            policy: a policy's name.
            spill: a slow tier.

        Returns:
            A plan to be looked at, saved, and given to a layer as ``plan=``.

        Raises:
            TypeError: the layer is bidirectional: it takes a budget, of which each of its scans has a share.
        """
        if self.bidirectional:
            raise TypeError(_SHARED)
        rows, carry = self._given(input, hx)
        segment, params, xs = self._segment(rows, self.all_weights)
        return plan(
            segment,
            carry,
            xs,
            budget=budget,
            params=params,
            chunk=chunk,
            policy=policy,
            segments=True,
            compile=self._compiles(rows),
            spill=spill,
        )

    def extra_repr(self) -> str:
        """Show the budget behind the layer's sizes."""
        means = [f"{name}={getattr(self, name)!r}" for name in ("slots", "budget") if getattr(self, name) is not None]
        means += [f"plan={self.plan.peak_bytes} bytes"] if self.plan is not None else []
        means += [f"chunk={self.chunk}"] if self.chunk is not None else []
        if self.policy is not None:
            means.append(f"policy={self.policy if isinstance(self.policy, str) else self.policy.title}")
        means += ["compile=True"] if self.compiled else []
        spill = ["spill=True"] if self.spill is True else [f"spill={self.spill}"] if self.spill else []
        return ", ".join([super().extra_repr(), *means, *spill])

    def _settle(  # noqa: PLR0917  (those of the three constructors, in their order)
        self,
        slots: int | None,
        budget: int | str | None,
        plan: Plan | None,
        chunk: int | None,
        policy: str | Policy | None,
        internal: int,
        internal_known: int | None,
        spill: bool | SlowTier,
    ) -> None:
        """Take note of what a layer may store.

        Raises:
            TypeError: as `scan`, before there is a sequence; or a plan for a bidirectional layer.
            ValueError: as `scan`, before there is a sequence.
        """
        means: dict[str, Any] = {"slots": slots, "budget": budget, "plan": plan, "chunk": chunk, "policy": policy}
        check_means(**means, internal=internal, internal_known=internal_known, spill=spill)
        if plan is not None and self.bidirectional:
            raise TypeError(_SHARED)
        by_hand = budget is None and plan is None
        self.slots, self.budget, self.plan = slots, budget, plan
        self.chunk = _CHUNK if by_hand and chunk is None else chunk
        self.policy = "hsm" if by_hand and policy is None else policy
        self.internal, self.internal_known, self.spill = internal, internal_known, spill

    def _given(self, input: Tensor | PackedSequence, hx: Any) -> tuple[_Rows, Carry]:
        """Return the input with time first, or its rows, and the starting state's leaves, ``(layers, batch, size)``."""
        if isinstance(input, PackedSequence):
            rows = _Rows(input.data, input.batch_sizes)
            batch = int(input.batch_sizes[0])
        elif input.dim() in (2, 3):
            xs = input if input.dim() == 3 else input.unsqueeze(0 if self.batch_first else 1)
            rows = _Rows(xs.transpose(0, 1) if self.batch_first else xs, None)
            batch = rows.data.shape[1]
        else:
            raise ValueError(f"{type(self).__name__}: expected input to be 2D or 3D, got {input.dim()}D")
        if not len(rows.data):
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")  # torch's words
        if hx is None:
            layers = self.num_layers * (2 if self.bidirectional else 1)
            sizes = [self.proj_size or self.hidden_size, self.hidden_size][: 2 if self.mode == "LSTM" else 1]
            carry: Carry = tuple(rows.data.new_zeros(layers, batch, size) for size in sizes)
        else:
            carry = tuple(hx) if self.mode == "LSTM" else (hx,)
            wanted = 3 if isinstance(input, PackedSequence) else input.dim()
            if any(leaf.dim() != wanted for leaf in carry):
                raise RuntimeError(
                    f"{type(self).__name__}: for such an input, hx must be {wanted}D, "
                    f"got shapes {[tuple(leaf.shape) for leaf in carry]}"
                )
            if wanted == 2:
                carry = tuple(leaf.unsqueeze(1) for leaf in carry)
        checked = rows.data if rows.sizes is not None or not self.batch_first else rows.data.transpose(0, 1)
        self.check_forward_args(checked, carry if self.mode == "LSTM" else carry[0], rows.sizes)  # type: ignore[arg-type]
        return rows, _rearranged(carry, input.sorted_indices) if isinstance(input, PackedSequence) else carry

    def _one_direction(self, rows: _Rows, carry: Carry) -> tuple[Tensor, Carry]:
        """Scan once: a core runs through all layers."""
        return self._scan(rows, carry, self.all_weights, budget=self.budget)

    def _both_directions(self, rows: _Rows, carry: Carry) -> tuple[Tensor, Carry]:
        """Scan each layer in either direction; the next layer needs both, so its whole input sequence is kept."""
        final: list[Carry] = []
        budget = None if self.budget is None else parse_bytes(self.budget)
        share = None if budget is None else max(1, budget // (2 * self.num_layers))
        given = rows
        weights = self.all_weights
        for row in range(0, 2 * self.num_layers, 2):
            if row > 0:
                rows = rows._replace(data=nn.functional.dropout(rows.data, self.dropout, self.training))
            ahead, back = (tuple(leaf[layer : layer + 1] for leaf in carry) for layer in (row, row + 1))
            try:
                ys, ahead = self._scan(rows, ahead, weights[row : row + 1], budget=share)
                sy, back = self._scan(rows, back, weights[row + 1 : row + 2], reverse=True, budget=share)
            except TooSmallError:
                raise self._too_small(given, carry, budget or 0) from None
            rows = rows._replace(data=torch.cat([ys, sy], -1))
            final += [ahead, back]
        return rows.data, tuple(torch.cat(leaves) for leaves in zip(*final, strict=True))

    def _too_small(self, rows: _Rows, carry: Carry, budget: int) -> TooSmallError:
        """Return the error for a budget whose shares are too small; the budget that it names is feasible."""
        scans, least = 2 * self.num_layers, 0
        for row in range(scans):
            size = self.input_size if row < 2 else 2 * (self.proj_size or self.hidden_size)
            wanted = row > 1 or rows.data.requires_grad  # the gradient of the inputs has a size as well
            own = rows._replace(data=rows.data.new_zeros(*rows.data.shape[:-1], size).requires_grad_(wanted))
            start, weights = tuple(leaf[row : row + 1] for leaf in carry), self.all_weights[row : row + 1]
            try:
                self._scan(own, start, weights, reverse=row % 2 == 1, budget=1)
            except TooSmallError as error:
                least = max(least, error.least)
        return TooSmallError(
            f"a budget of {budget} bytes is too small: {scans} scans, of each direction of each layer, have an equal "
            f"share each, and the starting state and one working core take up to {least} bytes: the smallest feasible "
            f"budget is {scans * least} bytes",
            scans * least,
        )

    @untraced  # by torch.compile around it: what tells steps apart is not there before they are made
    def _scan(
        self,
        rows: _Rows,
        carry: Carry,
        layers: Sequence[Sequence[Tensor]],
        *,
        budget: int | str | None,
        reverse: bool = False,
    ) -> tuple[Tensor, Carry]:
        turned = _turned(rows.sizes) if reverse and rows.sizes is not None else None  # each sequence by itself
        if turned is not None:
            rows = rows._replace(data=rows.data[turned])
        segment, params, xs = self._segment(rows, layers)
        carry, ys = scan(
            segment,
            carry,
            xs,
            reverse=reverse and turned is None,
            slots=self.slots,
            budget=budget,
            plan=self.plan,
            policy=self.policy,
            internal=self.internal,
            internal_known=self.internal_known,
            spill=self.spill,
            params=params,
            chunk=self.chunk,
            segments=True,
            compile=self._compiles(rows),
        )
        if turned is not None:
            ys = ys[turned]
        return ys, tuple(leaf.to(ys.dtype) for leaf in carry)

    def _segment(self, rows: _Rows, layers: Sequence[Sequence[Tensor]]) -> tuple[_Segment, list[Tensor], Tensor | Rows]:
        """Return what runs a core, the weights that it uses, and the inputs."""
        groups = self._groups(layers)
        segment = _Segment(self.mode, self.bias, self.dropout, self.training, groups, rows.sizes)
        params = [weight for _, weights in groups for weight in weights]
        return segment, params, rows.data if rows.sizes is None else Rows(rows.data, rows.sizes.tolist())

    def _compiles(self, rows: _Rows) -> bool:
        """Whether cores are compiled: not those of packed rows, each of which would be a function of its own.

        Nor under autocast, where what is compiled rounds as no kernel does.
        """
        host = rows.sizes is None and rows.data.device.type == "cpu"
        return self.compiled and host and not torch.is_autocast_enabled("cpu")

    def _groups(self, layers: Sequence[Sequence[Tensor]]) -> list[tuple[slice, list[Tensor]]]:
        """Say which layers go into one kernel call, and with which weights."""
        # cuDNN draws inter-layer dropout from a state of its own, which a recomputation could not restore: it is drawn
        # here instead, between calls of one layer each.
        if not (self.dropout and self.training and len(layers) > 1):
            weights = [weight for layer in layers for weight in layer]
            return [(slice(0, len(layers)), _contiguous(weights) if self.bidirectional else weights)]
        return [(slice(row, row + 1), _contiguous(layer)) for row, layer in enumerate(layers)]


class _Rows(NamedTuple):
    """The input of a layer.

    Args:
        data: ``(t, batch, size)``; or packed, ``(rows, size)``.
        sizes: rows of each step, where they are packed.
    """

    data: Tensor
    sizes: Tensor | None


@dataclass(frozen=True, eq=False)
class _Segment:
    """A core of a layer: torch's kernel over some steps. It is what another one of the same weights is.

    Args:
        mode: of the layer, as are `bias`, `dropout` and `training`.
        bias: whether there are biases.
        dropout: between its calls of the kernel.
        training: whether it is in training mode.
        groups: the layers that go into one call of the kernel, and their weights.
        sizes: rows of each step of a packed sequence.
    """

    mode: str
    bias: bool
    dropout: float
    training: bool
    groups: list[tuple[slice, list[Tensor]]]
    sizes: Tensor | None

    def __call__(self, carry: Carry, x: Any) -> tuple[Carry, Tensor]:
        """Run it."""
        within = None
        if self.sizes is not None:
            x, first, stop = x
            within = self.sizes[first:stop]
        finals = []
        for index, (which, weights) in enumerate(self.groups):
            if index > 0:
                x = nn.functional.dropout(x, self.dropout)
            x, out = self._kernel(x, tuple([leaf[which] for leaf in carry]), weights, within)
            finals.append(out)
        leaves = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*finals, strict=True)]
        # Under autocast the kernel may return a narrower dtype; widening it for the next core loses nothing.
        return tuple([leaf.to(before.dtype) for leaf, before in zip(leaves, carry, strict=True)]), x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Segment) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        """Return what tells it from others, as long as it is there, and its weights with it."""
        weights = [(which.start, which.stop, *map(id, tensors)) for which, tensors in self.groups]
        return self.mode, self.bias, self.dropout, self.training, *weights, id(self.sizes)

    def _kernel(
        self, xs: Tensor, carry: Carry, weights: Sequence[Tensor], sizes: Tensor | None
    ) -> tuple[Tensor, Carry]:
        """Run torch's kernel over a core; of packed rows, those sequences that have ended keep their state."""
        kernel, layers = _KERNELS[self.mode], len(carry[0])
        if sizes is None:
            hx = carry if self.mode == "LSTM" else carry[0]
            ys, *finals = kernel(xs, hx, weights, self.bias, layers, 0.0, self.training, False, False)
            return ys, tuple(finals)
        going = int(sizes[0])
        some = tuple([leaf[:, :going].clone() for leaf in carry])  # in every core: none is larger than planned
        hx = some if self.mode == "LSTM" else some[0]
        ys, *finals = kernel(xs, sizes, hx, weights, self.bias, layers, 0.0, self.training, False)
        ended = [leaf[:, going:].to(final.dtype) for leaf, final in zip(carry, finals, strict=True)]
        return ys, tuple([torch.cat(parts, 1) for parts in zip(finals, ended, strict=True)])


_KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}
_SHARED: Final = (
    "a bidirectional layer runs a scan for each layer and direction, and a plan is of one scan: give budget=, of which "
    "each of them has its share, or slots="
)


def _rearranged(carry: Carry, indices: Tensor | None) -> Carry:
    """Put the sequences of a state into another order."""
    return carry if indices is None else tuple(leaf.index_select(1, indices) for leaf in carry)


def _turned(sizes: Tensor) -> Tensor:
    """Return, for each packed row, the row that stands in its place where every sequence is run from its end."""
    starts = sizes.cumsum(0) - sizes
    steps = torch.arange(len(sizes)).repeat_interleave(sizes)
    sequences = torch.arange(len(steps)) - starts[steps]
    lengths = (sizes[:, None] > torch.arange(int(sizes[0]))).sum(0)
    return starts[lengths[sequences] - 1 - steps] + sequences


def _contiguous(weights: Sequence[Tensor]) -> list[Tensor]:
    """Lay a layer's weights out in one piece of memory, which cuDNN would otherwise do again at every call."""
    if not weights[0].is_cuda:
        return list(weights)
    pieces = torch.split(torch.cat([weight.reshape(-1) for weight in weights]), [weight.numel() for weight in weights])
    return [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]


class LSTM(_Scanned, nn.LSTM):
    """`torch.nn.LSTM` in a fixed number of stored states, or in a budget of bytes.

    Parameters, ``state_dict``, outputs and gradients are the torch layer's, and so is the call, also of a
    `PackedSequence`. Inter-layer dropout draws its masks core by core. A bidirectional layer keeps the whole sequence
    between layers.

    >>> layer = LSTM(16, 32, slots=8, chunk=50)
    >>> output, (h, c) = layer(torch.zeros(1000, 4, 16))
    >>> LSTM(16, 32, budget="1MiB")
    LSTM(16, 32, budget='1MiB')

    Args:
        input_size: as for the torch layer, as are all up to `dtype`.
        hidden_size: features of the state.
        num_layers: layers on top of each other; a core runs through all of them.
        bias: whether there are biases.
        batch_first: inputs and outputs are ``(batch, t, features)``.
        dropout: between layers, in training mode.
        bidirectional: each layer in either direction.
        proj_size: features of a projected hidden state; 0 for none.
        device: of the parameters.
        dtype: of the parameters.
        slots: the budget ``m >= 1``, as in `scan`; an internal state is one core's. Exactly one of `slots`, `budget`
            and `plan` is given.
        budget: bytes, or text such as ``"64MiB"``, as in `scan`: planned once for each shape of the input. Of a
            bidirectional layer, each layer and direction has an equal share.
        plan: what `planned` returned for inputs of that length.
        chunk: steps per core; 32 unless planned. A core's graph is what the kernel saves for its backward: larger cores
            are fewer kernel calls and a larger working core.
        policy: as in `scan`, as are `internal`, `internal_known` and `spill`.
        internal: alpha.
        internal_known: beta.
        spill: a slow tier for hidden states.

    Raises:
        TypeError: not exactly one of `slots`, `budget` and `plan`, or a plan for a bidirectional layer.
        ValueError: an unknown policy, no slot, no step in a core, or text that names no size; or as the torch layer.

    Ref: gruslys2016, Algorithm 2. Claim: nn-gradients-equal-torch.
    """

    def __init__(  # noqa: PLR0917  (as the torch layer's)
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        slots: int | None = None,
        budget: int | str | None = None,
        plan: Plan | None = None,
        chunk: int | None = None,
        policy: str | Policy | None = None,
        internal: int = 1,
        internal_known: int | None = None,
        spill: bool | SlowTier = False,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, proj_size=proj_size, device=device, dtype=dtype)
        self._settle(slots, budget, plan, chunk, policy, internal, internal_known, spill)


class GRU(_Scanned, nn.GRU):
    """`torch.nn.GRU` in a fixed number of stored states, or in a budget of bytes; see `LSTM`.

    Args:
        input_size: as for `LSTM`, as are all but `proj_size`, which it has not.
        hidden_size: features of the state.
        num_layers: layers on top of each other.
        bias: whether there are biases.
        batch_first: inputs and outputs are ``(batch, t, features)``.
        dropout: between layers, in training mode.
        bidirectional: each layer in either direction.
        device: of the parameters.
        dtype: of the parameters.
        slots: the budget in stored states. Exactly one of `slots`, `budget` and `plan` is given.
        budget: bytes, or text.
        plan: what `planned` returned.
        chunk: steps per core.
        policy: what is stored.
        internal: alpha.
        internal_known: beta.
        spill: a slow tier for hidden states.
        compile: cores are compiled, on the host; as in `scan`, with `budget` only where that is measured to be
            faster. Packed sequences, and what autocast is on around, are run by torch's kernel.

    Raises:
        TypeError: as `LSTM`.
        ValueError: as `LSTM`.

    Ref: gruslys2016, Algorithm 2. Claim: nn-gradients-equal-torch.
    """

    def __init__(  # noqa: PLR0917  (as the torch layer's)
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        slots: int | None = None,
        budget: int | str | None = None,
        plan: Plan | None = None,
        chunk: int | None = None,
        policy: str | Policy | None = None,
        internal: int = 1,
        internal_known: int | None = None,
        spill: bool | SlowTier = False,
        compile: bool = False,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, device=device, dtype=dtype)
        self._settle(slots, budget, plan, chunk, policy, internal, internal_known, spill)
        self.compiled = compile


class RNN(_Scanned, nn.RNN):
    """`torch.nn.RNN` in a fixed number of stored states, or in a budget of bytes; see `LSTM`.

    Args:
        input_size: as for `LSTM`, as are all but `proj_size`, which it has not.
        hidden_size: features of the state.
        num_layers: layers on top of each other.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there are biases.
        batch_first: inputs and outputs are ``(batch, t, features)``.
        dropout: between layers, in training mode.
        bidirectional: each layer in either direction.
        device: of the parameters.
        dtype: of the parameters.
        slots: the budget in stored states. Exactly one of `slots`, `budget` and `plan` is given.
        budget: bytes, or text.
        plan: what `planned` returned.
        chunk: steps per core.
        policy: what is stored.
        internal: alpha.
        internal_known: beta.
        spill: a slow tier for hidden states.
        compile: cores are compiled, on the host; as in `scan`, with `budget` only where that is measured to be
            faster. Packed sequences, and what autocast is on around, are run by torch's kernel.

    Raises:
        TypeError: as `LSTM`.
        ValueError: as `LSTM`.

    Ref: gruslys2016, Algorithm 2. Claim: nn-gradients-equal-torch.
    """

    def __init__(  # noqa: PLR0917  (as the torch layer's)
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        slots: int | None = None,
        budget: int | str | None = None,
        plan: Plan | None = None,
        chunk: int | None = None,
        policy: str | Policy | None = None,
        internal: int = 1,
        internal_known: int | None = None,
        spill: bool | SlowTier = False,
        compile: bool = False,
    ) -> None:
        sizes = input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional
        super().__init__(*sizes, device=device, dtype=dtype)
        self._settle(slots, budget, plan, chunk, policy, internal, internal_known, spill)
        self.compiled = compile


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
        return type(self)(OrderedDict(list(children_of(self).items())[index]), budget=self.budget)
