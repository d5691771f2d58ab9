#include "base/topology.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/text.h"

namespace lode {
namespace {

std::string Slurp(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

// The folder of our cgroup (v2): /sys/fs/cgroup plus the path in /proc/self/cgroup.
std::string CgroupFolder() {
  std::istringstream lines(Slurp("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    if (StartsWith(line, "0::")) return "/sys/fs/cgroup" + line.substr(3);
  }
  return "/sys/fs/cgroup";
}

// A number in a cgroup file, or 0 for "max", no file, nonsense.
uint64_t CgroupNumber(const std::string& file) {
  for (const std::string& folder : {CgroupFolder(), std::string("/sys/fs/cgroup")}) {
    const std::string content = Slurp(folder + "/" + file);
    if (!content.empty()) return std::strtoull(content.c_str(), nullptr, 10);
  }
  return 0;
}

uint64_t MemInfo(const std::string& key) {
  std::istringstream lines(Slurp("/proc/meminfo"));
  for (std::string line; std::getline(lines, line);) {
    if (StartsWith(line, key + ":")) {
      return std::strtoull(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
    }
  }
  return 0;
}

}  // namespace

int CoresOfCpuMax(const std::string& content) {
  long long quota = 0;
  long long period = 0;
  if (std::sscanf(content.c_str(), "%lld %lld", &quota, &period) != 2 || period <= 0) return 0;
  return quota <= 0 ? 0 : static_cast<int>(std::max<long long>(1, quota / period));
}

int UsableCores() {
  int cores = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t mask;
  if (::sched_getaffinity(0, sizeof(mask), &mask) == 0) cores = CPU_COUNT(&mask);
  for (const std::string& folder : {CgroupFolder(), std::string("/sys/fs/cgroup")}) {
    const int quota = CoresOfCpuMax(Slurp(folder + "/cpu.max"));
    if (quota > 0) cores = std::min(cores, quota);
  }
  return std::max(1, cores);
}

uint64_t TotalMemoryBytes() {
  uint64_t total = MemInfo("MemTotal");
  const uint64_t limit = CgroupNumber("memory.max");
  if (limit > 0) total = total > 0 ? std::min(total, limit) : limit;
  return total;
}

uint64_t AvailableMemoryBytes() {
  uint64_t available = MemInfo("MemAvailable");
  const uint64_t limit = CgroupNumber("memory.max");
  if (limit > 0) {
    const uint64_t used = CgroupNumber("memory.current");
    available = std::min(available, limit > used ? limit - used : 0);
  }
  return available;
}

}  // namespace lode
