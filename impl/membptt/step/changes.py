"""Notices a step that changes in place what a recomputation reads again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress, repeat
from operator import and_, attrgetter, eq, is_, is_not, not_
from typing import Final

import torch
from torch import Tensor

from membptt.state.leaves import bits
from membptt.step.surroundings import Surroundings
from membptt.torch_private import flagged, is_set, version, versions

_SAMPLE: Final = 1024  # elements of a buffer that are looked at
_SAMPLED: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Unchanged:
    """Notices a step that writes to what is read again by every recomputation: the inputs and the parameters."""

    def __init__(self, xs: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        self._inputs = len(xs)
        self._tensors = [*xs, *params]
        self._before = versions(self._tensors)
        # The parameters that were looked at last, seldom others than before, with the inputs and all counters.
        self._used: Sequence[int] = [*range(len(params))]
        self._looked_at, self._kept = self._tensors, self._before

    def check(self, used: Sequence[int] | None = None) -> None:
        """Refuse a change since construction.

        Args:
            used: the parameters that are looked at beside the inputs; by default all of them.

        Raises:
            RuntimeError: a tensor was changed in place.
        """
        if used is not None:
            if used != self._used:
                places = [*range(self._inputs), *(self._inputs + index for index in used)]
                self._looked_at = [self._tensors[place] for place in places]
                self._used, self._kept = used, tuple([self._before[place] for place in places])
            if versions(self._looked_at) == self._kept:
                return
        now = versions(self._tensors)
        if now != self._before:
            index = next(index for index, pair in enumerate(zip(now, self._before, strict=True)) if pair[0] != pair[1])
            what = f"leaf {index} of xs" if index < self._inputs else f"parameter {index - self._inputs}"
            raise RuntimeError(
                f"{what}, of shape {tuple(self._tensors[index].shape)}, was changed in place while the step ran, and a "
                "recomputation would read the changed values; let the step work on a copy"
            )


class Accumulated:
    """Notices a step that calls ``backward()`` inside: every recomputation would add to ``.grad`` once more.

    Whether any ``.grad`` moved in the first pass is cheap to see, and may be another thread's doing: a recomputation of
    one core then tells.

    Args:
        surroundings: the tensors in them are looked at.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._leaves = [*filter(_is_leaf, filter(_requires_grad, surroundings.tensors()))]
        self._before = self._now()

    def moved(self) -> list[Tensor]:
        """Return the tensors whose ``.grad`` is another than at construction, or was changed."""
        (before, counted), (now, counts) = self._before, self._now()
        same = map(and_, map(is_, before, now), map(eq, counted, counts))
        return [*compress(self._leaves, map(not_, same))]

    def _now(self) -> tuple[list[Tensor | None], Sequence[int]]:
        grads = [*map(_grad, self._leaves)]
        if not any(map(is_not, grads, repeat(None))):  # as usual
            return grads, (0,) * len(grads)
        return grads, [0 if grad is None else version(grad) for grad in grads]


@contextmanager
def accumulation_refused(leaves: Iterable[Tensor]) -> Iterator[None]:
    """Refuse what adds to the ``.grad`` of any of these tensors inside the ``with`` block, on behalf of this thread.

    Raises:
        RuntimeError: the step called ``backward()``.
    """
    seen: list[Tensor] = []

    def see(leaf: Tensor) -> None:
        if is_set(_ACCUMULATES):
            seen.append(leaf)

    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    handles = [leaf.register_post_accumulate_grad_hook(see) for leaf in wanted]  # type: ignore[no-untyped-call]
    try:
        with flagged(_ACCUMULATES):
            yield
    finally:
        for handle in handles:
            handle.remove()
    if seen:
        raise RuntimeError(
            f"the step calls backward() inside, which adds to the .grad of a tensor of shape {tuple(seen[0].shape)} "
            "whenever it is run, recomputations included: take that gradient by torch.autograd.grad, and return it as "
            "an output y to add it up outside"
        )


_ACCUMULATES: Final = "membptt: the step must not call backward()"
_grad: Final = attrgetter("grad")
_is_leaf: Final = attrgetter("is_leaf")
_requires_grad: Final = attrgetter("requires_grad")


class InPlace:
    """Notices a step that updates in place what it keeps outside the carry: a recomputation would update it again.

    Running statistics are such: the carry may not show that they are spoiled. All tensors that the step finds around it
    are watched by their in-place counter, nothing is copied for it; of floating buffers and attributes, which some
    kernels write to without counting, up to 1,024 elements besides. What the step replaces is not watched: a
    recomputation finds it as it was, and the carry shows where it matters.

    Args:
        surroundings: what is watched.
        rewound: what may be updated, since a recomputation rewinds it.
    """

    def __init__(self, surroundings: Surroundings, *, rewound: Iterable[Tensor] = ()) -> None:
        self._surroundings = surroundings
        self._rewound = {id(tensor) for tensor in rewound}
        self._samples: dict[tuple[torch.dtype, torch.device], list[tuple[int, Tensor]]] = {}
        for number, tensor in surroundings.inside():
            if _can_be_sampled(tensor) and id(tensor) not in self._rewound:
                self._samples.setdefault((tensor.dtype, tensor.device), []).append((number, tensor))
        self._before = {kind: _sampled(watched) for kind, watched in self._samples.items()}

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: names the buffer, attribute or variable.
        """
        names = self.changed()
        if names:
            raise RuntimeError(
                f"the step updates {' and '.join(map(repr, names[:4]))} in place, a state inside its module or beside "
                "it; a recomputed step would update it again. Hand that state on in the carry (membptt.Stateful does "
                "it for modules), or put the module into eval mode"
            )

    def changed(self) -> list[str]:
        """Return the names of what was changed since construction."""
        numbers = set(self._surroundings.changed())
        for number, tensor in self._surroundings.numbered() if numbers and self._rewound else ():
            if id(tensor) in self._rewound:
                numbers.discard(number)
        for kind, watched in self._samples.items():
            now, before = _sampled(watched), self._before[kind]
            if not torch.equal(bits(now), bits(before)):
                sizes = [_stride(tensor)[0] for _, tensor in watched]
                parts = zip(watched, torch.split(now, sizes), torch.split(before, sizes), strict=True)
                numbers |= {number for (number, _), part, past in parts if not torch.equal(bits(part), bits(past))}
        names = self._surroundings.names() if numbers else []
        return list(dict.fromkeys(map(names.__getitem__, sorted(numbers))))


def _can_be_sampled(tensor: Tensor) -> bool:
    plain = type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.is_meta
    return plain and tensor.dtype in _SAMPLED and tensor.numel() > 0 and tensor.is_contiguous()


def _stride(tensor: Tensor) -> tuple[int, int]:
    """Return how many elements are looked at, and how far apart they lie."""
    stride = -(-tensor.numel() // _SAMPLE)
    return -(-tensor.numel() // stride), stride


def _sampled(watched: list[tuple[int, Tensor]]) -> Tensor:
    with torch.no_grad():
        return torch.cat([tensor.detach().view(-1)[:: _stride(tensor)[1]] for _, tensor in watched])
