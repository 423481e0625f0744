// The published design of multi-scale deformable attention (Deformable DETR's first CUDA kernels, which mmcv, detrex
// and TAO share), written anew as the peer of the study. What makes it the published design:
// forward: one thread per (image, query, head, channel), blocks of 1024; every thread works out where every sample
//   lies, checks each of its four cells against the map, and loads one number from each.
// backward, 32 channels: one block of 32 threads per (image, query, head); each thread adds to grad_value by scalar
//   atomics and leaves three partial sums in shared memory, which thread 0 adds up between two barriers per sample.
// float32 only; other dtypes are converted around it. Level sizes [L, 2] as (H, W) and first rows [L] are int64 tensors
// on the device. -DROLLED keeps the loops as written, so that instructions can be counted.

#ifdef ROLLED
#define LOOP _Pragma("unroll 1")
#else
#define LOOP
#endif

__device__ __forceinline__ float sample(const float* value, int height, int width, int heads, int channels, float y,
                                        float x, int head, int channel) {
  const int y0 = int(floorf(y)), x0 = int(floorf(x));
  const int y1 = y0 + 1, x1 = x0 + 1;
  const float ly = y - float(y0), lx = x - float(x0);
  const float hy = 1.f - ly, hx = 1.f - lx;
  const int x_stride = heads * channels, y_stride = width * x_stride;
  const int at_y0 = y0 * y_stride, at_y1 = at_y0 + y_stride;
  const int at_x0 = x0 * x_stride, at_x1 = at_x0 + x_stride;
  const int base = head * channels + channel;
  float v1 = 0.f, v2 = 0.f, v3 = 0.f, v4 = 0.f;
  if (y0 >= 0 && x0 >= 0) v1 = value[at_y0 + at_x0 + base];
  if (y0 >= 0 && x1 <= width - 1) v2 = value[at_y0 + at_x1 + base];
  if (y1 <= height - 1 && x0 >= 0) v3 = value[at_y1 + at_x0 + base];
  if (y1 <= height - 1 && x1 <= width - 1) v4 = value[at_y1 + at_x1 + base];
  return hy * hx * v1 + hy * lx * v2 + ly * hx * v3 + ly * lx * v4;
}

extern "C" __global__ void published_forward(const float* value, const float* locations, const float* weights,
                                             float* out, const long long* level_sizes,
                                             const long long* level_rows, int images, int rows, int heads, int channels,
                                             int level_count, int queries, int points) {
  const int total = images * queries * heads * channels;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < total; index += blockDim.x * gridDim.x) {
    int rest = index;
    const int channel = rest % channels;
    rest /= channels;
    const int item = rest;
    const int head = rest % heads;
    rest /= heads;
    rest /= queries;
    const int image = rest;
    int at_weight = item * level_count * points, at_location = at_weight << 1;
    const int image_offset = image * rows * heads * channels;
    float sum = 0.f;
    LOOP
    for (int level = 0; level < level_count; ++level) {
      const int height = int(level_sizes[level << 1]), width = int(level_sizes[(level << 1) + 1]);
      const float* map = value + image_offset + int(level_rows[level]) * heads * channels;
      LOOP
      for (int point = 0; point < points; ++point) {
        const float x = locations[at_location] * width - 0.5f, y = locations[at_location + 1] * height - 0.5f;
        const float weight = weights[at_weight];
        if (y > -1 && x > -1 && y < height && x < width)
          sum += sample(map, height, width, heads, channels, y, x, head, channel) * weight;
        at_weight += 1;
        at_location += 2;
      }
    }
    out[index] = sum;
  }
}

__device__ __forceinline__ void sample_backward(const float* value, int height, int width, int heads, int channels,
                                                float y, float x, int head, int channel, float top_grad, float weight,
                                                float* grad_value, float* grad_location, float* grad_weight) {
  const int y0 = int(floorf(y)), x0 = int(floorf(x));
  const int y1 = y0 + 1, x1 = x0 + 1;
  const float ly = y - float(y0), lx = x - float(x0);
  const float hy = 1.f - ly, hx = 1.f - lx;
  const int x_stride = heads * channels, y_stride = width * x_stride;
  const int at_y0 = y0 * y_stride, at_y1 = at_y0 + y_stride;
  const int at_x0 = x0 * x_stride, at_x1 = at_x0 + x_stride;
  const int base = head * channels + channel;
  const float w1 = hy * hx, w2 = hy * lx, w3 = ly * hx, w4 = ly * lx;
  const float grad = top_grad * weight;
  float by_y = 0.f, by_x = 0.f, v1 = 0.f, v2 = 0.f, v3 = 0.f, v4 = 0.f;
  if (y0 >= 0 && x0 >= 0) {
    const int at = at_y0 + at_x0 + base;
    v1 = value[at];
    by_y -= hx * v1;
    by_x -= hy * v1;
    atomicAdd(grad_value + at, w1 * grad);
  }
  if (y0 >= 0 && x1 <= width - 1) {
    const int at = at_y0 + at_x1 + base;
    v2 = value[at];
    by_y -= lx * v2;
    by_x += hy * v2;
    atomicAdd(grad_value + at, w2 * grad);
  }
  if (y1 <= height - 1 && x0 >= 0) {
    const int at = at_y1 + at_x0 + base;
    v3 = value[at];
    by_y += hx * v3;
    by_x -= ly * v3;
    atomicAdd(grad_value + at, w3 * grad);
  }
  if (y1 <= height - 1 && x1 <= width - 1) {
    const int at = at_y1 + at_x1 + base;
    v4 = value[at];
    by_y += lx * v4;
    by_x += ly * v4;
    atomicAdd(grad_value + at, w4 * grad);
  }
  *grad_weight = top_grad * (w1 * v1 + w2 * v2 + w3 * v3 + w4 * v4);
  grad_location[0] = width * by_x * grad;
  grad_location[1] = height * by_y * grad;
}

constexpr int CHANNELS = 32;  // of a head, and threads of a block

extern "C" __global__ void published_backward(const float* grad_out, const float* value, const float* locations,
                                              const float* weights, float* grad_value, float* grad_locations,
                                              float* grad_weights, const long long* level_sizes,
                                              const long long* level_rows, int images, int rows, int heads,
                                              int channels, int level_count, int queries, int points) {
  __shared__ float location_parts[CHANNELS * 2];
  __shared__ float weight_parts[CHANNELS];
  const int total = images * queries * heads * channels;
  const int thread = threadIdx.x;
  for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < total; index += blockDim.x * gridDim.x) {
    int rest = index;
    const int channel = rest % channels;
    rest /= channels;
    const int item = rest;
    const int head = rest % heads;
    rest /= heads;
    rest /= queries;
    const int image = rest;
    const float top_grad = grad_out[index];
    int at_weight = item * level_count * points, at_location = at_weight << 1;
    const int image_offset = image * rows * heads * channels;
    LOOP
    for (int level = 0; level < level_count; ++level) {
      const int height = int(level_sizes[level << 1]), width = int(level_sizes[(level << 1) + 1]);
      const int offset = image_offset + int(level_rows[level]) * heads * channels;
      LOOP
      for (int point = 0; point < points; ++point) {
        const float x = locations[at_location] * width - 0.5f, y = locations[at_location + 1] * height - 0.5f;
        const float weight = weights[at_weight];
        location_parts[thread << 1] = 0.f;
        location_parts[(thread << 1) + 1] = 0.f;
        weight_parts[thread] = 0.f;
        if (y > -1 && x > -1 && y < height && x < width)
          sample_backward(value + offset, height, width, heads, channels, y, x, head, channel, top_grad, weight,
                          grad_value + offset, location_parts + (thread << 1), weight_parts + thread);
        __syncthreads();
        if (thread == 0) {
          float by_x = location_parts[0], by_y = location_parts[1], by_weight = weight_parts[0];
          for (int other = 1; other < CHANNELS; ++other) {
            by_x += location_parts[other << 1];
            by_y += location_parts[(other << 1) + 1];
            by_weight += weight_parts[other];
          }
          grad_locations[at_location] = by_x;
          grad_locations[at_location + 1] = by_y;
          grad_weights[at_weight] = by_weight;
        }
        __syncthreads();
        at_weight += 1;
        at_location += 2;
      }
    }
  }
}
