"""The CUDA C++ sources of fastdesc: data for fastdesc.cuda, not code for Python."""
