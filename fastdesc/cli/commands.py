"""What each command of the command line calls; what it does is written elsewhere and imported when it is used."""

import json
import os

from fastdesc.errors import InputError


def demo(args):
    from fastdesc.cli.demo import demo

    demo(args.out, progress=not args.quiet, say=_say)


def featurize(args):
    from fastdesc.analysis.info import headline, skipped_frames
    from fastdesc.cli.descriptor_choice import descriptor_for
    from fastdesc.features import featurize
    from fastdesc.hdf5.files import check_apart

    check_apart([args.out], [args.descriptor])

    frames = args.frames if len(args.frames) > 1 else args.frames[0]
    arguments = dict(_setting(text) for text in args.settings)
    species = args.species and [int(s) if s.isdecimal() else s for s in args.species.replace(",", " ").split()]
    given = {"cutoff": args.cutoff, "species": species}
    arguments |= {name: value for name, value in given.items() if value is not None}
    descriptor = descriptor_for(frames, args.descriptor, args.family, arguments)
    out = featurize(
        frames, args.out, descriptor, device=args.device, dtype=args.dtype, workers=args.workers,
        resume=args.resume, progress=not args.quiet, pool=args.pool, jacobian=args.jacobian, on_error=args.on_error,
        compression=args.compression, readers=args.readers, scheduler=args.scheduler, **_label_keys(args),
    )  # fmt: skip
    print(headline(out))
    if skipped := skipped_frames(out):
        print(skipped)


def convert(args):
    from fastdesc.analysis.info import headline
    from fastdesc.features import convert

    frames = args.frames if len(args.frames) > 1 else args.frames[0]
    out, skipped = convert(
        frames, args.out, progress=not args.quiet, on_error=args.on_error, compression=args.compression, report=True,
        **_label_keys(args),
    )  # fmt: skip
    print(headline(out))
    for one in skipped:
        print(f"skipped {one['file']} frame {one['index']}: {one['reason']}")


def train(args):
    from fastdesc.cli import config

    if args.print_default:
        print(config.default_text(args.family or config.FIRST_FAMILY), end="")
        return
    if args.config is None:
        raise InputError("train needs a configuration; `fastdesc train --print-default > config.toml` makes one")
    from fastdesc.cli.experiment import run
    from fastdesc.cli.ranks import ranks_together

    with ranks_together() as team:
        found = team.agreed(lambda: config.load_config(args.config))
        written = run(found, args.resume, args.overwrite, not args.quiet, _say, team)
        if team.rank == 0:
            _list(written)


def learn(args):
    from fastdesc.cli import loop_config

    if args.print_default:
        print(loop_config.default_text(), end="")
        return
    if args.config is None:
        raise InputError("learn needs a configuration; `fastdesc learn --print-default > loop.toml` makes one")
    from fastdesc.cli.learn import learn

    _list(learn(args.config, args.resume, not args.quiet, _say))


def learning_curve(args):
    from fastdesc.cli.config import load_config
    from fastdesc.cli.learning_curve import learning_curve

    sizes = [_size(word) for word in args.sizes.replace(",", " ").split()]
    if not sizes:
        raise InputError("--sizes came without numbers; give some, such as 50,100,200")
    _list(learning_curve(load_config(args.config), sizes, args.out, not args.quiet, _say))


def sweep(args):
    from fastdesc.cli import sweep_config

    if args.print_default:
        print(sweep_config.default_text(), end="")
        return
    if args.config is None:
        raise InputError("sweep needs a configuration; `fastdesc sweep --print-default > sweep.toml` makes one")
    from fastdesc.cli.sweep import sweep

    say = _nothing if args.quiet else _say
    _list(sweep(sweep_config.load_sweep(args.config), args.out, args.resume, args.scheduler, say))


def _nothing(text):
    """Say nothing."""


def evaluate(args):
    from fastdesc.analysis.accuracy import FORMAT, compare
    from fastdesc.analysis.feature_contributions import contributions_table, feature_contributions
    from fastdesc.hdf5.files import check_apart, check_target
    from fastdesc.io.frames import expand, read_frames
    from fastdesc.potential.loading import load
    from fastdesc.potential.uncertainty import needed

    # A name that cannot be written is told before the work, not after it.
    check_apart([args.predictions, args.plot, args.reliability], [args.model, *expand(args.frames)])
    if args.predictions:
        check_target(args.predictions, FORMAT)
    if args.plot or args.reliability:
        from fastdesc.analysis.plots import check_picture, plot_parity
        from fastdesc.analysis.reliability_plots import plot_reliability

        for picture in filter(None, (args.plot, args.reliability)):
            check_picture(picture)
    potential = load(args.model)
    if args.reliability:
        needed(potential)
    frames = read_frames(args.frames, **_label_keys(args))
    found = compare(potential, frames, args.device, args.dtype, uncertainty=not args.no_uncertainty)
    contributions = None
    if args.shares:
        contributions = feature_contributions(potential, args.frames, device=args.device, dtype=args.dtype)
    if args.json:
        summary = found.summary() | ({"features": contributions} if contributions else {})
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        print(found.table() + (f"\n\n{contributions_table(contributions)}" if contributions else ""))
    if args.predictions:
        found.save(args.predictions)
    if args.plot:
        plot_parity(found, args.plot)
    if args.reliability:
        plot_reliability(found, args.reliability)


