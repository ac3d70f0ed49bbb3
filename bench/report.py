"""What a measured point says: the side-by-side table, and the project's targets with their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.fit import Setting, predict


def ratio(point: dict[str, Any], label: str, reference: str) -> float:
    """Return a method's time over another's of the same round, median over the rounds."""
    return float(median(times["seconds"][label] / times["seconds"][reference] for times in point["rounds"]))


def model_ratio(point: dict[str, Any], method: dict[str, Any]) -> float:
    """Return a scan's time over the cost model's, which takes the same round's operations; median over the rounds."""
    setting = Setting(**method["settings"])
    key = f"{method['kernel']} {method['block']}x{setting.chunk}"
    calls = point["calls"] // method["block"]
    table, cores = setting.table(calls), -(-calls // setting.chunk)
    return float(
        median(
            times["seconds"][method["label"]] / predict(table, cores, setting.slots, *times["operations"][key])
            for times in point["rounds"]
        )
    )


def predicted(method: dict[str, Any]) -> bool:
    """Return whether the cost model was given the times of the method's cores."""
    return bool(method["family"] == "membptt" and method["kernel"] != "joined")


def rows(point: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the table's rows: first the reference methods, then `membptt`, by memory."""
    by_label = {method["label"]: method for method in point["methods"]}
    plain = by_label["plain"]
    ordered = sorted(point["methods"], key=lambda method: (method["family"] == "membptt", -method["peak_bytes"]))
    for method in ordered:
        label = method["label"]
        against = ", ".join(f"{ratio(point, label, name):.2f} {name}" for name in method["budgets"] if name in by_label)
        seconds = median(times["seconds"][label] for times in point["rounds"])
        yield [
            label,
            f"{ratio(point, label, 'plain'):.2f}",
            f"{seconds * 1e6 / point['steps']:.0f}",
            f"{method['peak_bytes'] / 1e6:.2f}",
            f"{100 * method['peak_bytes'] / plain['peak_bytes']:.1f}",
            f"{method['peak_bytes_with_gradients'] / 1e6:.2f}",
            f"{method['forwards'] / point['steps']:.2f}",
            against,
            f"{model_ratio(point, method):.2f}" if predicted(method) else "",
        ]


KERNELS = ("eager", "compiled", "merged", "fused", "joined")
WITHIN_FIVE = {"eager": 1.38, "compiled": 1.0, "merged": 1.0, "fused": 1.0, "joined": 0.95}  # time over plain's
THEIRS = {"equinox": 1.0, "checkpoint": 0.9}  # time over theirs, at their total memory
HEAD = [
    "method",
    "time / plain",
    "us a step",
    "peak MB",
    "% of plain",
    "with weight gradients",
    "forwards a step",
    "time / reference at its memory",
    "time / cost model",
]


def show(point: dict[str, Any], write: Callable[[str], None] = print) -> None:
    """Print one point."""
    title = (
        f"{point['cell']}, T = {point['steps']}, batch {point['batch']}, {point['device_name']}, "
        f"{point['threads']} thread(s), medians of {len(point['rounds'])} interleaved rounds"
    )
    table = Table(title=title)
    for index, name in enumerate(HEAD):
        table.add_column(name, justify="left" if index in (0, 7) else "right")
    for row in rows(point):
        table.add_row(*row)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    write(captured.get())
    for label, reason in point["skipped"].items():
        write(f"skipped {label}: {reason}")
    for line in targets(point):
        write(line)


def targets(point: dict[str, Any]) -> Iterator[str]:
    """Yield one line a target of the project that this point can judge, with its verdict."""
    by_label = {method["label"]: method for method in point["methods"]}
    ours = [method for method in point["methods"] if method["family"] == "membptt"]
    by_kernel = {kernel: [method for method in ours if method["kernel"] == kernel] for kernel in KERNELS}

    def time(method: dict[str, Any], reference: str = "plain") -> float:
        return ratio(point, method["label"], reference)

    def within(methods: list[dict[str, Any]], budget: float) -> list[dict[str, Any]]:
        return [method for method in methods if method["peak_bytes"] <= budget]

    for name, limit in (("checkpoint", 0.75), ("checkpoint reentrant", 0.9)):
        for kind, methods in by_kernel.items():
            fitting = within(methods, by_label[name]["peak_bytes"])
            if fitting:
                best = min(fitting, key=time)
                yield _line(f"time at the memory of {name}, {kind}", time(best, name), limit, best)
    for kind, methods in by_kernel.items():
        fast = [method for method in methods if time(method, "checkpoint") <= 1]
        if fast:
            best = min(fast, key=lambda method: method["peak_bytes"])
            part = best["peak_bytes"] / by_label["checkpoint"]["peak_bytes"]
            yield _line(f"memory at the time of checkpoint, {kind}", part, 0.5, best)
    for kind, methods in by_kernel.items():
        fitting = within(methods, 0.05 * by_label["plain"]["peak_bytes"])
        if fitting:
            best = min(fitting, key=time)
            yield _line(f"time at 5 % of plain's memory, {kind}", time(best), WITHIN_FIVE[kind], best)
    for theirs in point["methods"]:
        label, kind = theirs["label"], theirs["settings"].get("kind")
        fitting = [method for method in ours if label in method["budgets"]]
        if kind in THEIRS and fitting:
            best = min(fitting, key=time)
            yield _line(f"time at the total memory of {label}", time(best, label), THEIRS[kind], best)
    for kind, methods in by_kernel.items():
        ratios = sorted((model_ratio(point, method), method["label"]) for method in methods if predicted(method))
        if ratios:
            value, label = ratios[-1]
            verdict = "met" if value <= 1.10 else "NOT met"
            middle = median(value for value, _ in ratios)
            yield f"time / cost model, {kind}: median {middle:.3f}, worst {value:.3f} ({label}); target 1.10: {verdict}"


def _line(what: str, value: float, limit: float, method: dict[str, Any]) -> str:
    return f"{what}: {value:.3f} ({method['label']}); target {limit:g}: {'met' if value <= limit else 'NOT met'}"
