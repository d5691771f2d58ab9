#include "base/power.h"

#include <algorithm>

#include "base/file.h"
#include "base/text.h"

namespace lode {
namespace {

constexpr uint64_t kFileBytesMax = 4096;

// The file's first line, empty when it cannot be read.
std::string Line(const std::string& path) {
  const auto content = ReadFile(path, kFileBytesMax);
  return content.ok() ? Split(*content, '\n').front() : std::string();
}

std::optional<uint64_t> Microjoules(const std::string& path) {
  int64_t value = 0;
  if (!ParseInt64(Line(path), &value) || value < 0) return std::nullopt;
  return static_cast<uint64_t>(value);
}

bool Counts(const std::string& folder, const std::string& name) {
  if (!StartsWith(folder, "intel-rapl:")) return false;
  const bool top = std::count(folder.begin(), folder.end(), ':') == 1;
  return top ? StartsWith(name, "package") : name == "dram";
}

}  // namespace

EnergyMeter::EnergyMeter(const std::string& root) {
  const auto folders = ListFolder(root);
  if (!folders.ok()) return;
  for (const std::string& folder : *folders) {
    const std::string path = root + "/" + folder;
    if (!Counts(folder, Line(path + "/name"))) continue;
    Zone zone;
    zone.file = path + "/energy_uj";
    const auto now = Microjoules(zone.file);
    if (!now) continue;
    zone.last = *now;
    zone.range = Microjoules(path + "/max_energy_range_uj").value_or(0);
    zones_.push_back(zone);
  }
}

std::optional<double> EnergyMeter::Joules() {
  for (Zone& zone : zones_) {
    const auto now = Microjoules(zone.file);
    if (!now) {
      zones_.clear();
      break;
    }
    uint64_t spent = *now - zone.last;
    if (*now < zone.last) spent = zone.range >= zone.last ? zone.range - zone.last + *now : *now;
    joules_ += static_cast<double>(spent) * 1e-6;
    zone.last = *now;
  }
  return available() ? std::optional<double>(joules_) : std::nullopt;
}

}  // namespace lode
