#include "text/template/civil_time.h"

#include <chrono>
#include <cstdio>
#include <ctime>

#include "base/text.h"

namespace lode::text {
namespace {

int DaysInMonth(int year, int month) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : kDays[month - 1];
}

// Sakamoto's method: 0 is Sunday.
int Weekday(int year, int month, int day) {
  static constexpr int kOffset[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
  if (month < 3) --year;
  return (year + year / 4 - year / 100 + year / 400 + kOffset[month - 1] + day) % 7;
}

bool Number(std::string_view* text, size_t digits, int* value) {
  if (text->size() < digits) return false;
  *value = 0;
  for (size_t i = 0; i < digits; ++i) {
    const char c = (*text)[i];
    if (c < '0' || c > '9') return false;
    *value = *value * 10 + (c - '0');
  }
  text->remove_prefix(digits);
  return true;
}

bool Skip(std::string_view* text, std::string_view any) {
  if (text->empty() || any.find(text->front()) == any.npos) return false;
  text->remove_prefix(1);
  return true;
}

// The clock part, after the date; false when it is malformed.
bool ParseClock(std::string_view* rest, CivilTime* time) {
  if (!Number(rest, 2, &time->hour) || !Skip(rest, ":") || !Number(rest, 2, &time->minute)) {
    return false;
  }
  if (Skip(rest, ":") && !Number(rest, 2, &time->second)) return false;
  if (Skip(rest, ".,")) {
    int scale = 100000;
    if (rest->empty()) return false;
    for (int digit = 0; Number(rest, 1, &digit); scale /= 10) time->microsecond += digit * scale;
  }
  if (Skip(rest, "Zz")) return true;
  if (Skip(rest, "+-")) {
    int ignored = 0;
    if (!Number(rest, 2, &ignored)) return false;
    Skip(rest, ":");
    if (!rest->empty() && !Number(rest, 2, &ignored)) return false;
  }
  return true;
}

}  // namespace

CivilTime LocalNow() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm local{};
  localtime_r(&seconds, &local);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch());
  return {local.tm_year + 1900, local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min,
          local.tm_sec, static_cast<int>(micros.count() % 1000000)};
}

Result<CivilTime> ParseCivilTime(std::string_view text) {
  CivilTime time;
  std::string_view rest = text;
  bool good = Number(&rest, 4, &time.year) && Skip(&rest, "-") && Number(&rest, 2, &time.month) &&
              Skip(&rest, "-") && Number(&rest, 2, &time.day);
  if (good && Skip(&rest, "Tt ")) good = ParseClock(&rest, &time);
  good = good && rest.empty() && time.year >= 1 && time.month >= 1 && time.month <= 12 &&
         time.day >= 1 && time.day <= DaysInMonth(time.year, time.month) && time.hour < 24 &&
         time.minute < 60 && time.second < 60;
  if (!good) {
    return Error(Code::kBadInput, Quote(text) + " is not a time",
                 "write it as 2025-06-28T12:00:00");
  }
  return time;
}

std::string FormatCivilTime(const CivilTime& time, const std::string& format) {
  std::tm tm{};
  tm.tm_year = time.year - 1900;
  tm.tm_mon = time.month - 1;
  tm.tm_mday = time.day;
  tm.tm_hour = time.hour;
  tm.tm_min = time.minute;
  tm.tm_sec = time.second;
  tm.tm_wday = Weekday(time.year, time.month, time.day);
  tm.tm_yday = time.day - 1;
  for (int month = 1; month < time.month; ++month) tm.tm_yday += DaysInMonth(time.year, month);
  tm.tm_isdst = -1;

  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    // One directive at a time: a single call's result would be cut at an unknown size.
    std::string one = "%";
    size_t next = i + 1;
    while (next < format.size() && std::string_view("-_0^#EO").find(format[next]) !=
                                       std::string_view::npos) {
      one += format[next++];
    }
    if (next == format.size() || one.size() > 8) {
      out += one;
      i = next - 1;
      continue;
    }
    one += format[next];
    i = next;
    if (one == "%f") {
      out += Format("%06d", time.microsecond);
    } else if (one == "%z" || one == "%Z") {
      continue;
    } else {
      char buffer[256];
      out.append(buffer, std::strftime(buffer, sizeof buffer, one.c_str(), &tm));
    }
  }
  return out;
}

}  // namespace lode::text
