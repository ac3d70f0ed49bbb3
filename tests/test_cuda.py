"""What is to run where a GPU is lent for minutes, rehearsed without one."""

import gc
import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from torch.overrides import TorchFunctionMode

from bench import calls, cuda, meter

FAST = ["eager", "eager, in chunks", "budget", "msm", "spill", "while_loop", "nn.LSTM", "chain"]


def part(code, seconds=60, name="part"):
    return cuda.Part(name, "none", f"timeit -n1 -r1 {code}", seconds, data=False)


def rehearse(tmp_path, *parts, seconds=480):
    failed = cuda.main(["--rehearse", "--data", str(tmp_path), "--seconds", str(seconds)], parts)
    return failed, json.loads((tmp_path / "all_cpu.json").read_text())["parts"]


@pytest.mark.parametrize("each", cuda.PARTS, ids=lambda each: each.name)
@pytest.mark.parametrize("kind", ["measured", "rehearsed"])
def test_every_part_takes_the_options_that_it_is_given(each, kind):
    module, *options = getattr(each, kind).split()
    if each.data:
        parsed = importlib.import_module(module)._options([*options, "--data", "folder"])
        assert parsed.device == ("cuda" if kind == "measured" else "cpu")
        assert str(parsed.data) == "folder"
    else:
        assert pytest.Config.fromdictargs({}, options).known_args_namespace.markexpr == "cuda"


# The other parts take longer: the slow test below rehearses them.
@pytest.mark.parametrize("each", [each for each in cuda.PARTS if "drop_in" in each.name], ids=lambda each: each.name)
def test_what_is_dropped_in_is_rehearsed_where_a_twentieth_of_the_memory_is_enough(each, tmp_path):
    module, *options = each.rehearsed.split()
    importlib.import_module(module).main([*options, "--rounds", "1", "--data", str(tmp_path)])
    assert len([*tmp_path.iterdir()]) == 1


def test_all_parts_together_fit_in_the_time_that_a_card_is_lent_for():
    assert sum(each.seconds for each in cuda.PARTS) <= cuda.SECONDS


def test_every_file_with_a_test_that_needs_a_card_is_collected():
    marked = {path for path in Path(__file__).parent.glob("test_*.py") if re.search(r"mark\.cuda\b", path.read_text())}
    (part,) = [each for each in cuda.PARTS if each.name == "tests"]
    for command in (part.measured, part.rehearsed):
        assert sorted(re.findall(r"tests/(\w+\.py)", command)) == sorted(path.name for path in marked)


def test_a_part_gets_its_time_and_what_those_before_it_left_over(tmp_path, monkeypatch):
    limits, now = [], [0.0]
    monkeypatch.setattr(cuda, "monotonic", lambda: now[0])

    def run(part, options, limit):
        limits.append(limit)
        now[0] += taken.pop(0)
        return {"outcome": "passed", "seconds": 0.0, "output": []}

    monkeypatch.setattr(cuda, "_run", run)
    parts = [part("pass", seconds, str(seconds)) for seconds in (30, 50, 20)]
    taken = [30, 10, 20]
    assert rehearse(tmp_path, *parts, seconds=100)[0] == 0
    assert limits == [30, 50, 60]
    limits.clear()
    now[0], taken = 0.0, [30, 30, 0]
    rehearse(tmp_path, *parts, seconds=60)  # too little for all: those in front have theirs
    assert limits == [30, 30, 0]


def test_every_kind_of_call_gives_the_gradients_of_plain_autograd(tmp_path):
    calls.main(["--quick", "--rounds", "1", "--calls", *FAST, "--data", str(tmp_path)])
    content = json.loads((tmp_path / "calls_cpu.json").read_text())
    assert set(content["calls"]) == set(FAST)
    assert all(call["gradient_error"] < calls.TOLERANCE for call in content["calls"].values())


def test_a_call_with_another_gradient_fails_after_its_data_are_written(tmp_path, monkeypatch):
    pairs = calls._pairs("cpu", **calls.QUICK)
    wrong = calls.Pair(lambda: tuple(2 * grad for grad in pairs["eager"].plain()), pairs["eager"].plain)
    monkeypatch.setattr(calls, "_pairs", lambda *_, **__: {"eager": wrong})
    with pytest.raises(RuntimeError, match="the gradients of eager differ from plain autograd's"):
        calls.main(["--quick", "--rounds", "1", "--data", str(tmp_path)])
    assert json.loads((tmp_path / "calls_cpu.json").read_text())["calls"]["eager"]["gradient_error"] > 0.5


def test_a_part_that_fails_stops_no_other_and_is_counted(tmp_path, capsys):
    failed, results = rehearse(tmp_path, part("raise(ValueError)"), part("print('seen')", name="other"))
    assert failed == 1
    assert results["part"]["outcome"] == "exit status 1"
    assert results["other"]["outcome"] == "passed"
    assert "seen" in results["other"]["output"]
    assert "exit status 1" in capsys.readouterr().out


