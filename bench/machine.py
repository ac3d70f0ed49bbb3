"""What a measurement depends on beside its sizes: the machine, its threads, the versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Final

import torch

CPU_INFO: Final = Path("/proc/cpuinfo")


def conditions(device: str) -> dict[str, Any]:
    """Return the conditions of a benchmark of methods on ``"cpu"`` or ``"cuda"``."""
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "versions": {**versions(), "checkpoint-schedules": importlib.metadata.version("checkpoint-schedules")},
        "system": platform.system(),
        "dtype": "float32",
    }


def here(threads: int = 1) -> dict[str, Any]:
    """Return the conditions of a measurement for a figure, on this machine's processor."""
    return {
        "device": "cpu",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.system(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and torch."""
    return {"python": platform.python_version(), "torch": torch.__version__}


def cpu_name(info: Path = CPU_INFO) -> str:
    """Return what the processor calls itself, with its family and model: virtual machines leave the rest of it out."""
    # The blocks of all cores are alike.
    first = info.read_text().partition("\n\n")[0].splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    kind = [facts.get(key, "") for key in ("cpu family", "model")]
    return f"{name} (family {kind[0]}, model {kind[1]})" if all(kind) else name
