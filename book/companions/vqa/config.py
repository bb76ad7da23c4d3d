"""The settings of each training, checked; one class a kind of training."""

from typing import Literal

from pydantic import Field

from lddr.config import Config

Data = Literal["simulated_vqa", "vqa_rad"]
Split = Literal["official", "by_image"]
# Which encoders see the image. "none": the question alone; "imagenet": EfficientNet-Lite0, frozen.
Features = Literal["none", "meta", "cdae", "mevf", "mmq", "mmq_mevf", "imagenet"]
Start = Literal["scratch", "pretrained", "authors"]
Attention = Literal["san", "ban"]


class CdaeConfig(Config):
    """How the auto-encoder is pre-trained."""

    steps: int = Field(300, ge=1, description="optimiser steps")
    batch: int = Field(16, ge=1, description="images a step")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    noise: float = Field(0.1, ge=0, description="standard deviation of the Gaussian noise")
    seed: int = Field(0, ge=0)


class MetaConfig(Config):
    """How a meta-model is trained: the tasks, the inner and the outer loop."""

    iterations: int = Field(300, ge=1, description="updates of the meta-model")
    tasks: int = Field(5, ge=1, description="tasks an iteration")
    ways: int = Field(3, ge=2, description="classes of a task")
    other: bool = Field(False, description="one more class, drawn from all others: MMQ's 3 (+1) way")
    shots: int = Field(3, ge=1, description="images of each class to adapt on")
    queries: int = Field(3, ge=1, description="images of each class to update the meta-model with")
    inner_steps: int = Field(5, ge=1)
    inner_rate: float = Field(0.01, gt=0, description="of the plain gradient steps of the inner loop")
    meta_rate: float = Field(1e-3, gt=0, description="of the outer loop's Adam")
    first_order: bool = Field(False, description="take inner gradients for constants, as MMQ's released code does")
    seed: int = Field(0, ge=0)


class MmqConfig(Config):
    """How several meta-models of different quality are made, and which are kept."""

    refinements: int = Field(5, ge=0, description="how often the data are refined after the first meta-model")
    agreement: float = Field(0.75, gt=0, le=1, description="share of votes below which a label is not taken at first")
    episodes: int = Field(200, ge=1, description="tasks that vote in a refinement")
    adapt_steps: int = Field(10, ge=1, description="inner steps before a vote")
    confidence: float = Field(0.3, ge=0, le=1, description="labels that never reach it are dropped")
    votes: int = Field(47, ge=0, description="an unlabelled image needs more votes than this")
    winner: int = Field(15, ge=0, description="and more than this for one class, its only winner")
    alpha: float = Field(0.5, ge=0, le=1, description="weight of confidence in a meta-model's score")
    keep: int = Field(2, ge=1, description="meta-models that are used side by side")


class VqaConfig(Config):
    """How a model is trained to answer questions, and on what."""

    data: Data = "simulated_vqa"
    split: Split = "official"
    features: Features = Field("mevf", description="which encoders see the image")
    start: Start = Field("scratch", description="how the encoders start")
    weights: str | None = Field(None, description="folder of the pre-trained weights, for the start 'pretrained'")
    attention: Attention = "ban"
    cell: Literal["lstm", "gru"] = "lstm"
    hidden: int = Field(1024, ge=8, description="size of the joint representation")
    stacks: int = Field(2, ge=1, description="of SAN")
    glimpses: int = Field(2, ge=1, description="of BAN")
    dropout: float = Field(0.5, ge=0, lt=1, description="in the classifier")
    epochs: int = Field(20, ge=1)
    batch: int = Field(32, ge=2, description="questions a step")
    per_image: int = Field(4, ge=1, description="questions of one image that stand together in a batch")
    learning_rate: float = Field(0.005, gt=0, description="of Adamax, before warm-up and decay")
    reconstruction: float = Field(0.001, ge=0, description="alpha 2, weight of L_rec")
    decoded: int = Field(2, ge=1, description="images of a batch that L_rec is measured on")
    clip: float = Field(0.25, gt=0, description="largest norm of the gradient")
    seed: int = Field(0, ge=0)
