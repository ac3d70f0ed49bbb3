"""Very deep networks as lists of blocks, built from torch's own layers: what the measurement and the tests run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Block = Callable[[Any], Any]
State = tuple[Tensor, ...]
TOKENS = 50  # of the transformer


def pyramid(blocks: Sequence[int] = (3, 4, 6, 3), width: int = 8, classes: int = 10) -> list[Block]:
    """A network like ResNet-50: a stem, bottlenecks whose images halve while their channels double, a head."""
    layers: list[Block] = [
        nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    ]
    channels = width
    for stage, count in enumerate(blocks):
        for index in range(count):
            layers.append(Bottleneck(channels, width * 2**stage, 2 if index == 0 and stage > 0 else 1))
            channels = 4 * width * 2**stage
    layers.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)))
    return layers


class Bottleneck(nn.Module):
    """Three convolutions with batch normalisation, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.BatchNorm2d(4 * width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.relu_(self.body(x) + self.shortcut(x))


def gpt(depth: int = 24, width: int = 32, heads: int = 2, length: int = 16, dropout: float = 0.1) -> list[Block]:
    """A decoder of `nn.TransformerEncoderLayer`, with causal attention."""
    mask = nn.Transformer.generate_square_subsequent_mask(length)
    layers = [
        Causal(nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True, norm_first=True), mask)
        for _ in range(depth)
    ]
    return [nn.Embedding(TOKENS, width), *layers, nn.Sequential(nn.LayerNorm(width), nn.Linear(width, TOKENS))]


class Causal(nn.Module):
    """A layer that sees the past only."""

    def __init__(self, layer: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Any:  # noqa: D102
        return self.layer(x, self.mask, is_causal=True)


def residual_mlp(depth: int = 1000, width: int = 32) -> list[Block]:
    """Equal residual layers."""
    return [Residual(width) for _ in range(depth)]


class Residual(nn.Module):
    """A layer of width to width, added to what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x + 0.1 * torch.tanh(self.inner(x))


def unet(depth: int = 3, width: int = 8, classes: int = 2) -> list[Block]:
    """A U-Net as a chain: the state is a tuple, the image and the skip connections that are open."""
    widths = [width * 2**level for level in range(depth)]
    down = [Down(3 if level == 0 else widths[level - 1], size) for level, size in enumerate(widths)]
    up = [Up(2 * size, size) for size in reversed(widths)]
    return [lambda x: (x,), *down, Bottom(widths[-1], 2 * widths[-1]), *up, Head(width, classes)]


def double(channels: int, width: int) -> nn.Sequential:
    """Two convolutions."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


class Down(nn.Module):
    """Opens a skip connection."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = double(channels, width)

    def forward(self, state: State) -> State:  # noqa: D102
        x, *skips = state
        x = self.body(x)
        return (nn.functional.max_pool2d(x, 2), *skips, x)


class Bottom(nn.Module):
    """Leaves the skip connections open."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = double(channels, width)

    def forward(self, state: State) -> State:  # noqa: D102
        x, *skips = state
        return (self.body(x), *skips)


class Up(nn.Module):
    """Closes the last skip connection that was opened."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, width, 2, stride=2)
        self.body = double(2 * width, width)

    def forward(self, state: State) -> State:  # noqa: D102
        x, *skips, skip = state
        return (self.body(torch.cat([self.up(x), skip], 1)), *skips)


class Head(nn.Module):
    """Gives the classes of each pixel."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(channels, classes, 1)

    def forward(self, state: State) -> Any:  # noqa: D102
        (x,) = state
        return self.last(x)
