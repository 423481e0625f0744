// Multi-scale deformable attention on CUDA, forward and backward (Zhu et al. 2020, arXiv:2010.04159, eq. 3).
//
// One instance per problem type: whoever compiles this file gives the MSDA_* macros at the bottom, so heads, channels,
// levels and points are constants and every loop unrolls. No header is needed, so NVRTC compiles it without a CUDA
// toolkit. tests/model/ops/cuda_on_cpu.h compiles the same text for the CPU, one fiber per thread.
//
// A row is one head's D channels at one cell of one level; a sample is one of the L*P places that a query reads.
// GROUP neighbouring lanes own one (query, head). Each lane prepares every GROUP-th sample: the top-left of its 2x2
// cells and the four weights. The group then walks over the samples: the owner's five numbers travel by shuffle and
// each lane loads, for each of the four cells, its own 16 bytes of the row. README.md beside this file tells why.

constexpr int MAX_LEVELS = 5;
constexpr unsigned WARP = 0xffffffffu;

// By value in the kernel's parameters: constant memory, so a level known at compile time costs no instruction.
struct Levels { int height[MAX_LEVELS], width[MAX_LEVELS], first_row[MAX_LEVELS]; };
struct Extent { int queries, rows, first_tile, first_image; };

// ---------------------------------------------------------------------------------------------- device intrinsics
#ifndef MSDA_ON_CPU  // else tests/model/ops/cuda_on_cpu.h has defined them
struct Half { unsigned short bits; };
struct BFloat16 { unsigned short bits; };

__device__ __forceinline__ float widen(Half x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ __forceinline__ void narrow(float x, Half& y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
__device__ __forceinline__ void narrow(float x, BFloat16& y) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }

// Read once: kept out of L1, which the rows need.
__device__ __forceinline__ float2 load_once(const float2* at) {
  float2 x;
  asm("ld.global.nc.L1::no_allocate.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "l"(at));
  return x;
}

// The same number, but the compiler no longer knows: what follows from it is computed again instead of kept.
__device__ __forceinline__ float again(float x) {
  asm volatile("" : "+f"(x));
  return x;
}

// base + row * BYTES in one instruction; left to itself the compiler takes six 32-bit ones.
template <int BYTES, typename T> __device__ __forceinline__ T* at_row(T* base, int row) {
  T* at;
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(at) : "r"(row), "n"(BYTES), "l"(base));
  return at;
}

// *at += x without waiting for the sum. Not atomicAdd: without a sure address space it tries shared memory first.
__device__ __forceinline__ void add(float* at, float x) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(at)), "f"(x));
}
__device__ __forceinline__ void add(unsigned long long* at, long long x) {
  asm volatile("red.global.add.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(at)), "l"(x));
}
template <int V> __device__ __forceinline__ void add(float* at, const float (&x)[V]) {
#if __CUDA_ARCH__ >= 900  // vectors
  if constexpr (V == 4) {
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(at)), "f"(x[0]),
                 "f"(x[1]), "f"(x[2]), "f"(x[3]));
  } else if constexpr (V == 2) {
    asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(at)), "f"(x[0]), "f"(x[1]));
  } else
