#include "base/power.h"

#include <gtest/gtest.h>

#include "base/fake_machine.h"

namespace lode {
namespace {

void Zone(const FakeMachine& machine, const std::string& folder, const std::string& name,
          const std::string& microjoules, const std::string& range = "262143328850") {
  machine.Write(folder + "/name", name + "\n");
  machine.Write(folder + "/energy_uj", microjoules + "\n");
  machine.Write(folder + "/max_energy_range_uj", range + "\n");
}

TEST(Power, SumsPackagesAndTheirMemoryAndCountsNothingTwice) {
  const FakeMachine machine;
  const auto set = [&](int64_t added) {
    const auto at = [&](int64_t start) { return std::to_string(start + added); };
    Zone(machine, "intel-rapl:0", "package-0", at(5'000'000));
    Zone(machine, "intel-rapl:0:0", "core", at(1'000'000));
    Zone(machine, "intel-rapl:0:1", "dram", at(77));
    Zone(machine, "intel-rapl:1", "package-1", at(9));
    Zone(machine, "intel-rapl:2", "psys", at(3));
    Zone(machine, "intel-rapl-mmio:0", "package-0", at(5'000'000));
  };
  set(0);
  EnergyMeter meter(machine.root());
  ASSERT_TRUE(meter.available());
  EXPECT_DOUBLE_EQ(*meter.Joules(), 0.0);
  set(2'000'000);
  EXPECT_DOUBLE_EQ(*meter.Joules(), 6.0);  // two packages and one memory, two joules each
  set(2'500'000);
  EXPECT_DOUBLE_EQ(*meter.Joules(), 7.5);
}

TEST(Power, ACounterThatWrapsAroundGoesOn) {
  const FakeMachine machine;
  Zone(machine, "intel-rapl:0", "package-0", "99000000", "100000000");
  EnergyMeter meter(machine.root());
  Zone(machine, "intel-rapl:0", "package-0", "3000000", "100000000");
  EXPECT_DOUBLE_EQ(*meter.Joules(), 4.0);
  Zone(machine, "intel-rapl:0", "package-0", "4000000", "100000000");
  EXPECT_DOUBLE_EQ(*meter.Joules(), 5.0);
}

TEST(Power, IsNotAvailableWithoutCountersThatCanBeRead) {
  const FakeMachine machine;
  EXPECT_FALSE(EnergyMeter(machine.root()).available());
  EXPECT_FALSE(EnergyMeter(machine.root() + "/none").available());
  Zone(machine, "intel-rapl:0", "package-0", "not a number");
  EnergyMeter meter(machine.root());
  EXPECT_FALSE(meter.available());
  EXPECT_FALSE(meter.Joules().has_value());
}

TEST(Power, ACounterThatGoesAwayEndsTheFigure) {
  const FakeMachine machine;
  Zone(machine, "intel-rapl:0", "package-0", "1");
  EnergyMeter meter(machine.root());
  ASSERT_TRUE(meter.available());
  machine.Write("intel-rapl:0/energy_uj", "");
  EXPECT_FALSE(meter.Joules().has_value());
  EXPECT_FALSE(meter.available());
}

}  // namespace
}  // namespace lode
