"""The weights that scored best on development data, while training goes on."""

import math

import torch

from training.checkpoint import model_tensors


class Best:
    """The weights of the evaluation with the highest `metric`, the first of equal ones, as tensors on the CPU.

    The step and score are part of the run's state, and a checkpoint has both: a resumed run keeps the same weights.
    """

    def __init__(self, metric: str):
        self.metric = metric
        self.tensors: dict[str, torch.Tensor] | None = None

    def consider(self, score: float, best_score: float | None, model: torch.nn.Module) -> bool:
        """Keeps the weights of `model` (unwrapped) where `score` is better than `best_score`; whether it does.

        None is the score of no weights yet, or one that is undefined, as the correlation of constant predictions:
        worse than any other.
        """
        better = math.isfinite(score) and (best_score is None or score > best_score)
        if better or self.tensors is None:
            self.tensors = {name: tensor.cpu().clone() for name, tensor in model_tensors(model).items()}
            return True
        return False
