"""What the machine can do, and settings that make it faster."""

import ctypes
import logging
import os
import platform

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# Parameters of mallopt(3), as numbered by glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# Older versions of glibc take no more than the second of these.
MMAP_THRESHOLDS = 2**30, 2**25


def has_fast_bfloat16(device_type: str) -> bool:
    """Whether the device multiplies bfloat16 in units of its own.

    NVIDIA GPUs do since Ampere, x86 processors with AMX or AVX512-BF16. Elsewhere the products are computed through
    other types, which is slower than float32.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    # Versions of torch before 2.11 tell it by names that are not public.
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_fast_int8() -> bool:
    """Whether the processor sums products of 8 bit integers in 32 bits at once: x86 with VNNI.

    Others go through 16 bits on the way. ARM counts as one that does, since there the sums do not overflow.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
    return getattr(torch.cpu, "_is_vnni_supported", bool)()


def keep_freed_memory() -> bool:
    """Make the C library keep memory that the process frees, for its next tensors.

    A training step allocates and frees tensors of many megabytes. By default glibc returns these to the system each
    time, and the system hands them out again page by page, filled with zeros: a tenth of a step on a CPU. Afterwards
    the process holds as much as it held at its peak.

    Returns:
        Whether it was done; other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    keeps = any(mallopt(M_MMAP_THRESHOLD, threshold) for threshold in MMAP_THRESHOLDS)
    done = bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and keeps
    if not done:
        logger.info("The C library did not take its settings for memory.")
    return done


def clip_gradients(model: torch.nn.Module, max_norm: float) -> Tensor:
    """Clip as `torch.nn.utils.clip_grad_norm_` does, but leave alone gradients that need no clipping.

    That takes a look at the norm, which costs nothing on a CPU, and mostly saves a pass over all gradients.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm > max_norm:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm
