// The published design of multi-scale deformable attention, written anew as a peer: one thread for each channel of the
// output forward; backward one block of D threads for each (query, head), whose first thread adds up the gradients of
// locations and weights from shared memory, sample by sample. Every thread works out every sample for itself.
// MSDA_M, MSDA_D, MSDA_L, MSDA_P are given by whoever compiles it; float32 only. The published loops over levels and
// points have bounds known at run time alone; with MSDA_UNROLLED they are unrolled, to count what a warp executes.
#ifdef MSDA_UNROLLED
#define LOOP _Pragma("unroll")
#else
#define LOOP _Pragma("unroll 1")
#endif

constexpr int M = MSDA_M, D = MSDA_D, L = MSDA_L, P = MSDA_P, ROW = M * D;
struct Levels { int height[5], width[5], first_row[5]; };

__device__ float cell(const float* map, int y, int x, int height, int width) {
  return y >= 0 && y < height && x >= 0 && x < width ? map[(long long)(y * width + x) * ROW] : 0.f;
}

extern "C" __global__ void published_forward(const float* value, const float* locations, const float* weights,
                                             float* out, const Levels levels, int queries, int rows, long long count) {
  const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (index >= count) return;
  const int channel = index % D, head = index / D % M;
  const long long item = index / D, image = item / M / queries;
  float sum = 0.f;
  LOOP for (int l = 0; l < L; ++l) {
    const int height = levels.height[l], width = levels.width[l];
    const float* map = value + ((image * rows + levels.first_row[l]) * M + head) * D + channel;
    LOOP for (int p = 0; p < P; ++p) {
      const long long at = (item * L + l) * P + p;
      const float x = locations[2 * at] * width - 0.5f, y = locations[2 * at + 1] * height - 0.5f;
      if (y <= -1 || x <= -1 || y >= height || x >= width) continue;
      const int y0 = floorf(y), x0 = floorf(x);
      const float dy = y - y0, dx = x - x0;
      sum += weights[at] * ((1 - dy) * (1 - dx) * cell(map, y0, x0, height, width) +
                            (1 - dy) * dx * cell(map, y0, x0 + 1, height, width) +
                            dy * (1 - dx) * cell(map, y0 + 1, x0, height, width) +
                            dy * dx * cell(map, y0 + 1, x0 + 1, height, width));
    }
  }
  out[index] = sum;
}

extern "C" __global__ void published_backward(const float* grad_out, const float* value, const float* locations,
                                              const float* weights, float* grad_value, float* grad_locations,
                                              float* grad_weights, const Levels levels, int queries, int rows) {
  __shared__ float by_location[2 * D], by_weight[D];
  const int channel = threadIdx.x, head = blockIdx.x % M;
  const long long item = blockIdx.x, image = item / M / queries;
  const float top = grad_out[item * D + channel];
  LOOP for (int l = 0; l < L; ++l) {
    const int height = levels.height[l], width = levels.width[l];
    const long long first = ((image * rows + levels.first_row[l]) * M + head) * D + channel;
    LOOP for (int p = 0; p < P; ++p) {
      const long long at = (item * L + l) * P + p;
      const float x = locations[2 * at] * width - 0.5f, y = locations[2 * at + 1] * height - 0.5f;
      by_location[2 * channel] = by_location[2 * channel + 1] = by_weight[channel] = 0.f;
      if (y > -1 && x > -1 && y < height && x < width) {
        const int y0 = floorf(y), x0 = floorf(x);
        const float dy = y - y0, dx = x - x0, grad = top * weights[at];
        const float share[4] = {(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx};
        float v[4] = {};
        for (int k = 0; k < 4; ++k) {
          const int row = y0 + k / 2, column = x0 + k % 2;
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          const long long place = first + (long long)(row * width + column) * ROW;
          v[k] = value[place];
          atomicAdd(grad_value + place, share[k] * grad);
        }
        by_weight[channel] = top * (share[0] * v[0] + share[1] * v[1] + share[2] * v[2] + share[3] * v[3]);
        by_location[2 * channel] = width * grad * ((1 - dy) * (v[1] - v[0]) + dy * (v[3] - v[2]));
        by_location[2 * channel + 1] = height * grad * ((1 - dx) * (v[2] - v[0]) + dx * (v[3] - v[1]));
      }
      __syncthreads();
      if (channel == 0) {
        float x_sum = by_location[0], y_sum = by_location[1], w_sum = by_weight[0];
        for (int c = 1; c < D; ++c) {
          x_sum += by_location[2 * c];
          y_sum += by_location[2 * c + 1];
          w_sum += by_weight[c];
        }
        grad_locations[2 * at] = x_sum;
        grad_locations[2 * at + 1] = y_sum;
        grad_weights[at] = w_sum;
      }
      __syncthreads();
    }
  }
}
