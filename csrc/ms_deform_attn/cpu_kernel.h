// The CPU kernels, written once over vectors of VECTOR_BYTES and compiled once per instruction set. The including
// file defines VECTOR_BYTES and VARIANT; everything here has internal linkage, so that no function compiled for one
// instruction set can be picked by the linker for another.
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "cpu.h"

namespace msda {
namespace {

template <class T> struct IntOf;
template <> struct IntOf<float> { using type = int32_t; };
template <> struct IntOf<double> { using type = int64_t; };

template <class T> struct Simd {
  static constexpr int N = VECTOR_BYTES / sizeof(T);
  using Int = typename IntOf<T>::type;
  typedef T V __attribute__((vector_size(VECTOR_BYTES)));
  typedef Int I __attribute__((vector_size(VECTOR_BYTES)));

  static inline V load(const T* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
  static inline void store(T* p, V v) { std::memcpy(p, &v, sizeof v); }
  static inline V all(T x) { return x - V{}; }
  static inline V abs(V v) { return (V)((I)v & std::numeric_limits<Int>::max()); }
  // Zero where v is NaN. Hiding the zero from the compiler makes this one instruction instead of two.
  static inline V positive_part(V v) {
    V zero = {};
#if defined(__x86_64__)
    asm("" : "+v"(zero));
#endif
    return v > zero ? v : zero;
  }

  // Lane i of the result is scalar Pattern<N>::at(i) of a and b laid out in a row.
  template <template <int> class Pattern> static inline V shuffle(V a, V b) {
    return shuffle<Pattern<N>>(a, b, std::make_integer_sequence<int, N>());
  }

 private:
  template <class P, int... i> static inline V shuffle(V a, V b, std::integer_sequence<int, i...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, P::at(i)...);
#else
    return __builtin_shuffle(a, b, I{P::at(i)...});
#endif
  }
};

template <int N> struct Even { static constexpr int at(int i) { return 2 * i; } };
template <int N> struct Odd { static constexpr int at(int i) { return 2 * i + 1; } };
// a[0] b[0] a[1] b[1] ...: its first and its second N scalars.
template <int N> struct MixedFirst { static constexpr int at(int i) { return i / 2 + i % 2 * N; } };
template <int N> struct MixedSecond { static constexpr int at(int i) { return N / 2 + i / 2 + i % 2 * N; } };

// Sampling constants, one lane per sample of a query and head, for LP rounded up to whole vectors.
template <class T> struct Lanes {
  using Int = typename Simd<T>::Int;
  alignas(64) T width[MAX_SAMPLES], height[MAX_SAMPLES];
  alignas(64) T has_x[MAX_SAMPLES], has_y[MAX_SAMPLES];      // 1, or 0 where a level has a single column/row
  alignas(64) Int last_x[MAX_SAMPLES], last_y[MAX_SAMPLES];  // the left/top cell of the right-/bottommost pair
  alignas(64) Int start[MAX_SAMPLES], row[MAX_SAMPLES];
  int64_t step_x[MAX_LEVELS], step_y[MAX_LEVELS];          // to the right and lower cell, 0 where there is none
  Int cell;
};

// What is worked out once per sample, for a block of queries.
constexpr int BLOCK = 256;
template <class T> struct Samples {
  alignas(64) typename Simd<T>::Int offset[BLOCK];  // of the top left cell, in scalars
  alignas(64) T w00[BLOCK], w01[BLOCK], w10[BLOCK], w11[BLOCK];  // times the attention weight
};
// And what the backward pass needs again.
template <class T> struct Kept {
  alignas(64) T x[BLOCK], y[BLOCK];  // cells from the top left cell to the sample
  alignas(64) T weight[BLOCK];
  alignas(64) T dots[4 * BLOCK];     // <grad_out, cell>: 4 corners of one sample, then the next sample
};

template <class T> struct Shape {
  int64_t LP, padded;     // samples of a query and head; rounded up to whole vectors
  int64_t cell;           // scalars from a cell to the next in the map
  int64_t queries;        // in a block
};

template <class T> int64_t padded_dim(const Problem& p) {
  return (p.D + Simd<T>::N - 1) / Simd<T>::N * Simd<T>::N;
}

template <class T> Lanes<T> lanes_of(const Problem& p, const Task& task, int64_t cell) {
  Lanes<T> lanes;
  std::memset(&lanes, 0, sizeof lanes);
  const int64_t levels = task.l1 - task.l0;
  for (int64_t l = 0; l < levels; l++) {
    const Level& level = p.levels[task.l0 + l];
    lanes.step_x[l] = level.width > 1 ? cell : 0;
    lanes.step_y[l] = level.height > 1 ? cell * level.width : 0;
    for (int64_t i = l * p.P; i < (l + 1) * p.P; i++) {
      lanes.width[i] = level.width;
      lanes.height[i] = level.height;
      lanes.last_x[i] = level.width > 2 ? level.width - 2 : 0;
      lanes.last_y[i] = level.height > 2 ? level.height - 2 : 0;
      lanes.has_x[i] = level.width > 1;
      lanes.has_y[i] = level.height > 1;
      lanes.start[i] = level.start * cell;
      lanes.row[i] = cell * level.width;
    }
  }
  lanes.cell = cell;
  return lanes;
}

// Along one axis of `size` cells: the first cell of the pair that is read, which always lies inside the map, and how
// many cells from it to the sample: within [0, 1] inside, up to 1 beyond at the edge, anything where the pair does not
// count. A location that is NaN or huge converts to some cell of the map and ends far from it.
template <class T> struct Axis {
  typename Simd<T>::I first;
  typename Simd<T>::V from;
};
template <class T>
inline Axis<T> along(typename Simd<T>::V location, const T* size, const typename Simd<T>::Int* last) {
  using S = Simd<T>;
  using V = typename S::V;
  using I = typename S::I;
  const V at = location * S::load(size) - S::all(T(0.5));
  const I zero = {};
  I first = __builtin_convertvector(at, I), limit;  // toward zero; what is below zero is clamped
  std::memcpy(&limit, last, sizeof limit);
  first = first > zero ? first : zero;
  first = first < limit ? first : limit;
  return {first, at - __builtin_convertvector(first, V)};
}

// Bilinear weights of the first and the second cell, a tent over each, and so zero for cells outside: nothing branches.
// `has` is 0 where there is no second cell.
template <class T> inline typename Simd<T>::V first_weight(typename Simd<T>::V from) {
  return Simd<T>::positive_part(Simd<T>::all(1) - Simd<T>::abs(from));
}
template <class T> inline typename Simd<T>::V second_weight(typename Simd<T>::V from, typename Simd<T>::V has) {
  return Simd<T>::positive_part(has - Simd<T>::abs(from - Simd<T>::all(1)));
}

// d weight / d location of a tent over `cell`. On its kinks the slope to the right, as torch's grid_sample.
template <class T>
inline typename Simd<T>::V slope(typename Simd<T>::V from, T cell, typename Simd<T>::V size) {
  using V = typename Simd<T>::V;
  const V top = Simd<T>::all(cell), begin = Simd<T>::all(cell - 1), end = Simd<T>::all(cell + 1), zero = {};
  const V slope = from < top ? size : -size;
  return (from >= begin) & (from < end) ? slope : zero;
}

// Sampling arithmetic of one query and head into the block at `at`. `kept` is null in the forward pass.
template <class T>
inline void prepare(const T* locations, const T* weights, const Shape<T>& shape, const Lanes<T>& lanes, int64_t at,
                    Samples<T>& samples, Kept<T>* kept) {
  using S = Simd<T>;
  using V = typename S::V;
  using I = typename S::I;
  alignas(64) T xy[2 * MAX_SAMPLES], w[MAX_SAMPLES];
  if (shape.LP != shape.padded) {
    for (int64_t i = 0; i < shape.padded; i++) w[i] = xy[2 * i] = xy[2 * i + 1] = 0;
    std::memcpy(xy, locations, 2 * shape.LP * sizeof(T));
    std::memcpy(w, weights, shape.LP * sizeof(T));
    locations = xy, weights = w;
  }
  for (int64_t i = 0; i < shape.padded; i += S::N) {
    const V a = S::load(locations + 2 * i), b = S::load(locations + 2 * i + S::N);
    const auto x = along<T>(S::template shuffle<Even>(a, b), lanes.width + i, lanes.last_x + i);
    const auto y = along<T>(S::template shuffle<Odd>(a, b), lanes.height + i, lanes.last_y + i);
    I start, row;
    std::memcpy(&start, lanes.start + i, sizeof start);
    std::memcpy(&row, lanes.row + i, sizeof row);
    const I offset = start + y.first * row + x.first * (lanes.cell - I{});
    std::memcpy(samples.offset + at + i, &offset, sizeof offset);
    const V weight = S::load(weights + i);
    const V left = first_weight<T>(x.from), right = second_weight<T>(x.from, S::load(lanes.has_x + i));
    const V top = first_weight<T>(y.from) * weight;
    const V bottom = second_weight<T>(y.from, S::load(lanes.has_y + i)) * weight;
    S::store(samples.w00 + at + i, top * left);
    S::store(samples.w01 + at + i, top * right);
    S::store(samples.w10 + at + i, bottom * left);
    S::store(samples.w11 + at + i, bottom * right);
    if (!kept) continue;
    S::store(kept->x + at + i, x.from);
    S::store(kept->y + at + i, y.from);
    S::store(kept->weight + at + i, weight);
  }
}

// ---- forward --------------------------------------------------------------------------------------------------

// NV vectors of channels of one query and head. As many chains of dependent FMAs as keep both units busy and fit the
// registers: a chain a corner, or with four vectors of channels one for the left and one for the right corners.
template <class T, int NV>
inline void mix(const T* plane, const Samples<T>& samples, int64_t at, int64_t levels, int64_t points,
                const Lanes<T>& lanes, typename Simd<T>::V (&sum)[NV]) {
  using S = Simd<T>;
  using V = typename S::V;
  constexpr int CHAINS = NV >= 4 ? 2 : 4;
  V acc[CHAINS][NV] = {};
  for (int64_t l = 0; l < levels; l++) {
    const int64_t right = lanes.step_x[l], down = lanes.step_y[l];
    for (int64_t i = at + l * points; i < at + (l + 1) * points; i++) {
      const T* cell = plane + samples.offset[i];
      const V w00 = S::all(samples.w00[i]), w01 = S::all(samples.w01[i]);
      const V w10 = S::all(samples.w10[i]), w11 = S::all(samples.w11[i]);
      for (int k = 0; k < NV; k++) {
        const T* c = cell + k * S::N;
        acc[0][k] += S::load(c) * w00;
        acc[1][k] += S::load(c + right) * w01;
        acc[2 % CHAINS][k] += S::load(c + down) * w10;
        acc[3 % CHAINS][k] += S::load(c + down + right) * w11;
      }
    }
  }
  for (int k = 0; k < NV; k++) {
    sum[k] = acc[0][k] + acc[1][k];
    if (CHAINS == 4) sum[k] += acc[2 % CHAINS][k] + acc[3 % CHAINS][k];
  }
}

template <class T, int NV>
inline void mix_into(T* out, int64_t room, const T* plane, const Samples<T>& samples, int64_t at, int64_t levels,
                     int64_t points, const Lanes<T>& lanes) {
  using S = Simd<T>;
  typename S::V sum[NV];
  if (points == 4)
    mix<T, NV>(plane, samples, at, levels, 4, lanes, sum);
  else
    mix<T, NV>(plane, samples, at, levels, points, lanes, sum);
  for (int k = 0; k < NV; k++) {
    const int64_t left = room - k * S::N;
    if (left >= S::N)
      S::store(out + k * S::N, sum[k]);
    else if (left > 0)
      std::memcpy(out + k * S::N, &sum[k], left * sizeof(T));
  }
}

// One head of `value` packed: rows of padded_dim scalars, cell after cell, so that neighbours share pages and the
// whole head stays in L2. Natively a head's rows lie M*D scalars apart and fall into few cache sets. From the end, so
// that what the first queries read is what was written last: in order, an L2 just too small would evict all of it.
template <class T> void pack(const Problem& p, const Task& task, T* plane) {
  const int64_t stride = p.M * p.D, padded = padded_dim<T>(p);
  const T* row = static_cast<const T*>(p.value) + (task.b * p.S * p.M + task.m) * p.D;
  const int64_t first = p.levels[task.l0].start;
  const Level& last = p.levels[task.l1 - 1];
  const int64_t end = last.start + int64_t(last.height) * last.width;
  for (int64_t s = end; s-- > first;) {
    const T* from = row + s * stride;
    T* to = plane + s * padded;
    __builtin_prefetch(from - 16 * stride);
    if (p.D % Simd<T>::N == 0) {
      for (int64_t d = 0; d < padded; d += Simd<T>::N) Simd<T>::store(to + d, Simd<T>::load(from + d));
    } else {
      for (int64_t d = 0; d < padded; d++) to[d] = d < p.D ? from[d] : 0;
    }
  }
}

// Where the next block's inputs lie, fetched a line at a time while this block is computed.
template <class T> constexpr int64_t LINE = 64 / sizeof(T);
template <class T> inline void fetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += LINE<T>) __builtin_prefetch(from + i);
}

