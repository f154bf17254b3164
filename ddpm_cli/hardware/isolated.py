"""Training inside somebody else's process."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def isolated() -> Iterator[None]:
    """Torch as in a process of its own inside the context; afterwards the caller's random states and settings again.

    Dropout takes its numbers from torch's global generator, so a second thread waits until the first one is done.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        numbers, dtype, cudnn = random.getstate(), torch.get_default_dtype(), torch.backends.cudnn
        flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, torch.get_float32_matmul_precision()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags[:3]
            torch.set_float32_matmul_precision(flags[3])
            random.setstate(numbers)
