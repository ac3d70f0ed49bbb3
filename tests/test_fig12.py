"""Figure 12: both methods take the gradients they name, in the bytes they name, and a false claim is refused."""

import copy
from dataclasses import asdict, replace
from itertools import count
from time import sleep

import numpy as np
import pytest
import torch

from bench import convergence, equal_memory, store, tasks
from bench.convergence import Setup, gradient, make_task, weigh
from bench.loaders import DataSetError
from paper_figs import evidence, fig12, make
from paper_figs.evidence import DataMissingError, FigureClaimError
from tests.test_loaders import mnist

COPYING = Setup("copying", "full", 12, 0, chunk=3, slots=3, seconds=0.1, rate=1e-2, lag=5, hidden=7, batch=11, judged=2)
ADDING = replace(COPYING, task="adding", lag=0, steps=20)
READING = replace(COPYING, task="reading", lag=0)
THREE = replace(COPYING, items=3)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model_and_batch(setup):
    torch.manual_seed(1)
    task = make_task(setup)
    model = tasks.Model(task, setup.hidden)
    return model, task.draw(torch.Generator().manual_seed(2), setup.batch)


def gradients(setup, window=0):
    """Return the gradients of each update, as one method takes them from equal parameters."""
    model, batch = model_and_batch(setup)
    grads = []

    def update():
        grads.append({name: param.grad.clone() for name, param in model.named_parameters()})
        model.zero_grad()

    gradient(model, batch, model.start(setup.batch), setup, window, update=update)
    return grads


