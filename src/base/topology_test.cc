#include "base/topology.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/fake_machine.h"

namespace lode {
namespace {

std::vector<int> UpTo(int count) {
  std::vector<int> cpus(static_cast<size_t>(count));
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

std::vector<int> Ids(const std::vector<Cpu>& cpus) {
  std::vector<int> ids;
  for (const Cpu& cpu : cpus) ids.push_back(cpu.id);
  return ids;
}

// Two nodes of four cores in two caches each, two SMT siblings a core: siblings are n and n + 8.
void TwoSockets(const FakeMachine& machine) {
  for (int cpu = 0; cpu < 16; ++cpu) {
    const int core = cpu % 8;
    const int cache = core / 2 * 2;
    machine.AddCpu(cpu, std::to_string(core) + "," + std::to_string(core + 8),
                   std::to_string(cache) + "-" + std::to_string(cache + 1) + "," +
                       std::to_string(cache + 8) + "-" + std::to_string(cache + 9));
  }
  machine.AddNode(0, "0-3,8-11");
  machine.AddNode(1, "4-7,12-15");
  machine.Write("sys/devices/system/cpu/online", "0-15\n");
}

TEST(Topology, ReadsListsOfCpus) {
  EXPECT_EQ(ParseCpuList("0-2,8\n"), (std::vector<int>{0, 1, 2, 8}));
  EXPECT_EQ(ParseCpuList("3"), (std::vector<int>{3}));
  EXPECT_EQ(ParseCpuList(""), std::vector<int>());
  EXPECT_EQ(ParseCpuList("1,x,2"), (std::vector<int>{1}));
  EXPECT_EQ(ParseCpuList("5-99999999999"), std::vector<int>());
  EXPECT_EQ(ParseCpuList("-3"), std::vector<int>());
}

TEST(Topology, ReadsTheCpuQuotaOfACgroup) {
  EXPECT_EQ(CoresOfCpuMax("200000 100000\n"), 2.0);
  EXPECT_EQ(CoresOfCpuMax("50000 100000\n"), 0.5);
  EXPECT_EQ(CoresOfCpuMax("max 100000\n"), 0.0);
  EXPECT_EQ(CoresOfCpuMax(""), 0.0);
  EXPECT_EQ(CoresOfCpuMax("100000 0"), 0.0);
}

TEST(Topology, FindsAtLeastOneCoreAndSomeMemoryOnThisMachine) {
  EXPECT_GE(UsableCores(), 1);
  EXPECT_GE(static_cast<int>(ThisTopology().cpus.size()), UsableCores());
  EXPECT_GT(TotalMemoryBytes(), 0u);
  EXPECT_LE(AvailableMemoryBytes(), TotalMemoryBytes());
}

TEST(Topology, KnowsNodesCachesAndSiblings) {
  const FakeMachine machine;
  TwoSockets(machine);
  const Topology topology = ReadTopology(machine.root(), UpTo(16));
  EXPECT_EQ(topology.cores(), 8);
  EXPECT_EQ(topology.nodes(), 2);
  ASSERT_EQ(topology.cpus.size(), 16u);
  const Cpu& cpu = topology.cpus[14];
  EXPECT_EQ(cpu.id, 14);
  EXPECT_EQ(cpu.node, 1);
  EXPECT_EQ(cpu.core, 6);
  EXPECT_EQ(cpu.sibling, 1);
  EXPECT_EQ(cpu.cache, 6);
  EXPECT_EQ(UsableCores(topology), 8);  // SMT siblings add no core
}

TEST(Topology, WithoutSysEveryCpuIsACoreOnOneNode) {
  const FakeMachine machine;
  const Topology topology = ReadTopology(machine.root(), {1, 3, 4});
  EXPECT_EQ(topology.cores(), 3);
  EXPECT_EQ(topology.nodes(), 1);
  EXPECT_EQ(topology.quota, 0.0);
}

TEST(Topology, AffinityCpusetAndOnlineAllRestrict) {
  const FakeMachine machine;
  TwoSockets(machine);
  machine.Write("proc/self/cgroup", "0::/box/inner\n");
  machine.Write("sys/fs/cgroup/box/inner/cpuset.cpus.effective", "2-9\n");
  machine.Write("sys/devices/system/cpu/online", "0-7\n");
  const Topology topology = ReadTopology(machine.root(), {0, 1, 2, 3, 6, 10});
  EXPECT_EQ(Ids(topology.cpus), (std::vector<int>{2, 3, 6}));
  EXPECT_EQ(UsableCores(topology), 3);
}

TEST(Topology, TheFirstSiblingThatIsLeftCountsAsTheCore) {
  const FakeMachine machine;
  TwoSockets(machine);
  const Topology topology = ReadTopology(machine.root(), {8, 9, 1});
  EXPECT_EQ(topology.cores(), 2);  // 8 alone, and 1 with its sibling 9
}

TEST(Topology, TheTightestQuotaOfAllParentsCounts) {
  const FakeMachine machine;
  machine.Write("proc/self/cgroup", "0::/a/b\n");
  machine.Write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  machine.Write("sys/fs/cgroup/a/cpu.max", "350000 100000\n");
  EXPECT_EQ(UsableCores(ReadTopology(machine.root(), UpTo(8))), 3);
  machine.Write("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  EXPECT_EQ(UsableCores(ReadTopology(machine.root(), UpTo(8))), 1);
}

TEST(Topology, UnderstandsCgroupsOfVersionOne) {
  const FakeMachine machine;
  machine.Write("proc/self/cgroup", "5:cpuset:/box\n4:cpu,cpuacct:/box\n3:memory:/box\n0::/\n");
  machine.Write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "400000\n");
  machine.Write("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
  machine.Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  machine.Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  machine.Write("sys/fs/cgroup/cpuset/box/cpuset.cpus", "0-5\n");
  machine.Write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1000000\n");
  machine.Write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "700000\n");
  machine.Write("sys/fs/cgroup/memory/box/memory.stat",
                "inactive_file 1\ntotal_inactive_file 100000\n");
  machine.Write("proc/meminfo", "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n");
  const Topology topology = ReadTopology(machine.root(), UpTo(8));
  EXPECT_EQ(topology.cores(), 6);
  EXPECT_EQ(UsableCores(topology), 4);
  EXPECT_EQ(TotalMemoryBytes(machine.root()), 1000000u);
  EXPECT_EQ(AvailableMemoryBytes(machine.root()), 400000u);
}

TEST(Topology, AContainerWhoseCgroupPathIsTheHostsStillSeesItsOwnLimits) {
  const FakeMachine machine;
  machine.Write("proc/self/cgroup", "0::/../../host/path\n");
  machine.Write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  machine.Write("sys/fs/cgroup/memory.max", "max\n");
  machine.Write("proc/meminfo", "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n");
  EXPECT_EQ(UsableCores(ReadTopology(machine.root(), UpTo(8))), 2);
  EXPECT_EQ(TotalMemoryBytes(machine.root()), 4096000u);
}

TEST(Topology, CachedFilesOfAGroupCountAsFreeMemory) {
  const FakeMachine machine;
  machine.Write("proc/self/cgroup", "0::/a\n");
  machine.Write("proc/meminfo", "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n");
  machine.Write("sys/fs/cgroup/a/memory.max", "1000000\n");
  machine.Write("sys/fs/cgroup/a/memory.current", "900000\n");
  machine.Write("sys/fs/cgroup/a/memory.stat",
                "anon 5\ninactive_file 300000\nactive_file 200000\n");
  EXPECT_EQ(AvailableMemoryBytes(machine.root()), 600000u);
}

TEST(Placement, SpreadsOverNodesAndCachesAndTakesSiblingsLast) {
  const FakeMachine machine;
  TwoSockets(machine);
  const Topology topology = ReadTopology(machine.root(), UpTo(16));
  EXPECT_EQ(Ids(PlaceThreads(topology, 1)), (std::vector<int>{0}));
  EXPECT_EQ(Ids(PlaceThreads(topology, 2)), (std::vector<int>{0, 4}));
  EXPECT_EQ(Ids(PlaceThreads(topology, 4)), (std::vector<int>{0, 2, 4, 6}));
  EXPECT_EQ(Ids(PlaceThreads(topology, 8)), UpTo(8));
  // Ten: every core once, then one sibling on each node.
  EXPECT_EQ(Ids(PlaceThreads(topology, 10)), (std::vector<int>{0, 8, 1, 2, 3, 4, 12, 5, 6, 7}));
  EXPECT_EQ(PlaceThreads(topology, 16).size(), 16u);
  EXPECT_TRUE(PlaceThreads(topology, 17).empty());
  EXPECT_TRUE(PlaceThreads(topology, 0).empty());
}

TEST(Placement, ASmallerNodeGetsWhatItHas) {
  const FakeMachine machine;
  TwoSockets(machine);
  const Topology topology = ReadTopology(machine.root(), {0, 4, 5, 6, 7, 12});
  EXPECT_EQ(Ids(PlaceThreads(topology, 5)), (std::vector<int>{0, 4, 5, 6, 7}));
}

TEST(Placement, FindsCoresThatOtherThreadsOfThisProgramAreBoundTo) {
  const FakeMachine machine;
  TwoSockets(machine);
  const Topology topology = ReadTopology(machine.root(), UpTo(16));
  const auto status = [&](int process, int task, const std::string& cpus) {
    const std::string folder = "proc/" + std::to_string(process) + "/task/" + std::to_string(task);
    machine.Write(folder + "/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t" + cpus +
                                          "\nMems_allowed:\t1\n");
  };
  machine.Write("proc/self/comm", "lode\n");
  machine.Write("proc/10/comm", "lode\n");
  machine.Write("proc/11/comm", "other\n");
  machine.Write("proc/12/comm", "lode\n");
  status(10, 10, "0-15");  // free
  status(10, 17, "1,9");   // bound to a core with its sibling
  status(11, 11, "2");     // somebody else
  status(12, 12, "5");     // bound to a CPU
  status(12, 13, "0-3,8-11");
  EXPECT_EQ(BoundCores(machine.root(), topology), (std::vector<int>{1, 5}));
  EXPECT_TRUE(BoundCores(machine.root(), ReadTopology(machine.root(), {5})).empty());
}

}  // namespace
}  // namespace lode
