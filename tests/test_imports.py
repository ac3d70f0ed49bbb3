"""Who may import whom, seen from a fresh interpreter: a package's __init__ can leak past a linter."""

import subprocess
import sys

import pytest

THEORY = ["actions", "recurrences", "policy", "tables", "schedule", "machine", "lock"]


def loaded_after(statement):
    code = f"{statement}\nimport sys\nprint(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", THEORY)
def test_theory_imports_neither_torch_nor_sympy(module):
    loaded = loaded_after(f"import membptt_theory.{module}")
    assert not loaded & {"torch", "sympy", "scipy", "membptt", "membptt_proofs"}
    assert "numpy" in loaded or module in ("actions", "machine")


def test_a_referee_imports_nothing_of_ours():
    assert not loaded_after("import membptt_proofs.dp") & {"torch", "sympy", "numpy", "membptt", "membptt_theory"}


def test_the_runtime_does_not_ask_for_sympy():
    """Torch imports sympy on its own where it likes; our modules never name it."""
    code = (
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def watched(name, globals=None, *rest, **more):\n"
        "    asker = (globals or {}).get('__name__', '')\n"
        "    assert not (name.split('.')[0] in ('sympy', 'scipy') and asker.startswith('membptt')), asker\n"
        "    return real(name, globals, *rest, **more)\n"
        "builtins.__import__ = watched\n"
        "import torch, membptt\n"
        "membptt.scan(lambda c, x: (c * x, c), torch.ones(3, requires_grad=True), torch.ones(9, 3), slots=2)\n"
        "assert 'membptt_theory.derive' not in sys.modules and 'membptt_proofs' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
