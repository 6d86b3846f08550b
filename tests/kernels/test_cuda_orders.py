"""Every declared CUDA kernel, in every scalar type and width: in any order of threads, and within its arrays."""

import sys
import warnings
from functools import cache, partial

import ase
import numpy as np
import pytest
from cuda_emulator import Module, load
from helpers.battery import frames_of
from helpers.emulated import IMPORTABLE, ORDERS, Recorder, file_of, needs_gcc, under_sanitizer
from helpers.structures import ELEMENTS

import fastdesc as fd
from fastdesc import geometry
from fastdesc.backend import cuda
from fastdesc.descriptors.gaussian_moments import large_list, large_system
from fastdesc.networks import feed_forward, residual
from fastdesc.networks.activations import ACTIVATIONS
from fastdesc.networks.duals import Dual
from fastdesc.networks.form import TRAINED, Form
from fastdesc.potential import large_network
from fastdesc.potential.repulsion import Repulsion

# Models of the files whose names begin so: one for each width of each kernel; dual parameters make the rest.
MODELS = {
    "gaussian_moments": [
        lambda **k: fd.GaussianMoments(**k, n_radial=4, n_basis=5, max_rank=3),
        lambda **k: fd.GaussianMoments(**k, n_radial=6, n_basis=3, max_rank=3, iterations=2, hidden=(4,)),
        lambda **k: fd.GaussianMoments(**k, n_radial=5, n_basis=4, max_rank=2, basis="gaussian"),
        lambda **k: fd.GaussianMoments(**k, n_radial=9, n_basis=17, max_rank=1),
    ],
    "embedded_density": [
        lambda **k: fd.EmbeddedDensity(**k, n_radial=3, l_max=3, n_features=5, iterations=1, hidden=(4,)),
        lambda **k: fd.EmbeddedDensity(**k, n_radial=9, l_max=2, n_features=6, iterations=2, hidden=(4,)),
        lambda **k: fd.EmbeddedDensity(**k, n_radial=2, l_max=1, contraction="none"),
    ],
    "spline_filters": [
        lambda n=n, **k: fd.SplineFilters(**k, triplet_cutoff=3.5, r_min=1.0, n_pair=n, n_triplet=n, n_knots=5)
        for n in (1, 3, 9)
    ],
}


RACED = {"gaussian_moments": 2}
"""Models that launch every kernel in one width, where the first does not: with iterations others are launched."""
NAMES = (*MODELS, "geometry", "network", "potential")
MIXTURES = ((False, False), (True, False), (True, True))
"""Whether pairs and parameters are dual."""
PASSES = {"float32": MIXTURES, "float64": MIXTURES}
EXTREMES = {"float32": MIXTURES[:1], "float64": MIXTURES[2:]}
"""The smallest scalar and the largest: a block has four times as many atoms of the one as of the other."""


def files_of(name):
    """Files of kernels that the models of a name are to launch."""
    return [file for file in cuda.all_specialisations() if file.startswith(name)]


def kernels_of(name):
    return {kernel for file in files_of(name) for kernel in cuda.specialisations(file)}


def directions(*shape):
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape)


@cache
def model(name, k):
    """A descriptor with random parameters, and what its maps take in float64: dual pairs, pairs, species."""
    d = MODELS[name][k](species=ELEMENTS, cutoff=4.0)
    d.set_parameters(**{n: x + 0.1 * directions(*x.shape) for n, x in d.parameters.items()})
    structures = fd.Structures.from_ase([*frames_of("triclinic"), *frames_of("cluster_and_far_atom")])
    rij, pairs, species = d.prepare(structures)
    return d, np.stack([rij, directions(*rij.shape)]), pairs, species


def maps(name, k, dtype, pairs_dual, theta_dual):
    """Results of all maps, on the backend that is active."""
    d, rij, pairs, species = model(name, k)
    rij = np.ascontiguousarray(rij if pairs_dual else rij[0], dtype)
    theta = {n: x.astype(dtype) for n, x in d.parameters.items()}
    if theta_dual:
        theta = {n: np.stack([x, directions(*x.shape).astype(dtype)]) for n, x in theta.items()}
    q, saved = d.forward(rij, pairs, species, theta)
    dq = directions(*q.shape).astype(dtype)
    drij = d.pullback(rij, pairs, species, theta, saved, dq)
    return [q, drij, *d.pullback_parameters(rij, pairs, species, theta, saved, dq).values()]


def of_geometry(dtype):
    structures = fd.Structures.from_ase([*frames_of("triclinic"), *frames_of("cluster_and_far_atom")])
    pairs = fd.Pairs.find(structures, 4.0)
    rij = geometry.pair_vectors(structures.positions, structures.cells, pairs, dtype)
    rho, strain = directions(structures.n_atoms, 3), directions(structures.n_frames, 3, 3)
    trij = geometry.pair_tangents(rho, strain, rij, pairs)
    return [rij, trij, geometry.forces(trij, pairs), geometry.virials(rij, trij, pairs)]


