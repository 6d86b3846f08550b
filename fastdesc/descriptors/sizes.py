"""How many numbers a description asks for at least, before anything is made of it."""

from itertools import pairwise

from fastdesc.errors import FileFormatError


def check_held(path, held, wanted):
    """FileFormatError when a description asks for more numbers than a file holds.

    Parameters
    ----------
    path : Path
    held : int
    wanted : int
        As the functions below tell; those that count less than is needed are as good.
    """
    if wanted > held:
        raise FileFormatError(f"{path} describes {wanted} parameters or more and holds {held} numbers; make it again")


def of_layers(widths):
    """Weights of a network of these widths, input and output included."""
    return sum(a * b for a, b in pairwise(_counts(widths)))


def of_family(family, arguments):
    """Fewest parameters of a descriptor by the name of its family and the arguments of its constructor."""
    n = {name: value for name, value in arguments.items() if _is_count(value)}
    if family == "gaussian_moments":
        factorised = arguments.get("species_mixing") == "factorised"
        table = (n.get("n_embedding", 1) if factorised else 1) * n.get("n_radial", 1) * n.get("n_basis", 1)
        return table + n.get("iterations", 0) * _of_hidden(arguments, [1, 1])
    if family == "spline_filters":
        knots = n.get("n_knots", 1) if arguments.get("knots") is None else 1
        return (n.get("n_pair", 0) + n.get("n_triplet", 0)) * knots
    if family != "embedded_density":
        return 0
    radial = n.get("n_radial", 1)
    hyper = arguments.get("contraction", "hyper") != "none"
    features = n.get("n_features", radial * (radial + 1) // 2) if hyper else 1
    layers = n.get("blocks", 0) * _of_hidden(arguments, []) or _of_hidden(arguments, [features, 1])
    return radial * features + n.get("iterations", 0) * layers


def _of_hidden(arguments, ends):
    """Weights of a network whose hidden layers a description has, between these ends, or from block to block."""
    hidden = arguments.get("hidden", ())
    if not isinstance(hidden, list | tuple):
        return 0
    return of_layers([*ends[:1], *hidden, *(ends[1:] or hidden[:1])])


def _counts(values):
    return [value for value in values if _is_count(value)]


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
