// A fixed team of threads that splits one region of work at a time (design: "thread pool" in
// docs/ARCHITECTURE.md). Work is cut into chunks which any thread claims, the caller included, so
// an absent worker costs at most the chunk it holds. A chunk is a range of outputs: who computes it
// can never change bits. Workers spin a little (a wake-up costs tens of microseconds), then sleep.
//
// Threads that share a NUMA node and a last-level cache form a group. The groups own contiguous
// parts of the chunks, the same fractions in every region; a thread claims from its group's part,
// and from the others' only when that has no more. So what a node touched first tends to stay with
// that node.
//
// Binding to cores, when it is asked for (Pin::kAuto):
//   * one thread per physical core, when the team covers every core that we may use, no cgroup quota
//     is in force and no other thread of this program is bound to one of them: then the choice of
//     cores cannot be wrong, and a foreign process costs its fair share instead of stalling regions;
//   * else, on a machine of several NUMA nodes, each thread to its node;
//   * else not at all: the system places threads better than somebody who sees a part of them.
// The caller is bound, too, and gets its former mask back when the pool goes. Threads that it
// starts meanwhile inherit one core: they call UseProcessAffinity first.
//
// Threads: Run is called by one thread at a time (the owner); nested calls are a bug.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "base/function_ref.h"
#include "base/topology.h"

namespace lode {

enum class Pin : uint8_t { kOff, kAuto };

// What became of it.
enum class Pinning : uint8_t { kNone, kNode, kCore };
const char* Name(Pinning pinning);  // "none", "node", "core"
// The rule above. `cores_taken`: some other thread of this program is bound to a core.
Pinning ChoosePinning(const Topology& topology, int threads, bool cores_taken);

class ThreadPool {
 public:
  // `threads` counts the caller: 1 means no extra thread.
  explicit ThreadPool(int threads, Pin pin = Pin::kOff);
  ThreadPool(int threads, Pin pin, Topology topology);  // of a machine that is not this one: tests
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }
  // Another number of threads from now on, 1 to threads_max(), placed anew. Costs a start of
  // threads.
  void SetThreads(int threads);
  int threads_max() const { return threads_max_; }

  Pinning pinning() const { return pinning_; }
  // NUMA nodes that the threads are bound to, 1 when they are not; and the node of one of them, 0
  // up.
  int nodes() const { return nodes_; }
  int node(int thread) const { return members_[static_cast<size_t>(thread)].node; }

  // Calls body(chunk, thread) for every chunk in [0, chunks), each once; returns when all are done.
  // `thread` is in [0, threads()) and picks a scratch buffer, nothing else.
  void Run(int64_t chunks, FunctionRef<void(int64_t chunk, int thread)> body);

  // Splits [0, count) into ranges of at least `grain` items, about four a thread.
  void ParallelFor(int64_t count, int64_t grain,
                   FunctionRef<void(int64_t begin, int64_t end, int thread)> body);

 private:
  // Threads [first, last), with the next chunk of their part to claim: generation in the upper
  // half, chunk within the part in the lower. A generation before the job's means that none was
  // claimed.
  struct alignas(64) Group {
    std::atomic<uint64_t> ticket{0};
    int first = 0, last = 0;
    int node = 0;
  };
  struct Member {
    int node = 0;
    size_t group = 0;
    std::vector<int> cpus;  // to bind to; empty: stay free
  };

  void Place(int threads);
  void MakeGroups(const std::vector<Cpu>& placed);
  void Start(int threads);
  void Stop();
  void WorkerLoop(int thread);
  // Claims chunks of job `job` until none is left anywhere; returns how many it ran.
  uint32_t Work(uint64_t job, int thread);
  uint32_t WorkOn(Group* group, uint64_t job, int thread);
  // Blocks until the job's generation is no longer `seen`; spins first.
  void AwaitJob(uint32_t seen);
  void AwaitDone(uint32_t chunks);

  int threads_max_;
  Pin pin_;
  Topology topology_;
  Pinning pinning_ = Pinning::kNone;
  int nodes_ = 1;
  std::vector<Member> members_;  // by thread
  std::vector<Group> groups_;

  // The job: generation in the upper half, number of chunks in the lower, so that who reads it late
  // never mixes two jobs. body_ and done_ are set before it.
  alignas(64) std::atomic<uint64_t> job_{0};
  std::atomic<uint32_t> generation_{0};  // what sleeping workers wait on; follows job_
  std::atomic<const FunctionRef<void(int64_t, int)>*> body_{nullptr};
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<uint32_t> done_{0};  // chunks finished; what a sleeping owner waits on
  std::atomic<uint32_t> owner_sleeps_{0};
  alignas(64) std::atomic<uint32_t> sleepers_{0};
  alignas(64) bool running_ = false;  // the owner's, to catch nesting
  bool spins_ = true;                 // there is a core for every thread

  std::vector<std::thread> workers_;
  pid_t owner_ = 0;                  // whose turns were changed, and mask where bound; 0: nobody's
  std::vector<int> owner_affinity_;  // what it was
};

// Gives the calling thread the mask the process was started with: for threads that an owner of a
// pool starts.
void UseProcessAffinity();

}  // namespace lode
