"""How much memory a process has used."""

import resource
import sys

import torch


def peak_memory() -> int:
    """The most memory that was used so far, in bytes: the GPU's where there is one, else the process's."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_resident_memory()


def peak_resident_memory() -> int:
    """The most memory that the process had so far, in bytes; it begins with what its parent had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