def info(args):
    from fastdesc.analysis.info import describe

    print(describe(args.file))


def plot(args):
    from fastdesc.analysis.filter_plots import plot_filters
    from fastdesc.analysis.plots import follow_learning, plot_learning, plot_parity
    from fastdesc.analysis.reliability_plots import plot_reliability
    from fastdesc.hdf5.files import check_apart
    from fastdesc.io.frames import expand

    out = args.out or os.path.splitext(args.file)[0] + ".png"
    check_apart([out], [args.file, *(file for path in args.frames for file in expand(path))])
    if args.follow:
        if args.what != "learning" or args.frames:
            raise InputError(f"--follow is for `plot learning HISTORY`, and plot {args.what} came; leave it out")
        _say(f"drawing {out} whenever {args.file} grows; stop with Ctrl-C")
        follow_learning(args.file, out)
    if args.what == "filters":
        frames = args.frames[0] if len(args.frames) == 1 else args.frames or None
        print(plot_filters(args.file, out, frames))
        return
    if args.frames:
        raise InputError(f"plot {args.what} takes one file, and {args.frames[0]} came too; leave it out")
    draw = {"learning": plot_learning, "parity": plot_parity, "reliability": plot_reliability}
    print(draw[args.what](args.file, out))


def import_(args):
    from fastdesc.cli.importing import read_published
    from fastdesc.hdf5.files import check_apart

    check_apart([args.model], [args.potential])
    potential = read_published(
        args.potential, args.element, args.activation, args.recursion_activation, args.species, args.member
    )
    potential.save(args.model)
    print(f"{args.model}: {potential.n_parameters} parameters")


def export(args):
    from fastdesc.hdf5.files import check_apart
    from fastdesc.potential.loading import load
    from fastdesc.potential.meam import write_meam_spline

    check_apart([args.potential], [args.model])
    write_meam_spline(args.potential, load(args.model), form=args.form)
    print(f"{args.potential}: written from {args.model}")


def predict(args):
    from fastdesc.cli.predict import predict

    given = args.model, args.frames, args.out, args.device, args.dtype
    n, farthest = predict(*given, progress=not args.quiet, uncertainty=args.uncertainty)
    print(f"{args.out}: {n} frame{'s'[:n != 1]}" + (f"; {farthest}" if farthest else ""))


def md(args):
    from fastdesc.cli.md import md

    names = ("ensemble", "temperature", "pressure", "timestep", "temperature_time", "pressure_time", "seed", "every")
    settings = {name: getattr(args, name) for name in names}
    if args.stop_above is not None:
        settings["stop_above"] = args.stop_above
    written, stopped = md(
        args.model, args.frame, args.out, settings, args.steps, args.resume, args.device, args.dtype,
        progress=not args.quiet, repeat=args.repeat,
    )  # fmt: skip
    if stopped:
        print(stopped)
    _list(written)


def ipi(args):
    from fastdesc.io.frames import read_frames
    from fastdesc.ipi import run_client

    frames = read_frames(args.frame)
    given = {name: getattr(args, name) for name in ("host", "port", "unix", "wait", "device", "dtype")}
    n = run_client(args.model, frames[-1], **given, say=_say)
    print(f"i-PI has ended: {n} structure{'s'[: n != 1]} evaluated")


def lammps(args):
    from fastdesc.cli.lammps import lammps

    lammps(args)


def warmup(args):
    from fastdesc.cli.warmup import warmup

    warmup(args.families, args.dtype, args.job, _say)


COMMANDS = {
    "demo": demo,
    "featurize": featurize,
    "convert": convert,
    "train": train,
    "learn": learn,
    "learning-curve": learning_curve,
    "sweep": sweep,
    "evaluate": evaluate,
    "info": info,
    "plot": plot,
    "import": import_,
    "export": export,
    "predict": predict,
    "md": md,
    "ipi": ipi,
    "lammps": lammps,
    "warmup": warmup,
}


def _label_keys(args):
    """Names of labels as functions take them."""
    return {f"{name}_key": getattr(args, f"{name}_key") for name in ("energy", "forces", "stress")}


def _say(text):
    """Print at once, also into a file or a pipe."""
    print(text, flush=True)


def _size(word):
    """Turn a word of --sizes into a number."""
    if not (word.isascii() and word.isdecimal() and len(word) < 10):
        raise InputError(f"--sizes holds {word[:40]!r}; give whole numbers, such as 50,100,200")
    return int(word)


def _setting(text):
    """Turn NAME=VALUE into a name and a value, TOML where it is TOML and a string otherwise."""
    import tomllib

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text!r} is not of the form NAME=VALUE, such as --set n_radial=7")
    try:
        return name, tomllib.loads(f"x = {value}")["x"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return name, value


def _list(written):
    print("\nwrote")
    width = max(map(len, written))
    for name, path in written.items():
        print(f"  {name:{width}}  {path}")
