"""Two processes under torchrun train as one: gradients are averaged once, and hooks fire once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch was built without torch.distributed",
)
ROOT = Path(__file__).parents[1]
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Launch the two processes once; read the results of each."""
    folder = tmp_path_factory.mktemp("ranks")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    worker = ["--nproc-per-node", "2", "-m", "tests.distributed_worker", str(folder)]
    process = subprocess.Popen(
        launch + worker,
        cwd=ROOT,
        env={**os.environ, "GLOO_SOCKET_IFNAME": LOOPBACK, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"the two processes did not end:\n{output}")
    assert process.returncode == 0, output
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("model", ["cell", "layer", "deep"])
@pytest.mark.parametrize(
    "wrapped",
    [
        "ddp",
        "ddp find_unused_parameters",
        "ddp static_graph",
        "ddp gradient_as_bucket_view",
        "fsdp resharded",
        "fsdp kept",
    ],
)
def test_gradients_of_two_processes_equal_those_of_one(ranks, model, wrapped):
    for rank in ranks:
        assert rank[f"{model} {wrapped}"] <= 1e-10
        assert rank[f"{model} alone"] > 1e-3


def test_a_fused_layer_may_be_sharded_by_itself(ranks):
    for rank in ranks:
        assert rank["layer fsdp nested"] <= 1e-10


@pytest.mark.parametrize(("model", "parameters"), [("cell", 8), ("layer", 10), ("deep", 8)])
def test_every_hook_fires_once_in_a_backward_pass(ranks, model, parameters):
    """A hook on the gradient, a hook after its accumulation, and the reducer, each for every parameter."""
    for rank in ranks:
        assert list(rank[f"{model} hooks"].values()) == [1] * (3 * parameters)


def test_a_sharded_step_is_refused(ranks):
    """Its parameters are whole only inside its own call; shard the module that calls `scan`."""
    for rank in ranks:
        assert rank["step fsdp"].startswith(("ValueError", "TypeError"))


def test_a_step_wrapped_in_ddp_is_refused(ranks):
    """With static_graph its gradients would silently stay unreduced; wrap the module that calls `scan`."""
    for rank in ranks:
        assert rank["step ddp"].startswith("TypeError")


def test_a_chain_s_first_gradients_are_reduced_while_earlier_blocks_are_still_recomputed(ranks):
    """The order of events in one backward: buckets are reduced before the first block is recorded."""
    for rank in ranks:
        events = rank["overlap"]
        assert events.count("reduce") >= 3
        assert events.index("reduce") < events.index("record block 0")
