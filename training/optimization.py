"""AdamW and its learning rate, as in Section 4.2; the rate is a function of the step, with nothing to restore."""

import torch
from torch import nn

from training.arguments import OptimizationArguments


def decoupled_adamw(model: nn.Module, optimization: OptimizationArguments) -> torch.optim.AdamW:
    """torch's fused AdamW (decoupled weight decay) over the trainable parameters, tied ones once.

    Each part of the model that has a schedule of its own (`optimization.parts`) has groups of its own.

    By default biases and LayerNorm weights, that is all vectors, are not decayed, as in Google's BERT;
    `decay_biases_and_layer_norms=True` decays every parameter, as the original SpanBERT. One more difference: the
    original adds epsilon to sqrt(v) before its bias correction, torch after. Its epsilon thus acts as
    epsilon / sqrt(1 - beta2^t): 32 times larger at the first update, the same after some thousands, and without
    effect wherever gradients are far above 1e-7.
    """
    groups = []
    for schedule, named in optimization.parts(model):
        parameters = [parameter for _, parameter in named if parameter.requires_grad]
        decayed = [p for p in parameters if p.ndim > 1 or schedule.decay_biases_and_layer_norms]
        others = [p for p in parameters if not (p.ndim > 1 or schedule.decay_biases_and_layer_norms)]
        common = {
            "lr": schedule.learning_rate,
            "betas": (schedule.adam_beta1, schedule.adam_beta2),
            "eps": schedule.adam_epsilon,
            "schedule": schedule,  # for the loop
        }
        groups.append(common | {"params": decayed, "weight_decay": schedule.weight_decay})
        groups.append(common | {"params": others, "weight_decay": 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def learning_rate_at(step: int, optimization: OptimizationArguments) -> float:
    """The learning rate of the update that follows `step` updates: the original's after `step` updates, exactly.

    With W = `num_warmup_steps` and N = `max_train_steps`:

        step <= W:  peak * step / W          from 0, linearly, to the peak (not without a warm-up)
        else:       peak * (N - step) / N    linearly to 0 after N updates, counted from the start

    (`optimization.decay` is the second share; fine-tuning has another one, without a drop.)
    So it drops by W / N when the warm-up ends, by 0.4 % in the schedule of the large model. One step differs: the
    original sets no rate before its first update, which it makes at the full peak; here it is made at 0.
    """
    peak, warmup = optimization.learning_rate, optimization.num_warmup_steps
    if step <= warmup and warmup > 0:
        return peak * step / warmup
    return peak * optimization.decay(step)
