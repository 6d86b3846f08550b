"""Every Python snippet of README and docs runs, and prints what stands below it; every fastdesc command line is one.

Pages run from top to bottom in a folder with small data of their own; training is cut to a few epochs. A block below a
comment `<!-- not run: why -->` does not run. Of commands those run that take a second; all others are parsed.
"""

import re
import shlex
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.cli.options import parser

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^\n]*-->\n)?^(`{3,})(\w+)\n(.*?)^\2$(?:\n\n^```text\n(.*?)^```$)?", re.M | re.S)
RUN = ("convert", "featurize", "info")
EPOCHS = 3


def blocks(page, language):
    """Return (source, what it prints or None) of the blocks of a page that run, snippets of files left out."""
    found = BLOCK.findall(page.read_text())
    return [(text, out) for skip, _, name, text, out in found if name == language and not skip and "--8<--" not in text]


def ids(page):
    return str(page.relative_to(REPOSITORY))


def labelled(n, seed, element="Cu"):
    """Cells of four atoms, strained and shaken, labelled by EMT."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk(element, cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.1), atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def copper(tmp_path_factory):
    """A model of copper that crystals survive."""
    d = fd.GaussianMoments(species=["Cu"], cutoff=4.5, n_radial=3, max_rank=1)
    potential = fd.Potential(d, hidden=(16,))
    fd.train(potential, labelled(80, 2), epochs=100, batch_atoms=16, stress_weight=1.0, progress=False)
    path = tmp_path_factory.mktemp("copper") / "cu.h5"
    potential.save(path)
    return path


def filters(element):
    d = fd.SplineFilters(species=[element], cutoff=4.5, triplet_cutoff=3.5, n_pair=2, n_triplet=1, n_knots=6)
    return fd.Potential(d, hidden=(4,), direct=["pair_0"], bias=False)


@pytest.fixture
def folder(tmp_path, monkeypatch, copper):
    """The data that pages speak of, in a folder to run them in."""
    train = fd.train

    def short(*args, epochs=EPOCHS, **settings):
        return train(*args, epochs=min(epochs, EPOCHS), **{"progress": False, **settings})

    monkeypatch.setattr(fd, "train", short)
    monkeypatch.setattr(fd, "featurize", partial(fd.featurize, progress=False))
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    write("train.extxyz", labelled(12, 0))
    write("test.extxyz", labelled(4, 1))
    Path("cu.h5").write_bytes(copper.read_bytes())
    filters("Ag").save("silver.h5")
    return tmp_path


def given(page):
    """What a page takes for granted, by name."""
    names = {"fd": fd, "frames": labelled(6, 3), "descriptor": fd.GaussianMoments(species=["Cu"], n_radial=2)}
    if page.name == "spline-filters.md":
        names["frames"] = labelled(6, 3, "Au")
        return {**names, "potential": filters("Au"), "gold": filters("Au")}
    return {**names, "potential": fd.Potential(names["descriptor"], hidden=(4,))}


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=ids)
def test_python_runs_and_prints_what_the_page_says(page, folder, capsys):
    names = given(page)
    if page.name == "large-datasets.md":
        fd.featurize(labelled(10, 4), "features.h5", names["descriptor"])
    capsys.readouterr()
    for text, out in blocks(page, "python"):
        exec(compile(text, str(page), "exec"), names)
        printed = capsys.readouterr().out
        if out:
            assert printed == out, f"{ids(page)} says\n{out}and prints\n{printed}"


def commands(page):
    """Command lines of fastdesc in the shell blocks of a page: lists of words."""
    lines = [line.strip() for text, _ in blocks(page, "bash") for line in text.splitlines()]
    found = [shlex.split(line.split("&& ")[-1], comments=True) for line in lines if "fastdesc " in line]
    return [words[1:] for words in found if words and words[0] == "fastdesc" and "COMMAND" not in words]


def redirected(words):
    """The words before a redirection."""
    return words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=ids)
def test_command_lines_are_understood_and_short_ones_run(page, folder, capsys):
    (folder / "runs").mkdir()
    write(folder / "runs" / "a.extxyz.gz", labelled(3, 5))
    for words in map(redirected, commands(page)):
        parser().parse_args(words)
        if words[0] in RUN and "--scheduler" not in words:
            assert main(words) == 0, (words, capsys.readouterr().err)


def test_blocks_are_found():
    """A page of snippets: what is skipped, what is printed, what belongs to a file."""
    text = "a\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n<!-- not run: slow -->\n```python\nx\n```\n"
    found = BLOCK.findall(text)
    assert [(bool(skip), source, out) for skip, _, _, source, out in found] == [
        (False, "print(1)\n", "1\n"), (True, "x\n", ""),
    ]  # fmt: skip
    assert sum(len(blocks(page, "python")) for page in PAGES) > 20