template <class T> Shape<T> shape_of(const Problem& p, const Task& task) {
  const int64_t LP = (task.l1 - task.l0) * p.P, padded = (LP + Simd<T>::N - 1) / Simd<T>::N * Simd<T>::N;
  return {LP, padded, task.packed ? padded_dim<T>(p) : p.M * p.D, BLOCK / padded};
}

template <class T> void forward(const Problem& p, const Task& task) {
  using S = Simd<T>;
  const Shape<T> shape = shape_of<T>(p, task);
  const int64_t padded = padded_dim<T>(p), LP = p.L * p.P;
  const Lanes<T> lanes = lanes_of<T>(p, task, shape.cell);
  const T* plane = static_cast<T*>(task.packed);
  if (task.packed)
    pack(p, task, static_cast<T*>(task.packed));
  else
    plane = static_cast<const T*>(p.value) + (task.b * p.S * p.M + task.m) * p.D;
  const int64_t head = (task.b * p.Q * p.M + task.m);
  const T* locations = static_cast<const T*>(p.locations) + head * LP * 2;
  const T* weights = static_cast<const T*>(p.weights) + head * LP;
  T* out = static_cast<T*>(p.out) + head * p.D;
  Samples<T> samples;
  for (int64_t q0 = task.q0; q0 < task.q1; q0 += shape.queries) {
    const int64_t q1 = q0 + shape.queries < task.q1 ? q0 + shape.queries : task.q1;
    for (int64_t q = q0; q < q1; q++)
      prepare<T>(locations + q * p.M * LP * 2, weights + q * p.M * LP, shape, lanes, (q - q0) * shape.padded,
                 samples, nullptr);
    for (int64_t q = q0; q < q1; q++) {
      const int64_t at = (q - q0) * shape.padded, next = q + shape.queries;
      if (next < task.q1) {
        fetch(locations + next * p.M * LP * 2, 2 * LP);
        fetch(weights + next * p.M * LP, LP);
      }
      T* to = out + q * p.M * p.D;
      int64_t d = 0;
      for (; padded - d >= 4 * S::N; d += 4 * S::N)
        mix_into<T, 4>(to + d, p.D - d, plane + d, samples, at, p.L, p.P, lanes);
      for (; padded - d >= 2 * S::N; d += 2 * S::N)
        mix_into<T, 2>(to + d, p.D - d, plane + d, samples, at, p.L, p.P, lanes);
      if (padded - d >= S::N) mix_into<T, 1>(to + d, p.D - d, plane + d, samples, at, p.L, p.P, lanes);
    }
  }
}

