// Runs every CPU kernel that this processor has over a matrix of shapes, on heap blocks of exactly the tensors' sizes,
// and compares with sums written the slow way. Built with -fsanitize=address,undefined by test_sanitizers.py.
#include <cmath>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "binding.h"

namespace {

struct Case {
  int64_t B, M, D, Q, P;
  std::vector<std::pair<int64_t, int64_t>> shapes;
  double low, high;  // range of the locations
};

template <class T> struct Tensors {
  std::vector<T> value, locations, weights, grad_out, out, grad_value, grad_locations, grad_weights;
};

template <class T> std::vector<T> random_of(size_t n, double low, double high, std::mt19937& generator) {
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<T> v(n);
  for (auto& x : v) x = T(uniform(generator));
  return v;
}

// One corner: its weight, and the weight's slopes in x and y.
template <class F> void corners(double x, double y, int64_t h, int64_t w, const F& visit) {
  const double fx = std::floor(x), fy = std::floor(y), lx = x - fx, ly = y - fy;
  for (int j = 0; j < 2; j++)
    for (int i = 0; i < 2; i++) {
      const double cx = fx + i, cy = fy + j;
      if (cx < 0 || cy < 0 || cx >= double(w) || cy >= double(h)) continue;
      const double wx = i ? lx : 1 - lx, wy = j ? ly : 1 - ly;
      visit(int64_t(cy) * w + int64_t(cx), wx * wy, (i ? 1 : -1) * wy, (j ? 1 : -1) * wx);
    }
}

template <class T> Tensors<double> expected(const Case& c, const Tensors<T>& t, int64_t S) {
  const int64_t L = int64_t(c.shapes.size()), LP = L * c.P;
  Tensors<double> e;
  e.out.resize(t.out.size()), e.grad_value.resize(t.value.size());
  e.grad_locations.resize(t.locations.size()), e.grad_weights.resize(t.weights.size());
  for (int64_t b = 0; b < c.B; b++)
    for (int64_t q = 0; q < c.Q; q++)
      for (int64_t m = 0; m < c.M; m++) {
        const int64_t head = (b * c.Q + q) * c.M + m;
        int64_t start = 0;
        for (int64_t l = 0; l < L; l++) {
          const int64_t h = c.shapes[l].first, w = c.shapes[l].second;
          for (int64_t p = 0; p < c.P; p++) {
            const int64_t i = head * LP + l * c.P + p;
            const double a = t.weights[i];
            corners(double(t.locations[2 * i]) * w - 0.5, double(t.locations[2 * i + 1]) * h - 0.5, h, w,
                    [&](int64_t cell, double weight, double dx, double dy) {
                      const int64_t row = ((b * S + start + cell) * c.M + m) * c.D;
                      double dot = 0;
                      for (int64_t d = 0; d < c.D; d++) {
                        const double g = t.grad_out[head * c.D + d];
                        e.out[head * c.D + d] += a * weight * t.value[row + d];
                        e.grad_value[row + d] += a * weight * g;
                        dot += g * t.value[row + d];
                      }
                      e.grad_weights[i] += weight * dot;
                      e.grad_locations[2 * i] += a * dx * w * dot;
                      e.grad_locations[2 * i + 1] += a * dy * h * dot;
                    });
          }
          start += h * w;
        }
      }
  return e;
}

template <class T> double error(const std::vector<T>& got, const std::vector<double>& wanted) {
  double worst = 0, size = 1e-30;
  for (size_t i = 0; i < got.size(); i++) {
    worst = std::isnan(got[i]) ? INFINITY : std::fmax(worst, std::fabs(got[i] - wanted[i]));
    size = std::fmax(size, std::fabs(wanted[i]));
  }
  return worst / std::fmax(size, 1.0);
}

template <class T> bool run(const Case& c, int variant, int64_t threads, double tolerance) {
  std::mt19937 generator(7);
  int64_t S = 0;
  for (auto [h, w] : c.shapes) S += h * w;
  const int64_t L = int64_t(c.shapes.size()), heads = c.B * c.Q * c.M;
  Tensors<T> t;
  t.value = random_of<T>(c.B * S * c.M * c.D, -1, 1, generator);
  t.locations = random_of<T>(heads * L * c.P * 2, c.low, c.high, generator);
  t.weights = random_of<T>(heads * L * c.P, 0, 1, generator);
  t.grad_out = random_of<T>(heads * c.D, -1, 1, generator);
  t.out.assign(heads * c.D, T(NAN)), t.grad_value.assign(t.value.size(), T(NAN));
  t.grad_locations.assign(t.locations.size(), T(NAN)), t.grad_weights.assign(t.weights.size(), T(NAN));
  MsdaCall call{c.B, S, c.M, c.D, c.Q, L, c.P, {}, t.value.data(), t.locations.data(), t.weights.data(),
                t.grad_out.data(), t.out.data(), t.grad_value.data(), t.grad_locations.data(),
                t.grad_weights.data(), sizeof(T) == 8, threads, variant};
  for (int64_t l = 0; l < L; l++) call.shapes[2 * l] = c.shapes[l].first, call.shapes[2 * l + 1] = c.shapes[l].second;
  if ((heads && msda_forward(&call)) || msda_backward(&call)) return false;
  const auto e = expected(c, t, S);
  const double errors[] = {error(t.out, e.out), error(t.grad_value, e.grad_value),
                           error(t.grad_locations, e.grad_locations), error(t.grad_weights, e.grad_weights)};
  bool fine = true;
  for (double x : errors) fine = fine && x < tolerance;
  if (!fine)
    std::printf("%s %s B=%ld M=%ld D=%ld Q=%ld L=%ld P=%ld threads=%ld: out %g value %g locations %g weights %g\n",
                msda_variant_name(variant), sizeof(T) == 8 ? "double" : "float", long(c.B), long(c.M), long(c.D),
                long(c.Q), long(L), long(c.P), long(threads), errors[0], errors[1], errors[2], errors[3]);
  return fine;
}

}  // namespace