def assert_equal(computed, expected):
    for name, grad in expected.items():
        torch.testing.assert_close(computed[name], grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("setup", [COPYING, ADDING, READING, THREE], ids=["copying", "adding", "reading", "three"])
def test_full_is_the_gradient_of_plain_autograd(setup, double):
    model, batch = model_and_batch(setup)
    model(model.start(setup.batch), batch.tensors())[1].sum().backward()
    (grads,) = gradients(setup)
    assert_equal(grads, {name: param.grad for name, param in model.named_parameters()})
    (whole,) = gradients(replace(setup, method="truncated"), window=setup.steps)
    assert_equal(whole, grads)


@pytest.mark.parametrize("lag", range(1, 12))
@pytest.mark.parametrize("window", range(1, 13))
def test_a_window_reaches_the_symbol_exactly_if_the_lag_is_below_it_exhaustive(lag, window):
    (grads,) = gradients(replace(COPYING, method="truncated", lag=lag), window)
    assert (float(grads["embed.weight"][:8].abs().max()) > 0) == (lag < window)
    (full,) = gradients(replace(COPYING, lag=lag))
    assert float(full["embed.weight"][:8].abs().max()) > 0


@pytest.mark.parametrize("lag", range(3, 10))
@pytest.mark.parametrize("window", range(3, 13))
def test_a_window_that_holds_the_answers_reaches_one_of_three_symbols_exactly_if_the_lag_is_below_it(lag, window):
    (grads,) = gradients(replace(THREE, method="truncated", lag=lag), window)
    assert (float(grads["embed.weight"][:8].abs().max()) > 0) == (lag < window)


@pytest.mark.parametrize("window", range(1, 13))
def test_truncated_updates_after_each_window_in_which_something_is_asked_for(window):
    assert len(gradients(replace(READING, method="truncated"), window)) == -(-READING.steps // window)
    assert len(gradients(replace(COPYING, method="truncated"), window)) == 1
    assert len(gradients(replace(THREE, method="truncated"), window)) == -(-THREE.items // window)


@pytest.mark.parametrize("setup", [COPYING, ADDING, READING], ids=lambda setup: setup.task)
def test_the_window_is_the_longest_in_the_bytes_of_scan(setup):
    full, truncated = weigh(setup), weigh(replace(setup, method="truncated"))
    assert full["bytes"] == full["full_bytes"]
    assert truncated["bytes"] == truncated["window_bytes"] <= full["bytes"] < truncated["longer_bytes"]
    assert 1 <= truncated["window"] < setup.steps
    model, batch = model_and_batch(setup)
    other = replace(setup, method="truncated")
    peaks = [convergence._peak(model, batch, other, window) for window in range(1, setup.steps + 1)]
    assert peaks == sorted(peaks)
    assert sum(peak <= full["bytes"] for peak in peaks) == truncated["window"]


def test_larger_cores_take_more_bytes_and_fit_a_longer_window():
    small, large = (weigh(replace(ADDING, chunk=chunk)) for chunk in (2, 10))
    assert small["full_bytes"] < large["full_bytes"]
    assert small["window"] < large["window"] < ADDING.steps


# the tasks


def test_the_adding_problem_asks_for_the_sum_of_two_marked_numbers_of_the_first_half():
    batch = tasks.adding(40).draw(torch.Generator().manual_seed(0), 50)
    number, mark = batch.xs.unbind(-1)
    assert torch.equal(mark.sum(0), torch.full((50,), 2.0))
    assert mark[20:].sum() == 0
    assert (mark[:4].sum(0) == 1).all()
    torch.testing.assert_close(batch.targets[-1], (number * mark).sum(0))
    assert batch.weights.tolist() == [0.0] * 39 + [1.0]


@pytest.mark.parametrize("lag", range(1, 12))
def test_copy_memory_asks_for_the_symbol_of_lag_steps_ago(lag):
    batch = tasks.copying(12, lag).draw(torch.Generator().manual_seed(0), 50)
    assert torch.equal(batch.targets[-1], batch.xs[11 - lag])
    assert set(batch.targets[-1].tolist()) == set(range(8))
    assert (batch.xs[:-1] < 8).sum() == 50
    assert (batch.xs[-1] == 9).all()


@pytest.mark.parametrize("items", range(1, 7))
def test_copy_memory_asks_for_several_symbols_in_their_order_exhaustive(items):
    for lag in range(items, 13 - items):
        batch = tasks.copying(12, lag, items).draw(torch.Generator().manual_seed(0), 50)
        asked = slice(12 - items, 12)
        assert torch.equal(batch.targets[asked], batch.xs[12 - items - lag : 12 - lag])
        assert set(batch.targets[asked].flatten().tolist()) == set(range(8))
        assert (batch.xs < 8).sum() == 50 * items
        assert (batch.xs == 9).nonzero()[:, 0].tolist() == [12 - items] * 50
        torch.testing.assert_close(batch.weights, torch.tensor([0.0] * (12 - items) + [1 / items] * items))


@pytest.mark.parametrize(("lag", "items"), [(2, 3), (10, 3), (6, 7)])
def test_symbols_that_do_not_fit_the_sequence_are_refused(lag, items):
    with pytest.raises(ValueError, match=f"the lag must be {items} to {12 - items} in .* 12 steps, got {lag}"):
        tasks.copying(12, lag, items)
    with pytest.raises(ValueError, match="needs a symbol to ask for, got 0"):
        tasks.copying(12, lag, 0)


def test_a_text_is_read_on_from_batch_to_batch(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(bytes(range(100)) * 3)
    task = tasks.reading(10, str(path))
    first, second = (task.draw(torch.Generator(), 2) for _ in range(2))
    assert first.xs[:, 0].tolist() == list(range(10))
    assert first.targets[:, 0].tolist() == list(range(1, 11))
    assert second.xs[0, 0] == 10
    assert float(first.weights.sum()) == pytest.approx(1)
    for _ in range(100):
        assert task.draw(torch.Generator(), 2).xs.shape == (10, 2)


def test_what_a_model_is_judged_on_is_never_drawn_and_always_the_same():
    for task in (tasks.adding(20), tasks.copying(12, 5), tasks.reading(12), tasks.looking()):
        once, again = task.held_out(30), task.held_out(30)
        assert torch.equal(once.xs, again.xs)
    pixels = {row.numpy().tobytes() for row in tasks.looking().held_out(10**6).xs.unbind(1)}
    drawn = tasks.looking().draw(torch.Generator().manual_seed(0), 3000)
    trained = {row.numpy().tobytes() for row in drawn.xs.unbind(1)}
    assert len(pixels & trained) <= 1, "scikit-learn repeats almost no image"


def test_mnist_takes_the_place_of_the_small_digits(tmp_path):
    task = tasks.looking(str(mnist(tmp_path)))
    assert task.steps == 20
    batch = task.draw(torch.Generator().manual_seed(0), 3)
    assert batch.xs.shape == (20, 3, 1)
    assert float(batch.xs.max()) <= 1
    with pytest.raises(DataSetError, match="nothing is downloaded"):
        tasks.looking(str(tmp_path / "absent"))


@pytest.mark.parametrize("lag", [0, 12, -1])
def test_a_lag_outside_the_sequence_is_refused(lag):
    with pytest.raises(ValueError, match="the lag must be 1 to 11"):
        tasks.copying(12, lag)


def test_right_answers_are_counted_where_they_are_asked_for():
    task = tasks.copying(12, 5)
    model = tasks.Model(task, 6)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.arange(8.0))  # always answers 7
    batch = task.held_out(400)
    loss, right = tasks.judge(model, batch)
    assert right == pytest.approx(float((batch.targets[-1] == 7).float().mean()))
    assert loss == pytest.approx(float(torch.logsumexp(torch.arange(8.0), 0) - batch.targets[-1].float().mean()), 1e-5)


# the claim


UNSOLVED = replace(COPYING, steps=13, lag=12)


@pytest.fixture(autouse=True)
def said_not_to_be_solved(monkeypatch):
    monkeypatch.setattr(fig12, "UNSOLVED", fig12.UNSOLVED | {("copying", 13, 1)})


@pytest.fixture(scope="module")
def sound():
    """A sweep whose numbers satisfy the claim; no model was trained for it."""
    setups = [replace(COPYING, lag=11), replace(COPYING, lag=3), ADDING, UNSOLVED]
    return {
        key: made_up(argument, 4, {("copying", 13, 1)}) for key, argument in equal_memory.points(setups, (0, 1)).items()
    }


def made_up(argument, window, unsolved):
    """A point as a sweep holds it, of a run that was never trained."""
    setup = Setup(**argument)
    reached = setup.method == "full" or 0 < setup.lag < window
    right = 1.0 if reached and (setup.task, setup.steps, setup.items) not in unsolved else 0.12
    even = [setup.seconds * at / setup.judged for at in range(setup.judged + 1)]
    curve = {"updates": [7 * second for second in even], "seconds": [*even], "processor": [*even]}
    curve |= {"loss": [2.0 if setup.method == "full" else 1.0] * len(even), "right": [0.1] * setup.judged + [right]}
    weighed = {"full_bytes": 100, "window": window, "window_bytes": 98, "longer_bytes": 105}
    return {"argument": argument, "found": {**weighed, "bytes": 100 if setup.method == "full" else 98, "curve": curve}}


@pytest.fixture
def whole(monkeypatch, tmp_path):
    """All files of the figure, made up, in a folder of their own."""
    monkeypatch.setattr(store, "DATA", tmp_path)
    for name, wanted in equal_memory.sweeps().items():
        held = {key: made_up(argument, 16, fig12.UNSOLVED) for key, argument in wanted.items()}
        conditions = {"cpu": "any"}
        store.save_figure(name, {"figure": name, "complete": True, "conditions": conditions, "points": held})


def edit(name, key, change):
    """Save a file of the figure again, with ``change(curve)`` of one point."""
    content = evidence.load_measured(name)
    change(content["points"][key]["found"]["curve"])
    store.save_figure(name, content)


def test_all_files_together_are_read_and_drawn(whole):
    data = fig12.data()
    assert data.where.endswith("for at least 100 % of each run")
    assert len(fig12.draw(data).axes) == 2 * 4 + 3


def test_text_on_which_truncated_is_not_ahead_is_refused(whole):
    edit("fig12", "reading-500-0-1-truncated-2", lambda curve: curve["loss"].append(2.1 + 0 * curve["loss"].pop()))
    with pytest.raises(FigureClaimError, match="truncated is not ahead"):
        fig12.data()


def test_a_file_of_the_figure_with_other_content_is_refused_with_one_error(whole):
    edit("fig12_ten", next(iter(equal_memory.points([fig12.TEN]))), lambda curve: curve.pop("processor"))
    with pytest.raises(FigureClaimError, match="not what this version reads"):
        fig12.data()


def test_a_sound_sweep_is_accepted(sound):
    assert len(fig12.check(sound)) == 4 * 2 * 2


@pytest.mark.parametrize(
    ("key", "field", "value", "message"),
    [
        ("copying-12-11-1-truncated-0", "longer_bytes", 100, "not the same memory"),
        ("copying-12-11-1-truncated-0", "window_bytes", 101, "not the same memory"),
        ("copying-12-11-1-full-1", "bytes", 98, "other bytes"),
        ("adding-20-0-1-full-1", "seconds", 0.09, "not the same time"),
        ("adding-20-0-1-full-1", "seconds", 0.2, "not the same time"),
        ("adding-20-0-1-full-1", "processor", 0.08, "a processor for 80 % of its time: it was not alone"),
        ("copying-12-3-1-truncated-0", "processor", 0.2, "a processor for 200 % of its time: it was not alone"),
        ("adding-20-0-1-full-1", "loss", float("nan"), "not 3 finite numbers each"),
        ("adding-20-0-1-full-1", "right", 0.7, "not solved"),
        ("copying-12-11-1-full-0", "right", 0.76, "not solved"),  # the median of two: 0.88
        ("copying-12-3-1-truncated-1", "right", 0.7, "not solved"),
        ("copying-12-11-1-truncated-1", "right", 0.5, "not chance"),
        ("copying-13-12-1-truncated-1", "right", 0.5, "not chance"),
        ("adding-20-0-1-truncated-1", "right", 0.5, "not chance"),
    ],
)
def test_a_sweep_that_contradicts_the_claim_is_refused(sound, key, field, value, message):
    edited = copy.deepcopy(sound)
    result = edited[key]["found"]
    if field in result:
        result[field] = value
    else:
        result["curve"][field][-1] = value
    with pytest.raises(FigureClaimError, match=message):
        fig12.check(edited)


def test_what_is_said_not_to_be_solved_is_refused_when_it_is(sound):
    edited = copy.deepcopy(sound)
    for seed in (0, 1):
        edited[f"copying-13-12-1-full-{seed}"]["found"]["curve"]["right"][-1] = 1.0
    with pytest.raises(FigureClaimError, match="solved, though said not to be"):
        fig12.check(edited)


def test_a_curve_that_was_cut_off_is_refused(sound):
    edited = copy.deepcopy(sound)
    edited["adding-20-0-1-full-1"]["found"]["curve"]["updates"].pop()
    with pytest.raises(FigureClaimError, match="not 3 finite numbers each"):
        fig12.check(edited)


def test_on_a_shared_processor_nothing_is_measured_but_the_same_is_drawn(sound, monkeypatch):
    edited = copy.deepcopy(sound)
    shared = edited["adding-20-0-1-full-1"]
    shared["found"]["curve"]["processor"][-1] = 0.05
    monkeypatch.setattr(equal_memory, "train", lambda argument: shared["found"])
    with pytest.raises(equal_memory.NotAloneError, match="it had a processor for 50 % of its time"):
        equal_memory.train_alone(shared["argument"])
    runs = fig12.check(edited, alone=False)
    assert min(run.alone for run in runs) == pytest.approx(0.5)
    assert "at least 50 % of each run" in fig12._where({"cpu": "any"}, runs)


def test_a_sweep_of_other_points_is_refused(sound, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path)
    for name in equal_memory.sweeps():
        store.save_figure(name, {"figure": name, "complete": True, "conditions": {}, "points": sound})
    with pytest.raises(FigureClaimError, match="other points than this source asks for"):
        fig12.data()


def test_the_committed_sweep_satisfies_the_claim():
    try:
        data = fig12.data()
    except DataMissingError:
        pytest.skip("fig12 is not measured yet")
    assert [len(runs) for runs in data.curves] == [2 * len(equal_memory.SEEDS)] * 4
    assert {run.setup.lag for run in data.edge} == set(equal_memory.LAGS)
    steps = {task: {run.setup.steps for run in data.lengths if run.setup.task == task} for task in fig12.CHANCE}
    assert steps == {task: {500, 1000, 2000, 5000} for task in fig12.CHANCE}
    assert {run.setup.items for run in data.ten} == {10}
    assert min(run.alone for run in data.lengths) >= equal_memory.ALONE


def test_the_quick_size_is_trained_checked_and_drawn(tmp_path):
    assert len(make.make("fig12", tmp_path, quick=True)) == 3


# the user's data sets


def test_the_command_trains_on_a_text_of_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path / "data")
    text = tmp_path / "text"
    text.write_bytes(np.random.default_rng(0).integers(97, 123, 200_000, dtype=np.uint8).tobytes())
    options = ["--text", str(text), "--seconds", "1", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert fig12.main(options) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"fig12_local.pdf", "fig12_local.png"}


def test_the_command_without_a_set_or_with_an_absent_one_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(store, "DATA", tmp_path)
    assert fig12.main([]) == 2
    assert "--mnist FOLDER or --text FILE" in capsys.readouterr().err
    assert fig12.main(["--mnist", str(tmp_path)]) == 1
    assert "nothing is downloaded" in capsys.readouterr().err


def test_by_a_clock_that_counts_batches_training_is_the_same_at_every_pace():
    def curve(pace):
        def clock():
            sleep(pace)
            return next(ticks)

        ticks = count()
        result = convergence.train({**asdict(COPYING), "seconds": 10}, clock=clock)["curve"]
        return {key: values for key, values in result.items() if key != "processor"}

    assert curve(0) == curve(0.01)
    assert curve(0)["updates"][-1] == 10


def test_training_is_written_down_as_it_happened():
    result = convergence.train(asdict(COPYING))
    curve = result["curve"]
    assert {len(values) for values in curve.values()} == {COPYING.judged + 1}
    assert curve["updates"][0] == curve["seconds"][0] == 0
    assert curve["seconds"][-1] >= COPYING.seconds
    assert all(curve[key] == sorted(curve[key]) for key in ("updates", "seconds", "processor"))
    with pytest.raises(ValueError, match="method must be one of full, truncated"):
        convergence.train({**asdict(COPYING), "method": "half"})
    with pytest.raises(ValueError, match="no task 'walking'"):
        convergence.train({**asdict(COPYING), "task": "walking"})