def test_a_part_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "_LEAST", 0)
    failed, results = rehearse(tmp_path, part("__import__('time').sleep(60)"), seconds=1)
    assert (failed, results["part"]["outcome"]) == (1, "too long")


def test_a_part_is_not_begun_without_time_for_it(tmp_path):
    failed, results = rehearse(tmp_path, part("pass"), seconds=5)
    assert (failed, results["part"]["outcome"]) == (1, "no time left")


def test_without_a_card_only_the_rehearsal_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cuda.main(["--data", str(tmp_path)], [part("pass")]) == 1
    assert "--rehearse" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


NAME, BEFORE, PEAK = "Stand-in H1", 1000, 8000  # what the stand-in calls itself, and its allocator says
IS_CUDA = torch.Tensor.is_cuda.__get__
SMALL = {
    "calls": ["--quick", "--rounds", "1", "--calls", "eager", "captured", "while_loop", "nn.LSTM", "chain"],
    "drop_in": ["--steps", "200", "--batch", "2", "--hidden", "8", "--rounds", "1"],
    "drop_in_long": ["--steps", "400", "--batch", "2", "--hidden", "8", "--rounds", "1"],
    "side_by_side": ["--cells", "lstm", "--steps", "20", "--rounds", "1", "--few"],
}


class Card(TorchFunctionMode):
    """Puts on the CPU what is meant for a card; to the benchmarks, and to no one else, its tensors say they are there.

    Args:
        seen: takes down what only a card is asked.
    """

    def __init__(self, seen):
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == IS_CUDA and sys._getframe(1).f_globals["__name__"].startswith("bench."):
            return True
        if func == torch._cudnn_rnn_flatten_weight:
            self._seen.append("weights in one piece")
            return None
        moved = {key: self._moved(value) for key, value in (kwargs or {}).items()}
        return func(*map(self._moved, args), **moved)

    @staticmethod
    def _moved(value):
        return "cpu" if value in ("cuda", torch.device("cuda")) else value


@pytest.fixture
def card(monkeypatch):
    """What a card is asked, in order, while all runs on the CPU; nothing is compiled."""
    seen = []
    answers = {"get_device_name": NAME, "memory_allocated": BEFORE, "max_memory_allocated": PEAK}
    for name in ("synchronize", "reset_peak_memory_stats", *answers):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: (seen.append(name), answers.get(name))[1])
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    modes = SimpleNamespace(RNNMode=SimpleNamespace(lstm=2, gru=3))  # cuDNN's own
    monkeypatch.setitem(torch.backends.cudnn.rnn.get_cudnn_mode.__globals__, "_cudnn", modes)
    scan = calls.membptt.scan

    def captured(*arguments, compile=False, **options):
        if compile == "graphs":
            with pytest.raises(ValueError, match="one CUDA device, and there is cpu"):  # so it is known
                scan(*arguments, compile=compile, **options)
            seen.append("captured")
        return scan(*arguments, **options)

    monkeypatch.setattr(calls.membptt, "scan", captured)
    gc.freeze()  # what is imported stays: every collection is quick
    with Card(seen):
        yield seen
    gc.unfreeze()


def test_the_peak_on_a_card_is_its_allocators_beyond_what_was_there(card):
    assert meter.cuda_bytes(lambda: card.append("run")) == meter.Peak(PEAK - BEFORE, PEAK - BEFORE)
    first = ["synchronize", "reset_peak_memory_stats", "memory_allocated", "run"]
    assert card == [*first, "synchronize", "max_memory_allocated"]


@pytest.mark.parametrize("each", [each for each in cuda.PARTS if each.data], ids=lambda each: each.name)
def test_what_runs_on_a_card_runs_on_a_stand_in(each, card, tmp_path):
    module, *options = each.measured.split()
    importlib.import_module(module).main([*options, *SMALL[each.name], "--data", str(tmp_path)])
    files = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert files
    for content in files:
        assert (content["device"], content["device_name"]) == ("cuda", NAME)
        counted = content.get("methods") or list(content.get("calls", {}).values()) or [content]
        assert {method["peak_bytes"] for method in counted} <= {PEAK - BEFORE, PEAK - BEFORE - outputs(content)}
    assert ("captured" in card) == (each.name == "calls")
    assert ("weights in one piece" in card) == (each.name == "side_by_side")
    assert {"synchronize", "max_memory_allocated"} <= set(card)


def outputs(content):
    """Bytes of the outputs, which `bench.drop_in` does not count."""
    return 4 * content["steps"] * content["batch"] * content["hidden"] if "hidden" in content else 0


@pytest.mark.slow
def test_the_rehearsal_passes_whole(tmp_path):
    assert cuda.main(["--rehearse", "--data", str(tmp_path), "--seconds", "1200"]) == 0
