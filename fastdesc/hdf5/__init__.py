"""HDF5 files: opening them, tables that grow, commits that survive a kill."""
