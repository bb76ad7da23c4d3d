"""Diagrams of networks, drawn from the live modules: the numbers in them are read, not typed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from lddr.plotting import COLOURS


class Layer(NamedTuple):
    """What one layer hands on: its name, kind, channels and the sides of its grid."""

    name: str
    kind: str
    channels: int
    size: tuple[int, ...]


def trace(module: nn.Module, *inputs: Tensor) -> list[Layer]:
    """Run a module once on `inputs` and note what each (transposed) convolution and linear layer hands on, in order."""
    layers: list[Layer] = []
    names = {part: name for name, part in module.named_modules()}

    def note(part: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            layers.append(Layer(names[part], type(part).__name__, output.shape[1], tuple(output.shape[2:])))

    with torch.no_grad(), register_module_forward_hook(note):
        module(*inputs)
    return layers


def draw_layers(ax: Axes, layers: Sequence[Layer], inputs: Layer, skips: Sequence[tuple[int, int]] = ()) -> None:
    """Draw a network as blocks in a row: as tall as its grid (each halving one step), as wide as its channels (log).

    Args:
        layers: of `trace`, those to show.
        inputs: what goes in, drawn first.
        skips: (from, to) positions in `[inputs, *layers]` that are joined by an arc.
    """
    x, tops = 0.0, []
    for position, layer in enumerate([inputs, *layers]):
        side = max(layer.size, default=1)
        height, width = 0.35 + 0.35 * torch.tensor(float(side)).log2().item(), 0.3 + 0.14 * layer.channels.bit_length()
        colour = {"Conv3d": COLOURS[0], "ConvTranspose3d": COLOURS[1], "Linear": COLOURS[3]}.get(layer.kind, "0.75")
        ax.add_patch(Rectangle((x, -height / 2), width, height, facecolor=colour, edgecolor="black", alpha=0.75))
        if position:
            ax.annotate("", (x, 0), (x - 0.5, 0), arrowprops={"arrowstyle": "-|>", "color": "0.2"})
        grid = "×".join(map(str, layer.size)) or "1"
        ax.text(x + width / 2, -height / 2 - 0.12, f"{layer.channels} ch\n{grid}", ha="center", va="top", fontsize=8)
        tops.append((x + width / 2, height / 2))
        x += width + 0.5
    for start, end in skips:
        arc = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.28", "linestyle": "--", "color": "0.35"}
        ax.annotate("", tops[end], tops[start], arrowprops=arc)
    ax.set(xlim=(-0.3, x), ylim=(-2.2, 2.9 if skips else 1.7))
    ax.axis("off")
