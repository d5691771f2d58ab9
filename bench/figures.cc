#include "bench/figures.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace lode::bench {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double CpuSeconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void Figures::Add(const std::string& name, double value, const std::string& unit, Reach reach,
                  double bound, const std::string& note) {
  const bool holds = reach == Reach::kNone || (reach == Reach::kAtMost ? value <= bound
                                                                       : value >= bound);
  if (!holds) ++missed_;
  if (json_) {
    Json row = {{"name", name}, {"value", value}, {"unit", unit}};
    if (reach != Reach::kNone) {
      row[reach == Reach::kAtMost ? "at_most" : "at_least"] = bound;
      row["reached"] = holds;
    }
    if (!note.empty()) row["note"] = note;
    rows_.push_back(std::move(row));
    return;
  }
  std::string wanted;
  if (reach != Reach::kNone) {
    char text[64];
    std::snprintf(text, sizeof(text), "%s %.4g  %s", reach == Reach::kAtMost ? "<=" : ">=", bound,
                  holds ? "reached" : "MISSED");
    wanted = text;
  }
  std::printf("%-52s %10.4g %-8s %s%s%s\n", name.c_str(), value, unit.c_str(), wanted.c_str(),
              note.empty() ? "" : "  ", note.c_str());
  std::fflush(stdout);
}

void Figures::Note(const std::string& text) {
  if (json_) {
    rows_.push_back({{"note", text}});
  } else {
    std::printf("# %s\n", text.c_str());
    std::fflush(stdout);
  }
}

int Figures::Finish() {
  if (json_) std::printf("%s\n", DumpJson(rows_).c_str());
  return missed_ == 0 ? 0 : 1;
}

}  // namespace lode::bench
