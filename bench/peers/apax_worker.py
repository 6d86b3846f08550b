"""apax (JAX): Gaussian moments, energies and forces, descriptor alone, training step.

What is timed is apax's own jitted functions on neighbour lists found beforehand and padded to nothing but the
longest list of a batch, which is kinder than apax's own calculators (they pad by 25 to 50 %).
"""

from bench.harness.serve import n_threads, pin, serve

pin()

import os  # noqa: E402

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if n_threads() == 1:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

from importlib.metadata import version  # noqa: E402

import apax  # noqa: E402, F401  (switches JAX to 64 bit, as apax does)
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from apax.config.model_config import BesselBasisConfig, GMNNConfig  # noqa: E402
from apax.data.preprocessing import compute_nl  # noqa: E402
from apax.nn.builder import GMNNBuilder  # noqa: E402
from ase.data import atomic_numbers  # noqa: E402
from flax.core import freeze  # noqa: E402

from bench.harness import systems  # noqa: E402


def model_config(cutoff, n_basis, hidden=(256, 256)):
    """apax's defaults (5 radial functions, all contractions) with our cutoff and size of basis."""
    config = GMNNConfig(basis=BesselBasisConfig(n_basis=n_basis, r_max=cutoff), nn=list(hidden))
    return config.model_dump()


def inputs(atoms, cutoff):
    """positions (fractional where there is a cell), numbers, idx (2, n_pairs), box, offsets."""
    box = np.array(atoms.cell.array.T)
    periodic = bool(atoms.pbc.any())
    positions = atoms.positions @ np.linalg.inv(box).T if periodic else atoms.positions
    idx, offsets = compute_nl(positions, box, cutoff)
    # apax sums into atoms idx[1]: sorted by it, segment sums run fastest.
    order = np.lexsort(idx)
    return positions, atoms.numbers.astype(np.int32), idx[:, order].astype(np.int32), box, offsets[order].astype(float)


def batch(frames, cutoff):
    """Inputs of frames of equal size on a leading axis, lists padded with (0, 0) to the longest, as apax pads."""
    parts = [inputs(atoms, cutoff) for atoms in frames]
    longest = max(p[2].shape[1] for p in parts)
    padded = []
    for positions, numbers, idx, box, offsets in parts:
        more = longest - idx.shape[1]
        padded.append((positions, numbers, np.pad(idx, ((0, 0), (0, more))), box, np.pad(offsets, ((0, more), (0, 0)))))
    return tuple(np.stack(x) for x in zip(*padded, strict=True)), sum(p[2].shape[1] for p in parts)


def about(system, n_pairs, **more):
    return {
        "program": f"apax {version('apax')}, jax {jax.__version__}",
        "n_atoms": systems.n_atoms(system),
        "n_pairs": n_pairs,
        "device": jax.devices()[0].platform,
        **more,
    }


def our_coefficients(system, n_radial, n_basis):
    """The common radial coefficients, in apax's table over all elements and without its missing 1/sqrt(n_basis)."""
    numbers = [atomic_numbers[symbol] for symbol in systems.species(system)]
    table = np.zeros((119, 119, n_radial, n_basis), np.float32)
    table[np.ix_(numbers, numbers)] = systems.coefficients(len(numbers), n_radial, n_basis) / np.sqrt(n_basis)
    return jnp.asarray(table)


def energy_model(box, cutoff, n_basis, sample):
    model = GMNNBuilder(model_config(cutoff, n_basis)).build_energy_derivative_model(init_box=box)
    return model, freeze(model.init(jax.random.PRNGKey(0), *sample))


def over_frames(model, arrays):
    """The model's function and its arguments: plain for one frame (vmap makes gradients twice as slow), else vmap."""
    if len(arrays[0]) == 1:
        return model.apply, tuple(x[0] for x in arrays)
    return jax.vmap(model.apply, (None, 0, 0, 0, 0, 0)), arrays


