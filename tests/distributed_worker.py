"""One process of `test_distributed`: trains the same small models under each wrapper and reports the results.

Run by torchrun: ``python -m torch.distributed.run --nproc-per-node 2 -m tests.distributed_worker FOLDER``.
"""

import json
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import membptt.nn
from membptt import scan
from membptt.run import parts

from .cells import Lstm, plain, relative_error

OPTIONS = [{}, {"find_unused_parameters": True}, {"static_graph": True}, {"gradient_as_bucket_view": True}]


class Cell(nn.Module):
    """Calls `scan` inside."""

    def __init__(self, run):
        super().__init__()
        self.encoder, self.cell, self.head, self.run = nn.Linear(5, 3), Lstm(), nn.Linear(4, 1), run

    def forward(self, data):
        init = tuple(data.new_zeros(data.shape[1], 4) for _ in range(2))
        return self.head(self.run(self.cell, init, self.encoder(data))[1])


class Layer(nn.Module):
    """Calls `membptt.nn` inside."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(4, 1)

    def forward(self, data):
        return self.head(self.layer(data)[0])


class Deep(nn.Module):
    """Calls a chain inside; each block stays a module of its own."""

    def __init__(self, kind, **options):
        super().__init__()
        self.blocks = kind(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4), **options)
        self.head = nn.Linear(4, 1)

    def forward(self, data):
        return self.head(self.blocks(data))


def chained():
    return Deep(membptt.nn.Sequential, budget=4800)


def scanned_cell():
    return Cell(lambda step, init, xs: scan(step, init, xs, slots=3))


def scanned_layer():
    return Layer(membptt.nn.LSTM(5, 4, 2, slots=2, chunk=2))


MODELS = {
    "deep": (lambda: Deep(nn.Sequential), chained),
    "cell": (lambda: Cell(plain), scanned_cell),
    "layer": (lambda: Layer(nn.LSTM(5, 4, 2)), scanned_layer),
}


def train(model, data):
    """Train for two passes: reducers learn the order of the parameters in the first pass."""
    for _ in range(2):
        model.zero_grad()
        model(data).square().mean().backward()


def compare(model, reference):
    """Largest relative error of this process's gradients against those of one process that sees the whole batch."""
    grads = [parameter.grad for parameter in model.parameters()]
    whole = [grad.full_tensor() if hasattr(grad, "full_tensor") else grad for grad in grads]
    return relative_error(whole, [parameter.grad for parameter in reference.parameters()])


def count_hooks(make, mine):
    """How often each parameter's hooks fired in one backward pass, and how often the reducer took it."""
    model, fired = make().double(), Counter()
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda grad, name=name: fired.update([f"{name} hook"]))
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.update([f"{name} accumulated"]))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    wrapped = DistributedDataParallel(model)

    def reduce(state, bucket):
        fired.update(f"{names[id(parameter)]} reduced" for parameter in bucket.parameters())
        return allreduce_hook(state, bucket)

    wrapped.register_comm_hook(None, reduce)
    train(wrapped, mine)
    fired.clear()
    wrapped(mine).square().mean().backward()
    return fired


class Told(nn.Module):
    """A layer whose gradient takes four mebibytes, more than a bucket of DDP's, and that says when it is run."""

    def __init__(self, number, events):
        super().__init__()
        self.inner, self.number, self.events = nn.Linear(1024, 1024), number, events

    def forward(self, x):
        self.events.append(f"{'record' if torch.is_grad_enabled() else 'recompute'} block {self.number}")
        return self.inner(x).tanh()


def overlap():
    """What happens in one backward of a chain in the least budget: runs of blocks, and reductions."""
    events, x = [], torch.randn(2, 1024)
    layers = [Told(number, events) for number in range(4)]
    plan = membptt.plan_chain(layers, x)
    network = membptt.nn.Sequential(*layers, plan=plan.within(plan.front[0].bytes))
    wrapped = DistributedDataParallel(network, bucket_cap_mb=1)
    wrapped.register_comm_hook(None, lambda state, bucket: events.append("reduce") or allreduce_hook(state, bucket))
    train(wrapped, x)
    y = wrapped(x).square().mean()
    events.clear()
    y.backward()
    return events


def refused(make, wrap, mine):
    """What `scan` says when the step itself is wrapped."""
    model = make().double()
    model.cell = wrap(model.cell)
    try:
        train(model, mine)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(folder):
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    mesh, rank, results = init_device_mesh("cpu", (2,)), dist.get_rank(), {}
    results["overlap"] = overlap()
    parts.READY = 1  # from here on, the gradients of every block are handed on by themselves
    torch.manual_seed(0)
    data = torch.randn(9, 4, 5, dtype=torch.float64)
    mine = data[:, 2 * rank : 2 * rank + 2]
    for name, (make_plain, make) in MODELS.items():
        reference = make_plain().double()
        train(reference, data)

        def fresh(make=make, reference=reference):
            model = make().double()
            model.load_state_dict(reference.state_dict())
            return model

        for options in OPTIONS:
            model = fresh()
            train(DistributedDataParallel(model, **options), mine)
            results[f"{name} ddp {' '.join(options)}".rstrip()] = compare(model, reference)
        for reshard in (True, False):
            model = fully_shard(fresh(), mesh=mesh, reshard_after_forward=reshard)
            train(model, mine)
            results[f"{name} fsdp {'resharded' if reshard else 'kept'}"] = compare(model, reference)
        model = fresh()
        train(model, mine)
        results[f"{name} alone"] = compare(model, reference)
        results[f"{name} hooks"] = count_hooks(make, mine)
    model = fresh()
    fully_shard(model.layer, mesh=mesh)
    train(fully_shard(model, mesh=mesh), mine)
    results["layer fsdp nested"] = compare(model, reference)
    results["step ddp"] = refused(scanned_cell, lambda step: DistributedDataParallel(step, static_graph=True), mine)
    results["step fsdp"] = refused(scanned_cell, lambda step: fully_shard(step, mesh=mesh), mine)
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
