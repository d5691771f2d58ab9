#include "base/cpu_usage.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "base/fake_machine.h"

namespace lode {
namespace {

TEST(CpuUsage, AddsTheBusyTimesOfTheCpusAsked) {
  const FakeMachine machine;
  machine.Write("proc/stat",
                "cpu  9 9 9 9 9 9 9 9 9 9\n"
                "cpu0 100 20 30 5000 4000 1 2 47 100 0\n"
                "cpu1 1 1 1 7 7 1 1 1 0 0\n"
                "cpu12 300 0 0 7 7 0 0 0 0 0\n"
                "intr 5\n");
  const double tick = 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  EXPECT_DOUBLE_EQ(*BusySeconds(machine.root(), {0}), 200 * tick);
  EXPECT_DOUBLE_EQ(*BusySeconds(machine.root(), {0, 12}), 500 * tick);
  EXPECT_FALSE(BusySeconds(machine.root(), {7}).has_value());
  EXPECT_FALSE(BusySeconds(machine.root() + "/none", {0}).has_value());
}

TEST(CpuUsage, SeesAnotherProcessAndNotOurOwnWork) {
  if (!ForeignCpuMeter().Share()) GTEST_SKIP() << "/proc/stat cannot be read";
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    for (volatile int i = 0;; i = i + 1) {
    }
  }
  const ForeignCpuMeter meter;
  const double own = OwnCpuSeconds();
  while (OwnCpuSeconds() < own + 0.3) {
  }
  const double share = meter.Share().value_or(0.0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_GT(share, 0.2);  // at least its fair part of a core, however busy the machine
}

TEST(CpuUsage, RemembersTheMostMemoryThatWasHeld) {
  const uint64_t before = PeakMemoryBytes();
  constexpr size_t kBytes = size_t{64} << 20;
  {
    const std::vector<char> large(before + kBytes, 1);
    EXPECT_GT(std::count(large.begin(), large.end(), 1), 0);
  }
  EXPECT_GE(PeakMemoryBytes(), before + kBytes);
  EXPECT_LT(PeakMemoryBytes(), 3 * before + 2 * kBytes);
}

}  // namespace
}  // namespace lode
