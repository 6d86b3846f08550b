"""Comments that are free text cost no more, in memory and on the disk, than the same under a name."""

import tracemalloc

import h5py
import pytest

from fastdesc.features import convert, read_frames

N_FRAMES = 3000
COMMENTS = {
    "named": 'comment="Atoms. Timestep: {k}"',
    "LAMMPS": " Atoms. Timestep: {k}",    # dump xyz: a word that differs in every frame
    "words": "run{k} of {k}K gave {k}.5 eV",
    "numbers": "{k}.5 -{k}.25 0.125 {k}e-3",
}


def converted(folder, kind):
    """Bytes of the file, most of memory meanwhile, number of datasets."""
    path = folder / f"{kind}.xyz"
    atoms = "".join(f"Cu {j}.25 0.5 0.125\n" for j in range(3))
    path.write_text("".join(f"3\n{COMMENTS[kind].format(k=100_000 + k)}\n{atoms}" for k in range(N_FRAMES)))
    tracemalloc.start()
    try:
        out = convert(path, folder / f"{kind}.h5", progress=False)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    n = []
    with h5py.File(out) as f:
        f.visit(n.append)
    return out.stat().st_size, most, len(n)


@pytest.mark.parametrize("kind", [kind for kind in COMMENTS if kind != "named"])
def test_free_text_costs_no_more(tmp_path, kind):
    converted(tmp_path, "named")    # whatever is loaded at first
    size, memory, n = converted(tmp_path, "named")
    assert converted(tmp_path, kind)[0] < 1.05 * size
    assert converted(tmp_path, kind)[1] < 1.05 * memory
    assert converted(tmp_path, kind)[2] == n
    words = COMMENTS[kind].format(k=100_042).strip()
    assert read_frames(tmp_path / f"{kind}.h5")[42].info == {"comment": words}
