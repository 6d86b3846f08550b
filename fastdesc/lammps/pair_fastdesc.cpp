// LAMMPS' pair style fastdesc: no mathematics. It makes the flat list of neighbours, calls fastdesc (Python, in the
// same process, started here where nobody has) for energies and forces, and lets it exchange values of atoms between
// ranks in the middle of that.
// Compiled at first use by fastdesc/lammps/build.py, against the headers of the LAMMPS at hand, with
//   FASTDESC_VERSION   the version of that LAMMPS, as lammps_version() tells it
#include "atom.h"
#include "comm.h"
#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "universe.h"
#include "update.h"

#include "start_python.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using namespace LAMMPS_NS;

extern "C" {
// What LAMMPS' lammpsplugin.h says, which packages of LAMMPS do not bring.
typedef void *(lammpsplugin_factory1)(void *);
typedef void *(lammpsplugin_factory2)(void *, int, char **);
typedef struct {
  const char *version, *style, *name, *info, *author;
  union { lammpsplugin_factory1 *v1; lammpsplugin_factory2 *v2; } creator;
  void *handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);

int lammps_version(void *);
int fastdesc_version();

// One evaluation; fastdesc/lammps/runtime.py has the same structure.
struct FastdescStep {
  int64_t model, n_local, n_all, n_rows, rebuilt;
  const int32_t *type, *centres, *j;
  const int64_t *row;
  const double *x;
  double *f, *eatom, *vatom, *cvatom;    // added to; the last three may be null
  double *grade, *uncertainty;           // (n_local) written, or null
  double *energy, *virial;               // written; virial (6) as in Pair
  void *pair;
};
// Each returns 0, or another number after writing a sentence of less than SENTENCE characters to the last argument.
typedef int (*fastdesc_open_t)(const char *words, int64_t *model, double *cutoff, char *digest, char *sentence);
typedef int (*fastdesc_step_t)(FastdescStep *, char *sentence);
typedef void (*fastdesc_close_t)(int64_t model);
}

namespace {

constexpr int SENTENCE = 2048, DIGEST = 64;
constexpr int COLUMNS = 32;    // values of an atom that are sent at a time
fastdesc_open_t call_open = nullptr;
fastdesc_step_t call_step = nullptr;
fastdesc_close_t call_close = nullptr;
int node_rank = 0, node_size = 1;

class PairFastdesc : public Pair {
 public:
  explicit PairFastdesc(LAMMPS *lmp) : Pair(lmp)
  {
    comm_forward = comm_reverse = COLUMNS;
    one_coeff = manybody_flag = no_virial_fdotr_compute = 1;
    single_enable = restartinfo = 0;
    centroidstressflag = CENTROID_AVAIL;
  }

  ~PairFastdesc() override
  {
    close();
    if (allocated) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
  }

  void settings(int n, char **words) override
  {
    if (strcmp(update->unit_style, "metal") != 0)
      error->all(FLERR, std::string("pair style fastdesc came with units ") + update->unit_style +
                     "; it needs units metal (eV and Angstrom)");
    if (!call_open) {
      const std::string why = fastdesc_python::take_over(library_path());
      agree(!call_open, why.empty() ? "fastdesc did not take over its pair style" : why.c_str());
    }
    style_words = joined(n, words);
  }

  void coeff(int n, char **words) override
  {
    const int types = atom->ntypes;
    if (n < 3)    // that it begins with * * LAMMPS has seen
      error->all(FLERR, "pair_coeff of pair style fastdesc must read: pair_coeff * * MODEL and an element or NULL "
                        "for each atom type");
    if (n != 3 + types)
      error->all(FLERR, "pair_coeff came with " + std::to_string(n - 3) + " element names and there are " +
                     std::to_string(types) + " atom types; give an element or NULL for each of them");
    if (!allocated) {
      allocated = 1;
      memory->create(setflag, types + 1, types + 1, "pair:setflag");
      memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
    }
    close();
    char sentence[SENTENCE] = "", digest[DIGEST] = "";
    const std::string all = style_words + "\n" + joined(n - 2, words + 2);
    agree(call_open(all.c_str(), &model, &cutoff, digest, sentence), sentence);
    opened = true;
    char first[DIGEST];
    memcpy(first, digest, DIGEST);
    MPI_Bcast(first, DIGEST, MPI_CHAR, 0, world);
    int differs = memcmp(first, digest, DIGEST) != 0;
    agree(differs, "the model file differs from that of rank 0; give all ranks the same file");
    for (int a = 1; a <= types; a++)
      for (int b = 1; b <= types; b++)
        setflag[a][b] = strcmp(words[2 + a], "NULL") != 0 && strcmp(words[2 + b], "NULL") != 0;
  }

