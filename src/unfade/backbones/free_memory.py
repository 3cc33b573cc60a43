"""How much memory a device has left, how much of that may be planned for, and what running out of it looks like."""

import os

import torch

# What is left to the driver, to libraries' work space and to gaps between blocks, of a device's free memory.
_RESERVED, _SHARE = 600_000_000, 0.94
# How PyTorch, Apple's Metal and NVIDIA's libraries, which take memory of their own, say that there is none left.
_SAYINGS = (
    "can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def free_bytes(device: torch.device) -> int:
    """Bytes that a model could take on a device now, what PyTorch holds without using it included.

    On the CPU, what the system says is available; where it doesn't say, the half of all memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            told = dict(line.split(":", 1) for line in file)
        return int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def usable(free: int) -> int:
    """Of so many free bytes, how many may be planned for."""
    return int(_SHARE * free) - _RESERVED


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the host's memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)
