"""Fingerprints of leaves: a few numbers that tell one carry from another, so that nothing has to be kept to compare."""

from __future__ import annotations

from ctypes import c_char
from functools import lru_cache, partial
from operator import mul
from typing import Any, Final

import torch
from torch import Tensor, nn

ROW: Final = 4096  # elements that one number of a fingerprint stands for

SMALL: Final = 8192  # bytes

Note = Tensor | tuple[bytes, torch.dtype, torch.Size]

_PLAIN: Final = (Tensor, nn.Parameter)
_STRIDED: Final = torch.strided
_EMPTY: Final = torch.empty(0)


def fingerprint(leaf: Tensor, /) -> Tensor:
    """Return one number for every 4,096 elements, on the leaf's device: each element times a fixed weight, added up.

    The weights have random signs and sizes from 1/2 to 3/2, so that no element is overlooked, and neither a permutation
    nor a flipped sign. Integers are added up modulo 2**64, with odd weights: two that differ in one element never have
    the same fingerprint. Of what is not a plain tensor, the fingerprint is empty.
    """
    leaf = leaf.detach()
    plain = type(leaf) is Tensor and leaf.layout is torch.strided
    if plain and leaf.dtype is torch.float32 and leaf.is_contiguous() and 0 < leaf.numel() <= ROW:
        return torch.mv(leaf.view(1, -1), _weights(leaf.numel(), torch.float32, leaf.device))
    if leaf.is_quantized:
        leaf = leaf.int_repr()
    if type(leaf) not in _PLAIN or leaf.is_nested or leaf.is_meta or not leaf.numel():
        return _EMPTY
    if leaf.layout is not torch.strided:
        leaf = leaf.coalesce().values() if leaf.layout is torch.sparse_coo else leaf.values()
    if leaf.is_complex():
        leaf = torch.view_as_real(leaf.resolve_conj())
    if leaf.is_floating_point():
        flat = leaf.reshape(-1)
        flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    else:
        flat = leaf.reshape(-1).to(torch.int64)
    rows, rest = divmod(len(flat), ROW)
    parts = []
    if rows:
        parts.append(_products(flat[: rows * ROW].view(rows, ROW), _weights(ROW, flat.dtype, flat.device)))
    if rest:
        parts.append(_products(flat[rows * ROW :].view(1, rest), _weights(rest, flat.dtype, flat.device)))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def is_small(leaf: Tensor, /) -> bool:
    """Whether a leaf lies on the host and is so small that its bits are looked at faster than its numbers."""
    plain = type(leaf) in _PLAIN and leaf.is_cpu and leaf.layout is _STRIDED
    return plain and 0 < leaf.nbytes <= SMALL and not leaf.is_quantized


def alone(leaf: Tensor, /) -> Tensor:
    """Return a small leaf that keeps no large storage alive, which it may share with others: a copy, where it would."""
    return leaf.detach().clone() if leaf.untyped_storage().nbytes() > SMALL else leaf


def hashed(leaf: Tensor, /) -> int | None:
    """Return a hash of the bits of a small leaf, which tells whether they are the same, and nothing else."""
    return hash(_bits(leaf)) if is_small(leaf) else None


def noted(leaf: Tensor, /) -> Note:
    """Return what is kept of a leaf: its fingerprint or, if it is small, its bits, which takes less time."""
    return (_bits(leaf), leaf.dtype, leaf.shape) if is_small(leaf) else fingerprint(leaf)


def fingerprint_of(note: Note, /) -> Tensor:
    """Return the fingerprint of a leaf of which this was kept."""
    return note if isinstance(note, Tensor) else fingerprint(leaf_of(note))


def leaf_of(note: Note, /) -> Tensor:
    """Return a small leaf of which this was kept; of another, its fingerprint."""
    if isinstance(note, Tensor):
        return note
    bits, dtype, shape = note
    return torch.frombuffer(bytearray(bits), dtype=dtype).view(shape)


def _bits(leaf: Tensor) -> bytes:
    if not leaf.is_contiguous() or leaf.is_conj() or leaf.is_neg():
        leaf = leaf.detach().resolve_conj().resolve_neg().contiguous()
    bits: bytes = _bytes(leaf.nbytes).from_address(leaf.data_ptr()).raw
    return bits


_bytes: Final[Any] = lru_cache(maxsize=128)(partial(mul, c_char))  # the type of so many


def tolerance(dtype: torch.dtype, /) -> float:
    """Return by how much two fingerprints may differ, relative to their size, where a step only rounds differently."""
    return _TOLERANCES.get(dtype, 0.0 if not (dtype.is_floating_point or dtype.is_complex) else 2.0**-6)


_TOLERANCES: Final = {
    torch.float64: 2.0**-34,
    torch.complex128: 2.0**-34,
    torch.float32: 2.0**-16,
    torch.complex64: 2.0**-16,
    torch.float16: 2.0**-8,
    torch.complex32: 2.0**-8,
}


def _products(rows: Tensor, weights: Tensor) -> Tensor:
    return torch.mv(rows, weights) if rows.is_floating_point() else (rows * weights).sum(1)


@lru_cache(maxsize=128)
def _weights(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if dtype is torch.int64:
        weights = torch.randint(-(2**62), 2**62, (ROW,), generator=generator) * 2 + 1
    else:
        sign = torch.randint(0, 2, (ROW,), generator=generator) * 2 - 1
        weights = sign * (0.5 + torch.rand(ROW, generator=generator, dtype=torch.float64))
    return weights[:size].to(dtype, copy=True).to(device)
