"""The weights that scored best on development data, while training goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from training.checkpoint import model_tensors


if TYPE_CHECKING:
    from training.loop import TrainerState


class Best:
    """The weights of the evaluation with the highest `metric`, the first of equal ones, as tensors on the CPU.

    Which one it was is part of the run's state, and a checkpoint has both: a resumed run keeps the same weights.
    """

    def __init__(self, metric: str):
        self.metric = metric
        self.tensors: dict[str, torch.Tensor] | None = None

    def consider(self, state: TrainerState, model: torch.nn.Module) -> None:
        """Keeps the weights of `model` (unwrapped) where `state.evaluation` is better than `state.best_score`.

        A score that is undefined, as the correlation of constant predictions, is worse than any other.
        """
        score = state.evaluation[self.metric]
        if not math.isfinite(score):
            score = None
        if self.tensors is None or (score is not None and (state.best_score is None or score > state.best_score)):
            state.best_step, state.best_score = state.step, score
            self.tensors = {name: tensor.cpu().clone() for name, tensor in model_tensors(model).items()}
