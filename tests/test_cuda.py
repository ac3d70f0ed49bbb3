"""What is to run where a GPU is lent for minutes, rehearsed without one."""

import importlib
import json

import pytest

pytest.importorskip("torch")

from bench import calls, cuda

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


def test_all_parts_together_fit_in_the_time_that_a_card_is_lent_for():
    assert sum(each.seconds for each in cuda.PARTS[:3]) <= cuda.SECONDS


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
    failed, results = rehearse(tmp_path, part("__import__('time').sleep(60)", seconds=1))
    assert (failed, results["part"]["outcome"]) == (1, "too long")


def test_a_part_is_not_begun_without_time_for_it(tmp_path):
    failed, results = rehearse(tmp_path, part("pass"), seconds=5)
    assert (failed, results["part"]["outcome"]) == (1, "no time left")


def test_without_a_card_only_the_rehearsal_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert cuda.main(["--data", str(tmp_path)], [part("pass")]) == 1
    assert "--rehearse" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_rehearsal_passes_whole(tmp_path):
    assert cuda.main(["--rehearse", "--data", str(tmp_path), "--seconds", "1200"]) == 0
