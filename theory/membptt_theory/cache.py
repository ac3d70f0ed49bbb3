"""What was computed and may be asked for again, kept within a number of bytes: what was used longest ago goes first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, Final, ParamSpec, Protocol, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Kept(Protocol):
    """What tells how many bytes it takes while it is kept."""

    @property
    def kept_bytes(self) -> int:
        """Bytes."""


Weighed = TypeVar("Weighed", bound=Kept)


class Cache:
    """Results by key. The one used last is kept whatever its size, so that who asks for it again and again waits once.

    No lock is held, so that a process may fork at any time: of two threads that ask at once, both may compute.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[Hashable, tuple[Any, int]] = {}  # the one used last is last

    @property
    def bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(size for _, size in list(self._kept.values()))

    def get(self, key: Hashable, compute: Callable[[], Result], size: Callable[[Result], int]) -> Result:
        """Return what is kept under `key`, or compute it; `size` tells its bytes."""
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._kept[key] = entry
            return entry[0]  # type: ignore[no-any-return]
        result = compute()
        self._kept[key] = result, size(result)
        for oldest in list(self._kept)[:-1]:
            if self.bytes <= self.limit:
                break
            self._kept.pop(oldest, None)
        return result

    def remember(self, function: Callable[Given, Weighed]) -> Callable[Given, Weighed]:
        """Decorate a function of hashable positional arguments: its results are kept here."""

        @wraps(function)
        def remembered(*args: Given.args, **kwargs: Given.kwargs) -> Weighed:
            key = function, args, tuple(map(type, args))  # 2.0 is no 2: it is to be refused, whatever is kept of 2
            return self.get(key, lambda: function(*args, **kwargs), lambda result: result.kept_bytes)

        return remembered

    def __len__(self) -> int:
        return len(self._kept)


TABLES: Final = Cache(2**28)  # policy tables, of one tier and of two