// ---- backward -------------------------------------------------------------------------------------------------

// Sums within quads of scalars, by two steps that each halve the number of vectors. Within a quad: a0 b0 a1 b1 and
// a2 b2 a3 b3 of two vectors; then the first and the last pairs.
template <int N> struct QuadLow { static constexpr int at(int i) { return i / 4 * 4 + i % 4 / 2 + i % 2 * N; } };
template <int N> struct QuadHigh { static constexpr int at(int i) { return QuadLow<N>::at(i) + 2; } };
template <int N> struct PairsFirst { static constexpr int at(int i) { return i / 4 * 4 + i % 2 + i % 4 / 2 * N; } };
template <int N> struct PairsLast { static constexpr int at(int i) { return PairsFirst<N>::at(i) + 2; } };

// The sums of four vectors -> four scalars.
template <class T>
inline void sums(typename Simd<T>::V a, typename Simd<T>::V b, typename Simd<T>::V c, typename Simd<T>::V d, T* to,
                 bool add) {
  using S = Simd<T>;
  if constexpr (S::N == 2) {  // doubles in 16 bytes
    const T r[4] = {a[0] + a[1], b[0] + b[1], c[0] + c[1], d[0] + d[1]};
    for (int i = 0; i < 4; i++) to[i] = add ? to[i] + r[i] : r[i];
  } else {
    typedef T Quad __attribute__((vector_size(4 * sizeof(T))));
    const auto ab = S::template shuffle<QuadLow>(a, b) + S::template shuffle<QuadHigh>(a, b);
    const auto cd = S::template shuffle<QuadLow>(c, d) + S::template shuffle<QuadHigh>(c, d);
    const auto abcd = S::template shuffle<PairsFirst>(ab, cd) + S::template shuffle<PairsLast>(ab, cd);
    Quad quads[S::N / 4];
    std::memcpy(quads, &abcd, sizeof abcd);
    for (int n = S::N / 8; n > 0; n /= 2)
      for (int i = 0; i < n; i++) quads[i] += quads[i + n];
    if (add) {
      Quad before;
      std::memcpy(&before, to, sizeof before);
      quads[0] += before;
    }
    std::memcpy(to, &quads[0], sizeof(Quad));
  }
}

