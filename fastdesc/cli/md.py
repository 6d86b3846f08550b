"""fastdesc md: molecular dynamics without an input file, through ASE.

    trajectory.extxyz   frames with velocities, energies and forces
    md.csv              step, time, temperature, energies, pressure and volume
    md.png              a picture of temperature and total energy, where matplotlib is there
    restart.h5          what going on needs
"""

import json
import warnings
from collections import Counter, deque

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_xyz
from ase.md.verlet import VelocityVerlet
from tqdm import tqdm

from fastdesc.calculator import FastdescCalculator
from fastdesc.checks import count
from fastdesc.checks import seed as check_seed
from fastdesc.dynamics import langevin, thermal_momenta
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.hdf5.attributes import attribute, set_attributes
from fastdesc.hdf5.files import as_path, check_apart, check_format, damage_named, new_hdf5, open_hdf5, to_json
from fastdesc.io.extxyz_out import told, writable
from fastdesc.io.frames import iread_frames
from fastdesc.potential.loading import load
from fastdesc.potential.uncertainty import needed

ENSEMBLES = ("nve", "nvt", "npt")
FORMAT, VERSION = "fastdesc-md", 1
COLUMNS = ("step", "time_ps", "temperature_K", "potential_eV", "total_eV", "pressure_GPa", "volume_A3")
SURE = ("energy_uncertainty_eV", "grade")
"""Columns of a run that ends where the model does not know."""
UNSTABLE = "the dynamics became unstable after step {}; take a smaller --timestep, or a model of such structures"
MOST_CELLS = 10_000
"""In a direction."""
POSITIVE = ("temperature", "timestep", "temperature_time", "pressure_time", "steps", "every")


class Run:
    """Dynamics of one frame.

    Parameters
    ----------
    settings : dict
        ensemble; temperature (K), pressure (GPa), timestep, temperature_time and pressure_time (fs), seed, every,
        stop_above (a grade, or None).
    """

    def __init__(self, atoms, settings):
        self.atoms, self.settings, self.step = atoms, settings, 0
        self.rng = np.random.default_rng(settings["seed"])

    def begin(self):
        """Give atoms without velocities those of the temperature."""
        if not self.atoms.get_momenta().any():
            thermal_momenta(self.atoms, self.settings["temperature"], self.rng)

    def dynamics(self, barostat=None):
        """The integrator of the ensemble."""
        s = self.settings
        if s["ensemble"] == "nve":
            return VelocityVerlet(self.atoms, timestep=s["timestep"] * units.fs)
        before = self.rng.bit_generator.state
        pressure = (s["pressure"], s["pressure_time"]) if s["ensemble"] == "npt" else ()
        out = langevin(self.atoms, s["timestep"], s["temperature"], s["temperature_time"], self.rng, *pressure)
        if barostat is not None:    # what beginning draws was drawn by the run's first part
            out.p_eps, out.force_eps = map(float, barostat)
            self.rng.bit_generator.state = before
        return out

    def row(self):
        """Numbers of a line of md.csv; pressure and volume are NaN without a cell."""
        atoms, n = self.atoms, len(self.atoms)
        volume = atoms.get_volume() if atoms.cell.rank == 3 else np.nan
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        pressure = np.nan
        if np.isfinite(volume):
            pressure = (-atoms.get_stress()[:3].mean() + 2 * kinetic / (3 * volume)) / units.GPa
        temperature = 2 * kinetic / (3 * n * units.kB)
        time = self.step * self.settings["timestep"] / 1000
        row = self.step, time, temperature, potential, potential + kinetic, pressure, volume
        if self.settings.get("stop_above") is None:
            return row
        width = atoms.calc.get_property("energy_uncertainty", atoms)
        return *row, width, float(atoms.calc.results["grade"].max())

    def beyond(self):
        """A sentence that names the atom whose grade is above `stop_above`, or None."""
        limit = self.settings.get("stop_above")
        if limit is None:
            return None
        grade = self.atoms.calc.results["grade"]
        k = int(np.argmax(grade))
        if not grade[k] > limit:
            return None
        return (
            f"stopped at step {self.step}: atom {k} ({self.atoms.symbols[k]}) has grade {grade[k]:.3g}, above "
            f"{limit:g}; its frame is the last of the trajectory"
        )


