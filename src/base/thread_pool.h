// A fixed team of threads that splits one region of work at a time (design: "thread pool" in
// docs/ARCHITECTURE.md). Work is cut into chunks which any thread claims, the caller included, so an
// absent worker costs at most the chunk it holds. A chunk is a range of outputs: who computes it can
// never change bits. Workers spin a little (a wake-up costs tens of microseconds), then sleep.
//
// Threads: Run is called by one thread at a time (the owner); nested calls are a bug.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace lode {

class ThreadPool {
 public:
  // `threads` counts the caller: 1 means no extra thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(chunk, thread) for every chunk in [0, chunks), each once; returns when all are done.
  // `thread` is in [0, threads()) and picks a scratch buffer, nothing else.
  void Run(int64_t chunks, const std::function<void(int64_t chunk, int thread)>& body);

  // Splits [0, count) into ranges of at least `grain` items, about four a thread.
  void ParallelFor(int64_t count, int64_t grain,
                   const std::function<void(int64_t begin, int64_t end, int thread)>& body);

 private:
  void WorkerLoop(int thread);
  bool ClaimAndRun(int thread);

  // Generation in the upper half, the next unclaimed chunk in the lower half: one compare-and-swap
  // claims a chunk of exactly the job that was looked at.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<uint32_t> generation_{0};  // what sleepers wait on
  std::atomic<int64_t> chunks_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<const std::function<void(int64_t, int)>*> body_{nullptr};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  bool running_ = false;  // the owner's, to catch nesting
  std::vector<std::thread> workers_;
};

}  // namespace lode
