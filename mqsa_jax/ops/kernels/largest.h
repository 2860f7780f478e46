// The largest entries of each row, in order.

#ifndef MQSA_JAX_KERNELS_LARGEST_H_
#define MQSA_JAX_KERNELS_LARGEST_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tasks.h"
#include "vector.h"

namespace mqsa_jax {

struct LargestArguments {
  int64_t rows, columns, count;  // count <= columns
  const float* value;            // [rows, columns]
  float* largest;                // [rows, count]
  int32_t* index;                // [rows, count]
};

struct Entry {
  float value;
  int32_t index;
};

// Whether an entry stands before another one: what is not a number first, then by value; of equals
// the one of smaller index.
inline bool Before(const Entry& a, const Entry& b) {
  const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
  if (a_is_nan != b_is_nan) return a_is_nan;
  if (!a_is_nan && a.value != b.value) return a.value > b.value;
  return a.index < b.index;
}

// A heap of the entries so far, the last of them in front: nearly all others are dismissed by
// comparing a vector of them with that one.
inline void LargestOfRow(const LargestArguments& args, int64_t row) {
  const float* value = args.value + row * args.columns;
  std::vector<Entry> heap(args.count);
  for (int32_t i = 0; i < args.count; i++) heap[i] = {value[i], i};
  std::make_heap(heap.begin(), heap.end(), Before);
  const auto consider = [&](int64_t i) {
    const Entry entry{value[i], static_cast<int32_t>(i)};
    if (!Before(entry, heap.front())) return;
    std::pop_heap(heap.begin(), heap.end(), Before);
    heap.back() = entry;
    std::push_heap(heap.begin(), heap.end(), Before);
  };
  int64_t i = args.count;
  for (; i + kLanes <= args.columns; i += kLanes)
    if (Any(~(Load(value + i) <= Fill(heap.front().value))))
      for (int64_t j = i; j < i + kLanes; j++) consider(j);
  for (; i < args.columns; i++) consider(i);
  std::sort_heap(heap.begin(), heap.end(), Before);
  for (int64_t i = 0; i < args.count; i++) {
    args.largest[row * args.count + i] = heap[i].value;
    args.index[row * args.count + i] = heap[i].index;
  }
}

inline void Largest(const LargestArguments& args, Pool& pool) {
  if (args.count == 0) return;
  ForEachTask(pool, args.rows, [&](int64_t row) { LargestOfRow(args, row); });
}

}  // namespace mqsa_jax

#endif  // MQSA_JAX_KERNELS_LARGEST_H_
