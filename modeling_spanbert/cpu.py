"""The fast paths of a CPU, for programs: they hold for the whole process, so a library does not choose them."""

import ctypes
import platform

import torch


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>
MAX_ERROR = 1e-5  # of fp32 products, relative to their largest value; bf16's is 3e-3


def use_fast_cpu_paths() -> None:
    """Keeps freed memory for the next step, and sends fp32 products through oneDNN where that is exact and faster.

    glibc gives large tensors back to the system and faults them in anew each step, a quarter of the time of small
    models; kept, the process stays at its peak memory. torch's own fp32 products use AVX2 on CPUs that are not
    Intel's, where oneDNN uses AVX-512; without AVX-512 oneDNN is the slower one. The setting allows oneDNN to compute
    in bf16, as it does with AMX: where a product shows that, torch's default stays. No effect on results beyond the
    last bits. Not for runs on a GPU, where the same setting would allow TF32.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        default = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        if product_error() > MAX_ERROR:
            torch.set_float32_matmul_precision(default)


def product_error() -> float:
    """The largest error of an fp32 product of 256 x 256 matrices, against fp64, relative to its largest value."""
    left = torch.arange(256 * 256, dtype=torch.float32).view(256, 256).sin()
    right = left.cos().T.contiguous()
    exact = left.double() @ right.double()
    return ((left @ right - exact).abs().max() / exact.abs().max()).item()
