"""Linear layers through oneDNN while images are made on a CPU.

PyTorch gives matrix products in float32 to MKL, which leaves half of an AMD processor's vector width unused; oneDNN,
which already does the convolutions, does not: there images are made 1.18 times as fast, elsewhere no slower.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


class OneDnnLinear(TorchFunctionMode):
    """Within it `torch.nn.functional.linear` on float32 CPU tensors is oneDNN's, the same up to float rounding.

    Only where no gradients are wanted, which oneDNN's operator does not have; everything else is as without.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """PyTorch's protocol: called in the place of every function of PyTorch."""
        if function is linear and not options and _suits(arguments):
            values, weight, *bias = arguments
            return torch.ops.mkldnn._linear_pointwise(values, weight, bias[0] if bias else None, "none", [], "")
        return function(*arguments, **(options or {}))


def _suits(arguments: Sequence[Any]) -> bool:
    return (
        not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(
            tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel()
            for tensor in arguments
            if tensor is not None
        )
    )
