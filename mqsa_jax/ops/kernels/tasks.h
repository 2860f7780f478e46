// Tasks shared out among the threads of XLA's own pool.

#ifndef MQSA_JAX_KERNELS_TASKS_H_
#define MQSA_JAX_KERNELS_TASKS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace mqsa_jax {

using Pool = xla::ffi::ThreadPool;

// Calls task(0), ..., task(count - 1), each once, in any order, and returns after the last.
//
// The calling thread takes tasks too, and waits only for those that others have begun: it may be one
// of the pool's, which would wait for itself if all had to be taken by others.
template <typename Task>
void ForEachTask(Pool& pool, int64_t count, const Task& task) {
  struct Progress {
    std::atomic<int64_t> taken{0}, done{0};
  };
  auto progress = std::make_shared<Progress>();
  // A helper may start after the return: it then finds nothing to take, and `task` is not touched.
  auto work = [progress, count, &task]() noexcept {
    for (int64_t i; (i = progress->taken.fetch_add(1)) < count;) {
      task(i);
      progress->done.fetch_add(1, std::memory_order_release);
    }
  };
  const int64_t helpers = std::min(pool.num_threads(), count) - 1;
  for (int64_t helper = 0; helper < helpers; helper++) {
    auto copy = work;
    pool.Schedule(std::move(copy));
  }
  work();
  while (progress->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
}

}  // namespace mqsa_jax

#endif  // MQSA_JAX_KERNELS_TASKS_H_
