"""Diagrams say what the networks are."""

import matplotlib.pyplot as plt
import torch

from lddr.diagrams import Layer, draw_layers, trace
from lddr.networks import LDR, LightAffine


def test_trace_reads_the_layers_of_the_text_in_order():
    x = torch.zeros(1, 1, 64, 64, 64)
    layers = trace(LDR(), x, x)
    assert [layer.channels for layer in layers] == [16, 32, 64, 128, 64, 32, 16, 3]
    assert [layer.size[0] for layer in layers] == [32, 16, 8, 4, 8, 16, 32, 64]
    assert [layer.kind for layer in layers] == ["Conv3d"] * 4 + ["ConvTranspose3d"] * 4
    assert trace(LightAffine(), x, x)[-1] == Layer("head", "Linear", 12, ())
    assert not torch.nn.modules.module._global_forward_hooks, "nothing goes on being noted"


def test_drawings_show_every_layer():
    x = torch.zeros(1, 1, 32, 32, 32)
    figure, top = plt.subplots()
    draw_layers(top, trace(LDR(), x, x), Layer("in", "input", 2, (32, 32, 32)), [(1, 7)])
    words = [text.get_text() for text in top.texts]
    assert "128 ch\n2×2×2" in words
    assert sum("ch\n" in word for word in words) == 9
    plt.close(figure)
