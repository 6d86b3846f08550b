"""What runs the kernels: compilation, threads, arrays on either device, the process."""
