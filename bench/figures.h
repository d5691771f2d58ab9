// Rows of figures: what was measured, what it must reach, whether it does; as text, or as JSON.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace lode::bench {

double Seconds();     // of a clock that goes on
double CpuSeconds();  // of all threads of this process
double Median(std::vector<double> values);

class Figures {
 public:
  explicit Figures(bool json) : json_(json) {}
  enum class Reach { kAtMost, kAtLeast, kNone };
  void Add(const std::string& name, double value, const std::string& unit,
           Reach reach = Reach::kNone, double bound = 0.0, const std::string& note = "");
  void Note(const std::string& text);
  // 0 when all is reached, else 1.
  int Finish();

 private:
  bool json_;
  int missed_ = 0;
  Json rows_ = Json::array();
};

}  // namespace lode::bench