def md(
    model, frame, out, settings, steps, resume=False, device="cpu", dtype="float64", progress=True, repeat=(1, 1, 1)
):
    """Run dynamics; return the paths written, by name, and why it ended early, or None.

    Parameters
    ----------
    model, frame : str or Path
        The last frame of a file is taken.
    out : str or Path
        Folder, made if need be.
    settings : dict
        As for Run.
    steps : int
        In all, those before a resumption included.

    Raises
    ------
    InputError
        For settings out of range, a folder that holds a run already, dynamics that became unstable, and a model
        without uncertainty where `stop_above` is set.
    """
    _check(settings, steps, repeat)
    out = as_path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name another folder by --out")
    paths = {"trajectory": out / "trajectory.extxyz", "table": out / "md.csv", "restart": out / "restart.h5"}
    check_apart(paths.values(), [model, frame])
    if not resume and any(path.exists() for path in paths.values()):
        raise InputError(f"{out} holds a run already; go on with it by --resume, or name another folder by --out")
    potential = load(model)
    sure = settings.get("stop_above") is not None
    if sure:
        needed(potential)
    atoms, left_out = _repeated(deque(iread_frames(frame), maxlen=1)[0], tuple(repeat)), Counter()
    atoms.info = writable(Atoms(info=atoms.info), left_out).info
    for text in told(left_out, paths["trajectory"]):
        warnings.warn(text, FastdescWarning, stacklevel=2)
    if settings["ensemble"] == "npt" and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise InputError("ensemble npt needs a frame that is periodic in all directions; take nvt or nve")
    _check_motion(atoms)
    run, barostat, sizes = Run(atoms, settings), None, {}
    if resume:
        barostat, sizes = _taken(paths["restart"], run)
        _check_lengths(paths, sizes)
    atoms.calc, stopped = FastdescCalculator(potential, device=device, dtype=dtype), None
    atoms.get_potential_energy()    # what cannot be evaluated is told before there is a folder
    out.mkdir(parents=True, exist_ok=True)
    run.begin()
    dynamics = run.dynamics(barostat)
    with _continued(paths["trajectory"], sizes) as trajectory, _continued(paths["table"], sizes) as table, tqdm(
        total=steps, initial=run.step, unit=" steps", disable=not progress
    ) as bar:
        if not sizes:
            table.write(",".join((*COLUMNS, *(SURE if sure else ()))) + "\n")
            _record(run, dynamics, trajectory, table, paths, bar)
            stopped = run.beyond()
        while run.step < steps and stopped is None:
            n = min(settings["every"], steps - run.step)
            try:
                with np.errstate(over="ignore", invalid="ignore"):    # what is not finite is told in a sentence
                    dynamics.run(n)
            except InputError as error:    # of a structure that cannot be evaluated, where all was well before
                raise InputError(f"{UNSTABLE.format(run.step)} ({error})") from error
            run.step += n
            bar.update(n)
            _record(run, dynamics, trajectory, table, paths, bar)
            stopped = run.beyond()
    if picture := plot(paths["table"], out / "md.png"):
        paths["picture"] = picture
    return paths, stopped


def plot(table, out):
    """Draw temperature and total energy per time; return the path, or None without matplotlib."""
    try:
        from fastdesc.analysis.plots import new_figure, save_figure, tidy

        fig = new_figure(6.4, 4.2)
    except (InputError, ImportError):
        return None
    columns = np.genfromtxt(table, delimiter=",", names=True)
    for ax, name, words in zip(fig.subplots(2, 1, sharex=True), ("temperature_K", "total_eV"),
                               ("temperature (K)", "total energy (eV)"), strict=True):    # fmt: skip
        ax.plot(columns["time_ps"], columns[name], lw=1.2)
        ax.set_ylabel(words)
        tidy(ax)
    ax.set_xlabel("time (ps)")
    save_figure(fig, out)
    return out


def _repeated(atoms, repeat):
    if repeat == (1, 1, 1):
        return atoms
    try:
        return atoms.repeat(repeat)
    except NotImplementedError as error:
        kinds = ", ".join(sorted({type(c).__name__ for c in atoms.constraints}))
        raise InputError(f"the frame has constraints that ASE cannot repeat ({kinds}); leave out --repeat") from error


def _check(settings, steps, repeat):
    check_seed(settings["seed"])
    for n in repeat:
        count("a number in repeat", n, most=MOST_CELLS)
    for name in POSITIVE:
        value = steps if name == "steps" else settings[name]
        if not 0 < value < np.inf:
            raise InputError(f"{name} came as {value}; it must be above 0")
    limit = settings.get("stop_above")
    if limit is not None and not 0 < limit < np.inf:
        raise InputError(f"stop-above came as {limit}; it must be above 0, such as 2: twice as far as training goes")
    if not np.isfinite(settings["pressure"]):
        raise InputError(f"pressure came as {settings['pressure']}; it must be a finite number, in GPa")


