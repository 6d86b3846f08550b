"""Beginnings and integrators of molecular dynamics, through ASE."""

import warnings

import numpy as np
from ase import units

from fastdesc.errors import InputError


def thermal_momenta(atoms, temperature, rng):
    """Give atoms the momenta of a temperature (K), without drift."""
    m = atoms.get_masses()[:, None]
    momenta = rng.normal(size=(len(m), 3)) * np.sqrt(temperature * units.kB * m)
    if len(m) > 1:
        momenta -= m * momenta.sum(0) / m.sum()
    atoms.set_momenta(momenta)


def langevin(atoms, timestep, temperature, time, rng, pressure=None, pressure_time=None):
    """Langevin dynamics, at constant pressure too where one is given.

    Parameters
    ----------
    atoms : ase.Atoms
    timestep, time : float
        fs; `time` is that of the thermostat.
    temperature : float
        K
    rng : numpy.random.Generator
    pressure, pressure_time : float, optional
        GPa, and fs of the barostat.

    Raises
    ------
    InputError
        For an ASE without this integrator.
    """
    try:
        from ase.md.langevinbaoab import LangevinBAOAB
    except ImportError as error:
        raise InputError(
            "dynamics at a temperature needs ase.md.langevinbaoab, which this ASE does not have; update ASE"
        ) from error
    more = {"temperature_K": temperature, "T_tau": time * units.fs, "rng": rng}
    if pressure is not None:
        more |= {"externalstress": -pressure * units.GPa, "hydrostatic": True, "P_tau": pressure_time * units.fs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)    # how ASE found the mass of the barostat
        return LangevinBAOAB(atoms, timestep * units.fs, **more)
