"""CDAE: a convolutional auto-encoder that learns to remove noise from images without any label."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from companions.vqa.config import CdaeConfig
from companions.vqa.minimise import minimise
from companions.vqa.questions import CDAE_SIDE, resized

CODE = 16 * (CDAE_SIDE // 4) ** 2  # numbers of the latent representation


class Cdae(nn.Module):
    """The auto-encoder: 128 x 128 pixels to 16 x 32 x 32 numbers and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encode1 = nn.Conv2d(1, 64, 3, padding=1)
        self.encode2 = nn.Conv2d(64, 32, 3, padding=1)
        self.encode3 = nn.Conv2d(32, 16, 3, padding=1)
        self.decode1 = nn.ConvTranspose2d(16, 32, 3, stride=2, padding=1, output_padding=1)
        self.decode2 = nn.Conv2d(32, 32, 3, padding=1)
        self.decode3 = nn.ConvTranspose2d(32, 64, 3, stride=2, padding=1, output_padding=1)
        self.decode4 = nn.Conv2d(64, 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half the time on a CPU

    def encode(self, images: Tensor) -> Tensor:
        """Compute the latent representation, `[B, 16, 32, 32]`, of images `[B, 1, 128, 128]` in [0, 1].

        ReLU after the pooling gives the same numbers as before it, as the released code has it, and has less to do.
        """
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.relu(F.max_pool2d(self.encode1(x), 2))
        x = F.relu(F.max_pool2d(self.encode2(x), 2))
        return F.relu(self.encode3(x))

    def decode(self, code: Tensor) -> Tensor:
        """Turn a latent representation into images, `[B, 1, 128, 128]` in [0, 1]."""
        x = F.relu(self.decode1(code))
        x = F.relu(self.decode2(x))
        x = F.relu(self.decode3(x))
        return torch.sigmoid(self.decode4(x))

    def forward(self, images: Tensor) -> Tensor:
        """Encode and decode images."""
        return self.decode(self.encode(images))


def reconstruction_loss(model: Cdae, images: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Compute L_rec, the mean squared difference between clean images and what is made of their noisy versions."""
    noisy = images + noise * torch.randn(images.shape, generator=generator)
    return F.mse_loss(model(noisy), images)


def varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image at random and cut a random square of at least 80 % of its side: few images become many."""
    n = len(images)
    scale = 0.8 + 0.2 * torch.rand(n, generator=generator)
    room = 1 - scale
    shift = room[:, None] * (2 * torch.rand(n, 2, generator=generator) - 1)
    flip = 1 - 2.0 * (torch.rand(n, generator=generator) < 0.5)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale * flip, scale
    theta[:, :, 2] = shift
    return F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


def pretrain_cdae(
    images: Tensor, config: CdaeConfig, progress: Callable[..., tqdm] = tqdm
) -> tuple[Cdae, list[dict[str, float]]]:
    """Train an auto-encoder on images without labels.

    Args:
        images: `[N, 1, 224, 224]`, uint8; none that a test image shows.
        config: of the training.
        progress: draws the bar.

    Returns:
        The trained model, and the log: `step` and `loss`, averaged over each tenth of the training.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    model, small = Cdae(), resized(images, CDAE_SIDE)

    def loss() -> Tensor:
        chosen = small[torch.randint(len(small), (config.batch,), generator=generator)]
        return reconstruction_loss(model, varied(chosen, generator), config.noise, generator)

    log = minimise(loss, model, config.learning_rate, config.steps, 10, progress, "CDAE")
    return model.eval(), log