  void init_style() override
  {
    if (!force->newton_pair) error->all(FLERR, "pair style fastdesc needs newton on; it was switched off");
    if (atom->molecular != Atom::ATOMIC)
      for (int k = 1; k < 4; k++)
        if (force->special_lj[k] != 1.0)
          error->all(FLERR, "pair style fastdesc needs special_bonds lj 1 1 1; bonded neighbours are neighbours here");
    neighbor->add_request(this, NeighConst::REQ_FULL);
    fresh = true;
  }

  double init_one(int, int) override { return cutoff; }

  void compute(int eflag, int vflag) override
  {
    ev_init(eflag, vflag);
    const bool rebuilt = fresh || neighbor->ago == 0;
    if (rebuilt) flatten();
    fresh = false;
    static_assert(sizeof(int) == sizeof(int32_t), "int has 32 bits");
    double energy = 0, w[6] = {0, 0, 0, 0, 0, 0};
    FastdescStep step = {};
    step.model = model;
    step.n_local = atom->nlocal;
    step.n_all = atom->nlocal + atom->nghost;
    step.n_rows = list->inum;
    step.rebuilt = rebuilt;
    step.type = atom->type;
    step.centres = list->ilist;
    step.j = neighbours.data();
    step.row = rows.data();
    if (step.n_all > 0) {
      step.x = atom->x[0];
      step.f = atom->f[0];
      if (eflag_atom) step.eatom = eatom;
      if (vflag_atom) step.vatom = vatom[0];
      if (cvflag_atom) step.cvatom = cvatom[0];
    }
    step.grade = cleared(grade, grade_flag);
    step.uncertainty = cleared(uncertainty, uncertainty_flag);
    step.energy = &energy;
    step.virial = w;
    step.pair = this;
    char sentence[SENTENCE] = "";
    if (call_step(&step, sentence)) fail_here(sentence);
    if (eflag_global) eng_vdwl += energy;
    if (vflag_global)
      for (int k = 0; k < 6; k++) virial[k] += w[k];
  }

  // What LAMMPS' fix pair asks for: a flag that it sets before the steps at which it wants values of atoms, and these.
  void *extract(const char *name, int &dimensions) override
  {
    dimensions = 0;
    if (strcmp(name, "grade_flag") == 0) return &grade_flag;
    if (strcmp(name, "uncertainty_flag") == 0) return &uncertainty_flag;
    return nullptr;
  }
  void *extract_peratom(const char *name, int &columns) override
  {
    columns = 0;
    if (strcmp(name, "grade") == 0) return grade.data();
    if (strcmp(name, "uncertainty") == 0) return uncertainty.data();
    return nullptr;
  }

  // Values of atoms, (n_all, n_values): ghosts get their owners'; or owners get the sum of all.
  void exchange(double *all, int n_values, bool forward)
  {
    total = n_values;
    for (first = 0; first < total; first += COLUMNS) {
      width = total - first < COLUMNS ? total - first : COLUMNS;
      values = all + first;
      comm_forward = comm_reverse = width;
      if (forward) comm->forward_comm(this);
      else comm->reverse_comm(this);
    }
    comm_forward = comm_reverse = COLUMNS;
  }

  int pack_forward_comm(int n, int *atoms, double *buffer, int, int *) override
  {
    for (int k = 0; k < n; k++, buffer += width) memcpy(buffer, of(atoms[k]), width * sizeof(double));
    return n * width;
  }
  void unpack_forward_comm(int n, int begin, double *buffer) override
  {
    for (int a = begin; a < begin + n; a++, buffer += width) memcpy(of(a), buffer, width * sizeof(double));
  }
  int pack_reverse_comm(int n, int begin, double *buffer) override
  {
    for (int a = begin; a < begin + n; a++, buffer += width) memcpy(buffer, of(a), width * sizeof(double));
    return n * width;
  }
  void unpack_reverse_comm(int n, int *atoms, double *buffer) override
  {
    for (int k = 0; k < n; k++, buffer += width)
      for (int v = 0; v < width; v++) of(atoms[k])[v] += buffer[v];
  }

 private:
  std::string style_words;
  std::vector<int64_t> rows;
  std::vector<int32_t> neighbours;
  int64_t model = 0;
  double cutoff = 0, *values = nullptr;
  int first = 0, width = 0, total = 0;
  bool opened = false, fresh = true;
  int grade_flag = 0, uncertainty_flag = 0;
  std::vector<double> grade = {0}, uncertainty = {0};    // never empty: fix pair takes no null

