"""Which measurement each measured figure reads; `python -m paper_figs.make FIGURE --measure` runs it, or goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# What is imported here is torch and more: only who measures waits for it.
# ruff: noqa: PLC0415


def measure(figure: str, /) -> None:
    """Measure what `figure` reads, on this machine; what was cut off goes on.

    Raises:
        KeyError: nothing is measured for it.
    """
    _MEASUREMENTS[figure]()


def _fig02b() -> None:
    from bench import gradient_time

    gradient_time.measure("fig02b", "hsm")


def _fig05b() -> None:
    from bench import gradient_time

    gradient_time.measure("fig05b", "ism")


def _fig09() -> None:
    from bench import long_sequence

    long_sequence.main([])


def _fig10() -> None:
    from bench import side_by_side

    side_by_side.main([])


def _fig11() -> None:
    from bench import throughput

    throughput.main([])


def _fig12() -> None:
    from bench import equal_memory

    equal_memory.measure()


def _fig17() -> None:
    from bench import chains

    chains.measure()


def _fig_charlm() -> None:
    from bench import charlm

    charlm.measure()


_MEASUREMENTS: Final[dict[str, Callable[[], None]]] = {
    "fig02b": _fig02b,
    "fig05b": _fig05b,
    "fig09": _fig09,
    "fig10": _fig10,
    "fig11": _fig11,
    "fig12": _fig12,
    "fig17": _fig17,
    "fig_charlm": _fig_charlm,
}
MEASURED: Final = tuple(_MEASUREMENTS)
