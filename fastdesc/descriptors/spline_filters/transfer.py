"""Spline filters: those of one descriptor for another, also for other elements."""

from ase.data import chemical_symbols

from fastdesc.checks import atomic_numbers
from fastdesc.errors import InputError, nearest

KINDS = ("pair", "triplet_radial", "triplet_angular")


def transferred(target, source, elements=None):
    """Return the parameters of a descriptor with filters of another.

    Parameters
    ----------
    target, source : SplineFilters
    elements : dict, optional
        Element of the source -> element of the target that gets its filters, as symbols or numbers; by default those
        that both know keep theirs. Filters shared by all elements of the source serve every element of the target.

    Returns
    -------
    dict of str to ndarray
        New arrays; elements of the target that nothing is said of, alone or in a pair, keep their filters.

    Raises
    ------
    InputError
        For filters that differ in number, knots, cutoff or ends (the difference is named), unknown elements, and
        filters of several elements for a target whose elements share theirs.
    """
    for count in ("n_pair", "n_triplet"):
        ours, theirs = getattr(target, count), getattr(source, count)
        if ours != theirs:
            raise InputError(
                f"the filters to load have {count} {theirs} and this descriptor {ours}; make them the same"
            )
    source_of = _source_of(target, source, elements)
    out = {}
    for kind in KINDS:
        out[kind] = target.parameters[kind].copy()
        at = {members: e for e, members in enumerate(source.elements_of(kind))}
        for e, members in enumerate(target.elements_of(kind)):
            if not all(k in source_of for k in members):
                continue
            wanted = () if source.shared else tuple(sorted(source_of[k] for k in members))
            if target.shared and not source.shared:
                wanted = (0,) * (2 if kind == "triplet_angular" else 1)
            for a in range(len(out[kind])):
                _check_knots(kind, target.spline(kind, a, e), source.spline(kind, a, at[wanted]))
                n = target.spline(kind, a, e).n_parameters
                out[kind][a, e, :n] = source.parameters[kind][a, at[wanted], :n]
    return out


def _source_of(target, source, elements):
    """Return index of an element of the target -> index of the element of the source whose filters it gets."""
    if target.shared and not source.shared and len(source.species_numbers) > 1:
        raise InputError(
            "the filters to load are those of single elements and this descriptor has shared=True; load them into one "
            "with shared=False"
        )
    if source.shared and elements is None:
        return dict.fromkeys(range(len(target.species_numbers)), 0)
    if elements is None:
        both = [z for z in target.species_numbers if z in source.species_numbers]
        if not both and not target.shared:
            raise InputError(
                f"the filters to load are of {_words(source)} and this descriptor knows {_words(target)}; say which "
                f"serve which, such as elements={{{_symbol(source, 0)!r}: {_symbol(target, 0)!r}}}"
            )
        return {target.species_numbers.index(z): source.species_numbers.index(z) for z in both}
    if not hasattr(elements, "items") or not elements:
        raise InputError(f"elements came as {elements!r}; give a dict, element of the filters to load -> element here")
    found = {}
    for theirs, ours in elements.items():
        a = _index(source, theirs, "the filters to load are")
        b = _index(target, ours, "this descriptor's are")
        if b in found:
            raise InputError(f"elements {dict(elements)} gives {ours} two sets of filters; give it one")
        found[b] = a
    return found


def _index(descriptor, element, whose):
    (number,) = atomic_numbers([element])
    if number not in descriptor.species_numbers:
        known = [chemical_symbols[z] for z in descriptor.species_numbers]
        raise InputError(f"{element!r} is none of the elements: {whose} {', '.join(known)}{nearest(element, known)}")
    return descriptor.species_numbers.index(number)


def _check_knots(kind, ours, theirs):
    """InputError that names the first difference of two Splines."""
    for name, words in (("x0", "first knot"), ("x1", "last knot"), ("n_knots", "number of knots"), ("ends", "ends")):
        a, b = getattr(theirs, name), getattr(ours, name)
        if a != b:
            raise InputError(f"{kind} filters to load have {words} {a} and those here {b}; make them the same")


def _symbol(descriptor, k):
    return chemical_symbols[descriptor.species_numbers[k]]


def _words(descriptor):
    return ", ".join(chemical_symbols[z] for z in descriptor.species_numbers)
