"""FSDP2 through accelerate: each process has a share of every weight, gradient and moment; layers are whole in turn.

The rest of a run does not know: checkpoints hold whole tensors, as without it; evaluation and export have a model.
"""

import functools

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import disable_fsdp_ram_efficient_loading
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights


LAYER = "SpanBertLayer"


def configure(plugin: FullyShardedDataParallelPlugin) -> None:
    """Sets what follows from the model, whatever the launch says of it. To be called before there are any weights."""
    plugin.auto_wrap_policy, plugin.transformer_cls_names_to_wrap = transformer_auto_wrap_policy, [LAYER]
    # accelerate would compute LayerNorms, sums of gradients and the loss in bf16, which autocast has in fp32.
    plugin.mixed_precision_policy = None
    # Every process has the weights before they are sharded, as it has those of a checkpoint.
    disable_fsdp_ram_efficient_loading()
    plugin.cpu_ram_efficient_loading = False


def prepare_model(
    accelerator: Accelerator, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """`accelerator.prepare`; what is sharded computes in the same precision as what is not.

    Layers are gathered one by one, the embeddings and heads, which share a table, together.
    """
    if not accelerator.is_fsdp2:
        return accelerator.prepare(model, optimizer)
    # accelerate groups two modules that share a table, but the boundary head makes three: they stay with the root.
    model.get_input_embeddings = model.get_output_embeddings = lambda: None
    model, optimizer = accelerator.prepare(model, optimizer)
    del model.get_input_embeddings, model.get_output_embeddings
    return _in_autocast(accelerator, model), optimizer


def whole_model(accelerator: Accelerator, model: nn.Module, in_fp32: bool = False) -> nn.Module:
    """A prepared `model` as one process can use it by itself: as it is, or of a sharded one a copy, with its config.

    Every process must call it. Those that evaluate have batches of their own number, in each of which a sharded model
    would wait for the other processes. With `in_fp32` it is unwrapped and computes in fp32.
    """
    if not accelerator.is_fsdp2:
        return accelerator.unwrap_model(model, keep_fp32_wrapper=False) if in_fp32 else model
    unsharded = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with no_init_weights():
        copy = unsharded(model.config)
    copy.tie_weights()
    copy.to(accelerator.device).train(model.training)
    sharded = model.state_dict()
    with torch.no_grad():
        for name, tensor in copy.state_dict().items():
            own = sharded[name]
            tensor.copy_(own.full_tensor() if isinstance(own, DTensor) else own)
    return copy if in_fp32 else _in_autocast(accelerator, copy)


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, or where it is sharded the whole of it: on the CPU in the main process, without values in others.

    Every process must call it, for the same tensors in the same order.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    whole = tensor.detach().full_tensor()
    return whole.to("cpu" if torch.distributed.get_rank() == 0 else "meta")


def sharded_as(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A copy of the whole `tensor` on the device of `like`, or of a sharded one this process's share; no one waits."""
    whole = tensor.to(like.device, copy=True)
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def clip_grad_norm_(parameters: list[nn.Parameter], max_norm: float) -> float:
    """The norm of all gradients, which are scaled down to `max_norm`; accelerate's takes sharded ones in one order."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _in_autocast(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    forward = model.forward

    @functools.wraps(forward)
    def autocast_forward(*args, **kwargs):
        with accelerator.autocast():
            return forward(*args, **kwargs)

    model.forward = autocast_forward
    return model
