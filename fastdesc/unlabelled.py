"""Why frames carry no labels, in words that say what to do."""


def advice(frames):
    """Return what to do about frames whose calculators say nothing that can be used.

    Parameters
    ----------
    frames : list of ase.Atoms

    Returns
    -------
    str
        Names labels that stand in ``atoms.info`` and ``atoms.arrays``, and results of frames that were moved since.
    """
    if any(getattr(atoms.calc, "results", None) for atoms in frames):
        return "their calculators hold results of other positions or cells: label the frames as they are now"
    found = {
        "energy": [key for atoms in frames[:1] for key in atoms.info if "energy" in str(key).lower()],
        "forces": [key for atoms in frames[:1] for key in atoms.arrays if "force" in str(key).lower()],
        "stress": [key for atoms in frames[:1] for key in atoms.info if "stress" in str(key).lower()],
    }
    keys = ", ".join(f"{name}_key={names[0]!r}" for name, names in found.items() if names)
    if keys:
        return f"they carry some under names of their own: read_frames(frames, {keys}) takes these"
    return "give frames with labels (a SinglePointCalculator, or energy= and forces in extended XYZ)"
