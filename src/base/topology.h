// What of the machine this process may use: cores (affinity and cgroup quota) and memory.
// Errors: none; a value that cannot be read is left out of the minimum.
#pragma once

#include <cstdint>
#include <string>

namespace lode {

// Cores that we may run on at once: the smaller of the affinity mask and the cgroup's CPU quota.
int UsableCores();
// Bytes that can still be taken: the smaller of the system's available memory and the cgroup's rest.
uint64_t AvailableMemoryBytes();
// Physical memory, or the cgroup's limit where that is smaller.
uint64_t TotalMemoryBytes();

// The parts, for tests: cgroup v2's "cpu.max" ("200000 100000" -> 2, "max 100000" -> 0 = no limit).
int CoresOfCpuMax(const std::string& content);

}  // namespace lode
