// A wall-clock moment without a zone, for strftime_now.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lode::text {

struct CivilTime {
  int year = 1970;
  int month = 1;  // 1..12
  int day = 1;    // 1..31
  int hour = 0;
  int minute = 0;
  int second = 0;
  int microsecond = 0;
};

// The local time of now.
CivilTime LocalNow();
// "2025-06-28", "2025-06-28 12:00", "2025-06-28T12:00:00", "...00.250"; a trailing "Z" or offset is
// accepted and ignored (the text is taken as local time). Errors: kBadInput.
Result<CivilTime> ParseCivilTime(std::string_view text);
// C strftime; "%f" is microseconds, "%z" and "%Z" are empty, as Python does for a naive datetime.
std::string FormatCivilTime(const CivilTime& time, const std::string& format);

}  // namespace lode::text
