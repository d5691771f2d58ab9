// What a region of work costs beside its work, alone and with foreign processes on every core: the
// thread pool of base, bound and free, beside the two ways that it was chosen over (spin always;
// sleep after every region; both with the work cut once per thread).
//
//   thread_pool_bench [REGIONS [THREADS]]       400 regions, as many threads as cores
//
// Each line: milliseconds for all regions: best, median and worst of repetitions that take turns.
// "The work alone" is one thread's share without any waiting, with as many foreign processes about.
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_pool.h"

namespace lode {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

// Additions that wait for each other: their time is a matter of the clock alone. One copy for all.
[[gnu::noinline]] void Burn(int64_t steps) {
  uint64_t x = 1;
  for (int64_t i = 0; i < steps; ++i) asm volatile("" : "+r"(x = x + 1));
}

double StepsPerMicrosecond() {
  double best = 0.0;
  for (int i = 0; i < 20; ++i) {
    const auto start = Clock::now();
    Burn(1'000'000);
    best = std::max(best, 1.0 / Seconds(start));
  }
  return best;  // a million steps in so many seconds: steps a microsecond
}

// One share per thread and region; waits by spinning, or by sleeping in the kernel at once.
class StaticTeam {
 public:
  StaticTeam(int threads, bool sleep) : threads_(threads), sleep_(sleep) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { Loop(); });
  }
  ~StaticTeam() {
    stop_ = true;
    Post(&generation_, generation_.load() + 1);
    for (std::thread& worker : workers_) worker.join();
  }
  void Run(int64_t steps) {
    steps_ = steps;
    done_ = 1;
    Post(&generation_, generation_.load() + 1);
    Burn(steps);
    for (uint32_t done = done_; done != static_cast<uint32_t>(threads_); done = done_) {
      Await(&done_, done);
    }
  }

 private:
  void Await(std::atomic<uint32_t>* word, uint32_t old) {
    while (word->load() == old) {
      if (sleep_) ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
    }
  }
  void Post(std::atomic<uint32_t>* word, uint32_t value) {
    word->store(value);
    if (sleep_) ::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 20, nullptr, nullptr, 0);
  }
  void Loop() {
    for (uint32_t seen = 0; !stop_;) {
      Await(&generation_, seen);
      seen = generation_;
      if (stop_) return;
      Burn(steps_);
      done_.fetch_add(1);
      if (sleep_) ::syscall(SYS_futex, &done_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
  }

  int threads_;
  bool sleep_;
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  std::atomic<int64_t> steps_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// One way to run regions. Makes its threads, runs them, and says how long the regions took.
struct Way {
  std::string name;
  std::function<double()> run;
  std::vector<double> times = {};
};

double Milliseconds(int regions, const std::function<void()>& region) {
  for (int i = 0; i < 10; ++i) region();  // threads start
  const auto begin = Clock::now();
  for (int i = 0; i < regions; ++i) region();
  return 1e3 * Seconds(begin);
}

void Compare(int regions, int threads, int foreign, double microseconds, double steps_per_us) {
  const auto share = static_cast<int64_t>(microseconds * steps_per_us);
  std::vector<Way> ways;
  ways.push_back({"the work alone", [&] { return Milliseconds(regions, [&] { Burn(share); }); }});
  for (const bool sleep : {false, true}) {
    ways.push_back({sleep ? "sleep, static" : "spin, static", [=] {
                      StaticTeam team(threads, sleep);
                      return Milliseconds(regions, [&] { team.Run(share); });
                    }});
  }
  for (const Pin pin : {Pin::kAuto, Pin::kOff}) {
    const std::string name =
        std::string("the pool, bound: ") + Name(ThreadPool(threads, pin).pinning());
    ways.push_back({name, [=] {
                      ThreadPool pool(threads, pin);
                      const std::function<void(int64_t, int)> body = [&](int64_t, int) {
                        Burn(share / 4);
                      };
                      return Milliseconds(regions, [&] { pool.Run(4 * threads, body); });
                    }});
  }
  const auto start = Clock::now();
  for (int i = 0; i < 25 && (i < 5 || Seconds(start) < 6.0);
       ++i) {  // in turn, so that what else the machine does meets all alike
    for (Way& way : ways) way.times.push_back(way.run());
  }
  for (Way& way : ways) {
    std::sort(way.times.begin(), way.times.end());
    std::printf("%7d  %7.0f  %-22s  %8.2f  %8.2f  %8.2f\n", foreign, microseconds, way.name.c_str(),
                way.times.front(), way.times[way.times.size() / 2], way.times.back());
    std::fflush(stdout);
  }
}

void Main(int regions, int threads) {
  const double steps = StepsPerMicrosecond();
  std::printf("%d regions, %d threads; milliseconds\n", regions, threads);
  std::printf("foreign  us work  pool                        best    median     worst\n");
  for (const int foreign : {0, threads}) {
    std::vector<pid_t> children;
    for (int i = 0; i < foreign; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        ::alarm(120);
        while (true) Burn(1'000'000);
      }
      children.push_back(child);
    }
    for (const double microseconds : {0.0, 10.0, 50.0}) {
      Compare(regions, threads, foreign, microseconds, steps);
    }
    for (const pid_t child : children) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
  }
}

}  // namespace
}  // namespace lode

int main(int argc, char** argv) {
  const int regions = argc > 1 ? std::atoi(argv[1]) : 400;
  lode::Main(std::max(1, regions), argc > 2 ? std::atoi(argv[2]) : lode::UsableCores());
}
