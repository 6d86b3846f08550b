"""A loop that chooses from a fixed set, and begins with structures that have no labels."""

from ase.io import read, write
from helpers.loops import LOOP, MOODY, make_loop, with_gold

import fastdesc as fd


def test_a_fixed_set_is_distilled_from_a_start_without_labels(tmp_path, run):
    moody = f'"{MOODY}"\narguments = {{raises = [3]}}'
    text = LOOP[: LOOP.index("[explore]")] + '[explore]\nframes = "pool.extxyz"\ncapture_above = 0\n'
    text += "[select]\nnumber = 4\n" + LOOP[LOOP.index("[label]") :].replace('"ase.calculators.emt:EMT"', moody)
    text = text.replace("rounds = 2", "rounds = 5").replace("anew = false", "anew = true\nepochs = 4")
    path = make_loop(tmp_path / "a", text)
    bare = [a.copy() for a in read(path.parent / "train.extxyz", ":")]
    write(path.parent / "train.extxyz", bare)
    pool = with_gold(1, 2, 3, 1, 2, 0)
    for k, atoms in enumerate(pool):
        atoms.rattle(0.05, seed=k)
    write(path.parent / "pool.extxyz", pool)
    code, out, err = run("learn", path, "--quiet")
    assert code == 0, err
    assert "round 0: labelled 6 of 6" in out and "of the set" in out
    folder = path.parent / "fastdesc-learn"
    chosen = [a.info["candidate"] for r in (1, 2) for a in read(folder / f"round-00{r}" / "selected.extxyz", ":")]
    d = fd.load(folder / "round-000" / "model.h5").descriptor
    train, valid = ([a for r in (0, 1) for a in fd.read_frames(folder / f"round-00{r}" / f"{name}.extxyz")]
                    for name in ("train", "valid"))
    anew = fd.Potential(fd.GaussianMoments(**d.get_params()), hidden=[6])
    fd.train(anew, train, valid, epochs=4, batch_size=4, checkpoint_every=2, progress=False)
    trained = fd.load(folder / "round-001" / "model.h5").parameters
    assert all((trained[name] == a).all() for name, a in anew.parameters.items()), "each round began anew"
    assert sorted(chosen) == list(range(6)), "each once"
    assert "left out: the calculator failed" in out and "round 3: all structures of the set were chosen" in out
    assert len(read(folder / "train.extxyz", ":")) + len(read(folder / "valid.extxyz", ":")) == 6 + 5
