"""What the README says is so: its example runs as printed and costs what it says."""

import re
from pathlib import Path

import pytest
import torch

from membptt_theory.tables import optimal_cost
from paper_figs.make import make

ROOT = Path(__file__).parents[1]


def test_the_ten_line_example_runs_and_costs_what_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (promised,) = re.findall(r"# (\d+) evaluations", code)
    calls = 0

    class Counted(torch.nn.LSTMCell):
        def forward(self, *arguments):
            nonlocal calls
            calls += 1
            return super().forward(*arguments)

    names = {"Counted": Counted}
    exec(code.replace("torch.nn.LSTMCell(", "Counted("), names)
    assert calls == int(promised) == optimal_cost("hsm", 1000, 50)
    assert names["cell"].weight_hh.grad is not None


def test_the_runtime_examples_run(capsys):
    names = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "impl/README.md").read_text(), flags=re.DOTALL):
        exec(code, names)
    assert names["cell"].weight_hh.grad is not None
    assert names["lstm"].weight_hh_l0.grad is not None
    assert not names["h"].requires_grad
    assert "hsm" in capsys.readouterr().out


def test_the_truncated_example_fails_as_it_says_where_the_carry_is_not_detached():
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "impl/README.md").read_text(), flags=re.DOTALL))
    with pytest.raises(RuntimeError, match="second time"):
        exec(code.replace("h = h.detach()", "pass"), {})


def test_the_picture_is_what_the_stream_draws(tmp_path):
    make("fig03", tmp_path)
    assert (tmp_path / "fig03.svg").read_bytes() == (ROOT / "paper_figs/gallery/fig03.svg").read_bytes()


PAGES = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("[!.]*/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_readme_is_alive(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing
