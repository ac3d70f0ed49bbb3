"""Leaves of the carry, of inputs and outputs: tensors, what tells them apart, how they lie in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from membptt.torch_private import hooking, is_view, sparse_parts

Leaves = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a leaf lies in memory. CUDA's dropout draws by strides and alignment, so that a copy has to lie alike.

    Args:
        shape: of the leaf.
        stride: of the leaf; dense where its elements overlap.
        lead: elements between a boundary of 16 bytes and its first one.
        dtype: of the leaf.
        device: of the leaf.
    """

    shape: torch.Size
    stride: tuple[int, ...]
    lead: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, leaf: Tensor) -> Layout:
        """Take note of a leaf's."""
        overlaps = any(step == 0 and size > 1 for step, size in zip(leaf.stride(), leaf.shape, strict=True))
        stride = torch.empty(leaf.shape, device="meta").stride() if overlaps else leaf.stride()
        return cls(leaf.shape, stride, leaf.data_ptr() % 16 // leaf.element_size(), leaf.dtype, leaf.device)

    @property
    def nbytes(self) -> int:
        """Bytes from that boundary to the last element."""
        return self._extent() * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Return a new tensor of that layout."""
        whole = torch.empty(self._extent(), dtype=self.dtype, device=self.device)
        return whole.as_strided(self.shape, self.stride, self.lead)

    def _extent(self) -> int:
        if not self.shape.numel():
            return self.lead
        return self.lead + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


def is_differentiable(tensor: Tensor) -> bool:
    """Whether autograd can give this dtype a gradient."""
    return tensor.is_floating_point() or tensor.is_complex()


def as_leaf(tensor: Tensor, wanted: bool, /) -> Tensor:
    """Return a tensor of its own on the same storage: an autograd leaf where its gradient is wanted.

    Of one that was made in inference mode, a copy, where that is over: no graph may save it.
    """
    leaf = tensor.detach()
    if leaf.is_inference() and not torch.is_inference_mode_enabled():
        leaf = leaf.clone()
    if wanted:
        leaf.requires_grad_()
        leaf._membptt_core = True  # type: ignore[attr-defined]  # a later core that meets it has kept it
    return leaf


def is_core_leaf(tensor: Tensor, /) -> bool:
    """Whether `as_leaf` made it: it is where the graph of some core begins."""
    return getattr(tensor, "_membptt_core", False)


def signature(leaves: Leaves) -> tuple[tuple[torch.Size, torch.dtype, torch.device], ...]:
    """Return shape, dtype and device of every leaf."""
    return tuple([(leaf.shape, leaf.dtype, leaf.device) for leaf in leaves])


def check_tensors(what: str, leaves: Sequence[Any]) -> Leaves:
    """Return `leaves` as a tuple of tensors, or raise one clear error."""
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"leaf {index} of {what} is a {type(leaf).__name__}; only tensors are allowed: "
                "wrap numbers in torch.tensor, keep constants out of it"
            )
    return tuple(leaves)


def bits(tensor: Tensor) -> Tensor:
    """Return the bytes of `tensor`, so that they can be compared where a number does not equal itself."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    parts = [part.contiguous().reshape(-1).view(torch.uint8) for part in dense_parts(tensor)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def storages(tensors: Iterable[Tensor], *, owned: bool = False) -> dict[int, int]:
    """Return bytes by storage; with `owned`, only of tensors that fill theirs: others are views of somebody else's."""
    return {
        address: storage.nbytes()
        for tensor in tensors
        for part in dense_parts(tensor)
        for address, storage in located(part)
        if storage.nbytes() and not (owned and storage.nbytes() > part.nbytes)
    }


def located(tensor: Tensor, /) -> Iterator[tuple[int, torch.UntypedStorage]]:
    """Yield the storages that a tensor lies in, with their addresses: several where it is sparse."""
    for part in dense_parts(tensor):
        storage = part.untyped_storage()
        try:
            address = storage.data_ptr()
        except RuntimeError:  # the zeros that forward mode fills in say that they have bytes, but have none
            continue
        yield address, storage


def compacted(leaves: Leaves, outside: Iterable[Tensor], /) -> Leaves:
    """Return leaves that keep nothing alive but themselves: a view of something larger is copied, and lies as it lay.

    Views of a storage that is `outside`, and alive anyway, stay; so do those that together fill theirs.
    """
    views = list(filter(_is_view, leaves))
    if not views:
        return leaves
    kept, filled = storages(outside), dict[int, int]()
    for leaf in views:
        storage = leaf.untyped_storage().data_ptr()
        filled[storage] = filled.get(storage, 0) + Layout.of(leaf).nbytes
    # What fills its storage by itself keeps it alive for the others.
    kept |= storages(leaf for leaf in leaves if not _is_view(leaf))
    large = {storage for storage, size in storages(views).items() if size > filled[storage] and storage not in kept}
    copied = {id(leaf) for leaf in views if leaf.untyped_storage().data_ptr() in large}
    return tuple([Layout.of(leaf).empty().copy_(leaf) if id(leaf) in copied else leaf for leaf in leaves])


def compacted_gradient(gradient: Tensor, /) -> Tensor:
    """Return a gradient that keeps nobody else's bytes alive: of a part of something larger, a copy.

    That of a concatenation gives parts of one tensor, of which a skip connection's waits longest.
    """
    try:
        whole = gradient.layout is not torch.strided or gradient.untyped_storage().nbytes() <= gradient.nbytes
    except NotImplementedError:  # under vmap, where storages are not shown
        return gradient
    return gradient if whole else gradient.clone()


def _passed(gradient: Tensor) -> Tensor:
    """Return what `compacted_gradient` does; of a usual one without a look at its storage.

    Once Python has seen a storage, autograd adds to it in place no more: every block's gradient would be a new tensor.
    """
    usual = gradient.layout is torch.strided and not is_view(gradient) and gradient.is_contiguous()
    return gradient if usual and gradient.storage_offset() == 0 else compacted_gradient(gradient)


_compact: Final = hooking(_passed)


def compact_gradients(leaves: Leaves, /) -> None:
    """Have the gradients of a state pass through `compacted_gradient`, each once: a leaf may be handed on as it is."""
    new = [leaf for leaf in leaves if leaf.grad_fn is not None and not hasattr(leaf, "_membptt_compact")]
    _compact(new)
    for leaf in new:
        leaf._membptt_compact = True  # type: ignore[attr-defined]


def are_apart(tensors: Sequence[Tensor], /) -> bool:
    """Whether each of these tensors lies in a storage of its own."""
    strided = [tensor for tensor in tensors if tensor.layout is torch.strided]
    return len({tensor.untyped_storage().data_ptr() for tensor in strided}) == len(strided)


def dense_parts(tensor: Tensor, /) -> Iterator[Tensor]:
    """Yield the dense tensors that a sparse one, or a subclass that wraps others, is made of; a plain one itself."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from dense_parts(getattr(tensor, name))
    elif tensor.layout is torch.strided:
        yield tensor
    else:
        yield from sparse_parts(tensor.detach())


def _is_view(leaf: Tensor) -> bool:
    plain = type(leaf) is Tensor and leaf.layout is torch.strided and not leaf.is_meta
    return plain and leaf.untyped_storage().nbytes() > leaf.nbytes
