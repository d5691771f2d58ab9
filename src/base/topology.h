// What of the machine this process may use: cores (affinity, cpuset, cgroup quota), where they sit
// (NUMA node, last-level cache, SMT siblings), and memory. Everything is read from files below
// `root` ("" is the machine; tests write a tree of their own). Errors: none; what cannot be read is
// left out: without /sys every CPU is a core of its own on node 0.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lode {

// A logical CPU that we may run on.
struct Cpu {
  int id = 0;
  int node = 0;     // NUMA node, as the system numbers it
  int cache = 0;    // the smallest id among the CPUs that share its last-level cache
  int core = 0;     // the smallest id among its SMT siblings: names the physical core
  int sibling = 0;  // 0: the first of its core that we may use; 1, 2...: its SMT siblings
};

struct Topology {
  std::vector<Cpu> cpus;  // ascending ids: affinity mask and cpuset together, and online
  double quota = 0.0;     // CPU seconds a second that the cgroup grants; 0: no limit

  int cores() const;  // physical cores among `cpus`, at least 1
  int nodes() const;  // NUMA nodes that these sit on, at least 1
};

// `affinity`: the CPUs that we may run on.
Topology ReadTopology(const std::string& root, const std::vector<int>& affinity);
// This machine with this process's own mask.
Topology ThisTopology();

// CPUs that the calling thread may run on now; all online ones when the system does not say.
std::vector<int> ThreadAffinity();
// The affinity mask that the process was started with: its first call reads it, so it stays right
// after a pool has pinned the caller.
const std::vector<int>& ProcessAffinity();

// Threads that are worth starting: the physical cores that we may run on, or less when the cgroup's
// quota grants less.
int UsableCores();
int UsableCores(const Topology& topology);

// Where each of `threads` threads should run: spread evenly over NUMA nodes (every node brings its
// own memory bandwidth), inside a node over last-level caches, a core each before any SMT sibling.
// Threads that follow one another sit on the same node and cache, so that contiguous ranges of work
// do, too. Empty when there are fewer CPUs than threads.
std::vector<Cpu> PlaceThreads(const Topology& topology, int threads);

// Physical cores (Cpu::core) that some thread of this program, in this process or another one, is
// bound to. `root` has proc/self/comm, proc/PID/comm and proc/PID/task/TID/status.
std::vector<int> BoundCores(const std::string& root, const Topology& topology);

// Bytes that can still be taken: the smaller of the system's available memory and the cgroup's
// rest.
uint64_t AvailableMemoryBytes(const std::string& root = "");
// Physical memory, or the cgroup's limit where that is smaller.
uint64_t TotalMemoryBytes(const std::string& root = "");
// "AMD EPYC 9R14", or "unknown".
std::string CpuModelName(const std::string& root = "");

// The parts, for tests. cgroup v2's "cpu.max" ("200000 100000" -> 2, "150000 100000" -> 1.5, "max
// 100000" -> 0 = no limit).
double CoresOfCpuMax(const std::string& content);
// "0-2,8" -> 0 1 2 8. Stops at nonsense; at most 65536 CPUs.
std::vector<int> ParseCpuList(const std::string& text);

}  // namespace lode
