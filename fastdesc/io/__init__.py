"""Frames in and out: extended XYZ, HDF5, whatever ASE reads, and LAMMPS' spline files."""
