// Energy that the processor and its memory take, as the kernel's powercap interface counts it
// (RAPL). It is the whole machine's, whoever uses it: a figure means something while nothing else
// runs. Errors: none; where it cannot be read (no such hardware, a virtual machine, no permission:
// since 2020 the counters are root's alone) there is simply no figure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lode {

class EnergyMeter {
 public:
  // `root` holds folders intel-rapl:N and intel-rapl:N:M (AMD's have the same names). Packages
  // count and the memory beside them; cores and graphics are parts of their package, "psys" and the
  // memory-mapped copies ("intel-rapl-mmio") would count twice.
  explicit EnergyMeter(const std::string& root = "/sys/class/powercap");

  bool available() const { return !zones_.empty(); }

  // Joules since the meter was made; nothing when it is not available, or stopped being so.
  // Counters wrap around after minutes to hours of full load: call it at least that often.
  std::optional<double> Joules();

 private:
  struct Zone {
    std::string file;
    uint64_t last = 0;   // microjoules
    uint64_t range = 0;  // where it wraps around; 0: unknown
  };
  std::vector<Zone> zones_;
  double joules_ = 0.0;
};

}  // namespace lode
