#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <set>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lode {
namespace {

// Longer than the gap between two regions of a token, shorter than what a sleeping machine should
// notice; about what a wake-up costs, so spinning at most doubles the cost of any wait.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kTurn = std::chrono::microseconds(100);  // the shortest that Linux grants
constexpr int kPausesPerLook = 32;  // between looks at the clock
constexpr int kChunksPerThread = 4;
constexpr int kGroupThreadsMax = 16;        // more on one ticket would wait for its cache line
constexpr int kWakesPerThread = 2;          // each who wakes up wakes others, so no one wakes all
constexpr uint32_t kResetEvery = 1u << 30;  // generations, far below the wrap of their difference

inline void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // "yield" does nothing on most cores
#endif
}

uint32_t GenerationOf(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
uint32_t LowOf(uint64_t word) { return static_cast<uint32_t>(word); }
uint64_t Pack(uint32_t generation, uint32_t low) { return uint64_t{generation} << 32 | low; }

void FutexWait(std::atomic<uint32_t>* word, uint32_t expected) {
  ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void FutexWake(std::atomic<uint32_t>* word, int count) {
  ::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

// True as soon as `ready` is, false after the time of spinning.
template <typename Ready>
bool Spin(bool enabled, const Ready& ready) {
  if (ready()) return true;
  if (!enabled) return false;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      Pause();
      if (ready()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// Best effort: a system that refuses leaves the thread where it is.
void Bind(pid_t thread, const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  const int count = *std::max_element(cpus.begin(), cpus.end()) + 1;
  cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(count));
  const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(count));
  CPU_ZERO_S(bytes, mask);
  for (const int cpu : cpus) CPU_SET_S(static_cast<size_t>(cpu), bytes, mask);
  ::sched_setaffinity(thread, bytes, mask);
  CPU_FREE(mask);
}

// sched_attr of the kernel, version 0 (the C library of Debian 12 has none).
struct SchedulerAttributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

// Asks for turns of this length; 0: the system's. Where every core is shared with another program, a
// region waits for the thread that has just lost its turn, and short turns come back sooner (beside
// one busy loop per core: 0.78 of the fair share instead of 0.68). Best effort: Linux before 6.12
// takes no such wishes from ordinary threads.
void AskForTurns(pid_t thread, std::chrono::nanoseconds length) {
  SchedulerAttributes now = {};
  if (::syscall(SYS_sched_getattr, thread, &now, sizeof(now), 0) != 0) return;
  if (now.policy != SCHED_OTHER) return;
  now.runtime = static_cast<uint64_t>(length.count());
  now.deadline = now.period = 0;
  ::syscall(SYS_sched_setattr, thread, &now, 0);
}

pid_t ThisThread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

std::vector<int> CpusOf(const Topology& topology, int Cpu::*field, int value) {
  std::vector<int> cpus;
  for (const Cpu& cpu : topology.cpus) {
    if (cpu.*field == value) cpus.push_back(cpu.id);
  }
  return cpus;
}

}  // namespace

const char* Name(Pinning pinning) {
  return pinning == Pinning::kCore ? "core" : pinning == Pinning::kNode ? "node" : "none";
}

Pinning ChoosePinning(const Topology& topology, int threads, bool cores_taken) {
  if (threads < 2 || static_cast<size_t>(threads) > topology.cpus.size()) return Pinning::kNone;
  if (topology.quota <= 0.0 && threads == topology.cores() && !cores_taken) return Pinning::kCore;
  return topology.nodes() > 1 ? Pinning::kNode : Pinning::kNone;
}

void UseProcessAffinity() { Bind(0, ProcessAffinity()); }

ThreadPool::ThreadPool(int threads, Pin pin) : ThreadPool(threads, pin, ThisTopology()) {}

ThreadPool::ThreadPool(int threads, Pin pin, Topology topology)
    : threads_max_(std::max(1, threads)), pin_(pin), topology_(std::move(topology)) {
  ProcessAffinity();  // before anything is bound
  Start(threads_max_);
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::SetThreads(int threads) {
  LODE_CHECK(threads >= 1);
  LODE_CHECK(threads <= threads_max_);
  LODE_CHECK(!running_);
  if (threads == this->threads()) return;
  Stop();
  Start(threads);
}

void ThreadPool::Start(int threads) {
  Place(threads);
  if (threads > 1) {
    owner_ = ThisThread();
    AskForTurns(owner_, kTurn);
  }
  if (pinning_ != Pinning::kNone) {
    owner_affinity_ = ThreadAffinity();
    Bind(0, members_[0].cpus);
  }
  stop_.store(false);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

void ThreadPool::Stop() {
  stop_.store(true);
  const uint32_t generation = GenerationOf(job_.load()) + 1;
  job_.store(Pack(generation, 0));
  generation_.store(generation);
  FutexWake(&generation_, INT_MAX);
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
  if (owner_ != 0) AskForTurns(owner_, std::chrono::nanoseconds(0));
  if (owner_ != 0 && pinning_ != Pinning::kNone) Bind(owner_, owner_affinity_);
  owner_ = 0;
}

void ThreadPool::Place(int threads) {
  pinning_ = Pinning::kNone;
  nodes_ = 1;
  members_.assign(static_cast<size_t>(threads), Member());
  std::vector<Cpu> placed;
  spins_ = static_cast<size_t>(threads) <= topology_.cpus.size();
  if (pin_ == Pin::kAuto) {
    placed = PlaceThreads(topology_, threads);
    pinning_ = ChoosePinning(topology_, threads, !BoundCores("", topology_).empty());
  }
  if (pinning_ == Pinning::kNone) placed.assign(static_cast<size_t>(threads), Cpu());
  std::set<int> nodes;
  for (const Cpu& cpu : placed) nodes.insert(cpu.node);
  nodes_ = static_cast<int>(nodes.size());
  for (size_t i = 0; i < members_.size(); ++i) {
    const Cpu& cpu = placed[i];
    members_[i].node = static_cast<int>(std::distance(nodes.begin(), nodes.find(cpu.node)));
    if (pinning_ == Pinning::kCore) members_[i].cpus = CpusOf(topology_, &Cpu::core, cpu.core);
    if (pinning_ == Pinning::kNode) members_[i].cpus = CpusOf(topology_, &Cpu::node, cpu.node);
  }
  MakeGroups(placed);
}

void ThreadPool::MakeGroups(const std::vector<Cpu>& placed) {
  const bool by_cache = pinning_ == Pinning::kCore;
  std::vector<int> firsts;
  for (size_t i = 0; i < placed.size(); ++i) {
    const bool new_group = i == 0 || placed[i].node != placed[i - 1].node ||
                           (by_cache && placed[i].cache != placed[i - 1].cache) ||
                           static_cast<int>(i) - firsts.back() >= kGroupThreadsMax;
    if (new_group) firsts.push_back(static_cast<int>(i));
    members_[i].group = firsts.size() - 1;
  }
  groups_ = std::vector<Group>(firsts.size());
  const uint64_t none_claimed = Pack(GenerationOf(job_.load()), 0);
  for (size_t g = 0; g < groups_.size(); ++g) {
    groups_[g].ticket.store(none_claimed);
    groups_[g].first = firsts[g];
    groups_[g].last = g + 1 < firsts.size() ? firsts[g + 1] : static_cast<int>(placed.size());
    groups_[g].node = members_[static_cast<size_t>(firsts[g])].node;
  }
}

uint32_t ThreadPool::WorkOn(Group* group, uint64_t job, int thread) {
  const uint32_t generation = GenerationOf(job);
  const int64_t chunks = LowOf(job);
  const auto team = static_cast<int64_t>(members_.size());
  const int64_t begin = chunks * group->first / team;
  const auto size = static_cast<uint32_t>(chunks * group->last / team - begin);
  uint32_t ran = 0;
  uint64_t ticket = group->ticket.load(std::memory_order_acquire);
  while (true) {
    const auto age = static_cast<int32_t>(GenerationOf(ticket) - generation);
    if (age > 0) return ran;  // we are late: that job is done
    const uint32_t next = age == 0 ? LowOf(ticket) : 0;
    if (next >= size) return ran;
    const uint64_t claimed = Pack(generation, next + 1);
    if (!group->ticket.compare_exchange_weak(ticket, claimed, std::memory_order_acq_rel)) continue;
    // The job cannot end before this chunk is counted, so body_ is still its own.
    (*body_.load(std::memory_order_relaxed))(begin + next, thread);
    ++ran;
    ticket = group->ticket.load(std::memory_order_acquire);
  }
}

uint32_t ThreadPool::Work(uint64_t job, int thread) {
  const Member& self = members_[static_cast<size_t>(thread)];
  uint32_t ran = WorkOn(&groups_[self.group], job, thread);
  if (groups_.size() == 1) return ran;
  // Then help: neighbours on the node first, each thread beginning at another group.
  for (const bool same_node : {true, false}) {
    for (size_t i = 1; i < groups_.size(); ++i) {
      Group& group = groups_[(self.group + i) % groups_.size()];
      if ((group.node == self.node) == same_node) ran += WorkOn(&group, job, thread);
    }
  }
  return ran;
}

void ThreadPool::AwaitJob(uint32_t seen) {
  const auto is_new = [&] { return GenerationOf(job_.load(std::memory_order_acquire)) != seen; };
  while (!Spin(spins_, is_new)) {
    // Either the owner sees the sleeper, or the kernel sees the owner's new generation.
    sleepers_.fetch_add(1);
    FutexWait(&generation_, seen);
    sleepers_.fetch_sub(1);
    if (is_new() && sleepers_.load() > 0) FutexWake(&generation_, kWakesPerThread);
  }
}

void ThreadPool::WorkerLoop(int thread) {
  const Member& self = members_[static_cast<size_t>(thread)];
  Bind(0, self.cpus.empty() ? ProcessAffinity() : self.cpus);  // not the owner's, if that is bound
  AskForTurns(0, kTurn);
  uint64_t job = job_.load(std::memory_order_acquire);
  while (!stop_.load()) {
    const uint32_t ran = Work(job, thread);
    if (ran > 0 && done_.fetch_add(ran) + ran == LowOf(job) && owner_sleeps_.load() != 0) {
      FutexWake(&done_, 1);
    }
    AwaitJob(GenerationOf(job));
    job = job_.load(std::memory_order_acquire);
  }
}

void ThreadPool::AwaitDone(uint32_t chunks) {
  const auto all = [&] { return done_.load(std::memory_order_acquire) == chunks; };
  if (Spin(spins_, all)) return;
  owner_sleeps_.store(1);
  for (uint32_t done = done_.load(); done != chunks; done = done_.load()) FutexWait(&done_, done);
  owner_sleeps_.store(0);
}

void ThreadPool::Run(int64_t chunks, FunctionRef<void(int64_t, int)> body) {
  LODE_CHECK(!running_);
  LODE_CHECK(chunks < int64_t{0xFFFFFFFF});
  if (chunks <= 0) return;
  if (workers_.empty() || chunks == 1) {
    for (int64_t i = 0; i < chunks; ++i) body(i, 0);
    return;
  }
  running_ = true;
  const auto count = static_cast<uint32_t>(chunks);
  const uint32_t generation = GenerationOf(job_.load(std::memory_order_relaxed)) + 1;
  if (generation % kResetEvery == 0) {
    for (Group& group : groups_) group.ticket.store(Pack(generation - 1, 0xFFFFFFFEu));
  }
  done_.store(0, std::memory_order_relaxed);
  body_.store(&body, std::memory_order_relaxed);
  const uint64_t job = Pack(generation, count);
  job_.store(job, std::memory_order_release);
  generation_.store(generation);
  if (sleepers_.load() > 0) FutexWake(&generation_, kWakesPerThread);
  const uint32_t ran = Work(job, 0);
  if (ran == 0 || done_.fetch_add(ran) + ran != count) AwaitDone(count);
  running_ = false;
}

void ThreadPool::ParallelFor(int64_t count, int64_t grain,
                             FunctionRef<void(int64_t, int64_t, int)> body) {
  if (count <= 0) return;
  const int64_t pieces =
      std::max<int64_t>(1, std::min<int64_t>(int64_t{threads()} * kChunksPerThread,
                                             count / std::max<int64_t>(1, grain)));
  const auto run = [&](int64_t piece, int thread) {
    body(count * piece / pieces, count * (piece + 1) / pieces, thread);
  };
  Run(pieces, run);
}

}  // namespace lode
