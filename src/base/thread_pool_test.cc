#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace lode {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// `nodes` nodes of `cores` cores each, with one cache a node. Not this machine's.
Topology Machine(int nodes, int cores) {
  Topology topology;
  for (int i = 0; i < nodes * cores; ++i) {
    topology.cpus.push_back(
        {.id = 40000 + i, .node = i / cores, .cache = i / cores * cores, .core = i});
  }
  return topology;
}

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

TEST(ThreadPool, RunsEveryChunkOnceInManyGroups) {
  for (const auto& [nodes, cores] : {std::pair(2, 2), std::pair(4, 1), std::pair(3, 3)}) {
    ThreadPool pool(nodes * cores, Pin::kAuto, Machine(nodes, cores));
    EXPECT_EQ(pool.nodes(), nodes);
    for (int round = 0; round < 2000; ++round) {
      const int64_t chunks = round % 41;
      std::vector<std::atomic<int>> hits(static_cast<size_t>(chunks) + 1);
      pool.Run(chunks, [&](int64_t chunk, int) { hits[chunk].fetch_add(1); });
      for (int64_t i = 0; i < chunks; ++i) ASSERT_EQ(hits[i].load(), 1) << nodes << " " << round;
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

TEST(ThreadPool, AMillionRegionsLoseNoWakeUp) {
  // Regions in bursts: between them the workers are spinning, about to sleep, or asleep.
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  const std::function<void(int64_t, int)> body = [&](int64_t chunk, int) {
    sum.fetch_add(chunk + 1, std::memory_order_relaxed);
  };
  int64_t expected = 0;
  for (int64_t region = 0; region < 1'000'000; ++region) {
    pool.Run(2 + region % 3, body);
    expected += (2 + region % 3) * (3 + region % 3) / 2;
    if (region % 20'000 == 0) std::this_thread::sleep_for(microseconds(40 + region / 20'000));
  }
  EXPECT_EQ(sum.load(), expected);
}

TEST(ThreadPool, MoreThreadsThanCoresLoseNoWakeUpEither) {
  ThreadPool pool(UsableCores() + 6);
  std::atomic<int64_t> sum{0};
  for (int region = 0; region < 3000; ++region) {
    pool.Run(5, [&](int64_t chunk, int) {
      if ((region + chunk) % 97 == 0) std::this_thread::sleep_for(microseconds(200));
      sum.fetch_add(1);
    });
  }
  EXPECT_EQ(sum.load(), 5 * 3000);
}

TEST(ThreadPool, AWorkerThatIsDescheduledCostsOnlyTheChunkItHolds) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> by_owner{0}, by_worker{0}, running{0};
    const auto start = std::chrono::steady_clock::now();
    pool.Run(100, [&](int64_t, int thread) {
      if (thread == 0) {
        ++by_owner;
        // The owner lets the worker have a chunk before it takes them all.
        while (running.load() == 0 &&
               std::chrono::steady_clock::now() - start < milliseconds(500)) {
          std::this_thread::yield();
        }
      } else {
        ++by_worker;
        running.store(1);
        while (by_owner.load() < 99) std::this_thread::yield();  // holds it till the rest is done
      }
    });
    EXPECT_EQ(by_owner.load() + by_worker.load(), 100);
    EXPECT_LE(by_worker.load(), 1);
  }
}

TEST(ThreadPool, AGroupWorksOnItsOwnPartFirst) {
  ThreadPool pool(4, Pin::kAuto, Machine(2, 2));
  EXPECT_EQ(pool.pinning(), Pinning::kCore);
  EXPECT_EQ(pool.node(1), 0);
  EXPECT_EQ(pool.node(2), 1);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> inside{0};
    std::vector<int> ran_by(4, -1);
    pool.Run(4, [&](int64_t chunk, int thread) {
      ran_by[static_cast<size_t>(chunk)] = thread;
      ++inside;
      while (inside.load() < 4) std::this_thread::yield();  // so each thread gets exactly one
    });
    for (size_t chunk = 0; chunk < 4; ++chunk) EXPECT_EQ(pool.node(ran_by[chunk]), chunk / 2);
  }
}