def _check_motion(atoms):
    """InputError for masses and velocities with which nothing can move."""
    masses, momenta = atoms.get_masses(), atoms.get_momenta()
    for k in np.flatnonzero(~(np.isfinite(masses) & (masses > 0)))[:1]:
        raise InputError(f"atom {k} ({atoms.symbols[k]}) has the mass {masses[k]:g}; masses must be above 0")
    for k in np.flatnonzero(~np.isfinite(momenta).all(axis=1))[:1]:
        raise InputError(f"the velocity of atom {k} is not finite; leave out the momenta of the frame to draw them")


def _check_lengths(paths, sizes):
    """InputError where a file that is to be continued has lost something since the restart was written."""
    for path in paths.values():
        if path.name in sizes and (length := path.stat().st_size if path.is_file() else 0) < sizes[path.name]:
            raise InputError(
                f"{path} has {length} bytes and had {sizes[path.name]} when the restart was written; put back what is "
                "missing, or start the run again"
            )


def _continued(path, sizes):
    """Open a text file to write on, at the length it had at the restart: what came after is written again."""
    if path.name in sizes:
        with open(path, "r+b") as file:
            file.truncate(sizes[path.name])
    return open(path, "a" if path.name in sizes else "w", encoding="utf-8")


def _record(run, dynamics, trajectory, table, paths, bar):
    """Write a frame, a line of the table, and the restart."""
    row, atoms = run.row(), run.atoms
    if not np.isfinite(row[3:5]).all() or not np.isfinite(atoms.positions).all():
        raise InputError(f"{UNSTABLE.format(run.step)} (energies are not finite)")
    frame = atoms.copy()
    names = ("energy", "forces", "stress")
    frame.calc = SinglePointCalculator(frame, **{k: v for k, v in atoms.calc.results.items() if k in names})
    frame.info.update(step=run.step, time_ps=row[1])
    columns = ["symbols", "positions", "momenta"]
    if "grade" in atoms.calc.results:
        frame.arrays["grade"] = atoms.calc.results["grade"]
        columns.append("grade")
    write_xyz(trajectory, [frame], columns=columns)
    table.write(",".join(f"{x:.10g}" for x in row) + "\n")
    for file in (trajectory, table):
        file.flush()
    sizes = {paths[name].name: paths[name].stat().st_size for name in ("trajectory", "table")}
    with new_hdf5(paths["restart"], FORMAT, VERSION) as f:
        set_attributes(f, {"step": run.step, "sizes": to_json(sizes), "settings": to_json(run.settings)})
        set_attributes(f, {"rng": json.dumps(run.rng.bit_generator.state)})
        for name, array, unit in (("numbers", atoms.numbers, "1"), ("positions", atoms.positions, "Å"),
                                  ("momenta", atoms.get_momenta(), "u Å / ASE's time"), ("cell", atoms.cell.array, "Å"),
                                  ("pbc", atoms.pbc, "1")):    # fmt: skip
            f[name] = array
            set_attributes(f[name], {"unit": unit, "shape": str(array.shape)})
        if run.settings["ensemble"] == "npt":
            f["barostat"] = [dynamics.p_eps, dynamics.force_eps]
            set_attributes(f["barostat"], {"unit": "of ASE", "shape": "momentum, force"})
    bar.set_postfix_str(f"{row[2]:.0f} K, {row[4]:.4f} eV")


def _taken(path, run):
    """Take the state of a restart; return the barostat's, and how long the other files were."""
    if not path.exists():
        raise InputError(f"{path} is not there; there is no run to go on with")
    with open_hdf5(path) as f:
        check_format(f, path, FORMAT, VERSION)
        with damage_named(path, "start the run again"):
            settings, sizes = json.loads(attribute(f, "settings")), json.loads(attribute(f, "sizes"))
            state = {name: f[name][()] for name in ("numbers", "positions", "momenta", "cell", "pbc")}
            rng, step = json.loads(attribute(f, "rng")), int(f.attrs["step"])
            barostat = f["barostat"][()] if "barostat" in f else None
    for name, value in run.settings.items():
        if settings.get(name) != value:
            raise InputError(f"{name} came as {value} and the run began with {settings.get(name)}; keep it to go on")
    if not np.array_equal(state["numbers"], run.atoms.numbers):
        raise InputError(f"{path} is of other atoms than the frame; give the frame that the run began with")
    run.atoms.set_cell(state["cell"])
    run.atoms.set_pbc(state["pbc"])
    run.atoms.set_positions(state["positions"])
    run.atoms.set_momenta(state["momenta"])
    run.rng.bit_generator.state, run.step = rng, step
    return barostat, sizes