def of_a_search(listed, positions, cell, species):
    """Kernel by kernel, too, into rows with room for more than are found: of those that were counted nothing is known
    where kernels are only written down."""
    n = listed.n_atoms
    bins = large_list.bins_of((19.0, 19.0, 20.0), 4.0, n)
    order, places, keys = large_list.along_curve(positions, cell, species, bins)
    ranges, start = np.empty((np.prod(bins), large_list.AROUND, 2), np.int32), np.arange(n // 32 + 2) * 32 * n
    count, nearest = np.empty(n, np.int32), np.empty(n, np.float32)
    neighbour, opposite = np.zeros(start[-1], np.int32), np.zeros(start[-1], np.uint32)
    large_list.gm_large_ranges(keys, ranges, n, *bins)
    large_list.gm_large_count(places, cell, ranges, count, nearest, *bins, 4.0)
    large_list.gm_large_search(places, cell, ranges, start, neighbour, *bins, 4.0)
    large_list.gm_large_mirrors(count, start, neighbour, opposite)
    return [order, count, nearest, neighbour, opposite]


def of_large_system():
    """One cell, the kernels one by one: more neighbours than a warp has lanes, and atoms without any; tables in shared
    memory, and two slabs of channels from elsewhere."""
    rng, out = np.random.default_rng(4), []
    positions = [*rng.uniform(0, 7, (138, 3)), [11.5, 11, 11], [15, 15, 15]]
    atoms = ase.Atoms("Cu140", positions, cell=[19, 19, 20], pbc=True)
    structures = fd.Structures.from_ase([atoms])
    pairs, cell = fd.Pairs.find(structures, 4.0), structures.cells[0]
    for k, n_species in ((0, 1), (3, 2)):
        d = model("gaussian_moments", k)[0]
        species = rng.integers(0, n_species, len(atoms)).astype(np.int32)
        tables = large_system.Tables.of(d, d.parameters["beta"][:n_species, :n_species])
        assert (tables.shared > 0) == (n_species == 1) and len(tables.tables) == 1 + k // 3
        listed = large_list.sliced(pairs, structures.positions, cell, species, (19.0, 19.0, 20.0))
        places = large_list.places_of(listed, structures.positions, cell, species)
        out += of_a_search(listed, structures.positions, cell, species)
        column = np.concatenate([rng.permutation(n) for n in (96, len(atoms) - 96)]).astype(np.int32)
        neighbours = listed.count, listed.start, listed.neighbour, places, column, cell, tables
        gradients, moments = np.zeros((listed.n_slots, 4), np.float32), []
        for first, last in ((0, 96), (96, len(atoms))):
            moments.append(np.empty((d.n_radial, d.n_moments, last - first), np.float32))
            large_system.gm_large_moments(*neighbours, moments[-1], first)
            large_system.gm_large_gradients(*neighbours, moments[-1], gradients, first)
        out += [*moments, gradients, *large_system.forces_and_virial(listed, places, cell, gradients)]
    return out


def of_large_network():
    """Energies of atoms that fill no tile, and gradients, with every activation; blocks take several tiles."""
    rng, n, scale = np.random.default_rng(6), 75, np.array([0.5, 2], np.float32)
    d, out = model("gaussian_moments", 0)[0], []
    moments = rng.normal(0, 0.5, (d.n_radial, d.n_moments, n)).astype(np.float32)
    owner, species = rng.permutation(n).astype(np.int32), rng.integers(0, 2, n).astype(np.int32)
    for activation in ACTIVATIONS:
        weights = rng.normal(0, 0.05, large_network.n_weights(d.n_features)).astype(np.float32)
        out += [np.zeros(n), np.zeros_like(moments)]
        large_network.gm_large_network(d, activation, weights, moments, owner, species, scale, *out[-2:])
    return out


def of_repulsion():
    """Atoms close enough to repel, with more neighbours than a warp has lanes, and one without any."""
    crowd = directions(40, 3)
    dimer = ase.Atoms("Au2", [[0, 0, 0], [1.1, 0, 0]], cell=[1.9, 2.0, 2.1], pbc=True)
    structures = fd.Structures.from_ase([ase.Atoms("CuAu" * 20, crowd), ase.Atoms("Cu"), dimer])
    pairs = fd.Pairs.find(structures, 2.0)
    return list(Repulsion([29, 79], 2.0).evaluate(
        structures.positions, structures.cells, pairs, structures.species([29, 79])
    ))    # fmt: skip


def of_network(dtype, n_activations):
    """Layers that fill no tile: forward and back, with every activation, with bias and without."""
    rng, out = np.random.default_rng(5), []
    for k, name in enumerate(list(ACTIVATIONS)[:n_activations]):
        layers = feed_forward.initial(66, (18, 3), 2, name, rng, bias=k % 2 == 0)
        layers = [(w.astype(dtype), None if b is None else (b + 0.1).astype(dtype)) for w, b in layers]
        wide = rng.normal(size=(66, 22)).astype(dtype)
        y, saved = feed_forward.forward(layers, name, wide[:, 2:19])
        dx, chain = feed_forward.pullback(layers, name, saved, wide[:2, 3:20])
        out += [y, *saved[0][1:], *saved[1], dx, *chain]
    for activation in list(TRAINED)[:n_activations]:
        for blocks, layer_norm in ((1, True), (0, False), (2, False))[:n_activations]:
            form = Form((18, 5) if blocks else (18,), activation, blocks, layer_norm)
            p = residual.initial(66, 2, form, rng)
            p = {name: Dual((a + 0.1 * rng.normal(size=a.shape)).astype(dtype)) for name, a in p.items()}
            y, kept = residual.forward(form, p, Dual(wide[:, 2:19]))
            dx = residual.pullback(form, p, kept, Dual(wide[:2, 3:20]))
            out += [y.v, *(a.v for a in kept[1:]), dx.v]
    return out


def everything(name, n_models=None, passes=PASSES):
    """Results of all models of a name, or the first few, in these scalar types."""
    out = []
    for dtype, mixtures in passes.items():
        if name == "geometry":
            out += of_geometry(dtype)
        if name == "network":
            out += of_network(dtype, n_models)
        if name == "gaussian_moments" and dtype == "float32":
            out += of_large_system()
        if name == "potential" and dtype == "float64":    # in any model
            out += [*of_repulsion(), *of_large_network()]
        for k in range(len(MODELS.get(name, ())[:n_models])):
            for dual in mixtures:
                out += maps(name, k, dtype, *dual)
    return out


def spy(loader, seen):
    """The loader, and a list of the kernels it was asked for."""

    def load(path, names):
        seen.extend((file_of(path), name) for name in names)
        return loader(path, names)

    return load


def test_every_file_has_models():
    assert sorted(file for name in NAMES for file in files_of(name)) == sorted(cuda.all_specialisations())


@needs_gcc
@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_the_order_of_threads(name):
    """Bit for bit: forward, reverse and random; and nothing that is declared was left out."""
    seen, results = [], []
    for order in ORDERS:
        with cuda.executor(spy(partial(load, order=order, seed=11), seen)):
            results.append(everything(name))
    assert {kernel for path, kernel in seen if path in files_of(name)} == kernels_of(name)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    assert all(np.isfinite(x).all() for x in results[0])


SANITIZED = """
import sys
sys.path[:0] = {tests!r}
from test_cuda_orders import run_sanitized
run_sanitized({name!r}, {sanitizer!r}, {n_models})
print("finished")
"""


def run_sanitized(name, sanitizer, n_models):
    """Run models of a name, kernels instrumented; all of a file that are launched are compiled together."""
    modules, seen, passes = {}, [], EXTREMES if sanitizer == "thread" else PASSES
    n_models = n_models and RACED.get(name, n_models)
    recorder = Recorder()
    # Where nothing is computed, or a sanitizer fills memory, matrix products warn of what is in none of their inputs.
    warnings.simplefilter("ignore", RuntimeWarning)
    with cuda.executor(recorder):
        everything(name, n_models, passes)

    def loader(path, names):
        file = file_of(path)
        if file not in modules:
            wanted = tuple(dict.fromkeys(kernel for own, kernel in recorder.loaded if own == file))
            modules[file] = Module(path, wanted, sanitize=sanitizer, optimise="-O0")
            modules[file].run_threads("random", 7)
        return modules[file]

    with cuda.executor(spy(loader, seen)):
        everything(name, n_models, passes)
    missing = kernels_of(name) - {kernel for path, kernel in seen if path in files_of(name)}
    if n_models is None and missing:
        sys.exit(f"not launched: {missing}")


@needs_gcc
@pytest.mark.once
@pytest.mark.parametrize(("sanitizer", "n_models"), [("address", None), ("thread", 1)])
@pytest.mark.parametrize("name", NAMES)
def test_sanitizers_find_nothing(name, sanitizer, n_models):
    """The first access past the end of an array or of shared memory is seen, and so is every race.

    Races are looked for in one width of every kernel, for the smallest and the largest scalars: that takes twenty times
    as long.
    """
    code = SANITIZED.format(tests=IMPORTABLE, name=name, sanitizer=sanitizer, n_models=n_models)
    status, output = under_sanitizer(sanitizer, code)
    assert status == 0 and output.endswith("finished\n"), output[-3000:]
