"""CUDA C++ on the CPU: run unchanged kernels on NumPy arrays, without a GPU."""

from cuda_emulator.emu import EmulatorError, Module, gcc_status, load

__all__ = ["EmulatorError", "Module", "gcc_status", "load"]
