"""The gradient of a loss with respect to every parameter of a potential: one pass in dual numbers forward, one back.

With the energy E of fastdesc/potential/evaluation.py, a loss on energies and forces has the gradient

    dL/dtheta = d/dtheta [ sum_i e_i E_i - D E ],        D E = sum_p dE/dr_p · t_p                         (2)

where e is dL/dE of the atom's frame and the pair tangents t hold dL/dF and dL/dstress (fastdesc/training/loss.py). The
pass back has cotangents e on the value and -1 on the tangent.
"""


from fastdesc.backend.arrays import namespace, padded, stacked
from fastdesc.potential.evaluation import direct_weights, over_atoms, over_chunks


def loss_gradient(model, rij, trij, pairs, species, tape, de):
    """Gradient (2) with respect to every parameter.

    Parameters
    ----------
    trij : (3, n_pairs) array
        Pair tangents t.
    tape : Tape
        From energies_and_gradient on the same arguments.
    de : (n_atoms,) array
        e.

    Returns
    -------
    dtheta : dict of str to float64 array
    dnetworks : list of lists of float64 arrays
        With respect to the `arrays` of each running head.
    dscale : (n_species,) float64 array
    ddirect : (n_species, n_features) float64 array, or None without a direct term
    """
    duals = stacked(rij, trij)
    q, saved = model.descriptor.forward(duals, pairs, species, model.theta)
    dq = padded(q.shape, q.dtype, q)
    dq[0] = -tape.dq
    others = _through_duals(model, q, species, tape, de, _into(dq[1]))
    _add_direct(model, species, de, dq[1])
    dtheta = model.descriptor.pullback_parameters(duals, pairs, species, model.theta, saved, dq)
    return {name: g[1] for name, g in dtheta.items()}, *others


def fixed_loss_gradient(model, rij, trij, pairs, species, tape, de):
    """Gradient (2) with respect to every parameter but those of the descriptor, which cost the most.

    Parameters as `loss_gradient`; returns dnetworks, dscale and ddirect.
    """
    duals = stacked(rij, trij)
    q, _ = model.descriptor.forward(duals, pairs, species, model.theta)
    return _through_duals(model, q, species, tape, de, _nowhere)


def energy_loss_gradient(model, q, species, chunks, de):
    """Gradient of a loss on energies alone, with respect to every parameter but those of the descriptor.

    Parameters
    ----------
    q : (n_features, n_atoms) array
    chunks : list
        From energies_of_features on the same arguments.
    de : (n_atoms,) array
        dL/dE of each atom's frame.

    Returns
    -------
    dnetworks, dscale, ddirect
        As of `loss_gradient`.
    """
    return _through_values(model, q, species, chunks, de, _nowhere)


def energy_loss_gradient_and_features(model, q, species, chunks, de, dq):
    """As `energy_loss_gradient`; also fills dq (n_features, n_atoms), the cotangent of the features."""
    others = _through_values(model, q, species, chunks, de, _into(dq))
    _add_direct(model, species, de, dq)
    return others


def _into(dq):
    """Return what writes the cotangents of a head's inputs, made of those of its first layer, into columns of dq."""

    def write(head, columns, dz):
        dq[:, columns] = head.to_inputs(dz)

    return write


def _nowhere(head, columns, dz):
    """Leave the cotangents of a head's inputs out: no parameters lie below."""


def _through_duals(model, q, species, tape, de, write):
    """Gradient (2) with respect to networks, scale and direct term, from features and their tangents, stacked."""
    xp = namespace(q)
    weighted = (de * model.scale[species]).astype(q.dtype)[None]
    dscale = xp.zeros(len(de))

    def task(k, _):
        z, columns, saved, chain, y = tape.chunks[k]
        head = model.networks[z]
        ty, tsaved = head.tangent(saved, q[1][:, columns])
        gradient, dz = head.dual_gradients(saved, tsaved, chain, weighted[:, columns], -1.0)
        write(head, columns, dz)
        dscale[columns] = de[columns] * y[0] - ty[0]
        return z, gradient

    parts = over_chunks(task, tape.chunks, q)
    return *_summed(model, species, parts, dscale), _direct_gradient(model, q, species, de)


def _through_values(model, q, species, chunks, de, write):
    """Gradient of sum_i e_i E_i with respect to networks, scale and direct term."""
    weighted = (de * model.scale[species]).astype(model.scale.dtype)[None]
    dscale = namespace(de).zeros(len(de))

    def task(k, _):
        z, columns, saved, y = chunks[k]
        dscale[columns] = de[columns] * y[0]
        gradient, dz = model.networks[z].gradients(saved, weighted[:, columns])
        write(model.networks[z], columns, dz)
        return z, gradient

    parts = over_chunks(task, chunks, de)
    return *_summed(model, species, parts, dscale), _direct_gradient(model, q[None], species, de)


def _summed(model, species, parts, dscale):
    """Sum what chunks found: gradients of every network, and dL/dscale of every element."""
    dnetworks = [_sums(head.arrays, [d for z, d in parts if z == k]) for k, head in enumerate(model.networks)]
    xp = namespace(dscale)
    return dnetworks, xp.stack([xp.where(species == z, dscale, 0.0).sum() for z in range(len(model.scale))])


def _direct_gradient(model, planes, species, de):
    """Gradient (2) with respect to the direct term, sum of e q - tq over atoms; planes are q, or q and tq."""
    if model.direct is None:
        return None
    xp, (q, *tangents) = namespace(species), planes
    elements = xp.arange(len(model.direct), dtype=species.dtype)[:, None]

    def task(first, last):
        part = slice(first, last)
        own = (species[part] == elements).astype(q.dtype)
        dw = (own * de[part].astype(q.dtype)) @ q[:, part].T
        for tq in tangents:
            dw -= own @ tq[:, part].T
        return [dw]

    return _sums([model.direct], over_atoms(task, len(de), q))[0]


def _add_direct(model, species, de, dq):
    """Add e w of (2) to the cotangents of the features."""

    def task(first, last):
        part = slice(first, last)
        dq[:, part] += direct_weights(model, species[part]) * de[part].astype(dq.dtype)

    if model.direct is not None:
        over_atoms(task, len(de), dq)


def _sums(like, parts):
    """Sum gradients, lists of arrays shaped like those of `like`, in the order of the chunks, in float64."""
    total = [namespace(a).zeros(a.shape) for a in like]
    for part in parts:
        for a, b in zip(total, part, strict=True):
            a += b
    return total
