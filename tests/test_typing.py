"""What a type checker says of a caller's program: the carry's type comes back, and a misspelt argument is refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
from typing import assert_type

import torch
from torch import Tensor

import membptt

Pair = tuple[Tensor, Tensor]


def step(carry: Pair, x: Tensor) -> tuple[Pair, Tensor]:
    return carry, x


start, xs = (torch.ones(2), torch.ones(2)), torch.ones(3, 2)
carry, ys = membptt.scan(step, start, xs, slots=2)
assert_type(carry, Pair)
assert_type(ys, Tensor)
after, steps = membptt.while_loop(lambda carry: False, lambda carry: carry, start, slots=2)
assert_type(after, Pair)
membptt.nn.LSTM(3, 4, slots=2)
membptt.nn.LSTM(3, 4, sloots=2)
membptt.nn.GRU(3, 4, proj_size=2, slots=2)
membptt.scan(step, start, xs, sloots=2)
membptt.scan(step, start, xs, slots=2, unroll=3)
membptt.scan(step, xs, xs, slots=2)
"""
REFUSED = PROGRAM.splitlines()[-5:]


def test_a_program_that_calls_the_runtime_is_checked(tmp_path):
    pytest.importorskip("mypy")
    pytest.importorskip("torch")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    refused = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    lines = PROGRAM.splitlines()
    assert [lines[number - 1] for number in sorted(refused)] == REFUSED, done.stdout + done.stderr
    assert 'did you mean "slots"?' in done.stdout
