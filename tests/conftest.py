"""Hypothesis profiles, and what is left out where an optional package is not installed.

Profiles: dev (default), ci, nightly; chosen by HYPOTHESIS_PROFILE, or ci where CI is set.
"""

import importlib.util
import os
import re

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=40, deadline=None)
settings.register_profile(
    "ci", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

# The extras of pyproject.toml but for dev: the theory and the proofs are tested without them.
OPTIONAL = ("torch", "optree", "matplotlib", "scipy", "sklearn", "jupytext", "nbclient", "nbformat", "norse")
ABSENT = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Skip a module of tests that imports an optional package which is not installed."""
    report = yield
    missing = re.search(r"ModuleNotFoundError: No module named '([^'.]+)", str(report.longrepr or ""))
    if report.failed and missing and missing[1] in ABSENT:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 1, f"needs {missing[1]}, which is not installed")
    return report


def pytest_collection_modifyitems(items):
    """Skip what needs a CUDA device where there is none."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
