// Whose work the CPUs do: how much of their time went to other processes while we measured.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lode {

// Seconds that `cpus` together have been busy since the system started, time stolen by a hypervisor
// included; `root` has proc/stat. Nothing when that cannot be read. The system counts in hundredths
// of a second.
std::optional<double> BusySeconds(const std::string& root, const std::vector<int>& cpus);

// CPU seconds that this process has used.
double OwnCpuSeconds();
// The most memory it has held at once.
uint64_t PeakMemoryBytes();

// Measures from its making.
class ForeignCpuMeter {
 public:
  // On the CPUs that this process may run on.
  ForeignCpuMeter();

  // CPUs' worth of other processes' work since then (0.5: half a core); nothing when unknown. Over
  // less than a tenth of a second it means little.
  std::optional<double> Share() const;

 private:
  std::optional<double> busy_;
  double own_;
  double wall_;
};

}  // namespace lode
