"""Published REANN models as potentials: files of the REANN package, TorchScript (.pt) and checkpoints (.pth).

Zhang, Xia, Jiang, Phys. Rev. Lett. 127, 156002 (2021); J. Chem. Phys. 156, 114801 (2022). The model is an embedded
density (fastdesc/descriptors/embedded_density/) whose networks, those of the iterations and that of the energy, are of
residual blocks (fastdesc/networks/residual.py). What is called what in a file:

    density.rs, -density.inta, density.params    (elements, n_radial)    r_s, exponents, coefficients
    density.hyper                                (l_max + 1, n_radial, n_features), or one for each iteration
    density.cutoff                               Å
    density.ocmod.memssage_<t>.elemental_nets.<element>    network of iteration t + 1 (sic)
    nnmod.elemental_nets.<element>                         network of the energy, eV
    nnmod.initpot                                          added for each atom, eV; not in newer files

Numbers are those of the file; those of float32 are exact in float64. The package's own energies and forces are
reproduced to rounding.
"""

from ase.data import atomic_numbers

from fastdesc.descriptors.embedded_density import EmbeddedDensity
from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import as_path
from fastdesc.networks.form import TRAINED
from fastdesc.potential import Potential
from fastdesc.potential.reann_names import WORDS, names_of
from fastdesc.potential.reann_networks import read_networks
from fastdesc.torch_files import read_torch
from fastdesc.types import Activation, FilePath

MOST_DEGREES = 4
"""Of orbitals: 0 to 3."""


def read_reann(
    path: FilePath, activation: Activation | None = None, recursion_activation: Activation | None = None
) -> Potential:
    """Read a model of the REANN package as a potential.

    Parameters
    ----------
    path : path-like
        A file made by torch.jit.save (.pt: PES.pt, LAMMPS.pt) or by torch.save (REANN.pth), of PyTorch 1.6 or newer.
        PyTorch is not needed, and nothing in the file is run.
    activation : {"trained_silu", "trained_isru"}, optional
        Of the networks: the package's Relu_like or Tanh_like. Files of TorchScript say so themselves; a checkpoint
        does not, and needs it.
    recursion_activation : {"trained_silu", "trained_isru"}, optional
        Of the networks of the iterations, where theirs is another one.

    Returns
    -------
    Potential
        Over EmbeddedDensity; float64, the same energies and forces, to be trained further.

    Raises
    ------
    InputError
        When there is no such file, or an activation is missing, superfluous or unknown.
    FileFormatError
        When it is no file of PyTorch, holds anything but containers and tensors, or is no REANN model of an energy.
    """
    for name, given in (("activation", activation), ("recursion_activation", recursion_activation)):
        if given is not None and given not in TRAINED:
            raise InputError(f"{name} came as {given!r}; give {WORDS}")
    file = as_path(path)
    names = names_of(read_torch(file), file)
    elements, iterations = names.elements("nnmod."), names.iterations
    r_s, inta, params = (names.array(f"density.{name}", 2) for name in ("rs", "inta", "params"))
    n_radial = r_s.shape[1]
    names.check(inta.shape == params.shape == r_s.shape == (len(elements), n_radial), "rs, inta and params do not fit")
    contraction, hyper = _hyper(names, iterations, n_radial)
    of_energy = read_networks(
        names, "nnmod.", elements, hyper.shape[-1], 1, names.activation("nnmod.", activation, "activation")
    )
    of_iterations = _of_iterations(names, elements, hyper.shape[-1], n_radial, activation, recursion_activation)
    form = of_iterations[0].form if of_iterations else of_energy.form
    try:
        descriptor = EmbeddedDensity(
            species=elements, cutoff=names.number("density.cutoff"), n_radial=n_radial, l_max=hyper.shape[-3] - 1,
            iterations=iterations, contraction=contraction, n_features=hyper.shape[-1], normalized=False,
            exponents="any", **form._asdict(),
        )  # fmt: skip
    except InputError as error:
        raise FileFormatError(f"{path} describes a model that cannot be built: {error}") from error
    potential = Potential(descriptor, **of_energy.form._asdict())
    order = sorted(range(len(elements)), key=lambda k: atomic_numbers[elements[k]])
    radial = {"exponents": -inta[order], "r_s": r_s[order], "coefficients": params[order], "hyper": hyper}
    potential.set_parameters(
        {f"descriptor/{name}": array for name, array in (radial | _flat(of_iterations)).items()}
        | {f"network/{k}/{n}": a for k, z in enumerate(order) for n, a in of_energy.networks[elements[z]].items()}
    )
    potential.reference = potential.reference + names.number("nnmod.initpot", 0.0)
    potential.training = {"imported": {"package": "REANN", "file": file.name}}
    return potential


def _hyper(names, iterations, n_radial):
    """Our word for how radial functions are mixed, and the weights."""
    hyper = names.array("density.hyper", 3, 4)
    names.check(hyper.shape[-2] == n_radial, "hyper and rs do not fit")
    l_max = hyper.shape[-3] - 1
    names.check(l_max < MOST_DEGREES, f"its orbitals have degrees up to {l_max}, and 3 is the highest known")
    names.degrees_are(l_max)
    if hyper.ndim == 3:
        return "hyper", hyper
    names.check(len(hyper) == iterations + 1, f"hyper is for {len(hyper) - 1} iterations, and it has {iterations}")
    return ("hyper_by_iteration", hyper) if iterations else ("hyper", hyper[0])


def _of_iterations(names, elements, n_in, n_out, activation, own):
    """ReadNetworks of each iteration, all of one form."""
    prefixes = [f"density.ocmod.memssage_{t}." for t in range(names.iterations)]
    if not prefixes and own is not None:
        raise InputError(f"recursion_activation came as {own!r}, and {names.path} has no iterations; leave it out")
    given = activation if own is None and names.kinds is None else own
    found = [
        read_networks(names, prefix, elements, n_in, n_out, names.activation(prefix, given, "recursion_activation"))
        for prefix in prefixes
    ]
    names.check(len({one.form for one in found}) <= 1, "networks of its iterations differ in form")
    return found


def _flat(of_iterations):
    """Parameters of the networks of the iterations as EmbeddedDensity calls them."""
    return {
        f"network.{t}.{symbol}.{name.replace('/', '.')}": array if name.endswith("weight") else array[:, 0]
        for t, one in enumerate(of_iterations, 1)
        for symbol, arrays in one.networks.items()
        for name, array in arrays.items()
    }
