// What the machine tells of the server, in the form of metrics.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace lode::serve {

// Memory that this process occupies; 0 where the system does not say.
uint64_t ResidentBytes();

// Lines for Prometheus. `joules`: since the start, where the machine tells it.
std::string MachineMetrics(const std::optional<double>& joules);

}  // namespace lode::serve
