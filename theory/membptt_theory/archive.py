"""A table on disk: one ``.npz`` of a JSON header with a digest and integer arrays of one shape; no pickles."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ARRAYS: Final = {"costs": "<i8", "decisions": "|u1", "splits": "<i4"}  # what every table of this project holds
_HEADER_LIMIT: Final = 4096

Header = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


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
    path = Path(path)
    text = json.dumps({"table": header, "digest": digest}).encode()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            members: dict[str, Any] = dict(arrays)
            np.savez_compressed(file, header=np.frombuffer(text, dtype=np.uint8), **members)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_arrays(path: str | Path, file_format: str, /, *, limit: int) -> tuple[Header, str, Arrays]:
    """Read what `save_arrays` wrote: the header, the digest it claims, the arrays.

    Args:
        path: the file.
        file_format: the header's ``"format"``; its ``"shape"`` is the shape of all arrays.
        limit: largest number of bytes the arrays may take; checked before anything is allocated.

    Raises:
        TableError: missing, truncated, foreign, another format, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header, digest = _read_header(archive, file_format)
            shape = tuple(int(size) for size in header["shape"])
            count = int(np.prod(shape, dtype=object))
            total = sum(count * np.dtype(dtype).itemsize for dtype in ARRAYS.values())
            if min(shape) < 1 or total > limit:
                raise TableError(f"a table of shape {shape} takes {total} bytes; the limit is {limit}")
            for name, dtype in ARRAYS.items():
                if archive.getinfo(f"{name}.npy").file_size > count * np.dtype(dtype).itemsize + _HEADER_LIMIT:
                    raise TableError(f"{name} is larger than the header's shape {shape} allows")
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in ARRAYS}
        if any(array.shape != shape for array in arrays.values()):
            raise TableError(f"the arrays do not have the header's shape {shape}")
        return header, digest, arrays
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    except Exception as error:  # zipfile, zlib, struct, json and numpy have no common base
        raise TableError(f"{path}: not a readable table ({error})") from error


def digest_arrays(header: Header, arrays: Mapping[str, NDArray[Any]], /) -> str:
    """Hash the canonical form: header as sorted JSON, then each of `ARRAYS`, little-endian."""
    sha = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, dtype in ARRAYS.items():
        sha.update(np.ascontiguousarray(arrays[name], dtype=dtype).tobytes())
    return sha.hexdigest()


def _read_header(archive: zipfile.ZipFile, file_format: str) -> tuple[Header, str]:
    if archive.getinfo("header.npy").file_size > _HEADER_LIMIT:
        raise TableError("the header is too large")
    with archive.open("header.npy") as file:
        stored = json.loads(bytes(np.lib.format.read_array(file, allow_pickle=False)))
    header = dict(stored["table"])
    if header["format"] != file_format:
        raise TableError(f"format is {header['format']!r}, this version reads {file_format!r}: rebuild the table")
    return header, str(stored["digest"])
