"""What a measurement was taken on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

LIBRARIES = ("halfpixel", "torchvision", "onnxruntime", "openvino")
INSTRUCTIONS = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "neon", "bf16")
"""Of those that a processor may have, the ones that matter for speed and precision."""


def describe_machine(device: torch.device | None = None) -> dict[str, str]:
    """Processor, cores, memory, accelerator and versions, each in words; libraries that are not there are left out.

    Args:
        device: where the network ran; default the CPU.
    """
    facts = {"processor": _processor()}
    if instructions := [name for name in INSTRUCTIONS if torch.cpu.get_capabilities().get(name)]:
        facts["with"] = " ".join(instructions)
    facts |= {"cores": str(_cores()), "threads": str(torch.get_num_threads())}
    if memory := _memory_gb():
        facts["memory"] = f"{memory:.0f} GB"
    if device is not None and device.type != "cpu":
        facts["accelerator"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    facts |= {"system": platform.system(), "python": platform.python_version(), "torch": torch.__version__}
    return facts | _versions()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float:
    """In units of 10^9 bytes; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):
        return 0.0


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
