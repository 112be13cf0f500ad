// Runs a list of tasks on the caller's threads, each taking the next one when it is done with the last.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "attention.h"

namespace flash_attn_cpu {

// body(task_index) for each index in [0, count). An exception of a body ends the queue and is thrown here, on
// the calling thread: it must not unwind through the thread pool's frames.
template <class Body>
void run_tasks(int64_t count, const Threads& threads, const Body& body) {
  if (count <= 0) return;
  const int64_t workers = count < threads.count ? count : threads.count;
  if (workers <= 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  struct Queue {
    const Body* body;
    int64_t count;
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::exception_ptr error;
  } queue;
  queue.body = &body;
  queue.count = count;
  threads.parallel_for(
      workers,
      [](int64_t, void* context) {
        Queue& q = *static_cast<Queue*>(context);
        try {
          for (int64_t i = q.next++; i < q.count; i = q.next++) (*q.body)(i);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(q.mutex);
          if (!q.error) q.error = std::current_exception();
          q.next = q.count;
        }
      },
      &queue);
  if (queue.error) std::rethrow_exception(queue.error);
}

}  // namespace flash_attn_cpu
