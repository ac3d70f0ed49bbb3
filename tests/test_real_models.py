"""Models of others as chains, their layers wrapped in the fewest lines: plain autograd's gradients, fewer bytes."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

import membptt
from bench.meter import bytes_beside


class Chained(nn.Module):
    """Stands in for a list of layers that a loop calls one by one, each with the same further arguments."""

    def __init__(self, layers, budget):
        super().__init__()
        self.layers, self.budget = layers, budget

    def forward(self, x, *args, **named):
        blocks = [lambda x, layer=layer: layer(x, *args, **named) for layer in self.layers]
        return membptt.chain(blocks, x, budget=self.budget, params=self.layers)


def library(name):
    """Import a library of the extra `real`; what it says meanwhile is its own affair."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def llama(budget):
    transformers = library("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 8, "vocab_size": 50}
    model = transformers.LlamaModel(transformers.LlamaConfig(num_attention_heads=2, use_cache=False, **sizes))
    if budget is not None:
        model.layers = nn.ModuleList([Chained(model.layers, budget)])
    return model, torch.randint(0, 50, (2, 64)), lambda result: result.last_hidden_state


def gpt2(budget):
    transformers = library("transformers")
    sizes = {"vocab_size": 50, "n_positions": 64, "n_embd": 32, "n_layer": 8, "n_head": 2}
    model = transformers.GPT2Model(transformers.GPT2Config(use_cache=False, **sizes))
    if budget is not None:
        model.h = nn.ModuleList([Chained(model.h, budget)])
    return model, torch.randint(0, 50, (2, 64)), lambda result: result.last_hidden_state


@pytest.fixture
def timm(monkeypatch):
    """Import timm: what it asks for of torchvision, whose wheels want another build of torch, is not used here."""
    if find_spec("timm") is not None and find_spec("torchvision") is None:
        parts = ["datasets", "models", "models.feature_extraction", "ops", "ops.misc"]
        parts += ["transforms", "transforms.functional"]
        for name in ("torchvision", *(f"torchvision.{name}" for name in parts)):
            monkeypatch.setitem(sys.modules, name, MagicMock(__spec__=None))
    return library("timm")


def vit(budget):
    model = library("timm").create_model("vit_tiny_patch16_224", depth=8, embed_dim=32, num_heads=2, img_size=128)
    if budget is not None:
        model.blocks = membptt.nn.Sequential(*model.blocks, budget=budget)
    return model, torch.randn(2, 3, 128, 128), lambda result: result


def resnet(budget):
    model = library("timm").create_model("resnet26", num_classes=10)
    images = torch.randn(2, 3, 64, 64)
    if budget is None:
        return model, images, lambda result: result
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    stem, head = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool), [model.global_pool, model.fc]
    blocks = [stem, *(block for stage in stages for block in stage), *head]
    model.forward = lambda images: membptt.chain(blocks, images, budget=budget)
    return model, images, lambda result: result


def check(make, budget):
    results = []
    for given in (None, budget):
        torch.manual_seed(0)
        model, x, of = make(given)
        model.train()
        torch.manual_seed(1)
        of(model(x)).square().mean().backward()
        weights = list(model.parameters())
        results.append([weight.grad.clone() for weight in weights if weight.grad is not None])
        outside = (x, *weights, *model.buffers())
        for weight in weights:
            weight.grad = None
        results.append(bytes_beside(lambda: of(model(x)).square().mean().backward(), outside, weights))  # noqa: B023
    plainly, most, computed, peak = results
    assert all(torch.equal(a, b) for a, b in zip(plainly, computed, strict=True))
    assert peak <= 0.8 * most, (peak, most)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_model_of_transformers_is_chained(make):
    check(make, "1MiB")


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("make", [vit, resnet])
def test_a_model_of_timm_is_chained(make):
    check(make, "6MiB" if make is resnet else "1MiB")
