// Requests per minute, by tenant: each has a bucket that holds a minute's worth and fills evenly.
// Time is the caller's. Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace lode::serve {

class RequestRates {
 public:
  // Takes one, and returns 0; or takes none, and returns the seconds until there is one.
  double Take(const std::string& tenant, int64_t per_minute, double now_seconds);

 private:
  struct Bucket {
    double left = 0.0;
    double seconds = 0.0;  // when that was so
  };
  std::map<std::string, Bucket> buckets_;
};

}  // namespace lode::serve
