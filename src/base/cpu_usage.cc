#include "base/cpu_usage.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>

#include "base/text.h"
#include "base/topology.h"

namespace lode {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

std::optional<double> BusySeconds(const std::string& root, const std::vector<int>& cpus) {
  std::ifstream file(root + "/proc/stat");
  std::optional<double> ticks;
  for (std::string line; std::getline(file, line);) {
    if (!StartsWith(line, "cpu") || line.size() < 4 || line[3] == ' ') continue;
    std::istringstream words(line.substr(3));
    int cpu = -1;
    // user nice system idle iowait irq softirq steal; guests' time is within user and nice.
    double fields[8] = {};
    words >> cpu;
    for (double& field : fields) words >> field;
    if (std::find(cpus.begin(), cpus.end(), cpu) == cpus.end()) continue;
    ticks =
        ticks.value_or(0.0) + fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7];
  }
  if (!ticks) return std::nullopt;
  return *ticks / static_cast<double>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
}

double OwnCpuSeconds() {
  timespec time = {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

uint64_t PeakMemoryBytes() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

ForeignCpuMeter::ForeignCpuMeter()
    : busy_(BusySeconds("", ProcessAffinity())), own_(OwnCpuSeconds()), wall_(Now()) {}

std::optional<double> ForeignCpuMeter::Share() const {
  const auto busy = BusySeconds("", ProcessAffinity());
  const double wall = Now() - wall_;
  if (!busy || !busy_ || wall <= 0.0) return std::nullopt;
  return std::max(0.0, (*busy - *busy_ - (OwnCpuSeconds() - own_)) / wall);
}

}  // namespace lode
