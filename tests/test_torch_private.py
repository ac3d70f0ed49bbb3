"""What torch does not promise to keep lies in one file, is looked up once, and is missed with a warning."""

from __future__ import annotations

import pkgutil
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "impl" / "membptt"
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.name != "torch_private.py"]
ATTRIBUTES = "version|backward_hooks|forward_pre_hooks|buffers|parameters|modules|sequence_nr|cache_enabled"
ATTRIBUTES += "|current_level|schema"
PRIVATE = re.compile(rf"\btorch\._(?!_version__)|\bfrom torch\._|\._C\b|\._(?:{ATTRIBUTES})\b")


def private_names(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if PRIVATE.search(line)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_of_the_runtime_names_what_is_private_to_torch(path: Path) -> None:
    assert private_names(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch._C._x()",
        "from torch._inductor import config",
        "leaf._version",
        "tensor._backward_hooks",
        "self.owner._buffers",
        "node._sequence_nr()",
        "for hook in module._forward_pre_hooks:",
    ],
)
def test_a_private_name_is_noticed(line: str) -> None:
    assert private_names(f"a = 1\n{line}\n") == [line]


# Names that are looked up when the runtime is imported: those whose loss is tried in a process of its own, and others.
LOOKED_UP = [
    "torch._C._stash_obj_in_tls",
    "torch._C._is_key_in_tls",
    "torch._C._get_obj_in_tls",
    "torch._C._functorch.is_legacy_batchedtensor",
    "torch._C._are_functorch_transforms_active",
    "torch._foreach_add_",
    "torch.autocast_increment_nesting",
]
SCAN = """
import warnings
import torch
owner, _, name = {name!r}.rpartition(".")
hidden = getattr(eval(owner), name)
delattr(eval(owner), name)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import membptt
setattr(eval(owner), name, hidden)  # torch's own engine asks for some of them
said = [str(each.message) for each in caught if each.category.__name__ == "MissingPrivateNameWarning"]
weight = torch.full((3,), 0.5, requires_grad=True)
step = lambda h, x: (torch.tanh(h * weight + x), h)
h, ys = membptt.scan(step, torch.zeros(3), torch.ones(9, 3), slots=3, params=[weight])
ys.sum().backward()
loop, total = torch.zeros(3), 0
twin = weight.detach().clone().requires_grad_()
for x in torch.ones(9, 3):
    loop, total = torch.tanh(loop * twin + x), total + loop
total.sum().backward()
assert torch.allclose(weight.grad, twin.grad)
print(len(said), *said, sep="\\n")
"""


@pytest.mark.parametrize("name", LOOKED_UP)
def test_a_missing_name_costs_one_warning_and_what_it_served(name: str) -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", SCAN.format(name=name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *said = done.stdout.strip().splitlines()
    assert (count, len(said)) == ("1", 1)
    assert name.removeprefix("torch.") in said[0]
    assert "use a version that this release was tested with" in said[0]


@pytest.mark.parametrize(
    "name",
    [
        *LOOKED_UP,
        "torch._C._vmapmode_decrement_nesting",
        "torch._C._vmapmode_increment_nesting",
        "torch._remove_batch_dim",
        "torch._add_batch_dim",
        "torch._C._autograd._top_saved_tensors_default_hooks",
        "torch._C._functorch.peek_interpreter_stack",
        "torch._C._functorch.pop_dynamic_layer_stack",
        "torch._C._functorch.push_dynamic_layer_stack",
        "torch._C._functorch._unwrap_batched",
        "torch._C._functorch._add_batch_dim",
        "torch._compile._disable_dynamo",
        "torch._C._remove_obj_from_tls",
        "torch._C._storage_Use_Count",
        "torch._C._current_graph_task_id",
        "torch._C._autograd._get_sequence_nr",
        "torch._C._is_torch_function_enabled",
        "torch._C._EnableTorchFunction",
        "torch.autograd.forward_ad._current_level",
        "torch.nn.utils.parametrize._cache_enabled",
        "torch.nn.utils.parametrizations._SpectralNorm",
        "torch.utils.checkpoint._CheckpointFrame",
    ],
)
def test_every_missing_name_is_warned_of_once(monkeypatch, name: str) -> None:
    pytest.importorskip("torch")
    owner, _, attribute = name.rpartition(".")
    with monkeypatch.context() as missing, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        missing.delattr(pkgutil.resolve_name(owner), attribute)
        names = runpy.run_path(str(ROOT / "torch_private.py"))
    (said,) = [str(each.message) for each in caught if each.category is names["MissingPrivateNameWarning"]]
    assert f"has no {name}" in said
    assert not names["is_transformed"]()
    assert not names["caches_parametrizations"]()
    assert names["inputs_of_region"](lambda: name) == ()


def test_without_numbers_of_nodes_gradients_are_right(monkeypatch) -> None:
    """Each weight's gradient takes a tensor of its own then."""
    torch = pytest.importorskip("torch")
    from membptt import scan, torch_private

    cell, xs = torch.nn.GRUCell(32, 32), torch.randn(9, 2, 32)
    step = lambda h, x: (cell(x, h),) * 2  # noqa: E731
    h = torch.zeros(2, 32)
    for x in xs:
        h = cell(x, h)
    expected = torch.autograd.grad(h.sum(), list(cell.parameters()))
    monkeypatch.setattr(torch_private, "_numbered", None)
    scanned = scan(step, torch.zeros(2, 32), xs, slots=3, chunk=2, params=cell)[0]
    for share, total in zip(torch.autograd.grad(scanned.sum(), list(cell.parameters())), expected, strict=True):
        assert torch.allclose(share, total, atol=1e-5)