int main() {
  std::vector<Case> cases;
  for (int64_t D : {8, 16, 20, 32, 48, 64, 100, 128}) cases.push_back({2, 2, D, 5, 4, {{6, 5}, {3, 2}}, -0.2, 1.2});
  for (int64_t P : {1, 2, 3, 4, 5, 8, 16}) cases.push_back({1, 2, 32, 7, P, {{5, 6}, {2, 3}, {1, 1}}, -0.2, 1.2});
  for (int64_t L : {1, 2, 3, 4, 5}) cases.push_back({1, 3, 16, 9, 2, std::vector(L, std::pair<int64_t, int64_t>(4, 4)), -0.1, 1.1});
  for (int64_t Q : {0, 1, 3, 17, 300}) cases.push_back({3, 1, 32, Q, 4, {{4, 7}, {1, 5}, {5, 1}}, -0.2, 1.2});
  cases.push_back({1, 1, 32, 40, 4, {{3, 3}}, 2, 3});        // all outside
  cases.push_back({1, 1, 32, 40, 4, {{3, 3}}, -1e30, 1e30});  // and far
  cases.push_back({1, 1, 32, 3, 4, {{40, 40}}, 0, 1});       // few samples for many cells: native layout
  cases.push_back({1, 2, 20, 3, 4, {{40, 40}}, 0, 1});
  bool fine = true;
  int runs = 0;
  for (const Case& c : cases)
    for (int variant = 0; variant < msda_variants(); variant++)
      for (int64_t threads : {1, 2, 9}) {
        if (!msda_variant_usable(variant)) continue;
        fine = run<float>(c, variant, threads, 2e-5) && fine;
        fine = run<double>(c, variant, threads, 1e-12) && fine;
        runs += 2;
      }
  std::printf("%d runs, %s\n", runs, fine ? "all equal" : "some differ");
  return fine ? 0 : 1;
}
