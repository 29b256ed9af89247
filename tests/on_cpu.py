"""Run `train.py` with FSDP in CPU processes, which Accelerate supports on accelerators only.

Sharding, gathering, clipping and saving are the same there; NCCL and CUDA are not tested.
"""

from __future__ import annotations

import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from captioner.cli import train

_begin = PartialState.__init__


def _begin_on_cpu(self: PartialState, *args, **kwargs) -> None:
    _begin(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU  # for which Accelerate enables FSDP


if __name__ == "__main__":
    PartialState.__init__ = _begin_on_cpu
    sys.exit(train.main())
