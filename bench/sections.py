"""What is measured: sections of rows, a row being one system on which several entries take turns.

The first entry of a row is the one that the others are compared with.
"""

from dataclasses import dataclass, field

from bench.harness import systems

AVX512_BLAS = (("OPENBLAS_CORETYPE", "SkylakeX"),)
"""OpenBLAS picks kernels of Haswell on processors it does not know, though they may have AVX-512."""
KEPT_HEAP = (
    ("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TOP_PAD_", "268435456"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
)  # fmt: skip
"""glibc gives large blocks back to the system at once and gets them anew, page fault by page fault: not so here."""

HIDDEN, DEFAULT_HIDDEN = (256, 256), (64, 64)
"""Of the potentials that are timed, and of a Potential that is not told otherwise."""
ITERATIONS = (0, 1, 3)
"""Of the embedded densities: EANN, and REANN."""
KNOTS = (7, 100)
"""Per spline filter: the cost should not depend on it."""


@dataclass(frozen=True)
class Entry:
    """One program doing one thing: `case` of `worker` with `options`."""

    who: str
    worker: str
    case: str
    options: dict = field(default_factory=dict)
    threads: int = 1
    environment: tuple = ()


@dataclass(frozen=True)
class Row:
    """Entries that are timed in turns on one system."""

    title: str
    entries: tuple
    alone: bool = False  # in fresh processes, once: for peaks of memory


@dataclass(frozen=True)
class Machine:
    """What decides which entries make sense."""

    gpu: bool = False
    avx512: bool = False
    glibc: bool = False
    n_cores: int = 1


@dataclass(frozen=True)
class Sizes:
    """Names of the systems (see bench/harness/systems.py)."""

    copper: str = "cu256"
    water: str = "water192"
    molecules: str = "ethanol1000"
    few_molecules: str = "ethanol20"
    batch: str = "cu256x4"
    meam: tuple = ("cu2048", "mo2000")
    lists: tuple = ("cu256", "cu4000", "cu32000", "ethanol1000")
    threads: str = "cu4000"
    default: tuple = ("cu4", "cu32", "cu256", "cu2048")
    scaling: tuple = ("cu100", "cu300", "cu1000", "cu3000", "cu10000", "cu30000", "cu100000")
    memory: str = "cu100000"
    peer_atoms: int = 4000  # apax needs 0.4 MB per atom


QUICK = Sizes(lists=("cu256", "cu4000"), scaling=("cu100", "cu1000", "cu10000"), memory="cu10000", peer_atoms=1100)
TINY = Sizes(
    copper="cu32", water="water192", molecules="ethanol5", few_molecules="ethanol2", batch="cu32x2", lists=("cu32",),
    meam=("cu108",), threads="cu32", default=("cu4",), scaling=("cu32",), memory="cu32", peer_atoms=0,
)  # fmt: skip


def _ours(case, machine, dtypes=("float32",), who="fastdesc", **options):
    """Our entries: each dtype, and on the GPU where there is one."""
    entries = [Entry(who, "ours", case, {**options, "dtype": dtype}) for dtype in dtypes]
    if machine.gpu:
        entries += [Entry(f"{who}, GPU", "ours", case, {**options, "dtype": t, "device": "cuda"}) for t in dtypes]
    return entries


def _apax(case, machine, **options):
    """apax's entries: on one core, and on the GPU where there is one (with JAX for CUDA in the peers' environment)."""
    entries = [Entry("apax", "apax", case, options)]
    if machine.gpu:
        entries.append(Entry("apax, GPU", "apax", case, options, 1, (("JAX_PLATFORMS", "cuda"),)))
    return entries


def _tuned(case, machine, ours, peer):
    """fastdesc and apax in single precision, each with what the environment can do for it."""
    entries, ours = [], {**ours, "dtype": "float32"}
    if machine.avx512:
        entries.append(Entry("fastdesc, AVX-512 BLAS", "ours", case, ours, 1, AVX512_BLAS))
    if machine.glibc:
        best = AVX512_BLAS + KEPT_HEAP if machine.avx512 else KEPT_HEAP
        entries.append(Entry("fastdesc, tuned", "ours", case, ours, 1, best))
        entries.append(Entry("apax, tuned", "apax", case, peer, 1, KEPT_HEAP))
    return entries


def energy_forces(machine, sizes):
    rows = []
    for system, cutoff in ((sizes.copper, 6.0), (sizes.copper, 5.0), (sizes.water, 6.0), (sizes.molecules, 6.0)):
        for find_list in (False, True):
            given = {"system": system, "cutoff": cutoff, "find_list": find_list}
            dtypes = ("float32",) if find_list else ("float32", "float64")
            title = f"{system}, {cutoff:g} Å, list {'found anew each call' if find_list else 'given'}"
            entries = _ours("energy_forces", machine, dtypes, **given)
            entries += _apax("energy_forces", machine, **given)
            rows.append(Row(title, (*entries, *_tuned("energy_forces", machine, given, given))))
    return [*rows, *_embedded("energy_forces", machine, {"system": sizes.copper}), _splines(machine, sizes.copper)]


def _embedded(case, machine, given):
    """Embedded densities without and with iterations, each against apax's Gaussian moments."""
    rows = []
    for t in ITERATIONS:
        entries = _ours(case, machine, **given, iterations=t) + _apax(case, machine, **given)
        tuned = _tuned(case, machine, {**given, "iterations": t}, given)
        rows.append(Row(f"{given['system']}, embedded density, T = {t}", (*entries, *tuned)))
    return rows


def _splines(machine, system):
    """Spline filters with few knots and with many, against apax's Gaussian moments."""
    entries = []
    for n_knots in KNOTS:
        who = f"fastdesc, {n_knots} knots"
        entries += _ours("energy_forces", machine, who=who, system=system, cutoff=6.0, n_knots=n_knots)
    entries += _apax("energy_forces", machine, system=system, cutoff=6.0)
    return Row(f"{system}, spline filters, 6 Å, list given", tuple(entries))


def recursion(machine, sizes):
    """Cost of embedded densities against iterations and atoms."""
    rows = []
    for system in sizes.scaling:
        entries = []
        for t in (0, 1, 2, 3):
            entries += _ours("energy_forces", machine, who=f"fastdesc, T = {t}", system=system, iterations=t)
        rows.append(Row(f"{systems.n_atoms(system)} atoms, embedded density", tuple(entries)))
    return rows


def s_meam(machine, sizes):
    """The same file for both programs."""
    rows = []
    for system in sizes.meam:
        given = {"system": system}
        entries = (Entry("fastdesc", "ours", "meam_energy_forces", given),
                   Entry("LAMMPS meam/spline", "lammps_meam", "energy_forces", given))  # fmt: skip
        rows.append(Row(f"{system}, s-MEAM, list given", entries))
    return rows


def stages(machine, sizes):
    names = ("pair vectors", "moments", "contractions", "network, both ways", "contractions, pullback",
             "moments, pullback", "forces", "virials")  # fmt: skip
    given = {"system": sizes.copper}
    entries = [Entry(name, "ours", "stage", {"name": name, **given}) for name in names]
    small = {"name": "network, both ways", **given, "hidden": DEFAULT_HIDDEN}
    entries.append(Entry("network 64-64, both ways", "ours", "stage", small))
    for hidden in (HIDDEN, DEFAULT_HIDDEN):
        one = {"name": "all in one pass", **given, "hidden": hidden}
        entries.append(Entry(f"all in one pass, network {hidden[0]}-{hidden[1]}", "ours", "stage", one))
    entries.append(Entry("blocks of the list", "ours", "stage", {"name": "blocks of the list", **given}))
    return [Row(f"{sizes.copper}: {entry.who}", (entry,)) for entry in entries]


def default(machine, sizes):
    """What users meet: the default network, from a handful of atoms on, through each of the doors."""
    rows = []
    for system in sizes.default:
        given = {"system": system}
        entries = [*_ours("energy_forces", machine, who="evaluate, list given", **given, default=True),
                   *_ours("predict", machine, who="predict", **given),
                   *_ours("calculator", machine, who="calculator step, skin 0.5 Å", **given)]  # fmt: skip
        if machine.glibc:
            who = "evaluate, list given, heap kept"
            entries.append(Entry(who, "ours", "energy_forces",
                                 {**given, "default": True, "dtype": "float32"}, 1, KEPT_HEAP))  # fmt: skip
        entries.append(Entry("NEP89, list found inside", "nep", "energy_forces", given))
        rows.append(Row(f"{systems.n_atoms(system)} atoms, default network", tuple(entries)))
    return rows


def descriptor(machine, sizes):
    rows = []
    for system in (sizes.copper, sizes.water, sizes.molecules):
        given = {"system": system}
        entries = _ours("descriptor", machine, ("float32", "float64"), **given)
        rows.append(Row(f"{system}, list given", (*entries, *_apax("descriptor", machine, **given))))
        entries = _ours("compute", machine, ("float64",), who="fastdesc d.compute(frames)", **given)
        peers = [Entry("DScribe SOAP n=8 l=6", "dscribe", "descriptor", given),
                 Entry("featomic power spectrum n=8 l=6", "featomic", "descriptor", given)]  # fmt: skip
        rows.append(Row(f"{system}, list found inside", (*entries, *peers)))
    return rows


def jacobian(machine, sizes):
    rows = []
    for system in (sizes.copper, sizes.water):
        given = {"system": system}
        entries = _ours("descriptor", machine, ("float32", "float64"), pullback=True, **given)
        entries += _apax("descriptor", machine, pullback=True, **given)
        rows.append(Row(f"{system}, values and one vector-Jacobian product", tuple(entries)))
    for system in (sizes.copper, sizes.few_molecules):
        given = {"system": system}
        who = "fastdesc d.compute(jacobian=True)"
        entries = _ours("compute", machine, ("float32", "float64"), who=who, jacobian=True, **given)
        peers = [Entry("featomic power spectrum n=8 l=6", "featomic", "jacobian", given)]
        if system == sizes.few_molecules:
            peers.append(Entry("DScribe SOAP n=8 l=6, analytical", "dscribe", "jacobian", given))
        rows.append(Row(f"{system}, values and all derivatives", (*entries, *peers)))
    return rows


def training(machine, sizes):
    given = {"system": sizes.batch}
    entries = _ours("training_step", machine, ("float32", "float64"), **given)
    entries += _apax("training_step", machine, **given)
    rows = [Row(f"{sizes.batch}, one step", (*entries, *_tuned("training_step", machine, given, given)))]
    return rows + _embedded("training_step", machine, given)


def neighbours(machine, sizes):
    rows = []
    for system in sizes.lists:
        given = {"system": system}
        entries = [Entry("fastdesc, list, mirrors, vectors", "ours", "neighbours", given)]
        if machine.gpu:
            entries.append(Entry("fastdesc, GPU", "ours", "neighbours", {**given, "device": "cuda"}))
        entries.append(Entry("vesin, list, shifts, vectors", "vesin", "neighbours", given))
        entries.append(Entry("vesin, ij alone", "vesin", "neighbours", {**given, "quantities": "ij"}))
        rows.append(Row(system, tuple(entries)))
    return rows


def scaling(machine, sizes):
    rows = []
    for system in sizes.scaling:
        given = {"system": system}
        entries = _ours("energy_forces", machine, **given)
        n = systems.n_atoms(system)
        if n <= sizes.peer_atoms:
            entries += _apax("energy_forces", machine, **given)
        rows.append(Row(f"{n} atoms", tuple(entries)))
    return rows


def memory(machine, sizes):
    def row(system, case, what, *entries):
        given = [Entry(who, worker, case, {"system": system, **more}) for who, worker, more in entries]
        return Row(f"{systems.n_atoms(system)} atoms, {what}", tuple(given), alone=True)

    embedded = [(f"fastdesc, embedded density, T = {t}", "ours", {"iterations": t}) for t in ITERATIONS]
    both = ("energy_forces", "energies and forces"), ("training_step", "one step of training")
    rows = [row(sizes.memory, *what, ("fastdesc", "ours", {}), *embedded) for what in both]
    if sizes.peer_atoms:
        rows.append(row(f"cu{sizes.peer_atoms}", *both[0], ("fastdesc", "ours", {}), ("apax", "apax", {})))
    return rows


def threads(machine, sizes):
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= machine.n_cores]
    rows = []
    for who, worker, options in (("fastdesc", "ours", {"dtype": "float32"}), ("apax", "apax", {})):
        given = {"system": sizes.threads, **options}
        rows.append(
            Row(f"{sizes.threads}, {who}", tuple(Entry(who, worker, "energy_forces", given, n) for n in counts))
        )
    for case, system in (("predict", sizes.threads), ("training_step", sizes.batch)):
        given = {"system": system, "dtype": "float32"}
        title = f"{system}, {case.replace('_', ' ')}"
        rows.append(Row(title, tuple(Entry("fastdesc", "ours", case, given, n) for n in counts)))
    return rows


SECTIONS = {
    "energy_forces": (energy_forces, "Energies and forces (one MD step)"),
    "s_meam": (s_meam, "s-MEAM potentials, energies and forces"),
    "default": (default, "Default network, from 4 atoms on, through each of the doors"),
    "stages": (stages, "Where the time of energies and forces goes"),
    "descriptor": (descriptor, "Descriptor, values"),
    "jacobian": (jacobian, "Descriptor, derivatives"),
    "training": (training, "Training step on energies and forces"),
    "neighbours": (neighbours, "Neighbour lists"),
    "scaling": (scaling, "Energies and forces against the number of atoms"),
    "recursion": (recursion, "Embedded density: cost against iterations and atoms"),
    "memory": (memory, "Peak memory"),
    "threads": (threads, "Threads"),
}