TEST(ThreadPool, AGroupHelpsAnotherThatIsHeldUp) {
  ThreadPool pool(4, Pin::kAuto, Machine(2, 2));
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> by_first{0}, by_second{0};
    pool.Run(40, [&](int64_t, int thread) {
      if (pool.node(thread) == 0) {
        ++by_first;
      } else {
        ++by_second;
        while (by_first.load() < 38) std::this_thread::yield();
      }
    });
    EXPECT_EQ(by_first.load() + by_second.load(), 40);
    EXPECT_LE(by_second.load(), 2);
  }
}

TEST(ThreadPool, ChangesItsNumberOfThreads) {
  ThreadPool pool(4);
  for (const int threads : {1, 3, 4, 2, 2, 1, 4}) {
    pool.SetThreads(threads);
    EXPECT_EQ(pool.threads(), threads);
    EXPECT_EQ(pool.threads_max(), 4);
    for (int round = 0; round < 20; ++round) {
      std::vector<std::atomic<int>> hits(17);
      pool.Run(17, [&](int64_t chunk, int thread) {
        EXPECT_LT(thread, threads);
        hits[chunk].fetch_add(1);
      });
      for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
    }
  }
}

TEST(Pinning, BindsOnlyWhereItCannotBeWrong) {
  EXPECT_EQ(ChoosePinning(Machine(1, 4), 4, false), Pinning::kCore);
  EXPECT_EQ(ChoosePinning(Machine(2, 4), 8, false), Pinning::kCore);
  EXPECT_EQ(ChoosePinning(Machine(1, 4), 4, true), Pinning::kNone);   // others of ours sit there
  EXPECT_EQ(ChoosePinning(Machine(1, 4), 3, false), Pinning::kNone);  // which three?
  EXPECT_EQ(ChoosePinning(Machine(2, 4), 6, false), Pinning::kNode);
  EXPECT_EQ(ChoosePinning(Machine(2, 4), 8, true), Pinning::kNode);
  EXPECT_EQ(ChoosePinning(Machine(1, 4), 5, false), Pinning::kNone);  // more threads than cores
  EXPECT_EQ(ChoosePinning(Machine(2, 4), 9, false), Pinning::kNone);
  EXPECT_EQ(ChoosePinning(Machine(1, 1), 1, false), Pinning::kNone);
  Topology limited = Machine(1, 4);
  limited.quota = 4.0;
  EXPECT_EQ(ChoosePinning(limited, 4, false), Pinning::kNone);  // who knows which cores are shared
}

TEST(Pinning, TheCallerGetsItsMaskBackWhenThePoolGoes) {
  std::thread([] {
    const std::vector<int> before = ThreadAffinity();
    {
      ThreadPool pool(UsableCores(), Pin::kAuto);
      if (pool.pinning() == Pinning::kCore) {
        EXPECT_LT(ThreadAffinity().size(), before.size());
        // Workers of another pool are not caught in the caller's core.
        ThreadPool other(2);
        std::atomic<size_t> cpus{0};
        std::atomic<int> inside{0};
        other.Run(2, [&](int64_t, int thread) {
          if (thread == 1) cpus = ThreadAffinity().size();
          ++inside;
          while (inside.load() < 2) std::this_thread::yield();
        });
        EXPECT_EQ(cpus.load(), ProcessAffinity().size());
        std::thread([&] {
          EXPECT_LT(ThreadAffinity().size(), before.size());  // inherited
          UseProcessAffinity();
          EXPECT_EQ(ThreadAffinity(), ProcessAffinity());
        }).join();
      }
    }
    EXPECT_EQ(ThreadAffinity(), before);
  }).join();
}

TEST(Pinning, IsOffUnlessAskedFor) {
  const std::vector<int> before = ThreadAffinity();
  const ThreadPool pool(UsableCores());
  EXPECT_EQ(pool.pinning(), Pinning::kNone);
  EXPECT_EQ(pool.nodes(), 1);
  EXPECT_EQ(ThreadAffinity(), before);
}

}  // namespace
}  // namespace lode
