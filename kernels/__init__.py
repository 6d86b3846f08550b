"""The CUDA C++ sources of fastdesc: data for fastdesc.backend.cuda, not code for Python."""
