#include "tune/curves.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace lode::tune {
namespace {

constexpr size_t kPointsMax = 1500;
// A drawing's size, and the room left of and under its axes.
constexpr double kWidth = 720, kHeight = 260, kLeft = 64, kRight = 12, kTop = 12, kBottom = 28;

constexpr char kStyle[] = R"(
:root { color-scheme: light dark; --ink: #1c2024; --soft: #6b7480; --line: #dfe3e8; --paper: #fff;
  --a: #2f6fde; --b: #d9581c; --c: #2a9d63; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #98a2ae; --line: #333a42;
  --paper: #14171a; --a: #7aa7ff; --b: #ff9a62; --c: #5fd39a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 760px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { color: var(--soft); margin: .2rem 0; } svg { width: 100%; height: auto; }
text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); } polyline { fill: none; stroke-width: 1.4; }
.c0 { stroke: var(--a); } .c1 { stroke: var(--b); } .c2 { stroke: var(--c); }
.d0 { fill: var(--a); } .d1 { fill: var(--b); } .d2 { fill: var(--c); }
)";

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else {
      out += c;
    }
  }
  return out;
}

// Numbers that people would mark an axis with: about `count` of them.
std::vector<double> Ticks(double low, double high, int count) {
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10.0 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double at = std::ceil(low / step) * step; at <= high + 1e-9 * step; at += step) {
    ticks.push_back(std::abs(at) < 1e-9 * step ? 0.0 : at);
  }
  return ticks;
}

// Where numbers lie in a drawing.
struct Scale {
  double low, high, from, to;
  bool logarithmic = false;
  double At(double x) const {
    const double y = logarithmic ? std::log10(x) : x;
    return from + (to - from) * (y - low) / (high - low);
  }
};

Scale ScaleOf(std::vector<double> values, double from, double to, bool logarithmic) {
  std::erase_if(values, [&](double x) { return !std::isfinite(x) || (logarithmic && x <= 0.0); });
  if (logarithmic) {
    for (double& x : values) x = std::log10(x);
  }
  if (values.empty()) values = {0.0, 1.0};
  std::sort(values.begin(), values.end());
  // A few wild values at the top must not flatten the rest.
  double low = values.front();
  double high = values[static_cast<size_t>(0.995 * static_cast<double>(values.size() - 1))];
  if (high - low < 1e-12 * std::max(1.0, std::abs(high))) {
    const double room = std::max(1e-6, 0.05 * std::abs(high));
    low -= room;
    high += room;
  }
  return {low, high, from, to, logarithmic};
}

void Axes(const Scale& x, const Scale& y, std::string* svg) {
  for (const double tick : Ticks(y.low, y.high, 5)) {
    const double at = y.from + (y.to - y.from) * (tick - y.low) / (y.high - y.low);
    *svg += Format("<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft,
                   kWidth - kRight, at, at);
    *svg += Format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>", kLeft - 6, at + 4,
                   y.logarithmic ? std::pow(10.0, tick) : tick);
  }
  for (const double tick : Ticks(x.low, x.high, 8)) {
    *svg += Format("<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%.6g</text>", x.At(tick),
                   kHeight - 8, tick);
  }
}

std::string Drawing(const Chart& chart) {
  std::vector<double> steps, values;
  for (const Curve& curve : chart.curves) {
    for (const Series::Point& p : curve.series->points()) {
      steps.push_back(p.step);
      values.push_back(p.value);
    }
  }
  steps.push_back(0.0);
  Scale x = ScaleOf(steps, kLeft, kWidth - kRight, false);
  x.high = *std::max_element(steps.begin(), steps.end());
  if (x.high <= x.low) x.high = x.low + 1.0;
  const Scale y = ScaleOf(values, kHeight - kBottom, kTop, chart.logarithmic);
  std::string svg = Format("<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\">", kWidth, kHeight);
  Axes(x, y, &svg);
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    std::string line, dots;
    for (const Series::Point& p : chart.curves[i].series->points()) {
      if (!std::isfinite(p.value) || (y.logarithmic && p.value <= 0.0)) continue;
      const double at = std::clamp(y.At(p.value), kTop, kHeight - kBottom);
      line += Format("%.1f,%.1f ", x.At(p.step), at);
      if (chart.curves[i].dots) {
        dots += Format(
            "<circle class=\"d%zu\" r=\"3\" cx=\"%.1f\" cy=\"%.1f\"><title>step %.0f: "
            "%.4f</title></circle>",
            i, x.At(p.step), at, p.step, p.value);
      }
    }
    svg += Format("<polyline class=\"c%zu\" points=\"", i) + line + "\"/>" + dots;
  }
  return svg + "</svg>";
}

}  // namespace

void Series::Add(double step, double value) {
  sum_.step += step;
  sum_.value += value;
  if (++summed_ < stride_) return;
  const auto count = static_cast<double>(summed_);
  points_.push_back({sum_.step / count, sum_.value / count});
  sum_ = {0.0, 0.0};
  summed_ = 0;
  if (points_.size() < kPointsMax) return;
  for (size_t i = 0; i + 1 < points_.size(); i += 2) {
    points_[i / 2] = {0.5 * (points_[i].step + points_[i + 1].step),
                      0.5 * (points_[i].value + points_[i + 1].value)};
  }
  points_.resize(points_.size() / 2);
  stride_ *= 2;
}

std::string CurvesPage(const std::string& title, const std::string& summary,
                       const std::vector<Chart>& charts) {
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<title>" +
      Escaped(title) + "</title>\n<style>" + kStyle + "</style></head>\n<body><h1>" +
      Escaped(title) + "</h1>\n<p>" + Escaped(summary) + "</p>\n";
  for (const Chart& chart : charts) {
    page += "<h2>" + Escaped(chart.title) + "</h2>\n<p>";
    for (size_t i = 0; i < chart.curves.size() && chart.curves.size() > 1; ++i) {
      page += Format(
                  "<svg viewBox=\"0 0 12 12\" style=\"width:.8em\"><circle class=\"d%zu\" "
                  "cx=\"6\" cy=\"6\" r=\"5\"/></svg> ",
                  i) +
              Escaped(chart.curves[i].name) + " &nbsp; ";
    }
    page += "</p>\n" + Drawing(chart) + "\n";
  }
  return page + "</body></html>\n";
}

}  // namespace lode::tune