#endif
    for (int i = 0; i < V; ++i) add(at + i, x[i]);
}
#endif

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(BFloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
__device__ __forceinline__ void narrow(float x, float& y) { y = x; }

template <int BYTES> struct Access;
template <> struct Access<2> { using Raw = unsigned short; };
template <> struct Access<4> { using Raw = unsigned; };
template <> struct Access<8> { using Raw = uint2; };
template <> struct Access<16> { using Raw = uint4; };

// V neighbouring channels as one access.
template <typename T, int V> struct alignas(V * sizeof(T)) Pack {
  using Raw = typename Access<V * sizeof(T)>::Raw;
  T element[V];
};

template <int V, typename T> __device__ __forceinline__ void load(const T* at, float (&x)[V]) {
  using Raw = typename Pack<T, V>::Raw;
  const Raw raw = __ldg(reinterpret_cast<const Raw*>(at));
  Pack<T, V> pack;
  memcpy(&pack, &raw, sizeof pack);
  for (int i = 0; i < V; ++i) x[i] = widen(pack.element[i]);
}

// Two instructions for two channels; the general form takes four.
template <int V> __device__ __forceinline__ void load(const BFloat16* at, float (&x)[V]) {
  if constexpr (V == 1) {
    x[0] = widen(BFloat16{__ldg(&at->bits)});
  } else {
    using Raw = typename Pack<BFloat16, V>::Raw;
    const Raw raw = __ldg(reinterpret_cast<const Raw*>(at));
    unsigned pair[V / 2];
    memcpy(pair, &raw, sizeof pair);
    for (int i = 0; i < V; ++i) x[i] = __uint_as_float(i % 2 ? pair[i / 2] & 0xffff0000u : pair[i / 2] << 16);
  }
}

template <int V, typename T> __device__ __forceinline__ void store(T* at, const float (&x)[V]) {
  using Raw = typename Pack<T, V>::Raw;
  Pack<T, V> pack;
  for (int i = 0; i < V; ++i) narrow(x[i], pack.element[i]);
  Raw raw;
  memcpy(&raw, &pack, sizeof raw);
  *reinterpret_cast<Raw*>(at) = raw;
}

// ------------------------------------------------------------------------------------------------------- geometry
// A problem type. THIN: some level is one cell high or wide, so a 2x2 window does not fit in it. D channels spread over
// GROUP lanes that take V neighbouring channels each, TURNS times.
template <typename Value, typename Weight, int HEADS, int CHANNELS, int LEVELS, int POINTS, bool THIN_, int VECTOR,
          int LANES>
struct Type {
  using T = Value;
  using A = Weight;
  static constexpr int M = HEADS, D = CHANNELS, L = LEVELS, P = POINTS, SAMPLES = L * P, ROW = M * D;
  static constexpr bool THIN = THIN_;
  static constexpr int V = VECTOR, GROUP = LANES, STEP = GROUP * V, TURNS = (D + STEP - 1) / STEP;
  static_assert(L <= MAX_LEVELS && D % V == 0 && 32 % GROUP == 0);

  static __device__ __forceinline__ bool holds(int lane, int turn) {  // whether the lane has channels in this turn
    return STEP * TURNS == D || turn * STEP + lane * V < D;
  }
};

// One axis of a sample's 2x2 window: cells `first` and `first + 1`, always inside the map. A cell's weight is the hat
// max(0, 1 - |position - cell|), which is bilinear interpolation inside and zero for whatever lies outside: no branch.
// slope: d weight / d position, from the right at a cell's centre, as grid_sample has it.
struct Axis { int first; float weight[2], slope[2]; };

template <bool THIN> __device__ __forceinline__ Axis along(float location, int size) {
  const float position = fmaf(location, float(size), -0.5f);
  const float cell = floorf(position);
  const float first = fmaxf(fminf(cell, float(size - 2)), 0.f);  // in float: an int would overflow far outside
  const float from_first = position - first;
  const bool two = !THIN || size > 1;
  Axis axis;
  axis.first = int(first);
  axis.weight[0] = __saturatef(1.f - fabsf(from_first));
  axis.weight[1] = two ? __saturatef(1.f - fabsf(from_first - 1.f)) : 0.f;
  axis.slope[0] = cell == first ? -1.f : cell == first - 1.f ? 1.f : 0.f;
  axis.slope[1] = !two ? 0.f : cell == first ? 1.f : cell == first + 1.f ? -1.f : 0.f;
  return axis;
}

// A sample as its owner holds it: what was read, and what the group needs of it.
struct Sample { float2 location; float attention; int row; float weight[4]; };

struct Level { int height, width, first_row; };

template <class Type> __device__ __forceinline__ Level level_of(int sample, const Levels& levels) {
  Level level{levels.height[0], levels.width[0], levels.first_row[0]};
#pragma unroll
  for (int l = 1; l < Type::L; ++l)
    if (sample >= l * Type::P) level = {levels.height[l], levels.width[l], levels.first_row[l]};
  return level;
}

template <class Type>
__device__ __forceinline__ Sample prepare(int sample, float2 location, float attention, const Levels& levels) {
  const Level level = level_of<Type>(sample, levels);
  const Axis x = along<Type::THIN>(location.x, level.width), y = along<Type::THIN>(location.y, level.height);
  const float top = attention * y.weight[0], bottom = attention * y.weight[1];
  return {location, attention, level.first_row + y.first * level.width + x.first,
          {top * x.weight[0], top * x.weight[1], bottom * x.weight[0], bottom * x.weight[1]}};
}

// Where this group works, and which samples its lane owns.
template <class Type> struct Place {
  static constexpr int GROUP = Type::GROUP;
  int lane, query, head;
  bool inside;         // groups past the last query stay for the shuffles: they load the last query and store nothing
  bool warp_inside;
  long long image, item;  // item: index of (image, query, head)

  __device__ __forceinline__ Place(const Extent& extent) {
    const int groups = blockDim.x / GROUP;  // of the block
    const int tile = (blockIdx.y + extent.first_tile) * groups;
    lane = threadIdx.x % GROUP;
    head = blockIdx.x;
    image = blockIdx.z + extent.first_image;
    query = tile + threadIdx.x / GROUP;
    inside = query < extent.queries;
    warp_inside = tile + (threadIdx.x & ~31u) / GROUP < extent.queries;
    query = inside ? query : extent.queries - 1;
    item = (image * extent.queries + query) * Type::M + head;
  }

  // The lane's first channel of row 0 of this image and head, in value; of this query and head, in out.
  __device__ __forceinline__ long long row0(const Extent& extent) const {
    return (image * extent.rows * Type::M + head) * Type::D + lane * Type::V;
  }
  __device__ __forceinline__ long long channels() const { return item * Type::D + lane * Type::V; }

  __device__ __forceinline__ Sample own(int sample, const float* locations, const typename Type::A* weights,
                                        const Levels& levels) const {
    const int last = Type::SAMPLES - 1;
    const long long at = item * Type::SAMPLES + (sample < last ? sample : last);
    const float2 location = load_once(reinterpret_cast<const float2*>(locations) + at);
    const bool real = inside && sample <= last;
    float attention[1];
    load<1>(weights + at, attention);
    return prepare<Type>(sample, location, real ? attention[0] : 0.f, levels);
  }
};

// The sample that lane `owner` of the group holds, as the whole group sees it. `level` is a constant after unrolling.
template <class Type> struct Window {
  int top, bottom;  // rows of the left cells
  int right;        // from a left cell to the one beside it, in rows
  float weight[4];

  __device__ __forceinline__ Window(const Sample& own, int owner, const Levels& levels, int level) {
    top = __shfl_sync(WARP, own.row, owner, Type::GROUP);
    bottom = top + (!Type::THIN || levels.height[level] > 1 ? levels.width[level] : 0);
    right = !Type::THIN || levels.width[level] > 1;
    for (int k = 0; k < 4; ++k) weight[k] = __shfl_sync(WARP, own.weight[k], owner, Type::GROUP);
  }

  // The four cells' rows in a tensor of rows; `base` is row 0, at this head and the lane's channels.
  template <typename T> __device__ __forceinline__ void rows(T* base, T* (&at)[4]) const {
    at[0] = at_row<Type::ROW * sizeof(T)>(base, top);
    at[2] = at_row<Type::ROW * sizeof(T)>(base, bottom);
    at[1] = at[0] + right * Type::ROW;  // a constant, unless THIN: part of the load instruction
    at[3] = at[2] + right * Type::ROW;
  }
};

// -------------------------------------------------------------------------------------------------------- forward
template <class Type>
__device__ __forceinline__ void forward(const typename Type::T* value, const float* locations,
                                        const typename Type::A* weights, typename Type::T* out, const Levels& levels,
                                        const Extent& extent) {
  using T = typename Type::T;
  constexpr int V = Type::V;
  const Place<Type> place(extent);
  if (!place.warp_inside) return;
  const T* base = value + place.row0(extent);
  float sum[Type::TURNS][V] = {};

#pragma unroll
  for (int first = 0; first < Type::SAMPLES; first += Type::GROUP) {
    const Sample own = place.own(first + place.lane, locations, weights, levels);
#pragma unroll
    for (int j = 0; j < Type::GROUP; ++j) {
      if (first + j >= Type::SAMPLES) break;
      const Window<Type> window(own, j, levels, (first + j) / Type::P);
      const T* at[4];
      window.rows(base, at);
#pragma unroll
      for (int turn = 0; turn < Type::TURNS; ++turn) {
        if (!Type::holds(place.lane, turn)) continue;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          float cell[V];
          load<V>(at[k] + turn * Type::STEP, cell);
          for (int i = 0; i < V; ++i) sum[turn][i] = fmaf(window.weight[k], cell[i], sum[turn][i]);
        }
      }
    }
  }
  if (!place.inside) return;
#pragma unroll
  for (int turn = 0; turn < Type::TURNS; ++turn)
    if (Type::holds(place.lane, turn)) store<V>(out + place.channels() + turn * Type::STEP, sum[turn]);
}

