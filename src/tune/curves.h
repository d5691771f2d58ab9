// The curves of a run as one HTML page that needs nothing else: drawings inside, nothing fetched,
// light or dark as the reader's system is. Threads: one owner. Errors: none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lode::tune {

// Points by step, thinned when they are many: neighbours become their mean.
class Series {
 public:
  void Add(double step, double value);
  struct Point {
    double step, value;
  };
  const std::vector<Point>& points() const { return points_; }

 private:
  std::vector<Point> points_;
  Point sum_ = {0.0, 0.0};
  int64_t summed_ = 0, stride_ = 1;
};

struct Curve {
  std::string name;
  const Series* series;
  bool dots = false;  // a mark at each point, as few of them are there
};

struct Chart {
  std::string title;
  std::vector<Curve> curves;  // at most 3
  bool logarithmic = false;
};

// `summary`: a line of text under the title.
std::string CurvesPage(const std::string& title, const std::string& summary,
                       const std::vector<Chart>& charts);

}  // namespace lode::tune
