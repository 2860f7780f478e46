// Sums of x^T W E for a sparse W, with all gradients: sparse entries of x E^T, each with a weight.

#ifndef MQSA_JAX_KERNELS_SPARSE_BILINEAR_H_
#define MQSA_JAX_KERNELS_SPARSE_BILINEAR_H_

#include <algorithm>
#include <cstdint>

#include "tasks.h"

namespace mqsa_jax {

// Each task owns a range of rows, or of items, and passes over all entries for its own: no two write
// to the same offset, and sums do not depend on the number of threads.
inline constexpr int64_t kTasks = 16;

struct BilinearArguments {
  int64_t entries, rows, items, dim;
  const float *x, *table;     // [rows, dim], [items, dim]
  const int32_t *row, *item;  // [entries]
  const float* weight;        // [entries]
  float *dx, *dtable, *dweight;

  // Whether an entry has a weight, and a offset.
  bool Counts(int64_t m) const {
    return weight[m] != 0 && row[m] >= 0 && row[m] < rows && item[m] >= 0 && item[m] < items;
  }
};

inline float Dot(const float* a, const float* b, int64_t dim) {
  constexpr int kSums = 16;
  float sums[kSums] = {}, total = 0;
  int64_t d = 0;
  for (; d + kSums <= dim; d += kSums)
    for (int j = 0; j < kSums; j++) sums[j] += a[d + j] * b[d + j];
  for (; d < dim; d++) total += a[d] * b[d];
  for (const float sum : sums) total += sum;
  return total;
}

inline void AddScaled(float scale, const float* from, float* to, int64_t dim) {
  for (int64_t d = 0; d < dim; d++) to[d] += scale * from[d];
}

// Calls body(m) for the entries m that count and whose index is owned by the task, after its part of
// the gradient, [size, dim], is 0.
template <typename Body>
void ForEachOwned(const BilinearArguments& args, int64_t task, const int32_t* index, int64_t size,
                  float* gradient, const Body& body) {
  const int64_t begin = size * task / kTasks, end = size * (task + 1) / kTasks;
  std::fill(gradient + begin * args.dim, gradient + end * args.dim, 0.0f);
  for (int64_t m = 0; m < args.entries; m++)
    if (index[m] >= begin && index[m] < end && args.Counts(m)) body(m);
}

// The sum; gradients go where the arguments say, 0 by weights that are 0.
inline float SparseBilinear(const BilinearArguments& args, Pool& pool) {
  float* dots = args.dweight;
  std::fill_n(dots, args.entries, 0.0f);
  ForEachTask(pool, kTasks, [&](int64_t task) {
    ForEachOwned(args, task, args.row, args.rows, args.dx, [&](int64_t m) {
      const float* from = args.table + args.item[m] * args.dim;
      dots[m] = Dot(args.x + args.row[m] * args.dim, from, args.dim);
      AddScaled(args.weight[m], from, args.dx + args.row[m] * args.dim, args.dim);
    });
  });
  ForEachTask(pool, kTasks, [&](int64_t task) {
    ForEachOwned(args, task, args.item, args.items, args.dtable, [&](int64_t m) {
      const float* from = args.x + args.row[m] * args.dim;
      AddScaled(args.weight[m], from, args.dtable + args.item[m] * args.dim, args.dim);
    });
  });
  double total = 0;
  for (int64_t m = 0; m < args.entries; m++) total += args.weight[m] * dots[m];
  return static_cast<float>(total);
}

}  // namespace mqsa_jax

#endif  // MQSA_JAX_KERNELS_SPARSE_BILINEAR_H_