// ------------------------------------------------------------------------------------------------------- backward
// Four dot products <grad_out, cell>, one per cell of the window.
struct Dots { float cell[4]; };

template <bool EXACT> struct Sums { using type = float; };
template <> struct Sums<true> { using type = unsigned long long; };

// EXACT: grad_value is 64-bit fixed point, *scale to one. Integer sums do not depend on the order of their terms.
template <class Type, bool EXACT> struct Backward {
  using T = typename Type::T;
  using Sum = typename Sums<EXACT>::type;
  static constexpr int V = Type::V, TURNS = Type::TURNS;

  const Place<Type>& place;
  const Levels& levels;
  const T* value;  // the lane's first channel of row 0, as grad_value
  Sum* grad_value;
  float scale;
  float grad[TURNS][V];
  Sample own;

  __device__ __forceinline__ void accumulate(Sum* at, float weight, const float (&g)[V]) const {
    if constexpr (EXACT) {
      for (int i = 0; i < V; ++i) add(at + i, __float2ll_rn(weight * g[i] * scale));
    } else {
      float x[V];
      for (int i = 0; i < V; ++i) x[i] = weight * g[i];
      add<V>(at, x);
    }
  }

  // Adds the sample of lane `j` to grad_value; returns this lane's share of the dot products.
  __device__ __forceinline__ Dots sample(int first, int j) const {
    const Window<Type> window(own, j, levels, (first + j) / Type::P);
    const T* from[4];
    Sum* to[4];
    window.rows(value, from);
    window.rows(grad_value, to);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (window.weight[k] == 0.f) continue;  // outside the map: a branch is cheaper than adding zeros in L2
#pragma unroll
      for (int turn = 0; turn < TURNS; ++turn)
        if (Type::holds(place.lane, turn)) accumulate(to[k] + turn * Type::STEP, window.weight[k], grad[turn]);
    }
    Dots dots = {};
#pragma unroll
    for (int turn = 0; turn < TURNS; ++turn) {
      if (!Type::holds(place.lane, turn)) continue;
      float cell[4][V];
#pragma unroll
      for (int k = 0; k < 4; ++k) load<V>(from[k] + turn * Type::STEP, cell[k]);
#pragma unroll
      for (int k = 0; k < 4; ++k)
        for (int i = 0; i < V; ++i) dots.cell[k] = fmaf(grad[turn][i], cell[k][i], dots.cell[k]);
    }
    return dots;
  }

  // The dot products of samples j .. j + 2*BIT - 1, summed over the lanes in a tree: in the end lane i holds those of
  // sample i, whose owner it is. 3.5 shuffles a sample for 8 lanes, where four butterflies would take 12.
  template <int BIT> __device__ __forceinline__ Dots collect(int first, int j) const {
    if constexpr (BIT == 0) {
      return sample(first, j);
    } else {
      Dots low = collect<BIT / 2>(first, j), sum;
      if (Type::SAMPLES % Type::GROUP && first + j + BIT >= Type::SAMPLES) {  // no upper half
        for (int k = 0; k < 4; ++k) sum.cell[k] = low.cell[k] + __shfl_xor_sync(WARP, low.cell[k], BIT, Type::GROUP);
        return sum;
      }
      const Dots high = collect<BIT / 2>(first, j + BIT);
      const bool upper = place.lane & BIT;
      for (int k = 0; k < 4; ++k) {
        const float gives = upper ? low.cell[k] : high.cell[k], keeps = upper ? high.cell[k] : low.cell[k];
        sum.cell[k] = keeps + __shfl_xor_sync(WARP, gives, BIT, Type::GROUP);
      }
      return sum;
    }
  }

  // The owner turns its dot products into the gradients of its location and weight.
  __device__ __forceinline__ void finish(int sample, const Dots& dots, float* grad_locations,
                                         typename Type::A* grad_weights) const {
    if (!place.inside || sample >= Type::SAMPLES) return;
    const Level level = level_of<Type>(sample, levels);
    const Axis x = along<Type::THIN>(again(own.location.x), level.width);
    const Axis y = along<Type::THIN>(again(own.location.y), level.height);
    const float(&d)[4] = dots.cell;
    const float top = x.weight[0] * d[0] + x.weight[1] * d[1], top_slope = x.slope[0] * d[0] + x.slope[1] * d[1];
    const float bottom = x.weight[0] * d[2] + x.weight[1] * d[3];
    const float bottom_slope = x.slope[0] * d[2] + x.slope[1] * d[3];
    const float by_x = y.weight[0] * top_slope + y.weight[1] * bottom_slope;
    const float by_y = y.slope[0] * top + y.slope[1] * bottom;
    const long long at = place.item * Type::SAMPLES + sample;
    reinterpret_cast<float2*>(grad_locations)[at] =
        make_float2(own.attention * float(level.width) * by_x, own.attention * float(level.height) * by_y);
    narrow(y.weight[0] * top + y.weight[1] * bottom, grad_weights[at]);
  }
};

