"""A table on disk: one ``.npz`` of a JSON header with a digest and integer arrays of one shape; no pickles."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from membptt_theory.files import absence, parse_json, write_whole

ARRAYS: Final = {"costs": "<i8", "decisions": "|u1", "splits": "<i4"}  # what every table of this project holds
_HEADER_LIMIT: Final = 4096
_TAIL: Final = 98  # bytes of a zip archive's last records, the long form included

Header = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


class _Digested(Protocol):
    @property
    def digest(self) -> str: ...


_Table = TypeVar("_Table", bound=_Digested)


class TableError(ValueError):
    """A table, or a file that should hold one, is not what it claims to be."""


def admit(name: str, array: NDArray[Any], shape: tuple[int, ...], /) -> NDArray[Any]:
    """Return an immutable copy of one of a table's `ARRAYS`.

    Raises:
        TableError: it has another dtype or shape.
    """
    array, dtype = np.asarray(array), ARRAYS[name]
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise TableError(f"{name} must be {dtype} of shape {shape}, got {array.dtype} {array.shape}")
    # Backed by bytes: unlike a read-only flag, that cannot be lifted again.
    return np.frombuffer(array.tobytes(), dtype=array.dtype).reshape(shape)


def save_arrays(path: str | Path, header: Header, digest: str, arrays: Mapping[str, NDArray[Any]], /) -> None:
    """Write a table, whole or not at all."""
    text = json.dumps({"table": header, "digest": digest}).encode()
    members: dict[str, Any] = {"header": np.frombuffer(text, dtype=np.uint8), **arrays}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **members)

    write_whole(path, write)


def load_table(
    path: str | Path, file_format: str, construct: Callable[[Header, Arrays], _Table], /, *, limit: int
) -> _Table:
    """Read what `save_arrays` wrote.

    Args:
        path: the file.
        file_format: the header's ``"format"``; its ``"shape"`` is the shape of all arrays.
        construct: header and arrays -> the table.
        limit: largest number of bytes the arrays may take; checked before anything is allocated.

    Raises:
        TableError: missing, truncated, foreign, another format, too large, refused by `construct`, or another digest.
    """
    try:
        header, digest, arrays = _read(Path(path), file_format, limit)
        table = construct(header, arrays)
        if table.digest != digest:
            raise TableError(f"digest is {table.digest}, the file says {digest}: rebuild the table")
        return table
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    except Exception as error:  # zipfile, zlib, struct, numpy and a foreign header raise errors without a common base
        raise TableError(f"{path}: not a readable table ({error})") from error


def digest_arrays(header: Header, arrays: Mapping[str, NDArray[Any]], /) -> str:
    """Hash the canonical form: header as sorted JSON, then each of `ARRAYS`, little-endian."""
    sha = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, dtype in ARRAYS.items():
        sha.update(np.ascontiguousarray(arrays[name], dtype=dtype).tobytes())
    return sha.hexdigest()


def _read(path: Path, file_format: str, limit: int) -> tuple[Header, str, Arrays]:
    if not path.is_file():
        raise TableError(absence(path))
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size > limit + _HEADER_LIMIT * 2:
            raise TableError(f"the file takes {size} bytes; the limit is {limit}")
        _check_directory(file, size)
        with zipfile.ZipFile(file) as archive:
            expected = sorted(f"{name}.npy" for name in ("header", *ARRAYS))
            if sorted(archive.namelist()) != expected:
                raise TableError(f"it holds {archive.namelist()}, a table is {expected}, each once")
            header, digest = _read_header(archive, file_format)
            shape = _shape_of(header)
            total = prod(shape) * sum(np.dtype(dtype).itemsize for dtype in ARRAYS.values())
            if total > limit:
                raise TableError(f"a table of shape {shape} takes {total} bytes; the limit is {limit}")
            return header, digest, {name: _read_member(archive, name, dtype, shape) for name, dtype in ARRAYS.items()}


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse a directory that `save_arrays` never writes: `zipfile` holds all of it in memory, whatever its length."""
    file.seek(-min(size, _TAIL), os.SEEK_END)
    tail = file.read(_TAIL).rjust(_TAIL, b"\0")
    ends = tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"
    length = int.from_bytes(tail[-10:-6], "little")
    if ends and tail[-42:-38] == b"PK\6\7":  # beyond 2 GiB: another record says how long it is, right before this one
        ends = int.from_bytes(tail[-34:-26], "little") == size - _TAIL
        length = int.from_bytes(tail[-58:-50], "little")
    if not ends or length > _HEADER_LIMIT:
        raise TableError("truncated, or not an archive of four arrays")


def _read_header(archive: zipfile.ZipFile, file_format: str) -> tuple[Header, str]:
    stored = parse_json(_read_member(archive, "header", "|u1", None).tobytes())
    header, digest = dict(stored["table"]), stored["digest"]
    if header["format"] != file_format:
        raise TableError(f"format is {header['format']!r}, this version reads {file_format!r}: rebuild the table")
    return header, digest


def _shape_of(header: Header) -> tuple[int, ...]:
    shape = header["shape"]
    if not isinstance(shape, list) or not shape or any(type(size) is not int or size < 1 for size in shape):
        raise TableError(f"the header's shape is {shape!r}; it must be a list of positive integers")
    return tuple(shape)


def _read_member(archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...] | None) -> NDArray[Any]:
    """Read an array of a known type and shape; without a shape, at most `_HEADER_LIMIT` bytes in one dimension."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The other methods decompress without a bound, whatever number of bytes is asked for.
        raise TableError(f"{name} is compressed by method {info.compress_type}, not by deflate")
    with archive.open(info) as file:
        start = file.read(10)
        length = int.from_bytes(start[8:], "little")
        if start[:8] != b"\x93NUMPY\1\0" or length > _HEADER_LIMIT:
            raise TableError(f"{name} is not an array")
        # Compared, never parsed: what numpy reads here is an expression of Python, and may ask for any type and size.
        said = file.read(length).rstrip()
        if shape is None:
            shape = (info.file_size - len(start) - length,)
            if not 0 <= shape[0] <= _HEADER_LIMIT:
                raise TableError(f"{name} takes {shape[0]} bytes; the limit is {_HEADER_LIMIT}")
        if said != f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode():
            raise TableError(f"{name} must be {dtype} of the header's shape {shape}, it says {said.decode('latin-1')}")
        size = prod(shape) * np.dtype(dtype).itemsize
        content = file.read(size + 1)
    if len(content) != size:
        raise TableError(f"{name} is larger or smaller than the header's shape {shape} allows")
    return np.frombuffer(content, dtype=dtype).reshape(shape)
