"""What of a model is trained and what stays as it is."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cicm.assembly import MemoryInpainter
from cicm.conventions import InputError
from cicm.training.config import TrainingConfig


def freeze(model: MemoryInpainter, training: TrainingConfig) -> None:
    """Take the parameters that `training.freeze` names out of the training, for good.

    Raises:
        InputError: a beginning that fits no parameter of the network, or nothing is left to train.
    """
    names = [name for name, _ in model.network.named_parameters()]
    for start in training.freeze:
        if not any(name.startswith(start) for name in names):
            raise InputError(f"training.freeze: no parameter begins with {start!r}; the first is {names[0]!r}.")
    for name, parameter in model.network.named_parameters():
        if name.startswith(training.freeze):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("training.freeze names all parameters; leave some of them out, or there is nothing to train.")


def to_training_mode(model: MemoryInpainter, training: TrainingConfig) -> None:
    """`model.train()`, but for what does not take part: frozen modules, and BatchNorm with `freeze_norm`.

    A frozen module is one of whose parameters and buffers all begin with a name in `training.freeze`: in evaluation
    mode it is the function that the file holds, without dropout or running statistics of its own.
    """
    model.train()
    for name, module in model.network.named_modules():
        if training.freeze_norm and isinstance(module, _BatchNorm):
            module.eval()  # its running statistics are used and stay; weight and bias are trained
        elif training.freeze and _lies_below(name, module, training.freeze):
            module.eval()


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer gets."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _lies_below(name: str, module: nn.Module, starts: tuple[str, ...]) -> bool:
    names = [f"{name}.{tensor}" if name else tensor for tensor in module.state_dict()]
    return bool(names) and all(tensor.startswith(starts) for tensor in names)
