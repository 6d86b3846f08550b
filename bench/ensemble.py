"""Whether members of an ensemble that share a descriptor should share its features: time with and without.

    python -m bench.ensemble [--members 4] [--cells 4]

Processor time of one thread an atom and member, shortest of several, copper, 6 Å, default descriptor and network.
"apart" is what fd.Ensemble does: one pass over the atoms for each member. "together" evaluates features once, keeps
them in memory, and lets every member's network and the way back follow.
"""

import argparse
import time

from ase.build import bulk

import fastdesc as fd
from fastdesc.backend.workspace import kept_memory
from fastdesc.geometry import pair_vectors, virials
from fastdesc.potential.evaluation import energies_of_features, forces_of_all, network_and_gradient


def apart(members, models, structures, pairs, species, derivatives):
    """Every member by itself."""
    return [p.evaluate(structures, pairs, model, derivatives) for p, model in zip(members, models, strict=True)]


def together(members, models, structures, pairs, species, derivatives):
    """Features once."""
    found, first = [], models[0]
    with kept_memory():
        rij = pair_vectors(structures.positions, structures.cells, pairs, first.scale.dtype)
        q, saved = first.descriptor.forward(rij, pairs, species, first.theta)
        for model in models:
            if derivatives:
                energies, dq, _ = network_and_gradient(model, q, pairs, species)
                drij = model.descriptor.pullback(rij, pairs, species, model.theta, saved, dq)
                found.append((energies, forces_of_all(drij, pairs).copy(), virials(rij, drij, pairs)))
            else:
                found.append(energies_of_features(model, q, species, columns=pairs.columns))
    return found


def seconds(call, repeats):
    """Shortest processor time."""
    times = []
    for _ in range(repeats + 1):    # the first compiles
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times[1:])


def measured(n_members, cells, repeats, dtypes):
    """Microseconds an atom and member: {(dtype, derivatives, way): time}."""
    atoms = bulk("Cu", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=1)
    d = fd.GaussianMoments(species=["Cu"], cutoff=6.0)
    members, structures = [fd.Potential(d, seed=seed) for seed in range(n_members)], fd.Structures.from_ase([atoms])
    pairs, species, found = fd.Pairs.find(structures, 6.0), structures.species(d.species_numbers), {}
    for dtype in dtypes:
        models = [member.model(dtype) for member in members]
        for derivatives in (True, False):
            for way in (apart, together):
                given = members, models, structures, pairs, species, derivatives
                least = seconds(lambda way=way, given=given: way(*given), repeats)
                found[dtype, derivatives, way.__name__] = 1e6 * least / len(atoms) / n_members
    return found


def main(argv=None):
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--cells", type=int, default=4, help="cubic cells along each edge, of four atoms")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    options = parser.parse_args(argv)
    found = measured(options.members, options.cells, options.repeats, options.dtypes)
    for (dtype, derivatives, way), time_of in found.items():
        what = "energies and forces" if derivatives else "energies"
        print(f"{dtype} {what:>20} {way:>8}: {time_of:6.2f} µs an atom and member", flush=True)


if __name__ == "__main__":
    main()
