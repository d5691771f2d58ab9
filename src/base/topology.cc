#include "base/topology.h"

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "base/text.h"

namespace lode {
namespace {

constexpr int kCpusMax = 65536;

std::string Slurp(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

bool IsNumber(const char* name) {
  return *name != '\0' && std::all_of(name, name + std::char_traits<char>::length(name),
                                      [](char c) { return c >= '0' && c <= '9'; });
}

// Names in a folder that are `prefix` and a number, as numbers, ascending.
std::vector<int> Numbered(const std::string& folder, const std::string& prefix) {
  std::vector<int> numbers;
  DIR* handle = ::opendir(folder.c_str());
  if (handle == nullptr) return numbers;
  while (const dirent* entry = ::readdir(handle)) {
    const std::string name = entry->d_name;
    if (StartsWith(name, prefix) && IsNumber(name.c_str() + prefix.size())) {
      numbers.push_back(std::atoi(name.c_str() + prefix.size()));
    }
  }
  ::closedir(handle);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// The folders that may limit us through a controller, innermost first, the hierarchy's own last.
// With cgroup v2 ("" as controller) that is /sys/fs/cgroup and a path below it, with v1 a hierarchy
// for each controller. Inside a container the path may belong to the host and be missing; the rest
// still counts.
std::vector<std::string> CgroupFolders(const std::string& root, const std::string& controller) {
  std::string path;
  std::istringstream lines(Slurp(root + "/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const std::vector<std::string> listed = Split(names, ',');
    if (std::find(listed.begin(), listed.end(), controller) == listed.end()) continue;
    path = line.substr(second + 1);
    if (path.find("..") != std::string::npos) path.clear();  // outside of our namespace
  }
  const std::string mount =
      root + "/sys/fs/cgroup" + (controller.empty() ? std::string() : "/" + controller);
  std::vector<std::string> folders;
  while (path.size() > 1) {
    folders.push_back(mount + path);
    path.resize(path.rfind('/'));
  }
  folders.push_back(mount);
  return folders;
}

// The smallest number in `file` of these folders; 0 for "max", -1, no file, nonsense everywhere.
uint64_t SmallestLimit(const std::vector<std::string>& folders, const std::string& file) {
  uint64_t smallest = 0;
  for (const std::string& folder : folders) {
    const long long number = std::atoll(Slurp(folder + "/" + file).c_str());
    if (number <= 0) continue;
    const auto limit = static_cast<uint64_t>(number);
    smallest = smallest == 0 ? limit : std::min(smallest, limit);
  }
  return smallest;
}

uint64_t MemInfo(const std::string& root, const std::string& key) {
  std::istringstream lines(Slurp(root + "/proc/meminfo"));
  for (std::string line; std::getline(lines, line);) {
    if (StartsWith(line, key + ":")) {
      return std::strtoull(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
    }
  }
  return 0;
}

struct MemoryLimit {
  uint64_t limit = 0;  // 0: none
  uint64_t used = 0;
};

// Bytes of files that a group keeps cached: they count as used, and go as soon as they must.
uint64_t CachedFiles(const std::string& stat, const std::string& prefix) {
  uint64_t bytes = 0;
  std::istringstream lines(stat);
  for (std::string line; std::getline(lines, line);) {
    for (const char* key : {"inactive_file ", "active_file "}) {
      if (StartsWith(line, prefix + key))
        bytes += std::strtoull(&line[line.find(' ')], nullptr, 10);
    }
  }
  return bytes;
}

// Of every folder that limits us, the one that leaves the least.
MemoryLimit CgroupMemory(const std::string& root) {
  MemoryLimit tightest;
  const auto look = [&](const char* controller, const char* limit_file, const char* used_file,
                        const char* prefix) {
    for (const std::string& folder : CgroupFolders(root, controller)) {
      const uint64_t limit = SmallestLimit({folder}, limit_file);
      if (limit == 0) continue;
      uint64_t used = SmallestLimit({folder}, used_file);
      used -= std::min(used, CachedFiles(Slurp(folder + "/memory.stat"), prefix));
      const uint64_t left = limit - std::min(limit, used);
      if (tightest.limit == 0 || left < tightest.limit - std::min(tightest.limit, tightest.used)) {
        tightest = {limit, used};
      }
    }
  };
  look("", "memory.max", "memory.current", "");
  look("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
  return tightest;
}

double CpuQuota(const std::string& root) {
  double quota = 0.0;
  const auto take = [&](double cores) {
    if (cores > 0.0) quota = quota > 0.0 ? std::min(quota, cores) : cores;
  };
  for (const std::string& folder : CgroupFolders(root, "")) {
    take(CoresOfCpuMax(Slurp(folder + "/cpu.max")));
  }
  for (const char* hierarchy : {"cpu", "cpu,cpuacct"}) {
    for (std::string folder : CgroupFolders(root, "cpu")) {
      const std::string mount = root + "/sys/fs/cgroup/";
      folder = mount + hierarchy + folder.substr(mount.size() + 3);  // behind ".../cpu"
      const double period = static_cast<double>(SmallestLimit({folder}, "cpu.cfs_period_us"));
      const double share = static_cast<double>(SmallestLimit({folder}, "cpu.cfs_quota_us"));
      if (period > 0.0) take(share / period);
    }
  }
  return quota;
}

// CPUs that a cpuset leaves us; empty: it says nothing.
std::vector<int> Cpuset(const std::string& root) {
  for (const std::string& folder : CgroupFolders(root, "")) {
    const auto cpus = ParseCpuList(Slurp(folder + "/cpuset.cpus.effective"));
    if (!cpus.empty()) return cpus;
  }
  for (const std::string& folder : CgroupFolders(root, "cpuset")) {
    for (const char* file : {"/cpuset.effective_cpus", "/cpuset.cpus"}) {
      const auto cpus = ParseCpuList(Slurp(folder + file));
      if (!cpus.empty()) return cpus;
    }
  }
  return {};
}

// Of a thread's "status".
std::vector<int> AllowedCpus(const std::string& status) {
  const std::string key = "\nCpus_allowed_list:";
  const size_t at = status.find(key);
  if (at == std::string::npos) return {};
  const size_t begin = status.find_first_not_of(" \t", at + key.size());
  return begin == std::string::npos ? std::vector<int>() : ParseCpuList(status.substr(begin));
}

int FirstOf(const std::vector<int>& list, int fallback) {
  return list.empty() ? fallback : *std::min_element(list.begin(), list.end());
}

// The CPUs that share the highest level of cache that `folder` (of a CPU) lists.
std::vector<int> LastLevelSharers(const std::string& folder) {
  int level_max = 0;
  std::vector<int> sharers;
  for (const int index : Numbered(folder + "/cache", "index")) {
    const std::string cache = folder + "/cache/index" + std::to_string(index);
    const int level = std::atoi(Slurp(cache + "/level").c_str());
    if (level <= level_max) continue;
    level_max = level;
    sharers = ParseCpuList(Slurp(cache + "/shared_cpu_list"));
  }
  return sharers;
}

// Threads still to be placed on the CPUs of one node, each CPU once: caches in turn, cores in turn.
std::vector<Cpu> InOrderOfPreference(const Topology& topology, int node) {
  std::map<int, int> placed_of_cache;
  std::vector<std::pair<std::pair<int, int>, Cpu>> keyed;  // (sibling, turn in its cache), CPU
  for (int sibling = 0; keyed.size() < topology.cpus.size() && sibling < kCpusMax; ++sibling) {
    bool any = false;
    for (const Cpu& cpu : topology.cpus) {
      any |= cpu.sibling >= sibling;
      if (cpu.node != node || cpu.sibling != sibling) continue;
      keyed.push_back({{sibling, placed_of_cache[cpu.cache]++}, cpu});
    }
    if (!any) break;
  }
  std::stable_sort(keyed.begin(), keyed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Cpu> cpus;
  for (const auto& [key, cpu] : keyed) cpus.push_back(cpu);
  return cpus;
}

}  // namespace

int Topology::cores() const {
  return std::max(1, static_cast<int>(std::count_if(cpus.begin(), cpus.end(), [](const Cpu& cpu) {
                    return cpu.sibling == 0;
                  })));
}

int Topology::nodes() const {
  std::set<int> nodes;
  for (const Cpu& cpu : cpus) nodes.insert(cpu.node);
  return std::max(1, static_cast<int>(nodes.size()));
}

double CoresOfCpuMax(const std::string& content) {
  long long quota = 0;
  long long period = 0;
  if (std::sscanf(content.c_str(), "%lld %lld", &quota, &period) != 2) return 0.0;
  if (period <= 0 || quota <= 0) return 0.0;
  return static_cast<double>(quota) / static_cast<double>(period);
}

std::vector<int> ParseCpuList(const std::string& text) {
  std::set<int> cpus;
  const char* at = text.c_str();
  while (*at >= '0' && *at <= '9') {
    char* end = nullptr;
    const long first = std::strtol(at, &end, 10);
    long last = first;
    if (*end == '-' && end[1] >= '0' && end[1] <= '9') last = std::strtol(end + 1, &end, 10);
    if (last >= kCpusMax) break;
    for (long cpu = first; cpu <= last; ++cpu) cpus.insert(static_cast<int>(cpu));
    at = *end == ',' ? end + 1 : end;
  }
  return {cpus.begin(), cpus.end()};
}

std::vector<int> ThreadAffinity() {
  std::vector<int> cpus;
  for (int count = 1024; count <= kCpusMax && cpus.empty(); count *= 4) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(count));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(count));
    if (::sched_getaffinity(0, bytes, mask) == 0) {
      for (int cpu = 0; cpu < count; ++cpu) {
        if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, mask)) cpus.push_back(cpu);
      }
    }
    CPU_FREE(mask);
  }
  if (cpus.empty()) {  // a sandbox that forbids to ask
    const long online = std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN));
    for (int cpu = 0; cpu < online; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

const std::vector<int>& ProcessAffinity() {
  static const std::vector<int> affinity = ThreadAffinity();
  return affinity;
}

Topology ReadTopology(const std::string& root, const std::vector<int>& affinity) {
  const std::string folder = root + "/sys/devices/system";
  std::vector<int> usable = affinity;
  for (const auto& allowed : {Cpuset(root), ParseCpuList(Slurp(folder + "/cpu/online"))}) {
    std::vector<int> both;
    std::set_intersection(usable.begin(), usable.end(), allowed.begin(), allowed.end(),
                          std::back_inserter(both));
    if (!both.empty()) usable = both;  // disjoint sets contradict each other: believe the mask
  }
  std::map<int, int> node_of;
  for (const int node : Numbered(folder + "/node", "node")) {
    for (const int cpu :
         ParseCpuList(Slurp(folder + "/node/node" + std::to_string(node) + "/cpulist"))) {
      node_of[cpu] = node;
    }
  }
  Topology topology;
  topology.quota = CpuQuota(root);
  std::map<int, int> seen_of_core;
  for (const int id : usable) {
    const std::string cpu_folder = folder + "/cpu/cpu" + std::to_string(id);
    const auto siblings = ParseCpuList(Slurp(cpu_folder + "/topology/thread_siblings_list"));
    Cpu cpu;
    cpu.id = id;
    cpu.node = node_of.count(id) > 0 ? node_of[id] : 0;
    cpu.core = FirstOf(siblings, id);
    cpu.cache = FirstOf(LastLevelSharers(cpu_folder), -1 - cpu.node);
    cpu.sibling = seen_of_core[cpu.core]++;
    topology.cpus.push_back(cpu);
  }
  return topology;
}

Topology ThisTopology() { return ReadTopology("", ProcessAffinity()); }

int UsableCores(const Topology& topology) {
  const int cores = topology.cores();
  if (topology.quota <= 0.0) return cores;
  return std::max(1, std::min(cores, static_cast<int>(topology.quota)));
}

int UsableCores() { return UsableCores(ThisTopology()); }

std::vector<Cpu> PlaceThreads(const Topology& topology, int threads) {
  if (threads <= 0 || static_cast<size_t>(threads) > topology.cpus.size()) return {};
  std::map<int, std::vector<Cpu>> choices;  // by node
  for (const Cpu& cpu : topology.cpus) choices[cpu.node] = {};
  for (auto& [node, cpus] : choices) cpus = InOrderOfPreference(topology, node);
  std::vector<Cpu> placed;
  std::map<int, size_t> taken;
  while (static_cast<int>(placed.size()) < threads) {
    // The next best CPU of the node with the fewest threads, but no SMT sibling while cores are
    // free.
    const Cpu* best = nullptr;
    std::pair<int, size_t> best_key;
    for (const auto& [node, cpus] : choices) {
      if (taken[node] == cpus.size()) continue;
      const Cpu& next = cpus[taken[node]];
      const std::pair<int, size_t> key = {next.sibling, taken[node]};
      if (best == nullptr || key < best_key) {
        best = &next;
        best_key = key;
      }
    }
    ++taken[best->node];
    placed.push_back(*best);
  }
  std::sort(placed.begin(), placed.end(), [](const Cpu& a, const Cpu& b) {
    return std::tie(a.node, a.cache, a.core, a.id) < std::tie(b.node, b.cache, b.core, b.id);
  });
  return placed;
}

std::vector<int> BoundCores(const std::string& root, const Topology& topology) {
  const std::string proc = root + "/proc/";
  const std::string own = Slurp(proc + "self/comm");
  if (topology.cores() < 2 || own.empty()) return {};  // with one core everybody is bound to it
  std::map<int, int> core_of;
  for (const Cpu& cpu : topology.cpus) core_of[cpu.id] = cpu.core;
  std::set<int> bound;
  for (const int process : Numbered(root + "/proc", "")) {
    const std::string folder = proc + std::to_string(process);
    if (Slurp(folder + "/comm") != own) continue;
    for (const int task : Numbered(folder + "/task", "")) {
      std::set<int> cores;
      const std::string status = folder + "/task/" + std::to_string(task) + "/status";
      for (const int cpu : AllowedCpus(Slurp(status))) {
        cores.insert(core_of.count(cpu) > 0 ? core_of[cpu] : -1 - cpu);
      }
      if (cores.size() == 1 && *cores.begin() >= 0) bound.insert(*cores.begin());
    }
  }
  return {bound.begin(), bound.end()};
}

uint64_t TotalMemoryBytes(const std::string& root) {
  const uint64_t total = MemInfo(root, "MemTotal");
  const uint64_t limit = CgroupMemory(root).limit;
  return limit > 0 && (total == 0 || limit < total) ? limit : total;
}

uint64_t AvailableMemoryBytes(const std::string& root) {
  const uint64_t available = MemInfo(root, "MemAvailable");
  const MemoryLimit group = CgroupMemory(root);
  if (group.limit == 0) return available;
  return std::min(available, group.limit - std::min(group.limit, group.used));
}

std::string CpuModelName(const std::string& root) {
  std::istringstream lines(Slurp(root + "/proc/cpuinfo"));
  std::string fallback;
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (StartsWith(line, "model name")) return line.substr(colon + 2);
    if (StartsWith(line, "CPU part") && fallback.empty())
      fallback = "ARM " + line.substr(colon + 2);
  }
  return fallback.empty() ? "unknown" : fallback;
}

}  // namespace lode
