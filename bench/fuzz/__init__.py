"""Damaged files of every kind of ours: each is read, or refused in one sentence, soon and within bounds of memory.

    python -m bench.fuzz --n 100000 --seed 0 --keep wrong

Files are damaged at random (damage.py), most of them where HDF5 keeps what it needs to find its data, and read in a
process of its own (worker.py), which ends and is started again when one of them goes wrong.
"""
