"""Read real data sets from a local path: MNIST in IDX format, and text as bytes. Nothing is ever downloaded."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

LARGEST: Final = 2**28  # bytes of one IDX array: five times MNIST's training images
LARGEST_TEXT: Final = 2**30  # bytes of one text: enwik9 and no more
_UNSIGNED_BYTES: Final = 0x08  # the type code of MNIST's files
_DIMENSIONS: Final = 4
_NAMES: Final = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class DataSetError(ValueError):
    """A data set's file is absent, damaged, truncated, too large, or of another kind."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Images of digits as sequences of pixels.

    Args:
        pixels: ``(number, steps)``, row by row, 0 .. 255.
        labels: ``(number,)``, 0 .. 9.
    """

    pixels: Bytes
    labels: Bytes


@dataclass(frozen=True, slots=True)
class Text:
    """A text as numbers of symbols, cut into three stretches.

    Args:
        train: symbols, ``0 .. len(vocabulary) - 1``.
        valid: symbols.
        test: symbols.
        vocabulary: the byte of each symbol, rising.
    """

    train: Bytes
    valid: Bytes
    test: Bytes
    vocabulary: bytes


def load_mnist(folder: Path, split: str, /) -> Digits:
    """Read one split of MNIST, or of any set in its format, plain or gzipped.

    Args:
        folder: holds ``train-images-idx3-ubyte`` and its three siblings, each with or without ``.gz``.
        split: ``"train"`` or ``"test"``.

    Raises:
        ValueError: another split.
        DataSetError: a file is absent, or not what its header and its sibling say.
    """
    if split not in _NAMES:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    images, labels = (load_idx(_present(Path(folder), name)) for name in _NAMES[split])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not images.size:
        raise DataSetError(f"{folder}: images of shape {images.shape} and labels of shape {labels.shape} are no pair")
    if labels.max() > 9:
        raise DataSetError(f"{folder}: a label is {labels.max()}, and digits are 0 to 9")
    return Digits(images.reshape(len(images), -1), labels)


def load_idx(path: Path, /, *, largest: int = LARGEST) -> Bytes:
    """Read an array of unsigned bytes in IDX format, plain or gzipped; sizes are checked before anything is allocated.

    Args:
        path: a file; gzip is told from its first bytes, not from its name.
        largest: bytes that the array may have.

    Raises:
        DataSetError: absent, no IDX file of unsigned bytes, larger than `largest`, shorter or longer than its header
            says, or damaged.
    """
    try:
        with _opened(path) as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0":
                raise DataSetError(f"{path} is no IDX file: it starts with {start!r}, not with two zero bytes")
            kind, dimensions = start[2], start[3]
            if kind != _UNSIGNED_BYTES:
                raise DataSetError(f"{path} holds type 0x{kind:02x}; only unsigned bytes, 0x08, are read")
            if not 1 <= dimensions <= _DIMENSIONS:
                raise DataSetError(f"{path} has {dimensions} dimensions; 1 to {_DIMENSIONS} are read")
            header = file.read(4 * dimensions)
            if len(header) < 4 * dimensions:
                raise DataSetError(f"{path} is truncated: it ends inside its header")
            shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4))
            size = math.prod(shape)
            if size > largest:
                raise DataSetError(f"{path} says it holds {shape}, {size} bytes; {largest} are allowed")
            content = file.read(size + 1)  # gzip says nothing of its size: one byte more tells a longer file
    except (OSError, EOFError, zlib.error) as error:
        raise DataSetError(f"{path} cannot be read: {error}") from error
    if len(content) != size:
        amount = f"only {len(content)}" if len(content) < size else "more"
        raise DataSetError(f"{path} says it holds {shape}, {size} bytes, and holds {amount}")
    return cast(Bytes, np.frombuffer(content, np.uint8).reshape(shape))


def load_text(path: Path, /, *, valid: float = 0.05, test: float = 0.05, limit: int | None = None) -> Text:
    """Read a text such as enwik8 as bytes; its last parts are kept for validation and test, as is usual.

    Args:
        path: a file of any bytes, plain or gzipped.
        valid: share of the text before the last part.
        test: share of the last part.
        limit: read no more than this many bytes.

    Raises:
        ValueError: shares or a limit that leave no text.
        DataSetError: absent, damaged, larger than `LARGEST_TEXT`, or too short for three parts.
    """
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise ValueError(f"valid and test must be shares above 0 that add up to less than 1, got {valid} and {test}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit must be a number of bytes, at least 1, got {limit!r}")
    try:
        with _opened(path) as file:
            content = file.read(min(limit or LARGEST_TEXT + 1, LARGEST_TEXT + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataSetError(f"{path} cannot be read: {error}") from error
    if len(content) > LARGEST_TEXT:
        raise DataSetError(f"{path} holds more than {LARGEST_TEXT} bytes: give a limit")
    return split_text(content, valid=valid, test=test, source=str(path))


def split_text(content: bytes, /, *, valid: float, test: float, source: str) -> Text:
    """Number the bytes of a text and cut it; the vocabulary is that of the whole text.

    Raises:
        DataSetError: a part would be empty.
    """
    kept = math.floor(len(content) * valid), math.floor(len(content) * test)
    cuts = [len(content) - sum(kept), len(content) - kept[1]]
    if not 0 < cuts[0] < cuts[1] < len(content):
        raise DataSetError(f"{source} holds {len(content)} bytes, too few for three parts")
    raw = np.frombuffer(content, np.uint8)
    counts = np.bincount(raw, minlength=256)
    vocabulary = np.flatnonzero(counts).astype(np.uint8)
    numbers = np.zeros(256, np.uint8)
    numbers[vocabulary] = np.arange(len(vocabulary), dtype=np.uint8)
    train, rest, last = np.split(numbers[raw], cuts)
    return Text(train, rest, last, vocabulary.tobytes())


def _present(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataSetError(f"{folder} holds neither {name} nor {name}.gz; nothing is downloaded: put the file there")


def _opened(path: Path) -> BinaryIO:
    path = Path(path)
    if not path.is_file():
        raise DataSetError(f"{path} is no file; nothing is downloaded: put it there")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")
