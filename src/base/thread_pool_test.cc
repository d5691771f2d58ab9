#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace lode {
namespace {

TEST(ThreadPool, RunsEveryChunkOnceForAnyThreadCount) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 300; ++round) {
      const int64_t chunks = round % 23;
      std::vector<std::atomic<int>> hits(static_cast<size_t>(chunks) + 1);
      pool.Run(chunks, [&](int64_t chunk, int thread) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, threads);
        hits[chunk].fetch_add(1);
      });
      for (int64_t i = 0; i < chunks; ++i) EXPECT_EQ(hits[i].load(), 1);
    }
  }
}

TEST(ThreadPool, ParallelForCoversTheRangeWithoutOverlap) {
  ThreadPool pool(3);
  for (const int64_t count : {0, 1, 2, 5, 100, 1001}) {
    std::vector<std::atomic<int>> hits(static_cast<size_t>(count) + 1);
    pool.ParallelFor(count, 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) hits[i].fetch_add(1);
    });
    for (int64_t i = 0; i < count; ++i) EXPECT_EQ(hits[i].load(), 1);
  }
}

}  // namespace
}  // namespace lode
