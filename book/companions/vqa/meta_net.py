"""The small network that MAML trains: four convolutions, and the mean over the image."""

from torch import Tensor, nn

WIDTH = 64  # filters of each convolution, and numbers that describe an image


class MetaNet(nn.Module):
    """Describe grey images of 84 x 84 pixels by 64 numbers.

    Four 3 x 3 convolutions of 64 filters and stride 2, each followed by ReLU and then batch normalisation, as in the
    released code; the post does not mention the latter.

    Args:
        running: whether batch normalisation keeps running statistics, with a momentum of 0.05, to be used when a model
            answers. A meta-model does not: each task is normalised by its own images.
    """

    def __init__(self, running: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (1, WIDTH, WIDTH, WIDTH):
            convolution = nn.Conv2d(channels, WIDTH, 3, stride=2, padding=1)
            nn.init.kaiming_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.ReLU(), nn.BatchNorm2d(WIDTH, momentum=0.05, track_running_stats=running)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Describe images `[B, 1, 84, 84]` in [0, 1] by `[B, 64]`."""
        return self.layers(images).mean(dim=(2, 3))


class MetaClassifier(nn.Module):
    """A `MetaNet` with a linear layer on top that tells the classes of one task apart.

    Args:
        classes: of a task.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.net = MetaNet(running=False)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits `[B, classes]` of images `[B, 1, 84, 84]`."""
        return self.head(self.net(images))