def energy_forces(system="cu256", cutoff=6.0, n_basis=8, find_list=False):
    """Energy and forces of one frame, or of a batch of equal molecules (vmap)."""
    frames = systems.frames(system)
    arrays, n_pairs = batch(frames, cutoff)
    sample = tuple(x[0] for x in arrays)
    model, params = energy_model(sample[3], cutoff, n_basis, sample)
    apply, given = over_frames(model, arrays)
    step = jax.jit(lambda *x: apply(params, *x))
    on_device = tuple(jnp.asarray(x) for x in given)
    out = step(*on_device)
    info = about(system, n_pairs, energy=float(np.sum(out["energy"])), dtype="float32")
    if not find_list:
        return lambda: jax.block_until_ready(step(*on_device)), info

    def with_list():
        fresh, _ = batch(frames, cutoff)
        fresh = fresh if len(frames) > 1 else tuple(x[0] for x in fresh)
        jax.block_until_ready(step(*(jnp.asarray(x) for x in fresh)))

    return with_list, info


def descriptor(system="cu256", cutoff=6.0, n_basis=8, pullback=False):
    """Features of every atom; with `pullback` also one vector-Jacobian product back to positions."""
    frames = systems.frames(system)
    arrays, n_pairs = batch(frames, cutoff)
    builder = GMNNBuilder(model_config(cutoff, n_basis))
    model = builder.build_feature_model(only_use_n_layers=0, init_box=arrays[3][0], should_average=False)
    params = model.init(jax.random.PRNGKey(0), *(x[0] for x in arrays))
    params["params"]["representation"]["radial_fn"]["atomic_type_embedding"] = our_coefficients(system, 5, n_basis)
    features, given = over_frames(model, arrays)

    def forward(positions, *rest):
        return features(params, positions, *rest)

    def both(positions, *rest):
        q, pull = jax.vjp(lambda x: forward(x, *rest), positions)
        return q, pull(jnp.ones_like(q))[0]

    step = jax.jit(both if pullback else forward)
    on_device = tuple(jnp.asarray(x) for x in given)
    q = jax.tree.leaves(step(*on_device))[0]
    info = about(system, n_pairs, n_features=q.shape[-1], dtype="float32", **systems.fingerprint(q))
    return lambda: jax.block_until_ready(step(*on_device)), info


def training_step(system="cu256x4", cutoff=6.0, n_basis=8):
    """apax's own jitted update on energies and forces, Adam, one batch that stays on the device."""
    from apax.config.train_config import LossConfig, OptimizerConfig
    from apax.optimizer import get_opt
    from apax.train.checkpoints import create_train_state
    from apax.train.metrics import initialize_metrics
    from apax.train.run import initialize_loss_fn
    from apax.train.trainer import make_step_fns

    frames = systems.frames(system)
    arrays, n_pairs = batch(frames, cutoff)
    model, params = energy_model(arrays[3][0], cutoff, n_basis, tuple(x[0] for x in arrays))
    batched = jax.vmap(model.apply, (None, 0, 0, 0, 0, 0))
    optimizer = get_opt(params, 1000, 10, **OptimizerConfig().model_dump())
    loss = initialize_loss_fn([LossConfig(name="energy"), LossConfig(name="forces", weight=4.0)])
    metrics = initialize_metrics([])
    step, _ = make_step_fns(loss, metrics, model=batched, is_ensemble=False)
    names = ("positions", "numbers", "idx", "box", "offsets")
    given = {name: jnp.asarray(x) for name, x in zip(names, arrays, strict=True)}
    given["n_atoms"] = jnp.asarray([len(atoms) for atoms in frames])
    rng = np.random.default_rng(0)
    labels = {
        "energy": jnp.asarray(rng.normal(size=len(frames))),
        "forces": jnp.asarray(rng.normal(size=arrays[0].shape)),
    }
    state = [(create_train_state(batched, params, optimizer), metrics.empty())]

    def update():
        state[0], value = step(state[0], (given, labels))
        jax.block_until_ready((state[0], value))

    return update, about(system, n_pairs, dtype="float32", optimizer="adam")


serve({"energy_forces": energy_forces, "descriptor": descriptor, "training_step": training_step})
