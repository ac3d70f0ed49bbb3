"""What a measurement depends on beside its sizes: the machine, its threads, the versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch


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


def cpu_name() -> str:
    """Return what the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
