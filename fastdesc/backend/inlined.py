"""Functions that only kernels call, compiled without what nobody runs: machine code and a way in from Python.

Numba compiles every function on its own before it is inlined: wrappers for Python and C, machine code, and once more
for every literal argument. A kernel of a hundred inlined functions spends a third of its time to compile on that.
"""

import numba
from numba.core import types
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering


class _Entry:
    """Stands for the compiled function where Numba looks it up by identity; a kernel links its LLVM module."""

    def __call__(self, *arguments):
        raise TypeError("this function is compiled into kernels; from Python call its py_func")


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Lower to an optimised LLVM module, and stop there."""

    _name = "inlined_lowering"

    def run_pass(self, state):
        state.library = library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library._finalize_final_module = lambda: _end(library)
        state.flags.no_compile = True
        super().run_pass(state)
        entry, found = _Entry(), state["cr"]
        state.targetctx.insert_user_function(entry, found.fndesc, [library])
        state["cr"] = found._replace(cfunc=entry)
        return True


def _end(library):
    """What is left of `_finalize_final_module` where no engine takes the module."""
    library._finalize_dynamic_globals()
    library._finalized = True


class _Compiler(CompilerBase):
    def define_pipelines(self):
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [(_Lowering if p is NativeLowering else p, text) for p, text in passes.passes]
        passes.finalize()
        return [passes]


class _Inlined(CPUDispatcher):
    """Compiled once for all values of an argument of one type."""

    def get_call_template(self, args, kws):
        kws = {name: types.unliteral(t) for name, t in kws.items()}
        return super().get_call_template([types.unliteral(t) for t in args], kws)

    def add_overload(self, cres):
        """Without the table of what Python may call."""
        self.overloads[tuple(cres.signature.args)] = cres


def inlined(function, **options):
    """Compile a function that only kernels call, always inlined; options as of numba.njit."""
    options = {"nopython": True, "forceinline": True, "no_cpython_wrapper": True, **options}
    if numba.config.DISABLE_JIT:
        return function
    return _Inlined(py_func=function, locals={}, targetoptions=options, pipeline_class=_Compiler)