template <class Type, bool EXACT>
__device__ __forceinline__ void backward(const typename Type::T* grad_out, const typename Type::T* value,
                                         const float* locations, const typename Type::A* weights,
                                         typename Sums<EXACT>::type* grad_value, float* grad_locations,
                                         typename Type::A* grad_weights, const float* scale, const Levels& levels,
                                         const Extent& extent) {
  const Place<Type> place(extent);
  if (!place.warp_inside) return;
  const long long row0 = place.row0(extent);
  Backward<Type, EXACT> b{place, levels, value + row0, grad_value + row0, EXACT ? *scale : 1.f, {}, {}};
#pragma unroll
  for (int turn = 0; turn < Type::TURNS; ++turn)
    if (Type::holds(place.lane, turn)) load<Type::V>(grad_out + place.channels() + turn * Type::STEP, b.grad[turn]);
#pragma unroll 1  // unrolled, loads move so far ahead that registers spill
  for (int first = 0; first < Type::SAMPLES; first += Type::GROUP) {
    b.own = place.own(first + place.lane, locations, weights, levels);
    const Dots dots = b.template collect<Type::GROUP / 2>(first, 0);
    b.finish(first + place.lane, dots, grad_locations, grad_weights);
  }
}

// -------------------------------------------------------------------------------------------------- one instance
// MSDA_KERNEL: FORWARD, BACKWARD or EXACT_BACKWARD. MSDA_VALUE, MSDA_WEIGHT: float, Half or BFloat16. The others are
// integers, as in Type; MSDA_BLOCKS is how many blocks of 256 threads an SM must have registers for.
// Grid: (M, tiles of blockDim.x / GROUP queries, images); heads fastest, images slowest, so that one image's rows and
// sums stay in L2. A block is any multiple of 32 threads up to 256.
#define FORWARD 0
#define BACKWARD 1
#define EXACT_BACKWARD 2
using Instance =
    Type<MSDA_VALUE, MSDA_WEIGHT, MSDA_M, MSDA_D, MSDA_L, MSDA_P, MSDA_THIN != 0, MSDA_V, MSDA_GROUP>;

#if MSDA_KERNEL == FORWARD
extern "C" __global__ void __launch_bounds__(256, MSDA_BLOCKS)
    ms_deform_attn(const Instance::T* __restrict__ value, const float* __restrict__ locations,
                   const Instance::A* __restrict__ weights, Instance::T* __restrict__ out,
                   const __grid_constant__ Levels levels, const __grid_constant__ Extent extent) {
  forward<Instance>(value, locations, weights, out, levels, extent);
}
#else
constexpr bool EXACT = MSDA_KERNEL == EXACT_BACKWARD;
extern "C" __global__ void __launch_bounds__(256, MSDA_BLOCKS)
    ms_deform_attn(const Instance::T* __restrict__ grad_out, const Instance::T* __restrict__ value,
                   const float* __restrict__ locations, const Instance::A* __restrict__ weights,
                   Sums<EXACT>::type* __restrict__ grad_value, float* __restrict__ grad_locations,
                   Instance::A* __restrict__ grad_weights, const float* __restrict__ scale,
                   const __grid_constant__ Levels levels, const __grid_constant__ Extent extent) {
  backward<Instance, EXACT>(grad_out, value, locations, weights, grad_value, grad_locations, grad_weights, scale,
                            levels, extent);
}
#endif
