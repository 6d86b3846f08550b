// Python for a LAMMPS that was not started by Python: fastdesc's own interpreter, loaded into LAMMPS' process when a
// pair style is first asked for, and never ended. No header of Python is needed, only its library.
//   FASTDESC_PYTHON       the interpreter whose packages are used, such as /home/me/venv/bin/python
//   FASTDESC_LIBPYTHON    its shared library; "" where it has none
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <string>

namespace fastdesc_python {

inline std::string problem;    // what Python told by fastdesc_failed()

template <class Function> Function symbol(const char *name)
{
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

// Load and start the interpreter; an empty text, or why that cannot be.
inline std::string begun()
{
  const std::string otherwise = "; start this input by `fastdesc lammps FILE`";
  if (!*FASTDESC_LIBPYTHON)
    return "pair style fastdesc needs Python, and " FASTDESC_PYTHON " has no shared library" + otherwise;
  if (!dlopen(FASTDESC_LIBPYTHON, RTLD_NOW | RTLD_GLOBAL))    // global: extension modules take their symbols from it
    return std::string("pair style fastdesc needs Python, which cannot be loaded: ") + dlerror() + otherwise;
  auto decode = symbol<wchar_t *(*) (const char *, size_t *)>("Py_DecodeLocale");
  auto name = symbol<void (*)(const wchar_t *)>("Py_SetProgramName");
  auto initialize = symbol<void (*)(int)>("Py_InitializeEx");
  auto save = symbol<void *(*) ()>("PyEval_SaveThread");
  if (!decode || !name || !initialize || !save)
    return "pair style fastdesc cannot start this version of Python within LAMMPS" + otherwise;
  name(decode(FASTDESC_PYTHON, nullptr));    // by which Python finds its environment
  initialize(0);                             // signals stay LAMMPS' own
  save();
  return "";
}

// Have fastdesc take over the pair style in this library, in the Python that runs here or in one that is started; an
// empty text, or one sentence that tells why not.
inline std::string take_over(const char *library)
{
  auto running = symbol<int (*)()>("Py_IsInitialized");
  if (!running || !running())
    if (const std::string why = begun(); !why.empty()) return why;
  std::string hex;    // of the path, whatever characters it has
  char byte[3];
  for (const char *c = library; *c; c++) {
    snprintf(byte, sizeof byte, "%02x", static_cast<unsigned char>(*c));
    hex += byte;
  }
  const std::string code = "def _fastdesc():\n"
                           "    import ctypes, os\n"
                           "    path = os.fsdecode(bytes.fromhex('" + hex + "'))\n"
                           "    try:\n"
                           "        from fastdesc.lammps.started import take_over\n"
                           "        take_over(path)\n"
                           "    except BaseException as error:\n"
                           "        told = ' '.join(f'{type(error).__name__}: {error}'.split())\n"
                           "        ctypes.CDLL(path).fastdesc_failed(told.encode())\n"
                           "_fastdesc()\n"
                           "del _fastdesc\n";
  auto ensure = symbol<int (*)()>("PyGILState_Ensure");
  auto release = symbol<void (*)(int)>("PyGILState_Release");
  auto run = symbol<int (*)(const char *, void *)>("PyRun_SimpleStringFlags");
  if (!ensure || !release || !run) return "pair style fastdesc does not know this version of Python";
  problem.clear();
  const int state = ensure();
  const int failed = run(code.c_str(), nullptr);
  release(state);
  if (problem.empty() && failed) problem = "Python could not run it";
  return problem.empty() ? "" : "pair style fastdesc does not start in " FASTDESC_PYTHON ": " + problem;
}

}    // namespace fastdesc_python
