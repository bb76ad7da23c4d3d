"""Distillation: what a student can learn from a teacher's displacement, by several objectives.

The teacher's displacement phi_t and the student's phi_s are compared directly (`l2`), by the images they make
(`warped`, not in the posts), or through a discriminator D: by the posts' equations taken literally (`paper`), as a
Wasserstein game (`wgan-gp`), or with the gradients that the released code really sends (`released`). `none` leaves the
student alone with the images. Source: Part 2 of the posts; chapter 08.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lddr.errors import InputError
from lddr.losses import corrcoef_loss
from lddr.networks.discriminator import Discriminator, DiscriminatorReleased
from lddr.train.config import DistillConfig
from lddr.train.sampling import Batch
from lddr.warping import warp

WITH_DISCRIMINATOR = ("paper", "wgan-gp")  # the objectives that train one
Teacher = Callable[[Batch], Tensor]  # a batch -> phi_t, `[B, 3, D, H, W]`, voxels


def adversarial_step(config: DistillConfig, step: int, steps: int) -> bool:
    """Follow the learning strategy: whether l_dis takes part in step `step` (from 0) of `steps`.

    Images play the part of the real data, so most steps see l_rec alone; the released schedule has `every` 3.

    Source: Algorithm 1 of the posts and the released code's `--aldk_learning_scheme`; chapter 08.
    """
    return config.objective != "none" and step % config.every == 0 and step < config.until * steps


def joint_deformation(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """`phi_hat = beta phi_t + (1 - beta) phi_s`, all `[B, 3, D, H, W]` in voxels; chapter 07."""
    return beta * teacher + (1 - beta) * student


def gradient_penalty(discriminator: nn.Module, joint: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how far D's slope at the joint deformation is from 1: `(||grad D(phi_hat)||_2 - 1)^2`.

    Args:
        discriminator: D, `[B, 3, D, H, W]` -> `[B]`.
        joint: phi_hat, `[B, 3, D, H, W]`, voxels. If it does not depend on a trainable tensor, it is made to ask for
            its gradient.

    Returns:
        The penalty, mean over the batch, differentiable; and the gradient norms, `[B]`.

    Source: Gulrajani et al. 2017, eq. 3, and Part 2 of the posts; chapter 07.
    """
    if not joint.requires_grad:
        joint = joint.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(joint).sum(), joint, create_graph=True)
    norm = slope.flatten(1).norm(dim=1)
    return (norm - 1).square().mean(), norm


def critic_gap(discriminator: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """`D(phi_s) - D(phi_t)`, `[B]`; chapter 07."""
    return discriminator(student) - discriminator(teacher)


class Distillation:
    """A teacher, a discriminator with its optimiser, and the terms they add to the student's loss (chapter 08).

    Args:
        config: see `DistillConfig`.
        teacher: batch -> phi_t, `[B, 3, D, H, W]` in voxels; see `lddr.train.teacher`.
        size: (D, H, W) of the displacements.
        seed: of the discriminator's starting weights.

    Raises:
        InputError: a side below 32 voxels, which the five halvings of the text's discriminator do not leave a voxel of.
    """

    def __init__(self, config: DistillConfig, teacher: Teacher, size: tuple[int, int, int], seed: int = 0) -> None:
        self.config, self.teacher = config, teacher
        bounded, of_text = config.objective == "paper", config.discriminator == "text"
        if of_text and config.objective in WITH_DISCRIMINATOR and min(size) < 32:
            raise InputError(f"The discriminator halves five times: no side of {list(size)} may be below 32 voxels.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = Discriminator(bounded) if of_text else DiscriminatorReleased(size)
        # On a CPU the three-channel layers are four times faster when channels lie side by side in memory.
        self.discriminator.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), config.discriminator_rate, betas=(0.5, 0.9))

    def step(self, l_rec: Tensor, student: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Take one adversarial step: D takes its step, then the student's loss changes from l_rec to L_adv.

        Args:
            l_rec: the student's reconstruction loss.
            student: phi_s, the student's total displacement, `[B, 3, D, H, W]`, voxels, with its graph.
            batch: what the student saw, for the teacher.

        Returns:
            What added to l_rec makes `gamma l_rec + (1 - gamma) l_dis` of it; and figures for the log.
        """
        change = (self.config.gamma - 1) * l_rec
        if self.config.objective == "released":  # its l_dis sends no gradient, so nobody need ask the teacher
            return change, {}
        with torch.no_grad():
            teacher = self.teacher(batch)
        figures = self.discriminator_step(student, teacher)
        l_dis = self.student_term(student, teacher, batch.moving)
        figures["l_dis"] = l_dis.item()
        return change + (1 - self.config.gamma) * l_dis, figures

    def student_term(self, student: Tensor, teacher: Tensor, moving: Tensor) -> Tensor:
        """l_dis as the student sees it; gradients reach phi_s and leave the discriminator's weights alone.

        Args:
            student: phi_s, `[B, 3, D, H, W]`, voxels, with its graph.
            teacher: phi_t, the same without.
            moving: the images they are for, `[B, 1, D, H, W]`.

        Returns:
            One number.
        """
        objective = self.config.objective
        if objective == "l2":
            return (student - teacher).square().sum(dim=1).mean()
        if objective == "warped":
            return corrcoef_loss(warp(moving, student), warp(moving, teacher))
        self.discriminator.requires_grad_(False)
        gap = critic_gap(self.discriminator, student, teacher)
        if objective == "wgan-gp":
            term = gap.mean()
        else:
            penalty, _ = gradient_penalty(self.discriminator, joint_deformation(teacher, student, self.config.beta))
            term = gap.square().mean() + self.config.penalty * penalty
        self.discriminator.requires_grad_(True)
        return term

    def discriminator_step(self, student: Tensor, teacher: Tensor) -> dict[str, float]:
        """Take one step of D, on displacements that are cut off from the networks that made them.

        `paper` minimises the very l_dis the student minimises; `wgan-gp` pulls the two apart, under the penalty.

        Args:
            student, teacher: phi_s and phi_t, `[B, 3, D, H, W]`, voxels.

        Returns:
            For the log, D(phi_s), D(phi_t), the penalty and the gradient norm; empty where no D takes part.
        """
        if self.config.objective not in WITH_DISCRIMINATOR:
            return {}
        student, teacher = student.detach(), teacher.detach()
        of_student, of_teacher = self.discriminator(student), self.discriminator(teacher)
        penalty, norm = gradient_penalty(self.discriminator, joint_deformation(teacher, student, self.config.beta))
        gap = of_student - of_teacher
        distance = -gap.mean() if self.config.objective == "wgan-gp" else gap.square().mean()
        self.optimizer.zero_grad()
        (distance + self.config.penalty * penalty).backward()
        self.optimizer.step()
        return {
            "d_student": of_student.mean().item(),
            "d_teacher": of_teacher.mean().item(),
            "penalty": penalty.item(),
            "gradient_norm": norm.mean().item(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must keep of the discriminator."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