// NV vectors of channels of one query and head: adds to the four cells of each sample in `grad`, and takes the dot
// products of grad_out with the four cells of `plane`.
template <class T, int NV>
inline void spread(const T* grad_out, int64_t room, const T* plane, T* grad, const Samples<T>& samples,
                   Kept<T>& kept, int64_t at, int64_t levels, int64_t points, const Lanes<T>& lanes, bool add) {
  using S = Simd<T>;
  using V = typename S::V;
  V g[NV];
  for (int k = 0; k < NV; k++) {
    const int64_t left = room - k * S::N;
    g[k] = V{};
    std::memcpy(&g[k], grad_out + k * S::N, (left < S::N ? left : S::N) * sizeof(T));
  }
  for (int64_t l = 0; l < levels; l++) {
    const int64_t right = lanes.step_x[l], down = lanes.step_y[l];
    for (int64_t i = at + l * points; i < at + (l + 1) * points; i++) {
      const int64_t offset = samples.offset[i];
      const T* cell = plane + offset;
      const V w00 = S::all(samples.w00[i]), w01 = S::all(samples.w01[i]);
      const V w10 = S::all(samples.w10[i]), w11 = S::all(samples.w11[i]);
      V d00 = {}, d01 = {}, d10 = {}, d11 = {};
      for (int k = 0; k < NV; k++) {
        const T* c = cell + k * S::N;
        d00 += S::load(c) * g[k];
        d01 += S::load(c + right) * g[k];
        d10 += S::load(c + down) * g[k];
        d11 += S::load(c + down + right) * g[k];
        T* to = grad + offset + k * S::N;
        S::store(to, S::load(to) + w00 * g[k]);
        S::store(to + right, S::load(to + right) + w01 * g[k]);
        S::store(to + down, S::load(to + down) + w10 * g[k]);
        S::store(to + down + right, S::load(to + down + right) + w11 * g[k]);
      }
      sums<T>(d00, d01, d10, d11, kept.dots + 4 * i, add);
    }
  }
}

