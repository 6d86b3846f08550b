"""vesin: full neighbour lists."""

from bench.harness.serve import pin, serve

pin()

from importlib.metadata import version  # noqa: E402

from vesin import NeighborList  # noqa: E402

from bench.harness import systems  # noqa: E402


def neighbours(system="cu4000", cutoff=6.0, quantities="ijSD"):
    """One list per frame, found by an object that is kept, sorted by the centre."""
    frames = systems.frames(system)
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    given = [(atoms.positions, atoms.cell.array, atoms.pbc, quantities) for atoms in frames]
    n_pairs = sum(len(search.compute(*x)[0]) for x in given)
    info = {
        "program": f"vesin {version('vesin')}",
        "n_atoms": systems.n_atoms(system),
        "n_pairs": n_pairs,
        "quantities": quantities,
        "device": "cpu",
    }
    return lambda: [search.compute(*x) for x in given], info


serve({"neighbours": neighbours})
