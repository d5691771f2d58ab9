#include "serve/request_rates.h"

#include <algorithm>

namespace lode::serve {

double RequestRates::Take(const std::string& tenant, int64_t per_minute, double now_seconds) {
  const auto most = static_cast<double>(per_minute);
  Bucket& bucket = buckets_.try_emplace(tenant, Bucket{most, now_seconds}).first->second;
  const double passed = std::max(0.0, now_seconds - bucket.seconds);
  bucket.left = std::min(most, bucket.left + passed * most / 60.0);
  bucket.seconds = now_seconds;
  if (bucket.left < 1.0) return (1.0 - bucket.left) * 60.0 / most;
  bucket.left -= 1.0;
  return 0.0;
}

}  // namespace lode::serve