// From the dot products of one query and head to the gradients of its locations and weights.
template <class T>
inline void finish(const Kept<T>& kept, int64_t at, const Shape<T>& shape, const Lanes<T>& lanes, T* grad_locations,
                   T* grad_weights) {
  using S = Simd<T>;
  using V = typename S::V;
  alignas(64) T xy[2 * MAX_SAMPLES], w[MAX_SAMPLES];
  const bool whole = shape.LP == shape.padded;
  T* to_xy = whole ? grad_locations : xy;
  T* to_w = whole ? grad_weights : w;
  for (int64_t i = 0; i < shape.padded; i += S::N) {
    const int64_t j = at + i;
    const T* dots = kept.dots + 4 * j;
    const V r0 = S::load(dots), r1 = S::load(dots + S::N), r2 = S::load(dots + 2 * S::N), r3 = S::load(dots + 3 * S::N);
    const V even0 = S::template shuffle<Even>(r0, r1), even1 = S::template shuffle<Even>(r2, r3);
    const V odd0 = S::template shuffle<Odd>(r0, r1), odd1 = S::template shuffle<Odd>(r2, r3);
    const V d00 = S::template shuffle<Even>(even0, even1), d10 = S::template shuffle<Odd>(even0, even1);
    const V d01 = S::template shuffle<Even>(odd0, odd1), d11 = S::template shuffle<Odd>(odd0, odd1);
    const V x = S::load(kept.x + j), y = S::load(kept.y + j), weight = S::load(kept.weight + j);
    const V width = S::load(lanes.width + i), height = S::load(lanes.height + i);
    const V has_x = S::load(lanes.has_x + i), has_y = S::load(lanes.has_y + i);
    const V x0 = first_weight<T>(x), x1 = second_weight<T>(x, has_x);
    const V y0 = first_weight<T>(y), y1 = second_weight<T>(y, has_y);
    const V top = x0 * d00 + x1 * d01, bottom = x0 * d10 + x1 * d11;
    const V left = y0 * d00 + y1 * d10, right = y0 * d01 + y1 * d11;
    const V gx = weight * (slope<T>(x, 0, width) * left + slope<T>(x, 1, width) * has_x * right);
    const V gy = weight * (slope<T>(y, 0, height) * top + slope<T>(y, 1, height) * has_y * bottom);
    S::store(to_w + i, y0 * top + y1 * bottom);
    S::store(to_xy + 2 * i, S::template shuffle<MixedFirst>(gx, gy));
    S::store(to_xy + 2 * i + S::N, S::template shuffle<MixedSecond>(gx, gy));
  }
  if (!whole) {
    std::memcpy(grad_locations, xy, 2 * shape.LP * sizeof(T));
    std::memcpy(grad_weights, w, shape.LP * sizeof(T));
  }
}