  // Zeros for our atoms where a flag is set, else null.
  double *cleared(std::vector<double> &of_atoms, int flag)
  {
    if (!flag) return nullptr;
    of_atoms.assign(atom->nlocal + 1, 0.0);
    return of_atoms.data();
  }

  double *of(int a) { return values + (int64_t) a * total; }

  void close()
  {
    if (opened && call_close) call_close(model);
    opened = false;
  }

  static std::string joined(int n, char **words)
  {
    std::string out;
    for (int k = 0; k < n; k++) out += (k ? "\t" : "") + std::string(words[k]);
    return out;
  }

  void flatten()
  {
    rows.resize(list->inum + 1);
    int64_t n = 0;
    for (int r = 0; r < list->inum; r++) {
      rows[r] = n;
      n += list->numneigh[list->ilist[r]];
    }
    rows[list->inum] = n;
    neighbours.resize(n);
    for (int r = 0; r < list->inum; r++) {
      const int i = list->ilist[r], *those = list->firstneigh[i];
      for (int k = 0; k < list->numneigh[i]; k++) neighbours[rows[r] + k] = those[k] & NEIGHMASK;
    }
  }

  // Of this compiled file.
  static const char *library_path()
  {
    static Dl_info info;
    return dladdr(reinterpret_cast<void *>(&fastdesc_version), &info) ? info.dli_fname : "";
  }

  // All ranks call it; when it went wrong on any of them, all stop with the sentence of the first of these.
  void agree(int wrong, const char *sentence)
  {
    int mine = wrong ? comm->me : comm->nprocs, whose;
    MPI_Allreduce(&mine, &whose, 1, MPI_INT, MPI_MIN, world);
    if (whose == comm->nprocs) return;
    char text[SENTENCE];
    snprintf(text, SENTENCE, "%s", sentence);
    MPI_Bcast(text, SENTENCE, MPI_CHAR, whose, world);
    error->all(FLERR, comm->nprocs > 1 ? "on rank " + std::to_string(whose) + ": " + text : std::string(text));
  }

  // The others are in the middle of something: with several ranks the run ends here, as LAMMPS' own program ends it.
  void fail_here(const char *sentence)
  {
    try {
      error->one(FLERR, std::string(sentence));
    } catch (LAMMPSException &problem) {
      if (comm->nprocs == 1) throw;
      if (screen) fflush(screen);    // it stands there; ranks but the first have none
      else fprintf(stderr, "%s\n", problem.what());
      std::this_thread::sleep_for(std::chrono::milliseconds(300));    // else mpiexec may end before it has passed it on
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }
};

// Asked while all ranks of this LAMMPS load the pair style: later, those of one partition may be alone here.
void look_around(LAMMPS *lmp)
{
  MPI_Comm node;
  MPI_Comm_split_type(lmp->world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &node_rank);
  MPI_Comm_size(node, &node_size);
  MPI_Comm_free(&node);
  node_rank += node_size * lmp->universe->iworld;    // partitions as if all of them were on this node
  node_size *= lmp->universe->nworlds;
}

void *make(void *lmp) { return static_cast<Pair *>(new PairFastdesc(static_cast<LAMMPS *>(lmp))); }

}    // namespace

extern "C" {

int fastdesc_version() { return FASTDESC_VERSION; }

void fastdesc_register(fastdesc_open_t open, fastdesc_step_t step, fastdesc_close_t close)
{
  call_open = open;
  call_step = step;
  call_close = close;
}

void fastdesc_exchange(void *pair, double *values, int n_values, int forward)
{
  static_cast<PairFastdesc *>(pair)->exchange(values, n_values, forward != 0);
}

// Ranks of this node, and which of them this is, as known since the pair style was loaded.
void fastdesc_node(int *rank, int *size)
{
  *rank = node_rank;
  *size = node_size;
}

// Why Python could not take over (start_python.h).
void fastdesc_failed(const char *sentence) { fastdesc_python::problem = sentence; }

void fastdesc_abort() { MPI_Abort(MPI_COMM_WORLD, 1); }

void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  const int running = lammps_version(lmp);
  if (running != FASTDESC_VERSION) {
    fprintf(stderr, "ERROR: pair style fastdesc was compiled for LAMMPS version %d and this is version %d; compile it "
                    "anew by `fastdesc lammps build`\n", FASTDESC_VERSION, running);
    return;
  }
  look_around(static_cast<LAMMPS *>(lmp));
  lammpsplugin_t plugin = {};
  plugin.version = static_cast<LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "fastdesc";
  plugin.info = "machine-learned potentials of fastdesc";
  plugin.author = "the fastdesc developers";
  plugin.creator.v1 = make;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
}
}
