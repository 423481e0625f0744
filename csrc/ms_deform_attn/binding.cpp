// The C interface of the CPU kernels: what model/ops/native.py calls through ctypes. No torch, no Python, and no
// OpenMP at compile time: threads come from the OpenMP runtime that torch has loaded, whose address is handed in.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "binding.h"

namespace msda {
namespace {

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
std::atomic<GompParallel> gomp_parallel{nullptr};
std::atomic<pid_t> pool_of{0};  // the process that the OpenMP pool belongs to

// Memory that a thread keeps from call to call: a head's values, 1-6 MB. Huge pages save most of the TLB misses.
struct Scratch {
  void* memory = nullptr;
  size_t size = 0;
  ~Scratch() { std::free(memory); }
  void* room(size_t bytes) {
    constexpr size_t huge = size_t(1) << 21;
    if (bytes > size) {
      std::free(memory);
      size = (bytes + huge - 1) / huge * huge;
      memory = std::aligned_alloc(huge, size);
      if (!memory) size = 0;
#ifdef MADV_HUGEPAGE
      else madvise(memory, size, MADV_HUGEPAGE);
#endif
    }
    return memory;
  }
};
thread_local Scratch scratch;

template <class Work> struct Team {
  const Work& work;
  int64_t tasks;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  void run() {
    for (int64_t i; (i = next.fetch_add(1)) < tasks;)
      if (!work(i)) failed = true;
  }
};

// work(i) for i in [0, tasks) on up to `threads` threads; false if any returned false. Which thread takes which task
// does not matter to the result. A pool does not survive a fork, whoever used it before, so a child of the process that
// loaded the library starts plain threads instead.
template <class Work> bool in_parallel(int64_t tasks, int64_t threads, const Work& work) {
  Team<Work> team{work, tasks};
  threads = threads < tasks ? threads : tasks;
  const auto body = [](void* t) { static_cast<Team<Work>*>(t)->run(); };
  const GompParallel openmp = gomp_parallel;
  if (threads <= 1) {
    team.run();
  } else if (openmp && pool_of == getpid()) {
    openmp(body, &team, unsigned(threads), 0);
  } else {
    std::vector<std::thread> others;
    try {
      for (int64_t i = 1; i < threads; i++) others.emplace_back(body, &team);
    } catch (const std::system_error&) {  // no more threads to be had; those there are do the work
    }
    team.run();
    for (auto& other : others) other.join();
  }
  return !team.failed;
}

const Kernels* const VARIANTS[] = {
#if defined(__x86_64__)
    &AVX512, &AVX2,
#endif
    &PORTABLE};
constexpr int COUNT = sizeof(VARIANTS) / sizeof(VARIANTS[0]);

// Packing a head costs reading all S cells once; it pays when samples revisit cells often enough.
constexpr int64_t PACK_AT_CORNERS_PER_CELL = 6;

bool pays_to_pack(const Problem& p, const Kernels& kernels, bool is_double) {
  return !kernels.reads_native(p, is_double) || p.S * p.M * p.D > INT32_MAX ||
         4 * p.Q * p.L * p.P >= PACK_AT_CORNERS_PER_CELL * p.S;
}

}  // namespace
}  // namespace msda

using namespace msda;

extern "C" {

int msda_variants() { return COUNT; }
const char* msda_variant_name(int i) { return VARIANTS[i]->name; }
int msda_variant_usable(int i) { return VARIANTS[i]->usable(); }
void msda_use_openmp(void* parallel) {
  gomp_parallel = reinterpret_cast<GompParallel>(parallel);
  pool_of = getpid();
}

static Problem problem_of(const MsdaCall& call) {
  Problem p{call.B, call.S, call.M, call.D, call.Q, call.L, call.P, {}, call.value, call.locations, call.weights,
            call.grad_out, call.out, call.grad_value, call.grad_locations, call.grad_weights};
  int64_t start = 0;
  for (int64_t l = 0; l < call.L; l++) {
    p.levels[l] = {int32_t(call.shapes[2 * l]), int32_t(call.shapes[2 * l + 1]), start};
    start += call.shapes[2 * l] * call.shapes[2 * l + 1];
  }
  return p;
}

int msda_forward(const MsdaCall* call) {
  const Problem p = problem_of(*call);
  const Kernels& kernels = *VARIANTS[call->variant];
  const bool pack = pays_to_pack(p, kernels, call->is_double);
  const int64_t heads = p.B * p.M;
  if (heads * p.Q == 0) return 0;
  // Enough tasks for every thread; each repeats the packing, so no more than needed.
  int64_t parts = heads >= call->threads ? 1 : (call->threads + heads - 1) / heads;
  if (!pack) parts = parts < 4 ? 4 : parts;
  parts = parts < p.Q ? parts : (p.Q ? p.Q : 1);
  return !in_parallel(heads * parts, call->threads, [&](int64_t i) {
    const int64_t head = i / parts, part = i % parts;
    void* packed = pack ? scratch.room(kernels.plane_bytes(p, call->is_double)) : nullptr;
    if (pack && !packed) return false;
    kernels.forward(p, {head / p.M, head % p.M, p.Q * part / parts, p.Q * (part + 1) / parts, 0, p.L, packed},
                    call->is_double);
    return true;
  });
}

// Each task owns one image, head and range of levels,
// and so its cells of grad_value: no atomics, and the order of additions does not depend on the threads.
int msda_backward(const MsdaCall* call) {
  const Problem p = problem_of(*call);
  const Kernels& kernels = *VARIANTS[call->variant];
  const bool pack = pays_to_pack(p, kernels, call->is_double);
  const int64_t heads = p.B * p.M, threads = call->threads;
  const int64_t parts = heads >= threads ? 1 : p.L;
  if (!pack) {
    const int64_t bytes = p.B * p.S * p.M * p.D * (call->is_double ? 8 : 4);
    in_parallel(threads, threads, [&](int64_t i) {
      std::memset(static_cast<char*>(p.grad_value) + bytes * i / threads, 0, bytes * (i + 1) / threads - bytes * i / threads);
      return true;
    });
  }
  return !in_parallel(heads * parts, threads, [&](int64_t i) {
    const int64_t head = i / parts, part = i % parts;
    void* packed = pack ? scratch.room(2 * kernels.plane_bytes(p, call->is_double)) : nullptr;
    if (pack && !packed) return false;
    const int64_t l0 = parts == 1 ? 0 : part, l1 = parts == 1 ? p.L : part + 1;
    kernels.backward(p, {head / p.M, head % p.M, 0, p.Q, l0, l1, packed}, call->is_double);
    return true;
  });
}

}  // extern "C"