template <class T> void unpack(const Problem& p, const Task& task, const T* plane) {
  const int64_t stride = p.M * p.D, padded = padded_dim<T>(p);
  T* row = static_cast<T*>(p.grad_value) + (task.b * p.S * p.M + task.m) * p.D;
  const Level& last = p.levels[task.l1 - 1];
  const int64_t end = last.start + int64_t(last.height) * last.width;
  for (int64_t s = p.levels[task.l0].start; s < end; s++) {
    __builtin_prefetch(row + (s + 16) * stride, 1);
    if (p.D % Simd<T>::N == 0) {
      for (int64_t d = 0; d < padded; d += Simd<T>::N)
        Simd<T>::store(row + s * stride + d, Simd<T>::load(plane + s * padded + d));
    } else {
      std::memcpy(row + s * stride, plane + s * padded, p.D * sizeof(T));
    }
  }
}

// With `packed` null, grad_value must be zero on entry; otherwise every cell of the task's levels is written.
template <class T> void backward(const Problem& p, const Task& task) {
  using S = Simd<T>;
  const Shape<T> shape = shape_of<T>(p, task);
  const int64_t padded = padded_dim<T>(p), LP = p.L * p.P, first = task.l0 * p.P;
  const Lanes<T> lanes = lanes_of<T>(p, task, shape.cell);
  const int64_t base = (task.b * p.S * p.M + task.m) * p.D;
  const T* plane = static_cast<const T*>(p.value) + base;
  T* grad = static_cast<T*>(p.grad_value) + base;
  if (task.packed) {
    T* packed = static_cast<T*>(task.packed);
    plane = packed, grad = packed + p.S * padded;
    pack(p, task, packed);
    const Level& last = p.levels[task.l1 - 1];
    const int64_t start = p.levels[task.l0].start, end = last.start + int64_t(last.height) * last.width;
    std::memset(grad + start * padded, 0, (end - start) * padded * sizeof(T));
  }
  const int64_t head = (task.b * p.Q * p.M + task.m);
  const T* locations = static_cast<const T*>(p.locations) + (head * LP + first) * 2;
  const T* weights = static_cast<const T*>(p.weights) + head * LP + first;
  const T* grad_out = static_cast<const T*>(p.grad_out) + head * p.D;
  T* grad_locations = static_cast<T*>(p.grad_locations) + (head * LP + first) * 2;
  T* grad_weights = static_cast<T*>(p.grad_weights) + head * LP + first;
  Samples<T> samples;
  Kept<T> kept;
  for (int64_t q0 = task.q0; q0 < task.q1; q0 += shape.queries) {
    const int64_t q1 = q0 + shape.queries < task.q1 ? q0 + shape.queries : task.q1;
    for (int64_t q = q0; q < q1; q++)
      prepare<T>(locations + q * p.M * LP * 2, weights + q * p.M * LP, shape, lanes, (q - q0) * shape.padded,
                 samples, &kept);
    for (int64_t q = q0; q < q1; q++) {
      const int64_t at = (q - q0) * shape.padded, next = q + shape.queries, levels = task.l1 - task.l0;
      if (next < task.q1) {
        fetch(locations + next * p.M * LP * 2, 2 * shape.LP);
        fetch(weights + next * p.M * LP, shape.LP);
        fetch(grad_out + next * p.M * p.D, p.D);
      }
      for (int64_t i = 0; i < shape.LP; i += LINE<T>) {  // and where this query's gradients will be written
        __builtin_prefetch(grad_locations + q * p.M * LP * 2 + 2 * i, 1);
        __builtin_prefetch(grad_locations + q * p.M * LP * 2 + 2 * i + LINE<T>, 1);
        __builtin_prefetch(grad_weights + q * p.M * LP + i, 1);
      }
      const T* from = grad_out + q * p.M * p.D;
      int64_t d = 0;
      for (; padded - d >= 4 * S::N; d += 4 * S::N)
        spread<T, 4>(from + d, p.D - d, plane + d, grad + d, samples, kept, at, levels, p.P, lanes, d > 0);
      for (; padded - d >= 2 * S::N; d += 2 * S::N)
        spread<T, 2>(from + d, p.D - d, plane + d, grad + d, samples, kept, at, levels, p.P, lanes, d > 0);
      if (padded - d >= S::N)
        spread<T, 1>(from + d, p.D - d, plane + d, grad + d, samples, kept, at, levels, p.P, lanes, d > 0);
    }
    for (int64_t q = q0; q < q1; q++)
      finish<T>(kept, (q - q0) * shape.padded, shape, lanes, grad_locations + q * p.M * LP * 2,
                grad_weights + q * p.M * LP);
  }
  if (task.packed) unpack(p, task, grad);
}

// ---- the table ------------------------------------------------------------------------------------------------

int64_t plane_bytes(const Problem& p, bool is_double) {
  return p.S * (is_double ? padded_dim<double>(p) * sizeof(double) : padded_dim<float>(p) * sizeof(float));
}
bool reads_native(const Problem& p, bool is_double) {
  return p.D % (is_double ? Simd<double>::N : Simd<float>::N) == 0;
}
void forward_any(const Problem& p, const Task& task, bool is_double) {
  is_double ? forward<double>(p, task) : forward<float>(p, task);
}
void backward_any(const Problem& p, const Task& task, bool is_double) {
  is_double ? backward<double>(p, task) : backward<float>(p, task);
}

}  // namespace

#define MSDA_KERNELS(NAME, TEXT, USABLE) \
  const Kernels NAME = {TEXT, USABLE, plane_bytes, reads_native, forward_any, backward_any}

}  // namespace msda
