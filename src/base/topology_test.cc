#include "base/topology.h"

#include <gtest/gtest.h>

namespace lode {
namespace {

TEST(Topology, ReadsTheCpuQuotaOfACgroup) {
  EXPECT_EQ(CoresOfCpuMax("200000 100000\n"), 2);
  EXPECT_EQ(CoresOfCpuMax("50000 100000\n"), 1);
  EXPECT_EQ(CoresOfCpuMax("max 100000\n"), 0);
  EXPECT_EQ(CoresOfCpuMax(""), 0);
}

TEST(Topology, FindsAtLeastOneCoreAndSomeMemory) {
  EXPECT_GE(UsableCores(), 1);
  EXPECT_GT(TotalMemoryBytes(), 0u);
  EXPECT_LE(AvailableMemoryBytes(), TotalMemoryBytes());
}

}  // namespace
}  // namespace lode
