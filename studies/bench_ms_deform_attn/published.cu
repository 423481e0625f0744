// The published design of multi-scale deformable attention (Deformable DETR's first CUDA kernels, which mmcv, detrex
// and TAO share), written anew as the peer of the study. What makes it the published design:
// forward: one thread per (image, query, head, channel), blocks of 1024; every thread works out where every sample
//   lies, checks each of its four cells against the map, and loads one number from each.
// backward, 32 channels: one block of 32 threads per (image, query, head); each thread adds to grad_value by scalar
//   atomics and leaves three partial sums in shared memory, which thread 0 adds up between two barriers per sample.
// Every size is known at run time alone, and indices are 32-bit. float32 only; other dtypes are converted around it.
// Level sizes [L, 2] as (H, W) and first rows [L] are int64 tensors on the device.

constexpr int CHANNELS = 32;  // of a head, and threads of a block, backward

struct Sizes { int images, rows, heads, channels, levels, queries, points; };

// Where an output number is: the thread's channel and head, its (image, query, head) and image.
struct Place {
  int channel, head, item, image;
  __device__ __forceinline__ Place(int index, const Sizes& n)
      : channel(index % n.channels), head(index / n.channels % n.heads), item(index / n.channels),
        image(index / n.channels / n.heads / n.queries) {}
};

struct Map { int height, width; };

// The 2x2 cells around a position on a map: how far it lies from the top left one, and where each is, if it is at all.
struct Corners {
  float dx, dy;
  int top, left, row, stride, base;
  Map map;

  __device__ __forceinline__ Corners(float x, float y, const Map& map, const Sizes& n, const Place& place) : map(map) {
    top = int(floorf(y));
    left = int(floorf(x));
    dy = y - float(top);
    dx = x - float(left);
    stride = n.heads * n.channels;
    row = map.width * stride;
    base = place.head * n.channels + place.channel;
  }
  __device__ __forceinline__ bool exists(int k) const {
    const bool vertical = k < 2 ? top >= 0 : top + 1 <= map.height - 1;
    return vertical && (k % 2 == 0 ? left >= 0 : left + 1 <= map.width - 1);
  }
  __device__ __forceinline__ int at(int k) const {
    return (top * row + (k < 2 ? 0 : row)) + (left * stride + (k % 2 == 0 ? 0 : stride)) + base;
  }
  __device__ __forceinline__ float across(int k) const { return k % 2 == 0 ? 1.f - dx : dx; }
  __device__ __forceinline__ float down(int k) const { return k < 2 ? 1.f - dy : dy; }
};

__device__ __forceinline__ bool near(float x, float y, const Map& map) {
  return y > -1 && x > -1 && y < map.height && x < map.width;
}

__device__ __forceinline__ Map map_of(const long long* level_sizes, int level) {
  return {int(level_sizes[2 * level]), int(level_sizes[2 * level + 1])};
}

extern "C" __global__ void published_forward(const float* value, const float* locations, const float* weights,
                                             float* out, const long long* level_sizes, const long long* level_rows,
                                             Sizes n) {
  const int total = n.images * n.queries * n.heads * n.channels;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < total; index += blockDim.x * gridDim.x) {
    const Place place(index, n);
    int at = place.item * n.levels * n.points;
    float sum = 0.f;
    for (int level = 0; level < n.levels; ++level) {
      const Map map = map_of(level_sizes, level);
      const float* cells = value + (place.image * n.rows + int(level_rows[level])) * n.heads * n.channels;
      for (int point = 0; point < n.points; ++point, ++at) {
        const float x = locations[2 * at] * map.width - 0.5f, y = locations[2 * at + 1] * map.height - 0.5f;
        const float weight = weights[at];
        if (!near(x, y, map)) continue;
        const Corners corners(x, y, map, n, place);
        float v[4], sample = 0.f;
#pragma unroll
        for (int k = 0; k < 4; ++k) v[k] = corners.exists(k) ? cells[corners.at(k)] : 0.f;
#pragma unroll
        for (int k = 0; k < 4; ++k) sample += corners.down(k) * corners.across(k) * v[k];
        sum += sample * weight;
      }
    }
    out[index] = sum;
  }
}

extern "C" __global__ void published_backward(const float* grad_out, const float* value, const float* locations,
                                              const float* weights, float* grad_value, float* grad_locations,
                                              float* grad_weights, const long long* level_sizes,
                                              const long long* level_rows, Sizes n) {
  __shared__ float by_location[2 * CHANNELS];
  __shared__ float by_weight[CHANNELS];
  const int total = n.images * n.queries * n.heads * n.channels, me = threadIdx.x;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < total; index += blockDim.x * gridDim.x) {
    const Place place(index, n);
    const float top_grad = grad_out[index];
    int at = place.item * n.levels * n.points;
    for (int level = 0; level < n.levels; ++level) {
      const Map map = map_of(level_sizes, level);
      const int first = (place.image * n.rows + int(level_rows[level])) * n.heads * n.channels;
      for (int point = 0; point < n.points; ++point, ++at) {
        const float x = locations[2 * at] * map.width - 0.5f, y = locations[2 * at + 1] * map.height - 0.5f;
        const float weight = weights[at];
        by_location[2 * me] = by_location[2 * me + 1] = by_weight[me] = 0.f;
        if (near(x, y, map)) {
          const Corners corners(x, y, map, n, place);
          const float grad = top_grad * weight;
          float by_x = 0.f, by_y = 0.f, sample = 0.f;
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            if (!corners.exists(k)) continue;
            const float share = corners.down(k) * corners.across(k), v = value[first + corners.at(k)];
            by_x += (k % 2 == 0 ? -corners.down(k) : corners.down(k)) * v;
            by_y += (k < 2 ? -corners.across(k) : corners.across(k)) * v;
            sample += share * v;
            atomicAdd(grad_value + first + corners.at(k), share * grad);
          }
          by_location[2 * me] = map.width * by_x * grad;
          by_location[2 * me + 1] = map.height * by_y * grad;
          by_weight[me] = top_grad * sample;
        }
        __syncthreads();
        if (me == 0) {
          float x_sum = by_location[0], y_sum = by_location[1], weight_sum = by_weight[0];
          for (int other = 1; other < CHANNELS; ++other) {
            x_sum += by_location[2 * other];
            y_sum += by_location[2 * other + 1];
            weight_sum += by_weight[other];
          }
          grad_locations[2 * at] = x_sum;
          grad_locations[2 * at + 1] = y_sum;
          grad_weights[at] = weight_sum;
        }
        __syncthreads();
      }
    }
  }
}
