"""What training minimises: one minus the correlation coefficient, plus terms that keep the map plausible."""

import torch
from torch import Tensor


def covariance(a: Tensor, b: Tensor) -> Tensor:
    """Compute the covariance of two images over their grid: `mean((a - mean a)(b - mean b))`.

    The textbook form `mean(ab) - mean(a) mean(b)` is the same number on paper, but in float32 it subtracts two
    nearly equal numbers when the contrast is small beside the mean, and loses every digit; chapter 04 shows it.

    Both `[B, C, D, H, W]` -> `[B]`, product of the two intensity units.

    Source: Part 2 of the posts, "Reconstruction Loss".
    """
    grid = tuple(range(1, a.ndim))
    return ((a - a.mean(grid, keepdim=True)) * (b - b.mean(grid, keepdim=True))).mean(grid)


def corrcoef(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Compute the correlation coefficient of two images: `Cov(a, b) / sqrt(Cov(a, a) Cov(b, b))`.

    Args:
        a, b: `[B, C, D, H, W]`, intensities in [0, 1].
        eps: added to each variance, so that a flat image gives 0 and not NaN.

    Returns:
        `[B]`, in [-1, 1].

    Source: Part 2 of the posts, "Reconstruction Loss"; chapter 04.
    """
    return covariance(a, b) / torch.sqrt((covariance(a, a) + eps) * (covariance(b, b) + eps))


def corrcoef_loss(warped: Tensor, fixed: Tensor) -> Tensor:
    """Compute the reconstruction loss `l_rec = 1 - CorrCoef(warped, fixed)`, mean over the batch (chapter 04).

    Both `[B, 1, D, H, W]`, intensities in [0, 1] -> one number in [0, 2].
    """
    return (1 - corrcoef(warped, fixed)).mean()


def smoothness(displacement: Tensor) -> Tensor:
    """Penalise a rough field: `1/2 * sum of squared forward differences / (3 * voxels)`, mean over the batch.

    `[B, 3, D, H, W]`, voxels -> one number, voxels squared.

    Source: Zhao et al. 2020 (VTN), total variation loss as released; chapter 04.
    """
    total = torch.stack([displacement.diff(dim=axis).square().sum() for axis in (2, 3, 4)]).sum()
    return total / (2 * displacement.numel())


def orthogonality(matrix: Tensor, eps: float = 1e-5) -> Tensor:
    """Penalise an affine matrix that shears or scales: 0 when every singular value is 1.

    `s1 + (1 + e)^2 s2 / s3 - 6 (1 + e)` with s1, s2, s3 the elementary symmetric polynomials of the eigenvalues of
    `A^T A + e I`, so that both large and small singular values cost.

    A, `[B, 3, 3]` -> one number, mean over the batch.

    Source: Zhao et al. 2020 (VTN), orthogonality loss.
    """
    gram = matrix.mT @ matrix + eps * torch.eye(3, device=matrix.device, dtype=matrix.dtype)
    s1 = torch.einsum("bii->b", gram)
    s2 = (s1.square() - torch.einsum("bij,bji->b", gram, gram)) / 2
    s3 = torch.linalg.det(gram)
    return (s1 + (1 + eps) ** 2 * s2 / s3 - 6 * (1 + eps)).mean()


def volume_change(matrix: Tensor) -> Tensor:
    """Penalise an affine matrix A, `[B, 3, 3]`, that changes volume: `1/2 (det A - 1)^2`, mean over the batch.

    Source: Zhao et al. 2020 (VTN), determinant loss.
    """
    return (torch.linalg.det(matrix) - 1).square().mean() / 2
