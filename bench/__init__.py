"""Benchmarks of fastdesc against its peers; `python -m bench` runs them (see README.md)."""
